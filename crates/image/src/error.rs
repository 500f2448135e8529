//! Why an archive was not taken.

use std::io;

/// Why an archive was not taken. All but `Io` and `DiskFull` are the caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not a zip archive, or damaged.
    #[error("not a readable zip archive: {0}")]
    Corrupt(String),
    /// No files.
    #[error("the archive has no files in it")]
    Empty,
    /// Unpacks to more than [`hearth_types::limits::UNZIPPED_BYTES`], or to too many files or directories.
    #[error("the archive unpacks to more than {limit} {what}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// `bytes`, `files` or `directories`.
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

impl ArchiveError {
    pub(crate) fn entry(name: &[u8], problem: impl Into<String>) -> Self {
        const SHOWN: usize = 100;
        let mut shown: String = String::from_utf8_lossy(name).chars().take(SHOWN).collect();
        if shown.len() < name.len() {
            shown.push_str("...");
        }
        Self::BadEntry { name: shown, problem: problem.into() }
    }

    pub(crate) fn io(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { step: step.into(), source },
        }
    }
}
