//! What the frontend counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Which requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    status: u16,
}

/// Which invocations are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Counters of one frontend.
#[derive(Debug)]
pub struct FrontendMetrics {
    requests: Family<RequestLabels, Counter>,
    invocations: Family<OutcomeLabels, Counter>,
    latency: Histogram,
}

impl Default for FrontendMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            invocations: Family::default(),
            // 100 microseconds to 1,677 seconds, beyond the longest timeout.
            latency: Histogram::new(exponential_buckets(0.0001, 4.0, 13)),
        }
    }
}

impl FrontendMetrics {
    /// Has them shown with the others of `registry`, which puts `hearth_` before each name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "frontend_requests",
            "Requests answered, by operation and HTTP status",
            self.requests.clone(),
        );
        registry.register(
            "frontend_invocations",
            "Invocations, by what came of them",
            self.invocations.clone(),
        );
        registry.register(
            "frontend_invoke_seconds",
            "Time from a read Invoke request to its answer",
            self.latency.clone(),
        );
    }

    pub(crate) fn answered(&self, operation: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { operation, status }).inc();
    }

    pub(crate) fn invoked(&self, outcome: &'static str, seconds: f64) {
        self.invocations.get_or_create(&OutcomeLabels { outcome }).inc();
        self.latency.observe(seconds);
    }
}
