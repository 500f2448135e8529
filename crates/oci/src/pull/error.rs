//! Why an image did not come.

use std::time::Duration;

use crate::OciError;

/// Why an image did not come.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Nobody answers.
    #[error("registry {host} cannot be reached")]
    Unreachable {
        /// The registry.
        host: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It takes too long.
    #[error("registry {host} did not answer within {after:?}")]
    Late {
        /// The registry.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// Not for us.
    #[error(
        "registry {host} does not let us read {repository}: it may not exist, or needs a login: run \
         `docker login {host}` as the user that Hearth runs as"
    )]
    Denied {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
    },
    /// Not there.
    #[error("registry {host} has no {what}")]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// An answer that nobody expects, or too often one that should pass.
    #[error("registry {host} answers {status} for {what}, {times} times")]
    Status {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// Its answer.
        status: u16,
        /// How often.
        times: u32,
    },
    /// Sent from place to place, or to where nobody should go.
    #[error("registry {host} redirects {problem}")]
    Redirect {
        /// The registry.
        host: String,
        /// How.
        problem: String,
    },
    /// Content that does not come to its end.
    #[error("registry {host} does not send all of {what}: {problem}")]
    BrokeOff {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What happened last.
        problem: String,
    },
    /// Credentials that cannot be had.
    #[error("cannot get the credentials for registry {host}: {problem}")]
    Credentials {
        /// The registry.
        host: String,
        /// Why not.
        problem: String,
    },
    /// What came is not what it should be, or cannot be kept.
    #[error(transparent)]
    Image(#[from] OciError),
}
