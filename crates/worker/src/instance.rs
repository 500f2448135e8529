//! One instance: what it knows of itself, and the doors through which calls come in.
//!
//! ```text
//!            create                        runtime and extensions called next
//!   Making ----------> Initializing ------------------------------------------> Serving --+
//!     |                     |                                                      ^      | crash, timeout,
//!     | no sandbox          | init failed or took 10 s                             |      | end()
//!     v                     v           first invocation             init again   |      v
//!   (Failed)             Waiting ---------------------------------> Initializing --+   Ending --> (Gone)
//!                           |                                           |                ^
//!                           +-------------------- end() ----------------+- failed -------+
//! ```
//!
//! One task, in `life`, walks this chart: each phase is an async function of it, and it alone makes and ends
//! sandboxes. Calls of the Runtime API and of `invoke` change the state below under one lock that is never held across an await,
//! and wake that task only when it has something to decide, so a warm invocation does not: the deadline it sleeps for is never
//! later than that of any invocation in hand.
//!
//! An init phase that fails is done again within the first invocation, as Lambda does. Every generation of the sandbox has a
//! number; what connections of an earlier one say is refused.

mod asker;
mod doors;
mod extensions;
mod finish;
mod http;
mod life;
mod saying;
mod session;
mod sleep;
mod snapshot;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hearth_sandbox::{Driver, Exit, Sandbox, Stats};
use hearth_types::{
    Answer, EndReason, FunctionSpec, InstanceId, Invocation, InvokeError, RequestId, StartReason, TenantId,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::blanks::Blanks;
use crate::failure::Failure;
use crate::launcher::Launcher;
use crate::logs::FunctionLog;
use crate::metrics::Counters;
use crate::output::Output;
use crate::protocol::{Protocol, Waiter};
use crate::report::Cold;
use crate::snapshots::Snapshots;
use crate::telemetry::Telemetry;

use asker::Asker;
pub(crate) use asker::Replied;
pub(crate) use doors::Posted;
pub(crate) use extensions::NotSubscribed;
pub use http::{HttpBody, HttpError};
use saying::Beginning;

/// The result of an invocation.
pub(crate) type Invoked = Result<Answer, InvokeError>;

/// What a parked `next` call of the runtime is answered with.
#[derive(Debug)]
pub(crate) struct NextEvent {
    pub(crate) invocation: Invocation,
    pub(crate) deadline_ms: u64,
}

impl<T> Waiter for oneshot::Sender<T> {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

type Conversation = Protocol<oneshot::Sender<NextEvent>, oneshot::Sender<Bytes>>;

/// Where in its life an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Making,
    Initializing,
    /// Init failed; the first invocation does it again.
    Waiting,
    Serving,
    Ending,
}

/// An invocation in hand.
#[derive(Debug)]
struct Flight {
    id: RequestId,
    /// Until it is handed to the runtime.
    invocation: Option<Invocation>,
    wants_tail: bool,
    /// When it was handed to the runtime, or an init phase was begun for it.
    started: Option<Instant>,
    /// When its answer began to come, where somebody wants to know.
    answering: Option<Instant>,
    /// The trace that it is part of, likewise.
    trace: Option<String>,
    deadline: Instant,
    asker: Asker,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    generation: u32,
    beginning: Beginning,
    protocol: Conversation,
    flights: Vec<Flight>,
    /// The deadline that the instance's task sleeps for.
    armed: Option<Instant>,
    /// Why the instance must end, or its init phase failed.
    failure: Option<Failure>,
    /// Whether the runtime runs, 1 or 0.
    runtimes: usize,
    /// External extensions that run.
    extensions: usize,
    end: Option<EndReason>,
    /// What came before the first invocation, until a REPORT has told it.
    unreported: Option<Cold>,
    /// Whether the sandbox is made to be saved after its init phase.
    is_saved: bool,
    /// The runtime's call that is answered in the sandboxes made from that: it waits for as long as this is kept.
    until_restored: Option<oneshot::Sender<()>>,
    invocations: u64,
    /// Requests to the HTTP service that the instance is.
    visits: u32,
    last_used: Instant,
}

/// One instance and its sandbox.
pub(crate) struct Instance {
    id: InstanceId,
    spec: Arc<FunctionSpec>,
    /// Whom it serves, and nobody else.
    tenant: Option<TenantId>,
    reason: StartReason,
    driver: Arc<dyn Driver>,
    launcher: Arc<dyn Launcher>,
    counters: Arc<Counters>,
    output: Output,
    snapshots: Arc<Snapshots>,
    blanks: Arc<Blanks>,
    /// The blank that its first sandbox is to be made of.
    blank: Mutex<Option<InstanceId>>,
    created: Instant,
    state: Mutex<State>,
    sandbox: Mutex<Option<Arc<dyn Sandbox>>>,
    usage: Mutex<Usage>,
    /// Connections to the HTTP service that the instance is.
    connections: http::Connections,
    /// Rung when the instance's task has something to decide.
    changed: Notify,
    /// Whether its sandbox is paused, or about to be.
    asleep: AtomicBool,
    /// Held by who pauses or resumes the sandbox.
    sleeping: tokio::sync::Mutex<()>,
}

/// What the sandbox used, as last asked.
#[derive(Debug)]
struct Usage {
    asked: Option<Instant>,
    stats: Stats,
}

/// What an instance is made with.
pub(crate) struct Parts {
    pub(crate) id: InstanceId,
    pub(crate) spec: Arc<FunctionSpec>,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) reason: StartReason,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Arc<FunctionLog>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) blanks: Arc<Blanks>,
    pub(crate) blank: Option<InstanceId>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic elsewhere left is still the truth about which invocations are in hand.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Instance ===

