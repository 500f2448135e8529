//! Archives become directories that instances can see: checked, unpacked once, content-addressed.
//!
//! Everything in an archive is hostile. All of this blocks; async callers use a blocking thread.
//!
//! ```text
//! root/archives/<sha256>.zip    what was uploaded: durable before it is answered
//! root/unpacked/<sha256>/       made from it: complete from the moment it has its name, made again when missing
//! root/merged/<sha256>/         several of those laid over each other, as links; made again when missing
//! root/tmp/                     what is half made: removed by the next open
//! root/boot                     the boot of the machine that `unpacked` was made in
//! ```
//!
//! What an archive may be is decided in three places: names in `name`, kinds, sizes and methods in `unpack`,
//! and where bytes end up by the kernel, asked in `tree`.

mod error;
mod merge;
mod name;
mod store;
mod tree;
mod unpack;

pub use error::ArchiveError;
pub use name::EntryPath;
pub use store::ImageStore;
