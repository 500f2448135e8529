//! The doors of an instance: invocations from the worker, calls from the sandbox. None of them waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hearth_types::{Invocation, InvokeError, RequestId, StreamError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::finish::Outcome;
use super::{Asker, Flight, Instance, Invoked, NextEvent, Phase, Replied, State, lock};
use crate::clock::{epoch_ms, millis};
use crate::failure::Failure;
use crate::metrics::count;
use crate::protocol::Refusal;
use crate::said::Said;
use crate::telemetry::Stream;

/// What a runtime posted for an invocation.
#[derive(Debug)]
pub(crate) enum Posted {
    Response(Bytes),
    Error(Bytes),
    /// More than these bytes.
    TooLarge(usize),
    /// All pieces of a stream, how the function failed if it did, and how many bytes they were.
    Streamed {
        error: Option<StreamError>,
        bytes: usize,
    },
    /// Some pieces of a stream.
    Truncated,
}

/// The news of an invocation or of the end, for extensions.
fn invoke_event(invocation: &Invocation, deadline_ms: u64) -> Bytes {
    let mut event = serde_json::json!({
        "eventType": "INVOKE",
        "deadlineMs": deadline_ms,
        "requestId": invocation.request_id.to_string(),
        "invokedFunctionArn": invocation.invoked_arn,
    });
    if let (Some(trace), Some(event)) = (&invocation.trace, event.as_object_mut()) {
        event.insert("tracing".to_owned(), serde_json::json!({ "type": "X-Amzn-Trace-Id", "value": trace }));
    }
    event.to_string().into()
}

