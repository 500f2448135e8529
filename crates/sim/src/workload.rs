//! What is asked of the cluster: functions, when their requests come and how long each runs.
//!
//! A workload does not change while it is simulated, so that several policies can be tried on the very same one. The
//! requests themselves are drawn one at a time for each function (`arrivals::Source`), never all at once.

pub(crate) mod arrivals;
pub(crate) mod durations;
pub mod generate;
pub mod lines;
#[cfg(test)]
mod tests;
pub mod trace_2019;
pub mod trace_2021;

use std::collections::HashMap;
use std::sync::Arc;

use hearth_types::{Concurrency, limits};

use arrivals::Arrivals;
use durations::Durations;

use crate::units::whole_u32;

/// Most functions in a workload.
pub const MAX_FUNCTIONS: u32 = 1_000_000;
/// Longest that a request runs, as in Lambda; longer ones of a trace are cut.
pub(crate) const LONGEST_RUN_NANOS: u64 = limits::TIMEOUT_SECONDS.max as u64 * crate::units::SECOND;

/// One function.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    /// Its name in the workload; not needed to be unique.
    pub(crate) name: Arc<str>,
    /// Which of the workload's accounts it belongs to.
    pub(crate) account: u32,
    /// Memory of an instance, MiB.
    pub(crate) memory_mb: u32,
    /// When requests come.
    pub(crate) arrivals: Arrivals,
    /// How long they run.
    pub(crate) durations: Durations,
    /// Requests at once in one instance.
    pub(crate) concurrency: Concurrency,
    /// Requests at once over all instances, if it has a limit of its own.
    pub(crate) reserved: Option<u32>,
    /// Instances that are kept ready, whether or not requests come.
    pub(crate) provisioned: u32,
}

/// Functions and the time for which their requests come.
#[derive(Clone, Debug)]
pub struct Workload {
    pub(crate) functions: Vec<Function>,
    /// Requests come before this moment, nanoseconds from the start.
    pub(crate) end: u64,
    /// Where it came from, for the report.
    pub(crate) origin: String,
}

impl Workload {
    /// How many functions it has.
    #[must_use]
    pub const fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Leaves out all requests after so many hours.
    #[must_use]
    pub fn within(mut self, hours: u32) -> Self {
        self.end = self.end.min(u64::from(hours) * crate::units::HOUR);
        self
    }

    /// Requests that are to be expected, for a progress display: exact for traces, an expectation else.
    #[must_use]
    pub fn expected_requests(&self) -> f64 {
        self.functions.iter().map(|function| function.arrivals.expected(self.end)).sum()
    }
}

/// The memory that a function gets for what it uses: what Lambda allows and at least that.
pub(crate) fn memory_for(used_mb: f64) -> u32 {
    whole_u32(libm::ceil(used_mb)).clamp(limits::MEMORY_MB.min, limits::MEMORY_MB.max)
}

/// Numbers for names, counted from 0 in the order of appearance.
#[derive(Debug, Default)]
pub(crate) struct Numbers<K>(HashMap<K, u32>);

impl<K: std::hash::Hash + Eq> Numbers<K> {
    pub(crate) fn of(&mut self, name: K) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(name).or_insert(next)
    }
}
