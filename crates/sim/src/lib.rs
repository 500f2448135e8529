//! Runs the real manager and the real placement through days of requests in virtual time: which policy keeps which
//! promise, before anything is deployed.
//!
//! | file | what it owns |
//! |---|---|
//! | `workload` | functions and their requests: generated, from a trace, or from a scenario |
//! | `scenario` | the file that describes a run |
//! | `cluster`, `policy` | what serves the workload, and how |
//! | `control` | the one place that calls the state machines |
//! | `engine` | virtual time: what comes next, and who is told |
//! | `outcome`, `report` | what came of it: numbers, JSON, a text, a picture |
//! | `chance`, `histogram`, `by_count`, `units` | seeded chance, percentiles, quick maps, words for times and rates |
//!
//! Invariants, each checked in every run: no instance has more requests than slots, no account and no function more in
//! flight than it may, every request has exactly one end, and in the end nothing is left. The same seed gives the same
//! bytes.
//!
//! Deliberately absent: the network, the functions' own CPU and memory use, the store.

mod by_count;
mod chance;
mod cluster;
mod control;
mod engine;
mod histogram;
mod outcome;
mod policy;
mod report;
mod scenario;
mod units;
pub mod workload;

pub use cluster::{Cluster, Failure, Starts};
pub use engine::{Broken, Progress, Setup, run};
pub use outcome::{Held, Instances, Outcome, Sample, Spared, Waits};
pub use policy::{InvalidPolicy, Policy};
pub use report::Report;
pub use scenario::Scenario;
pub use units::{InvalidRate, InvalidSpan, Rate, Span};
pub use workload::Workload;
pub use workload::generate::Generate;
pub use workload::lines::InputError;
