//! What the worker counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the worker started. All only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Invocations that the function answered.
    pub succeeded: u64,
    /// Invocations that the function answered with an error.
    pub function_errors: u64,
    /// Invocations that ran out of time.
    pub timeouts: u64,
    /// Invocations whose runtime or extension ended, failed to start, or answered too much.
    pub crashes: u64,
    /// Invocations that never reached a function.
    pub not_delivered: u64,
    /// Init phases that failed or took too long.
    pub init_failures: u64,
    /// Instances that became ready.
    pub instances_ready: u64,
    /// Instances that could not be made.
    pub instances_failed: u64,
    /// Snapshots taken after an init phase.
    pub snapshots_taken: u64,
    /// Instances made from one.
    pub instances_restored: u64,
    /// Instances made of a blank: a sandbox that was there before its function was known.
    pub instances_from_blanks: u64,
    /// Those of them whose interpreter was started before, too.
    pub instances_started_ahead: u64,
    /// Times that an instance was stopped and gave its memory back.
    pub hibernated: u64,
    /// Memory that came back that way, bytes.
    pub hibernated_bytes: u64,
    /// Events that extensions subscribed to and did not take.
    pub telemetry_dropped: u64,
    /// Bytes of logs written to disk.
    pub log_bytes: u64,
    /// Bytes of logs dropped, because disk or queue was full.
    pub log_dropped_bytes: u64,
}

/// The same, while being counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) succeeded: AtomicU64,
    pub(crate) function_errors: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) crashes: AtomicU64,
    pub(crate) not_delivered: AtomicU64,
    pub(crate) init_failures: AtomicU64,
    pub(crate) instances_ready: AtomicU64,
    pub(crate) instances_failed: AtomicU64,
    pub(crate) snapshots_taken: AtomicU64,
    pub(crate) instances_restored: AtomicU64,
    pub(crate) instances_from_blanks: AtomicU64,
    pub(crate) instances_started_ahead: AtomicU64,
    pub(crate) hibernated: AtomicU64,
    pub(crate) hibernated_bytes: AtomicU64,
    pub(crate) telemetry_dropped: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds so many.
pub(crate) fn count_many(counter: &AtomicU64, many: u64) {
    counter.fetch_add(many, Ordering::Relaxed);
}

// === impl Counters ===

impl Counters {
    pub(crate) fn snapshot(&self, (log_bytes, log_dropped_bytes): (u64, u64)) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            succeeded: read(&self.succeeded),
            function_errors: read(&self.function_errors),
            timeouts: read(&self.timeouts),
            crashes: read(&self.crashes),
            not_delivered: read(&self.not_delivered),
            init_failures: read(&self.init_failures),
            instances_ready: read(&self.instances_ready),
            instances_failed: read(&self.instances_failed),
            snapshots_taken: read(&self.snapshots_taken),
            instances_restored: read(&self.instances_restored),
            instances_from_blanks: read(&self.instances_from_blanks),
            instances_started_ahead: read(&self.instances_started_ahead),
            hibernated: read(&self.hibernated),
            hibernated_bytes: read(&self.hibernated_bytes),
            telemetry_dropped: read(&self.telemetry_dropped),
            log_bytes,
            log_dropped_bytes,
        }
    }
}
