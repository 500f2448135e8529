//! The worker with real sandboxes and real programs in them.
//!
//! Without the usual harness, as this program is also the zygote that it tests with.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "clippy knows tests by the attribute that this harness does without"
)]

#[path = "instances/blanks.rs"]
mod blanks;
#[path = "instances/extensions.rs"]
mod extensions;
#[path = "instances/failures.rs"]
mod failures;
#[path = "instances/hostile.rs"]
mod hostile;
#[path = "instances/serving.rs"]
mod serving;
#[path = "instances/streams.rs"]
mod streams;
#[path = "instances/telemetry.rs"]
mod telemetry;
#[path = "instances/world.rs"]
mod world;

use std::process::ExitCode;

use hearth_sandbox::{ZYGOTE_ARGUMENT, zygote_main};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == ZYGOTE_ARGUMENT) {
        return zygote_main();
    }
    let mut arguments = Arguments::from_args();
    // Each has a driver and some processes of its own.
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(2));
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(serving::trials());
    trials.extend(blanks::trials());
    trials.extend(failures::trials());
    trials.extend(hostile::trials());
    trials.extend(extensions::trials());
    trials.extend(streams::trials());
    trials.extend(telemetry::trials());
    let python = std::path::Path::new("/usr/bin/python3").exists();
    if !rustix::process::geteuid().is_root() || !python {
        println!("skipped: these tests need root and /usr/bin/python3");
        trials = trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
