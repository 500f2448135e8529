//! What serves the workload: workers, how long starts take, and what goes wrong.

use hearth_types::limits;

use crate::chance::Chance;
use crate::units::{SECOND, whole};

/// The workers, all alike, and the limits of every account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How many workers.
    pub workers: u32,
    /// Memory of each, MiB.
    pub memory_mb: u64,
    /// CPU of each, thousandths of a vCPU.
    pub cpu_millis: u64,
    /// Most instances of each.
    pub instances: u32,
    /// How much of its memory a worker promises, percent.
    pub memory_percent: u32,
    /// How much of its CPU a worker promises, percent.
    pub cpu_percent: u32,
    /// Requests at once that an account may have.
    pub account_concurrency: u32,
    /// Most blanks of each kind.
    pub blanks: u32,
    /// What instances really use of their memory; if it is not said, workers are never pressed.
    pub memory_use: Option<MemoryUse>,
}

/// Parts of its memory that an instance really uses, percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// While it starts or has requests.
    pub busy: u32,
    /// Without any.
    pub idle: u32,
    /// While it hibernates.
    pub asleep: u32,
}

impl Default for Cluster {
    /// A thousand workers of 64 GiB and 32 vCPUs, memory promised as it is.
    fn default() -> Self {
        Self {
            workers: 1_000,
            memory_mb: 65_536,
            cpu_millis: 32_000,
            instances: 1_000,
            memory_percent: 100,
            cpu_percent: 1_000,
            account_concurrency: limits::ACCOUNT_CONCURRENCY,
            blanks: 0,
            memory_use: None,
        }
    }
}

/// How long starts and ends of instances take, and how many starts fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Starts {
    /// Half of the starts are faster, nanoseconds. Starts are log-normal.
    pub median: u64,
    /// 99 of 100 starts are faster, nanoseconds.
    pub p99: u64,
    /// Share of starts that fail, 0 to 1; they take as long.
    pub failing: f64,
    /// Share of workers' reports that come twice, 0 to 1.
    pub repeated: f64,
    /// How long it takes to end an instance, nanoseconds.
    pub end: u64,
    /// Share of starts whose init phase fails, 0 to 1. The first request does it again, and fails as often.
    pub init_failing: f64,
    /// What is left of a start's time when it is made of a blank, 0 to 1.
    pub of_blank: f64,
    /// How much longer a request runs that wakes its instance, nanoseconds.
    pub wake: u64,
}

impl Default for Starts {
    /// A quarter of a second, a second for the slowest hundredth; nothing fails.
    fn default() -> Self {
        Self {
            median: SECOND / 4,
            p99: SECOND,
            failing: 0.0,
            repeated: 0.0,
            end: SECOND / 50,
            init_failing: 0.0,
            of_blank: 0.3,
            wake: SECOND / 10,
        }
    }
}

impl Starts {
    /// Time of one start, nanoseconds.
    pub(crate) fn draw(&self, chance: &mut Chance) -> u64 {
        if self.p99 <= self.median {
            return self.median;
        }
        // The 99th percentile of the standard normal distribution.
        let sigma = libm::log(self.p99 as f64 / self.median.max(1) as f64) / 2.326_348;
        whole(self.median.max(1) as f64 * libm::exp(sigma * chance.normal()))
    }
}

/// Something that goes wrong; times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// Workers, chosen at random, die with all their instances.
    WorkersDie {
        /// When.
        at: u64,
        /// How many.
        workers: u32,
        /// After how long they are back, if they come back.
        back_after: Option<u64>,
    },
    /// Starts decided in this time take longer.
    SlowStarts {
        /// From when.
        from: u64,
        /// Until when.
        until: u64,
        /// How many times as long.
        times: f64,
    },
}
