//! Snapshots of versions after their init phase: Lambda's SnapStart.
//!
//! An instance of such a version is made from a snapshot, if its worker's driver can do that. A snapshot that is not there,
//! or does not fit any more (another kernel, another runtime, damage), is made by whoever comes first, in an instance of its
//! own that never serves; others wait for it. If it cannot be made, instances start as if there were no such thing: that is
//! slower, and right.
//!
//! Source: docs.aws.amazon.com/lambda/latest/dg/snapstart.html.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_sandbox::{Driver, SandboxSpec};
use hearth_types::{FunctionSpec, InstanceId, StartReason, limits};
use tokio::sync::{OnceCell, Semaphore};

use crate::clock::epoch_ms;
use crate::failure::Failure;
use crate::instance::{Instance, Parts};
use crate::launcher::{Launch, LaunchError, Launcher};
use crate::logs::Logs;
use crate::metrics::{Counters, count};

/// Snapshots made at once: each runs a whole init phase, with all the CPU that it can get.
const AT_ONCE: usize = 2;
/// In the upper half of the ids of instances that only make snapshots; no manager's epoch has it.
const MAKERS: u64 = 1 << 63;

/// Why there is no snapshot of a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SnapshotError {
    /// Lambda's name for it: `Runtime.ExitError`, `Sandbox.Timedout`, ...; empty if it is no fault of the function's.
    pub kind: String,
    /// What happened.
    pub reason: String,
}

type Attempt = Arc<OnceCell<Result<(), SnapshotError>>>;

/// Makes them.
pub(crate) struct Snapshots {
    driver: Arc<dyn Driver>,
    launcher: Arc<dyn Launcher>,
    logs: Logs,
    counters: Arc<Counters>,
    /// Those being made, by their keys.
    attempts: Mutex<HashMap<String, Attempt>>,
    turns: Semaphore,
    number: AtomicU64,
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}

/// What a snapshot's worth depends on, as far as the worker knows; the driver adds what it knows.
pub(crate) fn key(spec: &FunctionSpec, launch: &Launch) -> String {
    let FunctionSpec { revision, arn, region, runtime, handler, code, environment, .. } = spec;
    let Launch { root, mounts: _, argv, working_directory, environment: defaults, extensions } = launch;
    format!(
        "{revision:?} {arn} {region} {runtime} {handler:?} {code} {} {environment:?} {argv:?} {working_directory:?} \
         {defaults:?} {extensions:?} {root:?}",
        spec.concurrency.hard
    )
}

/// A sandbox for a function.
pub(crate) fn sandbox_spec(instance: InstanceId, spec: &FunctionSpec, launch: &Launch) -> SandboxSpec {
    let mib = |mb: u32| u64::from(mb) << 20;
    SandboxSpec {
        instance,
        root: launch.root.clone(),
        mounts: launch.mounts.clone(),
        memory_bytes: mib(spec.memory_mb),
        cpu_millis: (spec.memory_mb * 1000).div_ceil(limits::MEMORY_MB_PER_VCPU),
        processes: limits::PROCESSES,
        open_files: limits::OPEN_FILES,
        scratch_bytes: mib(spec.ephemeral_mb),
        egress: spec.egress.clone(),
    }
}

// === impl SnapshotError ===

impl SnapshotError {
    pub(crate) fn ours(reason: &dyn std::error::Error) -> Self {
        Self { kind: String::new(), reason: LaunchError::new(reason).to_string() }
    }

    pub(crate) fn of(failure: &Failure) -> Self {
        Self { kind: failure.kind().to_owned(), reason: failure.reason() }
    }
}

// === impl Snapshots ===

impl Snapshots {
    pub(crate) fn new(
        driver: Arc<dyn Driver>,
        launcher: Arc<dyn Launcher>,
        logs: Logs,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            driver,
            launcher,
            logs,
            counters,
            attempts: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
            number: AtomicU64::new(0),
        }
    }

    /// Sees to it that there is a snapshot of a version; nothing happens if the driver takes none, or none is wanted.
    pub(crate) async fn prepare(self: &Arc<Self>, spec: &Arc<FunctionSpec>) -> Result<(), SnapshotError> {
        let Some(snapshotter) = self.driver.snapshotter().filter(|_| spec.snap_start) else { return Ok(()) };
        let launch = self.launcher.launch(spec).await;
        let launch = launch.map_err(|error| SnapshotError::ours(&error))?;
        let key = key(spec, &launch);
        let wanted = sandbox_spec(self.maker(), spec, &launch);
        let there = snapshotter.has_snapshot(wanted, &key).await;
        if there.map_err(|error| SnapshotError::ours(&error))? {
            return Ok(());
        }
        self.make(spec, &key).await
    }

    /// Makes a snapshot, or waits for one that is being made.
    pub(crate) async fn make(
        self: &Arc<Self>,
        spec: &Arc<FunctionSpec>,
        key: &str,
    ) -> Result<(), SnapshotError> {
        let attempt = Arc::clone(self.attempts().entry(key.to_owned()).or_default());
        let made = attempt.get_or_init(|| self.make_one(spec, key)).await.clone();
        let mut attempts = self.attempts();
        if attempts.get(key).is_some_and(|current| Arc::ptr_eq(current, &attempt)) {
            attempts.remove(key);
        }
        made
    }

    async fn make_one(self: &Arc<Self>, spec: &Arc<FunctionSpec>, key: &str) -> Result<(), SnapshotError> {
        let _turn = self.turns.acquire().await.map_err(|error| SnapshotError::ours(&error))?;
        let id = self.maker();
        let log = self
            .logs
            .function(&spec.revision.version.function)
            .map_err(|error| SnapshotError::ours(&error))?;
        let maker = Arc::new(Instance::new(Parts {
            id,
            spec: Arc::clone(spec),
            tenant: None,
            reason: StartReason::Ahead,
            driver: Arc::clone(&self.driver),
            launcher: Arc::clone(&self.launcher),
            counters: Arc::clone(&self.counters),
            log,
            snapshots: Arc::clone(self),
            blanks: Arc::default(),
            blank: None,
        }));
        let (function, key) = (spec.revision.version.clone(), key.to_owned());
        // In a task of its own: whoever asked for it may go, and others may have begun to wait.
        let saved = tokio::spawn(maker.save(key)).await;
        let saved = saved.unwrap_or_else(|error| Err(SnapshotError::ours(&error)));
        match &saved {
            Ok(after) => {
                count(&self.counters.snapshots_taken);
                let (seconds, version) = (after.as_secs_f32(), function.version);
                tracing::info!(function = %function.function, %version, seconds, "took a snapshot after init");
            }
            Err(error) => {
                let version = function.version;
                tracing::warn!(function = %function.function, %version, %error, "no snapshot could be taken");
            }
        }
        saved.map(drop)
    }

    fn maker(&self) -> InstanceId {
        InstanceId::new(MAKERS | epoch_ms(), self.number.fetch_add(1, Ordering::Relaxed))
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<String, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
