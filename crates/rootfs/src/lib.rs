//! Disks for micro-VMs: directories of the worker's machine as read-only file systems (erofs), kept by the hash of what
//! went into them and shared by all machines that see the same.
//!
//! | file | what it owns |
//! |---|---|
//! | `images` | images on disk: made once, checked, bounded |
//! | `base` | what a guest's root has besides the runtime: a few of the host's programs, libraries and settings |
//! | `held` | files that several processes use in place |
//! | `layers` | a container image's layers as one tree |
//! | `libraries` | which libraries a program needs |
//! | `tree` | directories: their identity, and copies of them |
//! | `mkfs` | the tool that writes erofs |
//!
//! Images are not compressed: they are read through an emulated CPU where there is no other, and shared in the page cache.

mod base;
mod error;
mod held;
mod images;
mod layers;
mod libraries;
mod mkfs;
mod tree;

pub use base::etc_files;
pub use error::RootfsError;
pub use held::{appear, open_held, remove_unless_held};
pub use images::{Image, Images};
