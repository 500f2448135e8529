//! Why a service did not do what it was asked.

use std::time::Duration;

/// Why a service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// What is asked for cannot be asked for.
    #[error("{0}")]
    Invalid(String),
    /// Nobody answers.
    #[error("{endpoint} cannot be reached")]
    Unreachable {
        /// Whose.
        endpoint: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It takes too long.
    #[error("{endpoint} did not answer to the end within {after:?}")]
    Late {
        /// Whose.
        endpoint: String,
        /// How long was waited.
        after: Duration,
    },
    /// Its answer ended before it was whole.
    #[error("{endpoint} broke its answer off")]
    BrokeOff {
        /// Whose.
        endpoint: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It says no, in its own words.
    #[error("{code}: {message}")]
    Refused {
        /// The answer's status.
        status: u16,
        /// Its error's name, such as `NoSuchKey`.
        code: String,
        /// Its error's text.
        message: String,
    },
    /// Its answer is larger than it may be.
    #[error("the answer has more than {most} bytes")]
    TooLarge {
        /// The bound.
        most: u64,
    },
    /// Its answer is none that the protocol has.
    #[error("{endpoint} answered what cannot be understood: {problem}")]
    Nonsense {
        /// Whose.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What came cannot be written.
    #[error("what came cannot be kept")]
    Write(#[source] std::io::Error),
}
