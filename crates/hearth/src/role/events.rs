//! The shell of the events: keeps them, runs each when the dispatcher says so, and tells their ends.
//!
//! An event is answered for from the moment that it is on disk until it has run, or is where its configuration says that
//! failures go. Its row goes in the transaction that writes what follows from it, so a crash at any moment leaves
//! one or the other. What was running is run again.

mod accept;
mod attempt;
mod follow;
mod recover;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_aws::Sqs;
use hearth_events::{Config, Dispatcher, Lane, LaneView, Pending, Step, Totals};
use hearth_frontend::Frontend;
use hearth_store::{EventRecord, EventStore, NewEvent, Target};
use hearth_types::Time;
use tokio::sync::Notify;

use crate::role::LocalBackend;
use crate::role::destinations::Destinations;
use crate::role::mappings::Mappings;
use crate::role::schedules::Schedules;

/// The longest that the dispatcher sleeps, in case that somebody sets the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// Bytes of events that stay in memory for their first attempt.
const FRESH_BYTES: usize = 32 << 20;
/// How soon an event comes again whose end could not be written.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    pub(crate) not_accepted: AtomicU64,
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) exhausted: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) sent: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The events of a Hearth.
pub(crate) struct Events {
    store: Arc<dyn EventStore>,
    destinations: Destinations,
    state: Mutex<State>,
    /// Rung when there may be something to do.
    wake: Notify,
    /// Rung when an attempt is over.
    over: Notify,
    runner: OnceLock<Weak<Frontend<LocalBackend>>>,
    pub(crate) counts: Counts,
    pub(crate) schedules: Schedules,
    pub(crate) mappings: Arc<Mappings>,
}

struct State {
    dispatcher: Dispatcher,
    /// Some of those that have not run yet, to save reading them.
    fresh: HashMap<u64, NewEvent>,
    fresh_bytes: usize,
    stopping: bool,
}

// === impl Events ===

impl Events {
    pub(crate) fn new(
        config: Config,
        store: Arc<dyn EventStore>,
        destinations: Destinations,
        sqs: Option<Sqs>,
    ) -> Self {
        let state = State {
            dispatcher: Dispatcher::new(config),
            fresh: HashMap::new(),
            fresh_bytes: 0,
            stopping: false,
        };
        Self {
            store,
            destinations,
            state: Mutex::new(state),
            wake: Notify::new(),
            over: Notify::new(),
            runner: OnceLock::new(),
            counts: Counts::default(),
            schedules: Schedules::default(),
            mappings: Arc::new(Mappings::new(sqs)),
        }
    }

    pub(crate) fn store(&self) -> &dyn EventStore {
        &*self.store
    }

    /// Why nothing can be sent to what an ARN names.
    pub(crate) fn undeliverable(&self, arn: &str) -> Option<String> {
        self.destinations.undeliverable(arn)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().dispatcher.totals()
    }

    pub(crate) fn lanes(&self) -> Vec<LaneView> {
        self.lock().dispatcher.lanes()
    }

    /// Runs what is due until the server stops.
    pub(crate) async fn dispatch(self: Arc<Self>, frontend: &Arc<Frontend<LocalBackend>>) {
        // Set once: a server has one of each.
        let _ = self.runner.set(Arc::downgrade(frontend));
        loop {
            let (steps, sleep) = self.steps();
            let Some(sleep) = sleep else { return };
            for step in steps {
                let events = Arc::clone(&self);
                tokio::spawn(async move { events.carry_out(step).await });
            }
            let _ = tokio::time::timeout(sleep, self.wake.notified()).await;
        }
    }

    /// What is to be done now, and how long there is nothing more; nothing once the server stops.
    fn steps(&self) -> (Vec<Step>, Option<Duration>) {
        let now = now();
        let mut state = self.lock();
        if state.stopping {
            return (Vec::new(), None);
        }
        let steps = std::iter::from_fn(|| state.dispatcher.next(now)).collect();
        let next = state.dispatcher.next_deadline().map_or(LONGEST_SLEEP, |time| time - now);
        (steps, Some(next.min(LONGEST_SLEEP)))
    }

    async fn carry_out(&self, step: Step) {
        match step {
            Step::Run { id, failures } => self.attempt(id, failures).await,
            Step::Expire { id, failures } => self.expire(id, failures).await,
        }
        self.over.notify_waiters();
        self.wake.notify_one();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Takes no more events and starts none; returns when those that run are over, or after `grace`.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.lock().stopping = true;
        self.wake.notify_one();
        self.schedules.changed();
        self.mappings.changed();
        let drained = async {
            loop {
                let over = self.over.notified();
                if self.totals().running == 0 {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), over).await;
            }
        };
        let _ = tokio::time::timeout(grace, drained).await;
    }

    /// An event, from memory if it is there still.
    async fn load(&self, id: u64) -> Result<Option<EventRecord>, hearth_store::StoreError> {
        let fresh = {
            let mut state = self.lock();
            let fresh = state.fresh.remove(&id);
            state.fresh_bytes -= fresh.as_ref().map_or(0, |event| event.payload.len());
            fresh
        };
        match fresh {
            Some(event) => Ok(Some(EventRecord { event, failures: 0 })),
            None => self.store.event(id).await,
        }
    }

    /// Has an event that is on disk wait for its time.
    fn admit(&self, id: u64, event: &NewEvent, failures: u32, due_ms: u64) {
        let pending = Pending {
            id,
            lane: lane(&event.target),
            bytes: event.payload.len() as u64,
            accepted: Time::from_millis(event.accepted_ms),
            expires: Time::from_millis(event.expires_ms),
            due: Time::from_millis(due_ms),
            failures,
        };
        self.lock().dispatcher.admit(now(), &pending);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

/// Whose turn an event takes.
fn lane(target: &Target) -> Lane {
    match target {
        Target::Function { id, .. } => Lane::Function(id.clone()),
        Target::Destination { arn, .. } => Lane::Destination(arn.as_str().into()),
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The dispatcher's time: the wall clock's, for what it says must hold over restarts.
pub(crate) fn now() -> Time {
    Time::from_millis(now_ms())
}
