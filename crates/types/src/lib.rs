//! The words of Hearth: ids, specs, limits and time, shared by every part.
//!
//! Nothing here does I/O or decides anything. A type lives here only when two parts that must not
//! know each other (manager and worker, frontend and store) have to mean the same thing by it.

mod blank;
mod egress;
mod function;
mod http;
mod id;
mod invocation;
mod isolation;
mod lease;
pub mod limits;
mod logging;
mod runtime;
mod stream;
mod tenant;
mod time;
mod trace;

pub use blank::BlankKind;
pub use egress::{Egress, EgressRule, ParseEgressError};
pub use function::{
    CodeDigest, Concurrency, FunctionId, FunctionSpec, ImageSource, InvalidDigest, KeepAlive, Queue,
    RevisionId, Version, VersionId,
};
pub use http::HttpService;
pub use id::{AccountId, InstanceId, InvalidAccountId, LeaseId, RequestId, WorkerId};
pub use invocation::{Answer, FunctionError, Invocation, InvokeError};
pub use isolation::{Isolation, ParseIsolationError};
pub use lease::{EndReason, InstanceState, Lease, LeaseOutcome, LeaseRequest, Refusal, StartReason};
pub use logging::{InvalidLogLevel, JsonLog, LogLevel, Logging};
pub use runtime::{ParseRuntimeError, Runtime, RuntimeFamily};
pub use stream::{Over, Piece, Pieces, Reply, StreamEnd, StreamError, StreamedAnswer};
pub use tenant::{InvalidTenantId, TENANT_ID_LENGTH, TenantId};
pub use time::Time;
pub use trace::{traceparent_of, xray_of};
