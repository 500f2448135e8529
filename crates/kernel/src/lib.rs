//! Kernels for micro-VMs: made from what distributions ship, kept by the hash of what they are.
//!
//! A distribution's kernel is a compressed image and a tree of modules. A VMM wants it as a bzImage (QEMU) or as a plain ELF
//! (Firecracker), and a guest wants the few modules that it finds its disks and its worker with, in an order in which they load.
//!
//! | file | what it knows |
//! |---|---|
//! | `package` | Debian's packages |
//! | `image` | bzImages and how they are compressed |
//! | `modules` | what a module needs, and the order that follows |
//! | `initramfs` | the archive that a kernel finds its first process and its modules in |
//! | `store` | kernels on disk |
//!
//! All input is taken as hostile: sizes are bounded before anything is allocated, and no name out of an archive becomes a path.

mod error;
mod image;
mod initramfs;
mod modules;
mod package;
mod store;

pub use error::KernelError;
pub use store::{Kernel, Kernels};

/// Takes a file apart as [`Kernels::add`] does, and keeps nothing: for fuzzing.
#[doc(hidden)]
pub fn inspect(bytes: &[u8]) -> Result<(), KernelError> {
    store::Ingredients::from_bytes("input", bytes, None).map(drop)
}
