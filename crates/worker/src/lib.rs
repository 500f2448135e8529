//! The worker: makes, feeds, watches and ends instances through a driver, and keeps their logs.
//!
//! Lambda's Runtime API and Extensions API are served here, once for all drivers. The truth about which instances
//! exist lives in a [`Worker`] and nowhere else.
//!
//! ```text
//! worker      the doors: create, invoke, end, report
//! blanks      sandboxes with a runtime and no function, made ahead
//! instance    the life of one instance, drawn as a chart; its phases are async functions of one task
//! protocol    what a call to the Runtime or Extensions API means in which state: pure
//! api         the HTTP around it
//! output      what processes write, made into bounded lines under a token bucket
//! telemetry   the same lines, and what the platform says, for extensions that subscribe
//! logs        those lines on disk, bounded for each function, written by one thread
//! ```

mod api;
mod blanks;
mod clock;
mod environment;
mod failure;
mod instance;
mod launcher;
mod logs;
mod metrics;
mod output;
mod protocol;
mod quiet;
mod report;
mod said;
mod snapshots;
mod telemetry;
mod worker;

pub use blanks::BlankReport;
pub use instance::{HttpBody, HttpError};
pub use launcher::{Launch, LaunchAhead, LaunchError, Launcher};
pub use logs::{Follow, LogLine, Logs};
pub use metrics::Metrics;
pub use snapshots::SnapshotError;
pub use worker::{InstanceReport, Worker, WorkerConfig, WorkerEvent};
