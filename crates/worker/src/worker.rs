//! The doors of the worker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use hearth_sandbox::{CreateError, Driver, Root};
use hearth_types::{
    Answer, BlankKind, EndReason, FunctionSpec, InstanceId, Invocation, InvokeError, Reply, StartReason,
    TenantId, WorkerId,
};
use http::{Request, Response};
use tokio::sync::{Notify, mpsc};
use tracing::Instrument;

use crate::blanks::{BlankReport, Blanks};
use crate::instance::{HttpBody, HttpError, Instance, Parts};
use crate::launcher::Launcher;
use crate::logs::Logs;
use crate::metrics::{Counters, Metrics, count};
use crate::snapshots::{SnapshotError, Snapshots};

/// What a worker is made with.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its name.
    pub id: WorkerId,
    /// The functions' logs, which it may share with other workers.
    pub logs: Logs,
    /// Where it says what became of instances.
    pub events: mpsc::Sender<(WorkerId, WorkerEvent)>,
}

/// What became of an instance. For each [`Worker::create`] comes one `InstanceFailed`, or one `InstanceReady` and
/// later one `InstanceGone`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEvent {
    /// It takes invocations, also when its init phase failed: the first invocation then does that again, as in Lambda.
    InstanceReady {
        /// Which.
        instance: InstanceId,
        /// How long its init phase took.
        init: Duration,
        /// Whether that succeeded.
        initialized: bool,
    },
    /// It could not be made, or was ended before it was ready; nothing of it is left.
    InstanceFailed {
        /// Which.
        instance: InstanceId,
        /// Why.
        reason: String,
    },
    /// It ended; nothing of it is left.
    InstanceGone {
        /// Which.
        instance: InstanceId,
        /// Why.
        reason: EndReason,
    },
    /// An instance can be made of a blank.
    BlankReady {
        /// Which.
        blank: InstanceId,
        /// Of functions of which kind.
        kind: BlankKind,
    },
    /// A blank could not be made, or ended; no instance was made of it, and nothing of it is left.
    BlankGone {
        /// Which.
        blank: InstanceId,
        /// Why.
        reason: String,
    },
}

/// An instance as it is now.
#[derive(Clone, Debug)]
pub struct InstanceReport {
    /// Which.
    pub id: InstanceId,
    /// What it runs.
    pub spec: Arc<FunctionSpec>,
    /// Starting, idle, hibernating, busy or draining.
    pub state: &'static str,
    /// Time since its making began.
    pub age: Duration,
    /// Time since an invocation came to it or ended.
    pub idle: Duration,
    /// Memory now, bytes.
    pub memory_bytes: u64,
    /// Most memory ever, bytes.
    pub memory_peak_bytes: u64,
    /// CPU time used, microseconds.
    pub cpu_us: u64,
    /// Invocations answered.
    pub invocations: u64,
}

/// Makes, feeds, watches and ends instances. Cheap to clone; all clones are one worker.
#[derive(Clone)]
pub struct Worker {
    shared: Arc<Shared>,
}

struct Shared {
    id: WorkerId,
    driver: Arc<dyn Driver>,
    launcher: Arc<dyn Launcher>,
    logs: Logs,
    events: mpsc::Sender<(WorkerId, WorkerEvent)>,
    counters: Arc<Counters>,
    snapshots: Arc<Snapshots>,
    blanks: Arc<Blanks>,
    instances: RwLock<HashMap<InstanceId, Arc<Instance>>>,
    /// Rung when an instance is gone.
    gone: Notify,
    /// Whether somebody sees to it that idle instances rest.
    rests: AtomicBool,
}

/// How often idle instances are looked for.
const REST_PAUSE: Duration = Duration::from_millis(500);

/// Has idle instances stand still, for as long as there is a worker.
async fn have_rest(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let all: Vec<_> = shared.read().values().cloned().collect();
        drop(shared);
        all.iter().for_each(|instance| instance.rest());
        tokio::time::sleep(REST_PAUSE).await;
    }
}

// === impl Worker ===

