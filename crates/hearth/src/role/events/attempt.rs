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
            Verdict::Finished => {
                let is_told = self.conclude(id, &record, Condition::Success, failures + 1, answer).await;
                self.again_unless(is_told, id, &record);
            }
            Verdict::Dropped => {
                let is_told = self.finish(id, Vec::new()).await;
                self.again_unless(is_told, id, &record);
            }
            Verdict::Exhausted { failures } => {
                count(&self.counts.exhausted);
                let is_told = self.conclude(id, &record, Condition::RetriesExhausted, failures, answer).await;
                self.again_unless(is_told, id, &record);
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
        let is_told = match self.load(id).await {
            Ok(Some(record)) => self.conclude(id, &record, Condition::EventAgeExceeded, failures, None).await,
            Ok(None) => true,
            Err(error) => {
                tracing::error!(%error, id, "an event that got too old cannot be read");
                false
            }
        };
        if is_told {
            count(&self.counts.expired);
        }
        self.lock().dispatcher.expired(now(), id, is_told);
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

    /// Tells the end of an event, and takes it out; whether that could be written.
    async fn conclude(
        &self,
        id: u64,
        record: &EventRecord,
        condition: Condition,
        runs: u32,
        answer: Option<(Answer, Version)>,
    ) -> bool {
        let end = End { condition, runs, answer: answer.as_ref() };
        let follow = self.follow(&record.event, &end).await;
        self.finish(id, follow).await
    }

    /// Takes an event out and keeps what follows from it as far as there is room, in one; whether that could be written.
    pub(super) async fn finish(&self, id: u64, follow: Vec<NewEvent>) -> bool {
        let (follow, places) = self.with_places(follow);
        match self.store.finish(id, follow.clone()).await {
            Ok(ids) => {
                drop(places);
                for (id, event) in ids.into_iter().zip(follow) {
                    self.admit_fresh(id, event);
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, id, "the end of an event cannot be written; it comes again");
                false
            }
        }
    }

    /// Has an event wait whose end could not be written. It is on disk as it was: to run it once more is what was promised; to
    /// lose it is not.
    fn again_unless(&self, is_told: bool, id: u64, record: &EventRecord) {
        if !is_told {
            let again = u64::try_from(WRITE_AGAIN.as_millis()).unwrap_or(u64::MAX);
            self.admit(id, &record.event, record.failures, now_ms().saturating_add(again));
        }
    }
}

fn millis(time: Time) -> u64 {
    time.as_nanos() / 1_000_000
}
