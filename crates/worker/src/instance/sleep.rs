//! Hibernation: an instance without invocations is stopped and gives its memory back, until the next one wakes it.
//!
//! Who puts it to sleep and who wakes it may cross. So both take a lock one after the other, and who is second sees what
//! the first has done: an invocation is in hand before it asks whether the instance sleeps, and the instance looks for
//! invocations once more after it has been stopped. What is in hand is handed over when it is awake, and not before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hearth_sandbox::Sandbox;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Instance, Phase, lock};
use crate::metrics::{count, count_many};

/// What has had nothing to do for so long stands still, where the driver has such a thing.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How long a runtime that has answered may take to ask for more before its instance hibernates all the same, and how often that is
/// looked at.
const SETTLE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

impl Instance {
    /// Stops the instance if it has nothing to do.
    pub(crate) async fn hibernate(&self) {
        let _turn = self.sleeping.lock().await;
        // Extensions get what they are owed while they can take it; who does not take it gets it later, or never.
        self.output.telemetry().flush(SETTLE).await;
        self.until_it_waits().await;
        let Some(sandbox) = self.begin_sleep() else { return };
        self.output.telemetry().sleep().await;
        let before = sandbox.stats().memory_bytes;
        if let Err(error) = sandbox.pause().await {
            tracing::warn!(instance = %self.id, error = &error as &dyn std::error::Error, "cannot hibernate");
            self.awake();
            return;
        }
        let came_back = before.saturating_sub(sandbox.stats().memory_bytes);
        // A machine's connections do not outlive its sleep.
        self.connections.clear();
        count(&self.counters.hibernated);
        count_many(&self.counters.hibernated_bytes, came_back);
        tracing::debug!(instance = %self.id, came_back, of = before, "an instance hibernates");
        if self.is_wanted() {
            self.resume(&*sandbox).await;
        }
    }

    /// Waits, not for long, until a runtime that has just answered asks for more: what it has said and heard nothing back on when its
    /// machine is saved is said again when that wakes, and an answer that was taken already would be refused.
    async fn until_it_waits(&self) {
        let deadline = Instant::now() + SETTLE;
        while self.spec.http.is_none() && Instant::now() < deadline {
            {
                let state = lock(&self.state);
                if state.protocol.can_be_saved() || !state.is_idle() || state.end.is_some() {
                    return;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Has the sandbox stand still if all in it have waited for a while.
    pub(crate) fn rest(&self) {
        let waits = {
            let state = lock(&self.state);
            state.phase == Phase::Serving
                && state.flights.is_empty()
                && state.end.is_none()
                && state.last_used.elapsed() >= REST_AFTER
                && state.protocol.can_be_saved()
        };
        // Whoever takes in telemetry does not stand still meanwhile.
        let waits = waits && self.output.telemetry().is_settled();
        let sandbox = if waits { lock(&self.sandbox).clone() } else { None };
        if let Some(sandbox) = sandbox {
            sandbox.rest();
        }
    }

    /// Marks the instance as asleep; its sandbox, if that is all right.
    fn begin_sleep(&self) -> Option<Arc<dyn Sandbox>> {
        let sandbox = lock(&self.sandbox).clone()?;
        let state = lock(&self.state);
        let rests = state.phase == Phase::Serving && state.is_idle() && state.end.is_none();
        (rests && !self.asleep.swap(true, Ordering::SeqCst)).then_some(sandbox)
    }

    /// Whether it has an invocation in hand, or is to end.
    fn is_wanted(&self) -> bool {
        let state = lock(&self.state);
        !state.is_idle() || state.end.is_some() || state.failure.is_some()
    }

    /// Wakes the instance if it sleeps or is about to. Returns at once; what it returns ends when it is awake.
    pub(crate) fn wake(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        if !self.asleep.load(Ordering::SeqCst) {
            return None;
        }
        let instance = Arc::clone(self);
        Some(tokio::spawn(async move {
            let _turn = instance.sleeping.lock().await;
            let sandbox = lock(&instance.sandbox).clone();
            if let Some(sandbox) = sandbox
                && instance.asleep.load(Ordering::SeqCst)
            {
                instance.resume(&*sandbox).await;
            }
        }))
    }

    async fn resume(&self, sandbox: &dyn Sandbox) {
        if let Err(error) = sandbox.resume().await {
            // It will not answer: its invocations time out, and that ends it.
            tracing::warn!(instance = %self.id, error = &error as &dyn std::error::Error, "cannot wake");
        }
        self.awake();
    }

    /// It is awake from now on, and gets what came meanwhile.
    fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.output.telemetry().wake();
        self.deliver(&mut lock(&self.state));
    }
}
