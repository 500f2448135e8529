//! What the frontend needs of the rest of Hearth, so that it can be tested, and later run, without it.

use std::future::Future;
use std::sync::Arc;

use hearth_aws::QueueArn;
use hearth_store::{EventStore, NewEvent, StateReason, StoreError};
use hearth_types::{
    AccountId, Answer, FunctionId, FunctionSpec, Invocation, InvokeError, Lease, LeaseOutcome, LeaseRequest,
    Refusal, Reply, RevisionId,
};
use hyper::{Method, Request, Response};

use crate::body::Body;

/// Manager and workers, as the frontend sees them.
pub trait Backend: Send + Sync + 'static {
    /// Waits for a slot of an instance. Whoever gets a lease must release it.
    fn acquire(&self, request: LeaseRequest) -> impl Future<Output = Result<Lease, Refusal>> + Send;

    /// Gives a slot back.
    fn release(&self, lease: Lease, outcome: LeaseOutcome);

    /// Has the leased instance answer one request.
    fn invoke(
        &self,
        lease: &Lease,
        invocation: Invocation,
    ) -> impl Future<Output = Result<Answer, InvokeError>> + Send;

    /// The same for a client that takes the answer piece by piece, as it is made.
    fn invoke_streamed(
        &self,
        lease: &Lease,
        invocation: Invocation,
    ) -> impl Future<Output = Result<Reply, InvokeError>> + Send;

    /// Has the leased instance, an HTTP service, respond to a request. What its response keeps in its extensions is dropped when the
    /// response is over.
    fn forward(
        &self,
        lease: &Lease,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, ForwardError>> + Send;

    /// Makes a revision ready to run: code unpacked, runtime there. `Err` is why the function becomes Failed.
    fn prepare(&self, spec: Arc<FunctionSpec>) -> impl Future<Output = Result<(), StateReason>> + Send;

    /// `current` serves from now on; instances of revisions before it may go when they are idle.
    fn revision_replaced(&self, current: &RevisionId);

    /// The function is gone; so are its instances when they are idle.
    fn function_deleted(&self, function: &FunctionId, newest: u64);

    /// A function's reserved concurrency was read at start or changed; nothing if it has none.
    fn concurrency_reserved(&self, function: &FunctionId, reserved: Option<u32>);

    /// Instances of this revision are to be ready for `count` requests at once, from now on and at all times; zero
    /// ends that. Told again at start, and whenever the spec or the number changes.
    fn provision(&self, spec: Arc<FunctionSpec>, count: u32);

    /// What became of that.
    fn provisioned(&self, revision: &RevisionId) -> Provisioned;

    /// The last `lines` lines of a function's log, oldest first.
    fn log(
        &self,
        function: &FunctionId,
        lines: usize,
    ) -> impl Future<Output = std::io::Result<Vec<LogLine>>> + Send;

    /// What is kept of events, and what is configured of them.
    fn events(&self) -> &dyn EventStore;

    /// Takes an event, which is on disk when this answers `Ok`, and has it run in time.
    fn accept(&self, event: NewEvent) -> impl Future<Output = Result<(), NotAccepted>> + Send;

    /// Drops the events of a function that is gone.
    fn forget_events(&self, function: &FunctionId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Why nothing can be sent to what an ARN names, as the end of a sentence that begins with it.
    fn undeliverable(&self, arn: &str) -> Option<String>;

    /// A schedule was made, changed or deleted.
    fn schedules_changed(&self);

    /// How long the messages of a queue are hidden once somebody has them, seconds.
    fn find_queue(&self, queue: QueueArn<'_>) -> impl Future<Output = Result<u32, NoQueue>> + Send;

    /// An event source mapping was made, changed or deleted.
    fn mappings_changed(&self);

    /// What came of what a mapping did last, if it did anything.
    fn mapping_result(&self, account: &AccountId, uuid: &str) -> Option<String>;

    /// Answers the operator's own paths: `/metrics` and what is below `/_hearth/`.
    fn operator(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        viewer: Viewer,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Who looks at a server from its operator's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The account that they act for.
    pub account: AccountId,
    /// Whether they see all accounts, and the server itself.
    pub sees_all: bool,
}

impl Viewer {
    /// Whether they see what is of an account.
    #[must_use]
    pub fn sees(&self, account: &AccountId) -> bool {
        self.sees_all || self.account == *account
    }
}

/// A line of a function's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was logged, milliseconds since 1970.
    pub epoch_ms: u64,
    /// By which instance.
    pub instance: String,
    /// What it says, without its line end.
    pub text: String,
}

/// Why a request to an HTTP service has no response.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The service certainly got nothing of it; another instance may be tried.
    #[error("the instance did not get the request: {reason}")]
    NotDelivered {
        /// What happened.
        reason: String,
        /// What was to be sent.
        request: Box<Request<Body>>,
    },
    /// It failed, or broke off.
    #[error("{reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
    /// No response began in time.
    #[error("no response began in time")]
    TimedOut,
}

/// Why nothing is known of a queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoQueue {
    /// There is none.
    #[error("there is no such queue")]
    Missing,
    /// Nobody said where queues are.
    #[error("no SQS is configured")]
    NoService,
    /// Nobody knows.
    #[error("{0}")]
    Failed(String),
}

/// How far the provisioning of a revision has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// Requests at once that instances are ready for, in use or not.
    pub allocated: u32,
    /// How many of those are free.
    pub available: u32,
    /// Why there cannot be as many as were asked for.
    pub failure: Option<String>,
}

/// Why an event is not taken. It is not kept then, not even in part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// Its function has as many as it may.
    #[error("{0}")]
    FunctionFull(String),
    /// All functions together have.
    #[error("{0}")]
    Full(String),
    /// The disk is full.
    #[error("the disk that holds the events is full")]
    DiskFull,
    /// The store failed.
    #[error("the store of the events failed; Hearth's log says why")]
    Failed,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}