pub(super) fn shutdown_event(reason: &str, deadline_ms: u64) -> Bytes {
    serde_json::json!({ "eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms })
        .to_string()
        .into()
}

impl Instance {
    /// Takes an invocation in hand.
    pub(crate) fn invoke(
        self: &Arc<Self>,
        invocation: Invocation,
    ) -> Result<oneshot::Receiver<Invoked>, InvokeError> {
        let (asker, answered) = oneshot::channel();
        self.take(invocation, Asker::Whole(asker))?;
        Ok(answered)
    }

    /// Takes one in hand whose caller takes a stream.
    pub(crate) fn invoke_streamed(
        self: &Arc<Self>,
        invocation: Invocation,
    ) -> Result<oneshot::Receiver<Replied>, InvokeError> {
        let (asker, answered) = oneshot::channel();
        self.take(invocation, Asker::Stream(asker))?;
        Ok(answered)
    }

    fn take(self: &Arc<Self>, invocation: Invocation, asker: Asker) -> Result<(), InvokeError> {
        let not_delivered = |reason: &str| {
            count(&self.counters.not_delivered);
            Err(InvokeError::NotDelivered { reason: reason.to_owned() })
        };
        // Who gives out slots sees to it; what must never happen has two locks.
        if invocation.tenant != self.tenant {
            tracing::error!(instance = %self.id, "refused a request of another tenant");
            return not_delivered("it serves another tenant");
        }
        let mut state = lock(&self.state);
        match state.phase {
            Phase::Making | Phase::Initializing => return not_delivered("it is still starting"),
            Phase::Ending => return not_delivered("it is ending"),
            Phase::Waiting | Phase::Serving => {}
        }
        if state.failure.is_some() || state.end.is_some() {
            return not_delivered("it is ending");
        }
        let slots = usize::try_from(self.spec.concurrency.hard.max(1)).unwrap_or(1);
        if state.flights.len() >= slots {
            return not_delivered("all of its slots are taken");
        }
        let id = invocation.request_id;
        if state.flights.iter().any(|flight| flight.id == id) {
            return not_delivered("it has a request of the same id");
        }
        let now = Instant::now();
        state.last_used = now;
        state.flights.push(Flight {
            id,
            wants_tail: invocation.wants_log_tail,
            trace: if self.is_told_all() { invocation.trace.clone() } else { None },
            invocation: Some(invocation),
            started: None,
            answering: None,
            deadline: now + self.spec.timeout,
            asker,
        });
        state.protocol.invoke(id);
        if state.phase == Phase::Waiting {
            self.changed.notify_one();
        } else {
            self.deliver(&mut state);
        }
        drop(state);
        self.wake();
        Ok(())
    }

    /// Hands over what can be, and sees to it that the instance's task wakes in time for every deadline. While it sleeps, or is being
    /// put to sleep, nothing is handed over: the call that it would answer may be lost with the machine's conversation.
    pub(super) fn deliver(&self, state: &mut State) {
        while !self.asleep.load(Ordering::SeqCst)
            && let Some(delivery) = state.protocol.deliver()
        {
            let Some(flight) = state.flights.iter_mut().find(|flight| flight.id == delivery.id) else {
                continue;
            };
            let Some(invocation) = flight.invocation.take() else { continue };
            if flight.started.is_none() {
                let now = Instant::now();
                flight.deadline = now + self.spec.timeout;
                self.start(flight, now);
            }
            let left = flight.deadline.saturating_duration_since(Instant::now());
            let deadline_ms = epoch_ms() + millis(left);
            let event = if delivery.extensions.is_empty() {
                Bytes::new()
            } else {
                invoke_event(&invocation, deadline_ms)
            };
            if let Err(unsent) = delivery.runtime.send(NextEvent { invocation, deadline_ms }) {
                flight.invocation = Some(unsent.invocation);
                state.protocol.not_taken(delivery.id);
            }
            for extension in delivery.extensions {
                // Whoever left in between misses the event, and asks again.
                let _ = extension.send(event.clone());
            }
        }
        let earliest = state.flights.iter().map(|flight| flight.deadline).min();
        if earliest.is_some_and(|earliest| state.armed.is_none_or(|armed| earliest < armed)) {
            state.armed = earliest;
            self.changed.notify_one();
        }
    }

    /// The invocation begins: from here on it counts as received.
    pub(super) fn start(&self, flight: &mut Flight, now: Instant) {
        // What extensions and background threads wrote before it comes before it.
        self.output.drain();
        flight.started = Some(now);
        if flight.wants_tail {
            self.output.begin_tail(flight.id);
        }
        let version = self.spec.revision.version.version;
        self.say(&Said::Start { request: flight.id, version, trace: flight.trace.as_deref() });
    }

    /// The state, for a call of the sandbox of that generation.
    pub(super) fn of_generation<T, E>(
        &self,
        generation: u32,
        stale: E,
        call: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = lock(&self.state);
        if state.generation == generation { call(&mut state) } else { Err(stale) }
    }

    pub(crate) fn runtime_next(
        &self,
        generation: u32,
        waiter: oneshot::Sender<NextEvent>,
    ) -> Result<(), Refusal> {
        self.of_generation(generation, Refusal::InvalidStateTransition, |state| {
            state.protocol.next(waiter)?;
            self.runtime_is_done(state, None);
            self.went_on(state);
            Ok(())
        })
    }

    /// After a `next` of runtime or extension: init may be over, or an invocation can be handed over.
    pub(super) fn went_on(&self, state: &mut State) {
        if state.phase == Phase::Initializing {
            self.changed.notify_one();
        } else {
            self.deliver(state);
        }
    }

    pub(crate) fn begin_post(&self, generation: u32, id: &str) -> Result<RequestId, Refusal> {
        self.of_generation(generation, Refusal::InvalidRequestId, |state| {
            let id = state.protocol.begin_answer(id)?;
            if self.output.telemetry().is_wanted(Stream::Platform)
                && let Some(flight) = state.flights.iter_mut().find(|flight| flight.id == id)
            {
                flight.answering = Some(Instant::now());
            }
            Ok(id)
        })
    }

    pub(crate) fn post_broke_off(&self, generation: u32, id: RequestId) {
        let _ = self.of_generation(generation, Refusal::InvalidRequestId, |state| {
            state.protocol.broke_off(id);
            Ok(())
        });
    }

    pub(crate) fn complete_post(
        &self,
        generation: u32,
        id: RequestId,
        posted: Posted,
    ) -> Result<(), Refusal> {
        let (flight, cold) = self.of_generation(generation, Refusal::InvalidRequestId, |state| {
            state.protocol.answered(id);
            // It may have run out of time while it was read.
            let place = state.flights.iter().position(|flight| flight.id == id);
            let flight = state.flights.swap_remove(place.ok_or(Refusal::InvalidStateTransition)?);
            state.invocations += 1;
            state.last_used = Instant::now();
            Ok((flight, state.unreported.take()))
        })?;
        let outcome = match posted {
            Posted::Response(body) => Outcome::Answered(body),
            Posted::Error(body) => Outcome::FunctionError(body),
            Posted::Streamed { error, bytes } => Outcome::Streamed { error, bytes },
            Posted::TooLarge(most) => Outcome::Failed(&Failure::TooLarge(most)),
            Posted::Truncated => Outcome::Failed(&Failure::Truncated),
        };
        self.finish(flight, cold, outcome);
        // With several slots the next one may already be parked.
        self.deliver(&mut lock(&self.state));
        Ok(())
    }

    pub(crate) fn runtime_init_error(
        &self,
        generation: u32,
        kind: String,
        document: Bytes,
    ) -> Result<(), Refusal> {
        self.of_generation(generation, Refusal::InvalidStateTransition, |state| {
            state.protocol.init_error()?;
            state.fail(Failure::InitError { kind, document });
            self.changed.notify_one();
            Ok(())
        })
    }

    /// The runtime waits to be restored. `false` if there is nothing to wait for: it has just been, or no snapshot is taken.
    pub(crate) fn runtime_restore_next(
        &self,
        generation: u32,
        waiter: oneshot::Sender<()>,
    ) -> Result<bool, Refusal> {
        self.of_generation(generation, Refusal::InvalidStateTransition, |state| {
            state.protocol.restore_next()?;
            if !state.is_saved {
                return Ok(false);
            }
            self.runtime_is_done(state, None);
            state.until_restored = Some(waiter);
            self.changed.notify_one();
            Ok(true)
        })
    }

    pub(crate) fn runtime_restore_error(
        &self,
        generation: u32,
        kind: String,
        document: Bytes,
    ) -> Result<(), Refusal> {
        self.of_generation(generation, Refusal::InvalidStateTransition, |state| {
            state.protocol.restore_error()?;
            state.fail(Failure::RestoreError { kind, document });
            self.changed.notify_one();
            Ok(())
        })
    }
}
