//! What frontend and manager say to each other about slots.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{FunctionSpec, InstanceId, LeaseId, TenantId, WorkerId};

/// A request that needs a slot.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// The revision that is to serve it.
    pub spec: Arc<FunctionSpec>,
    /// Whom it is for: no instance serves another tenant before or after.
    pub tenant: Option<TenantId>,
}

/// The right to one slot of one instance, ended by release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The instance with the slot.
    pub instance: InstanceId,
    /// Where that instance runs.
    pub worker: WorkerId,
    /// Whether the instance was started for want of a free slot.
    pub cold: bool,
}

/// How a lease ended, as the one who held it saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// The instance can take the next request.
    Reusable,
    /// The instance ended, or must not be used again.
    InstanceLost,
}

/// Why a request gets no slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The account's requests in flight are at its limit.
    #[error("the account runs {limit} requests at once, which is its limit")]
    AccountLimit {
        /// The limit.
        limit: u32,
    },
    /// The function's reserved concurrency is in use.
    #[error("the function runs {limit} requests at once, which is its reserved concurrency")]
    FunctionLimit {
        /// The limit.
        limit: u32,
    },
    /// The function has instances of as many tenants as it may.
    #[error("the function has instances of {limit} tenants, which is the most at once")]
    TenantLimit {
        /// The limit.
        limit: usize,
    },
    /// As many requests of the function wait for a slot as may.
    #[error("{limit} requests of the function wait for a slot already, which is the most allowed")]
    QueueFull {
        /// The most that may wait.
        limit: usize,
    },
    /// No worker has room for another instance.
    #[error("no worker can take another instance: {reason}")]
    NoRoom {
        /// Which resource, on which worker.
        reason: String,
    },
    /// The worker could not make the instance, which is not the function's fault.
    #[error("the instance could not be made: {reason}")]
    StartFailed {
        /// What the worker said.
        reason: String,
    },
    /// The function's last starts all failed their init phase, so the next is not tried at once.
    #[error(
        "the function failed to initialize {failures} times in a row; the next start is tried in {} ms, and its log \
         says what went wrong",
        retry_after.as_millis()
    )]
    InitFailing {
        /// How many times.
        failures: u32,
        /// When a start is tried again.
        retry_after: Duration,
    },
    /// The wait for a slot was longer than allowed.
    #[error("no slot became free within {} ms", waited.as_millis())]
    TimedOut {
        /// How long it waited.
        waited: Duration,
    },
    /// The function was deleted while the request waited.
    #[error("the function was deleted while the request waited for an instance")]
    FunctionDeleted,
    /// The server is stopping and takes no more requests.
    #[error("the server is stopping")]
    Stopping,
}

/// Why an instance is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// No request for its idle timeout.
    Idle,
    /// Its function was changed; a newer revision serves.
    Replaced,
    /// Its function was deleted.
    FunctionDeleted,
    /// It broke: timed out, crashed, ran out of memory, spoke nonsense.
    Failed,
    /// Another instance needs its place, or memory is short.
    Evicted,
    /// Its worker is to be empty.
    WorkerDrained,
    /// An operator asked for it.
    Terminated,
    /// The server stops.
    Shutdown,
}

impl EndReason {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Replaced => "replaced",
            Self::FunctionDeleted => "function-deleted",
            Self::Failed => "failed",
            Self::Evicted => "evicted",
            Self::WorkerDrained => "worker-drained",
            Self::Terminated => "terminated",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an instance was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartReason {
    /// A request that waits.
    Request,
    /// Provisioned concurrency.
    Provisioned,
    /// A request that is expected soon, for the function's idle times say so.
    Prewarmed,
    /// Requests that will come if a burst goes on rising, or all instances are as full as they should be.
    Ahead,
}

impl StartReason {
    /// The word in `hearth ps`, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Provisioned => "provisioned",
            Self::Prewarmed => "prewarmed",
            Self::Ahead => "ahead",
        }
    }
}

impl fmt::Display for StartReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where in its life an instance is, as the manager sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstanceState {
    /// Being made; no slot yet.
    Starting,
    /// Ready, no request.
    Idle,
    /// At least one slot is leased.
    Busy,
    /// Without a request, stopped, its memory given back; the next request wakes it.
    Hibernating,
    /// Takes no more requests; ends when its leases do.
    Draining,
}

impl InstanceState {
    /// The word in `hearth ps`, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Hibernating => "hibernating",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
