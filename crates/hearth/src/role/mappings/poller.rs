//! One mapping at work: receives, has the function run, deletes what it dealt with.
//!
//! A message is its queue's until it is deleted, and it is deleted only when the function has dealt with it; whatever is
//! killed when, it comes again once its queue shows it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hearth_aws::{BATCH, CallError, Message, QueueArn, Sqs};
use hearth_frontend::{EventCall, EventRun, Filters, Frontend, Mapping};
use hearth_store::EventContext;
use hearth_types::{AccountId, FunctionId, RequestId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::{Key, Mappings, Messages, batch};
use crate::role::LocalBackend;

/// How long a queue is asked to wait for a message, seconds.
const WAIT: u32 = 20;
/// Batches of a mapping at once unless it says how many.
const AT_ONCE: u32 = 5;
/// The first pause after something went wrong; doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Times that messages are tried to be deleted.
const DELETIONS: u32 = 3;
/// How long messages that were received wait for their turn among all mappings'.
const TURN: Duration = Duration::from_secs(10);

/// One mapping at work.
pub(super) struct Poller {
    pub(super) mappings: Arc<Mappings>,
    pub(super) frontend: Arc<Frontend<LocalBackend>>,
    pub(super) sqs: Sqs,
    pub(super) key: Key,
    pub(super) mapping: Mapping,
    pub(super) filters: Filters,
    /// Closed when the mapping has changed or is gone, or the server stops.
    pub(super) current: watch::Receiver<()>,
    /// Times in a row that the function took nothing.
    pub(super) refusals: AtomicU32,
}

/// What is done with a batch, beside what it answered.
enum Dealt {
    /// These were dealt with; the others are shown again in their time.
    With(Vec<usize>),
    /// The function did not get them.
    NotAtAll,
}

impl Poller {
    pub(super) async fn run(self) {
        let poller = Arc::new(self);
        let at_once = poller.mapping.concurrency.unwrap_or(AT_ONCE);
        let slots = Arc::new(Semaphore::new(usize::try_from(at_once).unwrap_or(1)));
        let mut failures = 0;
        while poller.is_current() {
            poller.rest(poller.refusals.load(Ordering::Relaxed)).await;
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match poller.take().await {
                Ok(None) => failures = 0,
                Ok(Some((url, messages))) => {
                    failures = 0;
                    poller.begin(url, messages, slot).await;
                }
                Err(error) => {
                    failures += 1;
                    poller.note(&format!("PROBLEM: {}", described(&error)));
                    tracing::warn!(
                        mapping = poller.key.1,
                        error = described(&error),
                        failures,
                        "a queue cannot be read"
                    );
                    poller.rest(failures).await;
                }
            }
        }
    }

    fn is_current(&self) -> bool {
        self.current.has_changed().is_ok()
    }

    fn note(&self, result: &str) {
        self.mappings.note(&self.key, result);
    }

    /// Waits the longer the more went wrong; not once the mapping is over.
    async fn rest(&self, failures: u32) {
        if failures > 0 {
            let mut current = self.current.clone();
            let _ = timeout(pause(failures), current.changed()).await;
        }
    }

    /// Receives a batch: until it is full, its window is over, or it is as large as an event may be.
    async fn take(&self) -> Result<Option<(String, Vec<Message>)>, CallError> {
        let wrong = || CallError::Invalid(format!("{} is no queue", self.mapping.source));
        let queue = QueueArn::read(&self.mapping.source).ok_or_else(wrong)?;
        let url = self.sqs.url(queue).await?;
        let size = usize::try_from(self.mapping.batch_size).unwrap_or(BATCH);
        let mut messages = self.sqs.receive(&url, size, WAIT).await?;
        if messages.is_empty() {
            return Ok(None);
        }
        let end = Instant::now() + Duration::from_secs(self.mapping.window_seconds.into());
        let mut bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        while messages.len() < size && bytes < hearth_types::limits::SYNC_PAYLOAD_BYTES && self.is_current() {
            let left = end.saturating_duration_since(Instant::now()).as_secs();
            let Some(wait) = u32::try_from(left).ok().filter(|left| *left > 0) else { break };
            // What is here already must not be lost for what may come.
            let Ok(more) = self.sqs.receive(&url, size - messages.len(), wait.min(WAIT)).await else { break };
            bytes += more.iter().map(|message| message.body.len()).sum::<usize>();
            messages.extend(more);
        }
        Ok(Some((url, messages)))
    }

    /// Has messages dealt with beside those to come, and those deleted that no filter describes; gives them back if the mapping has changed, or others take too long.
    async fn begin(self: &Arc<Self>, url: String, messages: Vec<Message>, slot: OwnedSemaphorePermit) {
        self.count(|all| &all.received, messages.len());
        let turn = match self.is_current() {
            true => timeout(TURN, Arc::clone(&self.mappings.batches).acquire_owned()).await,
            false => return self.give_back(&url, &messages, 0).await,
        };
        let Ok(Ok(turn)) = turn else { return self.give_back(&url, &messages, 0).await };
        let poller = Arc::clone(self);
        tokio::spawn(async move {
            poller.run_batch(&url, messages).await;
            drop((slot, turn));
        });
    }

    async fn run_batch(self: &Arc<Self>, url: &str, messages: Vec<Message>) {
        // A tenant's messages and patterns may take long.
        let poller = Arc::clone(self);
        let Ok(sorted) = tokio::task::spawn_blocking(move || poller.sort(messages)).await else { return };
        let (wanted, records, unwanted) = sorted;
        self.count(|all| &all.filtered, unwanted.len());
        tokio::join!(self.run_parts(url, &wanted, &records), self.delete_all(url, unwanted.iter()));
    }

    /// The messages that the function gets, their records, and the other messages.
    fn sort(&self, messages: Vec<Message>) -> (Vec<Message>, Vec<String>, Vec<Message>) {
        let region = QueueArn::read(&self.mapping.source).map_or("", |queue| queue.region);
        let (mut wanted, mut records, mut unwanted) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            let record = batch::record(&message, &self.mapping.source, region);
            if self.filters.take(&record) {
                records.push(record.to_string());
                wanted.push(message);
            } else {
                unwanted.push(message);
            }
        }
        (wanted, records, unwanted)
    }

    async fn run_parts(&self, url: &str, mut messages: &[Message], mut records: &[String]) {
        let fifo = QueueArn::read(&self.mapping.source).is_some_and(|queue| queue.is_fifo());
        while !messages.is_empty() {
            let (now, later) = messages.split_at(batch::fitting(records).min(messages.len()));
            let all_done = self.deal(url, now, batch::event(&records[..now.len()])).await;
            if !all_done && fifo {
                // What comes after one that was not dealt with must not be dealt with before it.
                return self.give_back(url, later, 0).await;
            }
            (messages, records) = (later, &records[now.len()..]);
        }
    }

    /// Has the function run with one event: whether it dealt with all of it.
    async fn deal(&self, url: &str, messages: &[Message], event: bytes::Bytes) -> bool {
        match self.invoke(messages, event).await {
            Dealt::With(done) => {
                self.refusals.store(0, Ordering::Relaxed);
                self.count(|all| &all.succeeded, done.len());
                self.count(|all| &all.failed, messages.len() - done.len());
                self.delete_all(url, done.iter().filter_map(|at| messages.get(*at))).await;
                done.len() == messages.len()
            }
            Dealt::NotAtAll => {
                let refusals = self.refusals.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                let seconds = u32::try_from(pause(refusals).as_secs()).unwrap_or(u32::MAX);
                self.give_back(url, messages, seconds).await;
                false
            }
        }
    }

    fn count(&self, which: impl Fn(&Messages) -> &AtomicU64, messages: usize) {
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        which(&self.mappings.messages).fetch_add(messages, Ordering::Relaxed);
    }

    async fn invoke(&self, messages: &[Message], payload: bytes::Bytes) -> Dealt {
        let (account, function) = (self.key.0.clone(), self.mapping.function.as_str().into());
        // A batch is part of a trace if it is one message.
        let trace = match messages {
            [one] => one.attributes.get("AWSTraceHeader").cloned(),
            _ => None,
        };
        let call = EventCall {
            request_id: RequestId::random(),
            function: FunctionId { account, name: function },
            qualifier: self.mapping.qualifier.clone(),
            context: EventContext { trace, ..EventContext::default() },
            payload,
        };
        match self.frontend.run_event(call).await {
            EventRun::Answered { answer, .. } if answer.error.is_some() => {
                self.note("PROBLEM: Function call failed");
                Dealt::With(Vec::new())
            }
            EventRun::Answered { answer, .. } => {
                let failed = match self.mapping.report_failures {
                    true => batch::failed(&answer.payload, messages),
                    false => Default::default(),
                };
                self.note("OK");
                let kept = |message: &Message| failed.contains(message.message_id.as_str());
                Dealt::With((0..messages.len()).filter(|at| !kept(&messages[*at])).collect())
            }
            EventRun::Lost { reason } => {
                tracing::debug!(mapping = self.key.1, reason, "a batch is lost; its queue shows it again");
                self.note("PROBLEM: Function call failed");
                Dealt::With(Vec::new())
            }
            EventRun::Refused { reason } | EventRun::NotReady { reason } => {
                self.note(&format!("PROBLEM: {reason}"));
                Dealt::NotAtAll
            }
            EventRun::Gone => {
                self.note("PROBLEM: Function not found");
                Dealt::NotAtAll
            }
        }
    }

    async fn delete_all<'a>(&self, url: &str, messages: impl Iterator<Item = &'a Message>) {
        let messages: Vec<_> = messages.collect();
        for some in messages.chunks(BATCH) {
            self.delete(url, some).await;
        }
    }

    /// What cannot be deleted comes again: it is run twice then, and not lost.
    async fn delete(&self, url: &str, messages: &[&Message]) {
        let receipts: Vec<_> = messages.iter().map(|message| message.receipt_handle.as_str()).collect();
        let mut tries = 0;
        loop {
            tries += 1;
            let problem = match self.sqs.delete(url, &receipts).await {
                Ok(0) => return,
                Ok(left) => format!("{left} of {} are left", receipts.len()),
                Err(error) => described(&error),
            };
            if tries == DELETIONS {
                return tracing::warn!(
                    mapping = self.key.1,
                    problem,
                    "messages are not deleted and come again"
                );
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }

    async fn give_back(&self, url: &str, messages: &[Message], seconds: u32) {
        self.count(|all| &all.returned, messages.len());
        for some in messages.chunks(BATCH) {
            let receipts: Vec<_> = some.iter().map(|message| message.receipt_handle.as_str()).collect();
            if let Err(error) = self.sqs.hide(url, &receipts, seconds).await {
                tracing::debug!(
                    mapping = self.key.1,
                    error = described(&error),
                    "messages come again in their time"
                );
            }
        }
    }
}

fn pause(failures: u32) -> Duration {
    PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_PAUSE)
}

/// An error with its causes.
pub(crate) fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Whose mapping it is, and which.
pub(super) fn key(account: &AccountId, uuid: &str) -> Key {
    (account.clone(), uuid.to_owned())
}
