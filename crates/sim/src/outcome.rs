//! What a run came to, as JSON and for the report. Numbers only, and the same for the same input.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::histogram::Histogram;

/// What a run came to under one policy.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The policy.
    pub policy: String,
    /// Requests that came.
    pub requests: u64,
    /// Those that ran to their end.
    pub completed: u64,
    /// Those that ran when their worker died.
    pub lost_with_a_worker: u64,
    /// Those that failed because the init phase of their instance did, for the second time.
    pub failed_to_initialize: u64,
    /// Those that got no slot.
    pub refused_total: u64,
    /// Those by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Requests for which an instance was started.
    pub cold_starts: u64,
    /// Their share of all served requests, 0 to 1.
    pub cold_share: f64,
    /// The same share for each function alone; half of the functions have no more than this.
    pub cold_share_of_median_function: f64,
    /// And three quarters no more than this, which is what "Serverless in the Wild" compares.
    pub cold_share_of_third_quartile_function: f64,
    /// Wait for a slot of all served requests.
    pub wait_ms: Waits,
    /// Wait of those that found none free.
    pub wait_ms_without_free_slot: Waits,
    /// Memory over the time in which requests come.
    pub memory_gib_hours: Held,
    /// Instances.
    pub instances: Instances,
    /// Cold starts that warm pools spared and made, as the manager counts them.
    pub spared: Spared,
    /// Workers that died.
    pub workers_lost: u64,
    /// Times that a worker became pressed for memory.
    pub workers_pressed: u64,
    /// How it went, in equal parts of the time.
    pub samples: Vec<Sample>,
}

/// Waits, milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Waits {
    /// How many there were.
    pub count: u64,
    /// On average.
    pub mean: f64,
    /// Half are shorter.
    pub p50: f64,
    /// 99 % are shorter.
    pub p99: f64,
    /// 99.9 % are shorter.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Waits {
    pub(crate) fn of(histogram: &Histogram) -> Self {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        Self {
            count: histogram.total(),
            mean: histogram.mean() / 1e6,
            p50: millis(histogram.per_mille(500)),
            p99: millis(histogram.per_mille(990)),
            p999: millis(histogram.per_mille(999)),
            max: millis(histogram.largest()),
        }
    }
}

/// Memory of instances by what it was held for, `GiB` times hours.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Held {
    /// With requests.
    pub busy: f64,
    /// Without any.
    pub idle: f64,
    /// Not ready yet.
    pub starting: f64,
}

/// Instances, in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Instances {
    /// Got a worker.
    pub placed: u64,
    /// Times that no worker had room.
    pub not_placed: u64,
    /// Did not become ready.
    pub failed_to_start: u64,
    /// Times that one was stopped to have its memory.
    pub hibernated: u64,
    /// Most at once.
    pub peak: u64,
    /// Most of their memory at once, `GiB`.
    pub peak_memory_gib: f64,
    /// Those placed, by what they were for.
    pub started_for: BTreeMap<&'static str, u64>,
    /// Were ended, by reason.
    pub ended: BTreeMap<&'static str, u64>,
}

/// Cold starts that were spared, against keeping instances for the idle timeout.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spared {
    /// By provisioned instances.
    pub provisioned: u64,
    /// By keeping instances longer.
    pub kept_longer: u64,
    /// By instances that were ready when a foreseen request came.
    pub prewarmed: u64,
    /// By instances started ahead of a rising burst.
    pub ahead: u64,
    /// Not spared but made, by keeping instances shorter.
    pub made_by_keeping_shorter: u64,
    /// Not spared but shortened, by blanks.
    pub shortened_by_blanks: u64,
}

/// One part of the time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Its end, seconds from the start.
    pub at_seconds: u64,
    /// Requests in it.
    pub requests: u64,
    /// Cold starts in it.
    pub cold_starts: u64,
    /// Refusals in it.
    pub refused: u64,
    /// Instances at its end.
    pub instances: u64,
    /// Memory without requests at its end, starting instances included, MiB.
    pub idle_mb: u64,
    /// Memory with requests at its end, MiB.
    pub busy_mb: u64,
}
