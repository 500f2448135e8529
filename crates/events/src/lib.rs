//! Events that wait for their functions: pure, without clock, randomness or I/O of its own.
//!
//! [`Dispatcher`] says which event is due when, and what follows from what came of it. [`record`] says what a
//! destination is told. `hearth` has the shell around both.

#![deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

mod dispatcher;
mod lane;
pub mod record;

pub use dispatcher::{Config, Dispatcher, Full, LaneView, Outcome, Pending, Step, Totals, Verdict};
pub use lane::Lane;
