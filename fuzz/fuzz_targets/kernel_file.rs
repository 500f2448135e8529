//! Any file given to `hearth kernel add`: a kernel or an error, within bounded memory.
//!
//! `cargo +nightly fuzz run kernel_file -- -rss_limit_mb=2048`

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = hearth_kernel::inspect(bytes);
});