impl Worker {
    /// A worker with no instances.
    #[must_use]
    pub fn new(config: WorkerConfig, driver: Arc<dyn Driver>, launcher: Arc<dyn Launcher>) -> Self {
        let counters: Arc<Counters> = Arc::default();
        let snapshots = Snapshots::new(
            Arc::clone(&driver),
            Arc::clone(&launcher),
            config.logs.clone(),
            Arc::clone(&counters),
        );
        let shared = Shared {
            id: config.id,
            driver,
            launcher,
            logs: config.logs,
            events: config.events,
            counters,
            snapshots: Arc::new(snapshots),
            blanks: Arc::default(),
            instances: RwLock::default(),
            gone: Notify::new(),
            rests: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Begins to make an instance for one tenant or for all, for a reason that it is told, of a blank if there is one by that id. The blank ends if the
    /// instance is not made of it. Returns at once; events follow. Must be called in an async runtime.
    pub fn create(
        &self,
        instance: InstanceId,
        (spec, tenant): (Arc<FunctionSpec>, Option<TenantId>),
        reason: StartReason,
        blank: Option<InstanceId>,
    ) {
        let shared = Arc::clone(&self.shared);
        let log = match shared.logs.function(&spec.revision.version.function) {
            Ok(log) => log,
            Err(error) => {
                count(&shared.counters.instances_failed);
                blank.into_iter().for_each(|blank| shared.blanks.end(blank));
                let reason = format!("its log cannot be kept: {error}");
                tokio::spawn(async move {
                    let failed = WorkerEvent::InstanceFailed { instance, reason };
                    let _ = shared.events.send((shared.id.clone(), failed)).await;
                });
                return;
            }
        };
        // No child of the request that happened to ask for it: it outlives that.
        let span = tracing::info_span!(parent: None, "instance", %instance, function = %spec.revision.version.function);
        let made = Arc::new(Instance::new(Parts {
            id: instance,
            spec,
            tenant,
            reason,
            driver: Arc::clone(&shared.driver),
            launcher: Arc::clone(&shared.launcher),
            counters: Arc::clone(&shared.counters),
            log,
            snapshots: Arc::clone(&shared.snapshots),
            blanks: Arc::clone(&shared.blanks),
            blank,
        }));
        shared.write().insert(instance, Arc::clone(&made));
        if shared.driver.rests() && !shared.rests.swap(true, Ordering::AcqRel) {
            tokio::spawn(have_rest(Arc::downgrade(&shared)));
        }
        let life = async move {
            let last = made.live(&shared.events, &shared.id).await;
            tracing::info!(event = ?last, "instance over");
            shared.write().remove(&instance);
            let _ = shared.events.send((shared.id.clone(), last)).await;
            shared.gone.notify_waiters();
        };
        tokio::spawn(life.instrument(span));
    }

    /// Sees to it that instances of a version with `SnapStart` can be made from a snapshot; nothing happens for others, and
    /// where the driver takes none. Runs the version's init phase if it has to.
    ///
    /// # Errors
    /// When that failed: instances start without then, if they start at all.
    pub async fn prepare(&self, spec: &Arc<FunctionSpec>) -> Result<(), SnapshotError> {
        self.shared.snapshots.prepare(spec).await
    }

    /// Sees to it that no instance with that root waits for what all of them share.
    ///
    /// # Errors
    /// When no instance can have it.
    pub async fn prepare_root(&self, root: &Root) -> Result<(), CreateError> {
        self.shared.driver.prepare_root(root).await
    }

    /// Has an instance run an invocation. It runs to its end even if this future is dropped, as in Lambda.
    ///
    /// The answer comes as soon as the runtime has posted it. Extensions may still work on the invocation then; a next one
    /// waits in the instance until they are done, within its own timeout.
    ///
    /// # Errors
    /// When the instance is not there or ends without an answer; the error says whether the function may have run.
    pub async fn invoke(&self, instance: InstanceId, invocation: Invocation) -> Result<Answer, InvokeError> {
        let answer = self.find(instance)?.invoke(invocation)?;
        answer.await.unwrap_or_else(|_| Err(InvokeError::Lost { reason: "its life broke off".to_owned() }))
    }

    /// The same for a caller who takes the answer piece by piece, as the runtime makes it. A stream that is dropped is not
    /// waited for: the function goes on, and what it still answers is thrown away.
    ///
    /// # Errors
    /// As there; what goes wrong after the stream has begun is said at its end.
    pub async fn invoke_streamed(
        &self,
        instance: InstanceId,
        invocation: Invocation,
    ) -> Result<Reply, InvokeError> {
        let answer = self.find(instance)?.invoke_streamed(invocation)?;
        answer.await.unwrap_or_else(|_| Err(InvokeError::Lost { reason: "its life broke off".to_owned() }))
    }

    /// Has an instance that is an HTTP service respond to a request. A dropped future, or a dropped body of its response, ends the
    /// request.
    ///
    /// # Errors
    /// When there is no response; the error says whether the service may have got the request.
    pub async fn forward(
        &self,
        instance: InstanceId,
        request: Request<HttpBody>,
    ) -> Result<Response<HttpBody>, HttpError> {
        match self.find(instance) {
            Ok(instance) => instance.forward(request).await,
            Err(error) => {
                Err(HttpError::NotDelivered { reason: error.to_string(), request: Box::new(request) })
            }
        }
    }

    fn find(&self, instance: InstanceId) -> Result<Arc<Instance>, InvokeError> {
        self.shared.read().get(&instance).cloned().ok_or_else(|| {
            count(&self.shared.counters.not_delivered);
            InvokeError::NotDelivered { reason: "it is not on this worker".to_owned() }
        })
    }

    /// Ends an instance, through the shutdown phase. Its last event follows. An unknown one is gone already.
    pub fn end(&self, instance: InstanceId, reason: EndReason) {
        if let Some(instance) = self.shared.read().get(&instance) {
            instance.end(reason);
        }
    }

    /// Stops an instance that has no invocation and gives its memory back. The next invocation, or its end, wakes it.
    /// Returns at once; whether it came to that is seen in its report. Must be called in an async runtime.
    pub fn hibernate(&self, instance: InstanceId) {
        if let Some(instance) = self.shared.read().get(&instance).cloned() {
            tokio::spawn(async move { instance.hibernate().await });
        }
    }

    /// Begins to make a blank: a sandbox that an instance of a function of that kind can be made of. Returns at once; events
    /// follow. Must be called in an async runtime.
    pub fn make_blank(&self, blank: InstanceId, kind: BlankKind) {
        let shared = Arc::clone(&self.shared);
        let span = tracing::info_span!(parent: None, "blank", %blank, %kind);
        // Not in the task: it may be ended before that runs.
        let expected = shared.blanks.expect(blank, kind.clone());
        let life = async move {
            let say = |event| shared.events.send((shared.id.clone(), event));
            let ready = || async {
                tracing::debug!("a blank is ready");
                let _ = say(WorkerEvent::BlankReady { blank, kind: kind.clone() }).await;
            };
            let kept = shared.blanks.keep(expected, &shared.driver, &shared.launcher, ready).await;
            if let Some(reason) = kept {
                let _ = say(WorkerEvent::BlankGone { blank, reason }).await;
            }
        };
        tokio::spawn(life.instrument(span));
    }

    /// Ends a blank; if it is there and no instance was made of it, its event follows.
    pub fn end_blank(&self, blank: InstanceId) {
        self.shared.blanks.end(blank);
    }

    /// All blanks. Asks the kernel for the use of each.
    #[must_use]
    pub fn blanks(&self) -> Vec<BlankReport> {
        self.shared.blanks.list()
    }

    /// Wakes an instance that hibernates, as the next invocation would. Must be called in an async runtime.
    pub fn wake(&self, instance: InstanceId) {
        if let Some(instance) = self.shared.read().get(&instance) {
            instance.wake();
        }
    }

    /// All instances. Asks the kernel for the use of each.
    #[must_use]
    pub fn instances(&self) -> Vec<InstanceReport> {
        let all: Vec<_> = self.shared.read().values().cloned().collect();
        all.iter().map(|instance| report(instance)).collect()
    }

    /// The functions' logs.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.shared.logs
    }

    /// What was counted.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.counters.snapshot(self.shared.logs.counts())
    }

