//! Why a file is no kernel that micro-VMs can use.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file or folder cannot be used.
    #[error("cannot {step} {}", path.display())]
    File {
        /// An infinitive.
        step: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Neither a package nor an image.
    #[error("{0} is neither a .deb package nor a Linux kernel (bzImage or ELF)")]
    NotAKernel(String),
    /// Its inside is broken.
    #[error("the kernel's {what} cannot be read: {reason}")]
    Broken {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Larger than any kernel is.
    #[error("the kernel's {what} is larger than {limit_mb} MiB")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// The bound, MiB.
        limit_mb: u64,
    },
    /// It has no driver or feature that guests need.
    #[error(
        "the kernel lacks {}: neither built in nor a module of the package; use one made for virtual machines (Debian: linux-image-cloud-amd64)",
        .0.join(", ")
    )]
    Lacks(Vec<String>),
    /// A stored kernel is not what was stored.
    #[error(
        "the stored kernel {id} is damaged ({file}): remove it with `hearth kernel rm {id}` and add it again"
    )]
    Damaged {
        /// Which.
        id: String,
        /// The file that differs.
        file: String,
    },
    /// None was added.
    #[error(
        "there is no kernel for micro-VMs: add one with `hearth kernel add FILE` (Debian: `apt-get download linux-image-cloud-amd64`'s dependency linux-image-*-cloud-amd64)"
    )]
    None,
    /// No kernel has that id.
    #[error("there is no kernel {0}; `hearth kernel list` shows those there are")]
    Unknown(String),
}

/// The error of a part that is broken.
pub(crate) fn broken(what: &'static str, reason: impl fmt::Display) -> KernelError {
    let reason: String = format!("{reason}").chars().take(200).collect();
    KernelError::Broken { what, reason }
}
