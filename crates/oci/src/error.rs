//! Why an image was not taken.

use std::io;

use crate::Digest;

/// Why an image was not taken. `Invalid` and `TooLarge` are the fault of who made it.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// A document or an archive that is not what it says, or that nobody may have.
    #[error("{what}: {problem}")]
    Invalid {
        /// Which part of the image.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Larger than images may be.
    #[error("{what} has more than {limit} {unit}")]
    TooLarge {
        /// Which part of the image.
        what: String,
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Not here.
    #[error("{0} is not here")]
    Missing(Digest),
    /// An index without an image for this machine.
    #[error("the image is for {offered}, and this machine is {wanted}: build it for that")]
    NoPlatform {
        /// What there is.
        offered: String,
        /// What there should be.
        wanted: String,
    },
    /// The disk is full.
    #[error("the disk that holds images is full")]
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

impl OciError {
    pub(crate) fn invalid(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), problem: problem.into() }
    }

    pub(crate) fn io(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { step: step.into(), source },
        }
    }
}

/// What is shown of a name that somebody else chose.
pub(crate) fn shown(name: &[u8]) -> String {
    const SHOWN: usize = 100;
    let mut shown: String = String::from_utf8_lossy(name).chars().take(SHOWN).collect();
    if shown.len() < name.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}
