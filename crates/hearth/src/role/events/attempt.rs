//! One attempt to run or send an event, and what follows from it.

use hearth_events::record::Condition;
use hearth_events::{Outcome, Verdict};
use hearth_frontend::{EventCall, EventRun};
use hearth_store::{EventRecord, NewEvent, Target};
use hearth_types::{Answer, Time, Version};

use super::follow::End;
use super::{Events, WRITE_AGAIN, count, now, now_ms};
use crate::role::destinations::SendError;

/// What an attempt showed.
struct Tried {
    outcome: Outcome,
    answer: Option<(Answer, Version)>,
}

impl From<Outcome> for Tried {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, answer: None }
    }
}

impl Events {
    pub(super) async fn attempt(&self, id: u64, failures: u32) {
        let record = match self.load(id).await {
            Ok(Some(record)) => record,
            Ok(None) => {
                self.lock().dispatcher.finished(now(), id, Outcome::Done);
                return;
            }
            Err(error) => {
                tracing::error!(%error, id, "an event cannot be read");
                self.lock().dispatcher.finished(now(), id, Outcome::Lost);
                return;
            }
        };
        let Tried { outcome, answer } = match &record.event.target {
            Target::Function { .. } => self.run(&record.event).await,
            Target::Destination { arn, .. } => self.send(arn, &record.event).await,
        };
        let verdict = self.lock().dispatcher.finished(now(), id, outcome);
        match verdict {
            Verdict::Finished => self.conclude(id, record, Condition::Success, failures + 1, answer).await,
            Verdict::Dropped => self.finish(id, record, Vec::new()).await,
            Verdict::Exhausted { failures } => {
                count(&self.counts.exhausted);
                self.conclude(id, record, Condition::RetriesExhausted, failures, answer).await;
            }
            // No attempt was lost, so nothing must be remembered; a restart tries it at once.
            Verdict::Waits { failures: now, .. } if now == failures => {}
            Verdict::Waits { due, failures } => {
                if let Err(error) = self.store.postpone(id, failures, millis(due)).await {
                    tracing::warn!(%error, id, "that an event waits is not written; a restart runs it again at once");
                }
            }
            Verdict::Forgotten => {}
        }
    }

    pub(super) async fn expire(&self, id: u64, failures: u32) {
        count(&self.counts.expired);
        match self.load(id).await {
            Ok(Some(record)) => self.conclude(id, record, Condition::EventAgeExceeded, failures, None).await,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, id, "an event that got too old cannot be read"),
        }
    }

    async fn run(&self, event: &NewEvent) -> Tried {
        let Target::Function { id, qualifier } = &event.target else { return Outcome::Done.into() };
        let Some(frontend) = self.runner.get().and_then(std::sync::Weak::upgrade) else {
            return Outcome::Refused.into();
        };
        let call = EventCall {
            request_id: event.request_id,
            function: id.clone(),
            qualifier: qualifier.clone(),
            context: event.context.clone(),
            payload: event.payload.clone(),
        };
        match frontend.run_event(call).await {
            EventRun::Answered { answer, version } if answer.error.is_none() => {
                count(&self.counts.succeeded);
                Tried { outcome: Outcome::Done, answer: Some((answer, version)) }
            }
            EventRun::Answered { answer, version } => {
                count(&self.counts.failed);
                let retries = frontend.event_policy(id, qualifier.as_deref()).await.retries;
                Tried { outcome: Outcome::Failed { retries }, answer: Some((answer, version)) }
            }
            EventRun::Refused { reason } => {
                count(&self.counts.refused);
                tracing::debug!(function = %id, request_id = %event.request_id, reason, "no slot for an event");
                Outcome::Refused.into()
            }
            EventRun::NotReady { reason } => {
                count(&self.counts.refused);
                tracing::debug!(function = %id, request_id = %event.request_id, reason, "an event's function cannot run");
                Outcome::Lost.into()
            }
            EventRun::Lost { reason } => {
                count(&self.counts.lost);
                tracing::warn!(function = %id, request_id = %event.request_id, reason, "an event is run again");
                Outcome::Lost.into()
            }
            EventRun::Gone => {
                count(&self.counts.dropped);
                tracing::warn!(function = %id, request_id = %event.request_id, "an event's function is gone");
                Outcome::Never.into()
            }
        }
    }

    async fn send(&self, arn: &str, event: &NewEvent) -> Tried {
        match self.destinations.send(arn, &event.payload, &event.context.attributes).await {
            Ok(()) => {
                count(&self.counts.sent);
                Outcome::Done.into()
            }
            Err(SendError::Never(reason)) => {
                count(&self.counts.dropped);
                tracing::error!(destination = arn, reason, "what can never be sent is dropped");
                Outcome::Never.into()
            }
            Err(SendError::NotTaken(reason)) => {
                tracing::warn!(destination = arn, reason, "a record is not taken; tried again");
                Outcome::Lost.into()
            }
            Err(SendError::Unreachable(reason)) => {
                tracing::warn!(destination = arn, reason, "nothing can be sent there now; tried again");
                Outcome::Refused.into()
            }
        }
    }

    /// Tells the end of an event, and takes it out.
    async fn conclude(
        &self,
        id: u64,
        record: EventRecord,
        condition: Condition,
        runs: u32,
        answer: Option<(Answer, Version)>,
    ) {
        let end = End { condition, runs, answer: answer.as_ref() };
        let follow = self.follow(&record.event, &end).await;
        self.finish(id, record, follow).await;
    }

    /// Takes an event out and keeps what follows from it as far as there is room, in one.
    pub(super) async fn finish(&self, id: u64, record: EventRecord, follow: Vec<NewEvent>) {
        let (follow, places) = self.with_places(follow);
        match self.store.finish(id, follow.clone()).await {
            Ok(ids) => {
                drop(places);
                for (id, event) in ids.into_iter().zip(follow) {
                    self.admit_fresh(id, event);
                }
            }
            Err(error) => {
                // It is on disk as it was. To run it once more is what was promised; to lose it is not.
                tracing::error!(%error, id, "the end of an event cannot be written; it is run again");
                let again = u64::try_from(WRITE_AGAIN.as_millis()).unwrap_or(u64::MAX);
                self.admit(id, &record.event, record.failures, now_ms().saturating_add(again));
            }
        }
    }
}

fn millis(time: Time) -> u64 {
    time.as_nanos() / 1_000_000
}
