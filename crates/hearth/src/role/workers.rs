//! The workers of this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_types::WorkerId;
use hearth_worker::{BlankReport, InstanceReport, Logs, Metrics, Worker};

/// Workers that share a machine, its driver and the functions' logs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Workers {
    by_id: Arc<BTreeMap<WorkerId, Worker>>,
    logs: Logs,
}

// === impl Workers ===

impl Workers {
    pub(crate) fn new(workers: impl IntoIterator<Item = (WorkerId, Worker)>, logs: Logs) -> Self {
        Self { by_id: Arc::new(workers.into_iter().collect()), logs }
    }

    pub(crate) fn get(&self, id: &WorkerId) -> Option<&Worker> {
        self.by_id.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&WorkerId, &Worker)> + Clone {
        self.by_id.iter()
    }

    /// The functions' logs.
    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }

    /// All instances. Asks the kernel for the use of each.
    pub(crate) fn instances(&self) -> Vec<InstanceReport> {
        self.by_id.values().flat_map(Worker::instances).collect()
    }

    /// All blanks. Asks the kernel for the use of each.
    pub(crate) fn blanks(&self) -> Vec<BlankReport> {
        self.by_id.values().flat_map(Worker::blanks).collect()
    }

    /// What was counted, by worker.
    pub(crate) fn metrics(&self) -> Vec<(&WorkerId, Metrics)> {
        self.by_id.iter().map(|(id, worker)| (id, worker.metrics())).collect()
    }
}
