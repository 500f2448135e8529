//! Why there is no image.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
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
    /// The tool is missing.
    #[error("cannot run mkfs.erofs: install erofs-utils (Debian: `apt-get install erofs-utils`)")]
    NoTool(#[source] io::Error),
    /// The tool failed.
    #[error("mkfs.erofs failed: {0}")]
    Tool(String),
    /// Larger than a disk of a micro-VM may be.
    #[error("{what} has more than {limit_mb} MiB: too large for a micro-VM's disk")]
    TooLarge {
        /// What was to go in.
        what: String,
        /// The bound, MiB.
        limit_mb: u64,
    },
    /// A file of another kind than a function's code has.
    #[error("{} is neither file, directory nor link", .0.display())]
    Strange(PathBuf),
}

pub(crate) fn file_error<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> RootfsError + 'a {
    move |source| RootfsError::File { step, path: path.to_owned(), source }
}