    /// Ends all instances, and waits for it no longer than `grace`. The driver's close ends what is left.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared.blanks.end_all();
        for instance in self.shared.read().values() {
            instance.end(EndReason::Shutdown);
        }
        let all_gone = async {
            loop {
                let gone = self.shared.gone.notified();
                if self.shared.read().is_empty() {
                    return;
                }
                gone.await;
            }
        };
        if tokio::time::timeout(grace, all_gone).await.is_err() {
            tracing::warn!(instances = self.shared.read().len(), "instances did not end in time");
        }
        let logs = self.shared.logs.clone();
        let _ = tokio::task::spawn_blocking(move || logs.flush()).await;
    }
}

fn report(instance: &Instance) -> InstanceReport {
    let (state, age, idle, invocations) = instance.describe();
    let stats = instance.stats();
    InstanceReport {
        id: instance.id(),
        spec: Arc::clone(instance.spec()),
        state,
        age,
        idle,
        memory_bytes: stats.memory_bytes,
        memory_peak_bytes: stats.memory_peak_bytes,
        cpu_us: stats.cpu_us,
        invocations,
    }
}

// === impl Shared ===

impl Shared {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<InstanceId, Arc<Instance>>> {
        self.instances.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<InstanceId, Arc<Instance>>> {
        self.instances.write().unwrap_or_else(PoisonError::into_inner)
    }
}