impl Instance {
    pub(crate) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        let state = State {
            phase: Phase::Making,
            generation: 0,
            beginning: Beginning::none(),
            protocol: Protocol::new(parts.spec.concurrency.hard, Vec::new()),
            flights: Vec::new(),
            armed: None,
            failure: None,
            runtimes: 0,
            extensions: 0,
            end: None,
            unreported: None,
            is_saved: false,
            until_restored: None,
            invocations: 0,
            visits: 0,
            last_used: now,
        };
        let telemetry = Telemetry::new(
            parts.spec.memory_mb,
            parts.spec.logging.json.is_some(),
            Arc::clone(&parts.counters),
        );
        Self {
            id: parts.id,
            spec: parts.spec,
            tenant: parts.tenant,
            reason: parts.reason,
            driver: parts.driver,
            launcher: parts.launcher,
            counters: parts.counters,
            output: Output::new(parts.id, parts.log, telemetry),
            snapshots: parts.snapshots,
            blanks: parts.blanks,
            blank: Mutex::new(parts.blank),
            created: now,
            state: Mutex::new(state),
            sandbox: Mutex::default(),
            usage: Mutex::new(Usage { asked: None, stats: Stats::default() }),
            connections: http::Connections::default(),
            changed: Notify::new(),
            asleep: AtomicBool::new(false),
            sleeping: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> InstanceId {
        self.id
    }

    pub(crate) fn spec(&self) -> &Arc<FunctionSpec> {
        &self.spec
    }

    /// Asks the instance to end. The first reason stands.
    pub(crate) fn end(self: &Arc<Self>, reason: EndReason) {
        lock(&self.state).end.get_or_insert(reason);
        self.wake();
        self.changed.notify_one();
    }

    /// The word for its phase, its age, the time since its last use, and invocations so far.
    pub(crate) fn describe(&self) -> (&'static str, Duration, Duration, u64) {
        let state = lock(&self.state);
        let word = match state.phase {
            Phase::Making | Phase::Initializing => "starting",
            Phase::Serving if self.asleep.load(Ordering::SeqCst) => "hibernating",
            Phase::Waiting | Phase::Serving if state.is_idle() => "idle",
            Phase::Waiting | Phase::Serving => "busy",
            Phase::Ending => "draining",
        };
        (word, self.created.elapsed(), state.last_used.elapsed(), state.invocations)
    }

    /// What the sandbox uses now.
    pub(crate) fn stats(&self) -> Stats {
        lock(&self.sandbox).as_ref().map(|sandbox| sandbox.stats()).unwrap_or_default()
    }
}

// === impl State ===

impl State {
    /// Whether nobody waits for anything that it does.
    fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.visits == 0
    }

    /// Why the instance's task must not go on with its phase.
    fn stop(&self) -> Option<Stop> {
        let failed = self.failure.clone().map(Stop::Failed);
        failed.or_else(|| self.end.map(Stop::Ended))
    }

    /// Notes a failure; the first stands.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// A process of the sandbox ended, which none does as long as all is well.
    fn exited(&mut self, extension: Option<&str>, exit: Exit) {
        let running = if extension.is_some() { &mut self.extensions } else { &mut self.runtimes };
        *running = running.saturating_sub(1);
        self.fail(match extension {
            None => Failure::RuntimeExited(exit),
            Some(_) => Failure::ExtensionFailed {
                kind: "Extension.Crash".to_owned(),
                reason: crate::failure::exit_reason("Extension", exit),
            },
        });
    }
}

/// Why a phase ended early.
#[derive(Clone, Debug)]
enum Stop {
    Ended(EndReason),
    Failed(Failure),
}
