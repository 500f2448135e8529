//! What frontend and worker say to each other about one request.

use bytes::Bytes;

use crate::{RequestId, TenantId};

/// One request for a function, on its way to an instance.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Its id, the caller's to see.
    pub request_id: RequestId,
    /// The event, JSON, at most [`crate::limits::SYNC_PAYLOAD_BYTES`].
    pub payload: Bytes,
    /// The ARN as the caller qualified it.
    pub invoked_arn: String,
    /// Whom it is for, if the function keeps tenants apart.
    pub tenant: Option<TenantId>,
    /// The client context: JSON, already out of its base64.
    pub client_context: Option<String>,
    /// The X-Ray trace header (`Root=...;Parent=...;Sampled=...`).
    pub trace: Option<String>,
    /// Whether the caller wants the end of the log.
    pub wants_log_tail: bool,
}

/// What came of an invocation that an instance received.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The function's answer, or the error document.
    pub payload: Bytes,
    /// Set when the function did not succeed.
    pub error: Option<FunctionError>,
    /// The last [`crate::limits::LOG_TAIL_BYTES`] of this invocation's log, if wanted.
    pub log_tail: Option<Bytes>,
    /// Whether the instance can take another request.
    pub reusable: bool,
}

/// How a function failed, for `X-Amz-Function-Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionError {
    /// The function, its runtime or its instance failed; the payload says how.
    Unhandled,
}

impl FunctionError {
    /// The value of the header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unhandled => "Unhandled",
        }
    }
}

/// Why an invocation has no answer. Fault is the platform's in every case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The function certainly did not get the request; another instance may be tried.
    #[error("the instance was gone before it got the request: {reason}")]
    NotDelivered {
        /// What happened to it.
        reason: String,
    },
    /// The instance could not be restored from its snapshot: the function failed at that, before it got the request.
    #[error("the instance could not be restored from its snapshot: {reason}")]
    NotRestored {
        /// Whether it took too long.
        timed_out: bool,
        /// What happened.
        reason: String,
    },
    /// The function may have got the request; it must not be tried again.
    #[error("the worker lost the instance in mid-request: {reason}")]
    Lost {
        /// What happened to it.
        reason: String,
    },
}
