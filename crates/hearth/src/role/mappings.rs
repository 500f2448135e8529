//! The shell of the event source mappings: one task for each that is on.
//!
//! Which there are is in the store, so a restart begins all of them anew; what a queue shows is the queue's to remember.

mod batch;
mod poller;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_aws::{QueueArn, Sqs};
use hearth_frontend::{Frontend, Mapping, NoQueue};
use hearth_store::{Setting, SettingKind};
use hearth_types::AccountId;
use tokio::sync::{Notify, Semaphore, watch};

pub(crate) use self::poller::described;
use self::poller::{Poller, key};
use crate::role::{Events, LocalBackend};

/// The longest that nobody looks which mappings there are.
const LOOK: Duration = Duration::from_secs(10);
/// Batches of all mappings at once: each may hold a few megabytes.
const BATCHES: usize = 64;

/// Whose mapping it is, and its UUID.
type Key = (AccountId, String);

/// What became of messages, of all mappings, since the server began.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// Gotten of their queues.
    pub(crate) received: AtomicU64,
    /// Described by no filter, and so deleted.
    pub(crate) filtered: AtomicU64,
    /// Dealt with by their function.
    pub(crate) succeeded: AtomicU64,
    /// Not dealt with by it; their queue shows them again.
    pub(crate) failed: AtomicU64,
    /// Not gotten by it, and given back.
    pub(crate) returned: AtomicU64,
}

/// The event source mappings of a Hearth.
#[derive(Debug)]
pub(crate) struct Mappings {
    sqs: Option<Sqs>,
    changed: Notify,
    results: Mutex<HashMap<Key, String>>,
    pub(crate) messages: Messages,
    batches: Arc<Semaphore>,
}

impl Mappings {
    pub(crate) fn new(sqs: Option<Sqs>) -> Self {
        let batches = Arc::new(Semaphore::new(BATCHES));
        Self {
            sqs,
            changed: Notify::new(),
            results: Mutex::default(),
            messages: Messages::default(),
            batches,
        }
    }

    /// Somebody made, changed or deleted one.
    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    /// What came of what a mapping did last.
    pub(crate) fn result(&self, account: &AccountId, uuid: &str) -> Option<String> {
        self.results().get(&key(account, uuid)).cloned()
    }

    /// How long a queue hides messages that somebody has, seconds.
    pub(crate) async fn find(&self, queue: QueueArn<'_>) -> Result<u32, NoQueue> {
        let sqs = self.sqs.as_ref().ok_or(NoQueue::NoService)?;
        match sqs.queue(queue).await {
            Ok(queue) => Ok(queue.visibility_seconds),
            Err(error) if error.is_missing_queue() => Err(NoQueue::Missing),
            Err(error) => Err(NoQueue::Failed(described(&error))),
        }
    }

    /// Keeps the mappings that are on at work for as long as the server runs.
    pub(crate) async fn run(self: Arc<Self>, events: &Events, frontend: &Arc<Frontend<LocalBackend>>) {
        let Some(sqs) = &self.sqs else { return };
        // Dropping a sender ends its poller.
        let mut at_work: HashMap<Key, (u64, watch::Sender<()>)> = HashMap::new();
        while !events.is_stopping() {
            let settings = events.store().all_settings(SettingKind::EventSourceMapping);
            let generations: HashMap<Key, u64> =
                settings.iter().map(|one| (key(&one.account, &one.key), one.generation)).collect();
            at_work.retain(|key, (generation, _)| generations.get(key) == Some(generation));
            self.results().retain(|key, _| generations.contains_key(key));
            for setting in settings {
                let key = key(&setting.account, &setting.key);
                if at_work.contains_key(&key) {
                    continue;
                }
                let (sender, current) = watch::channel(());
                let generation = setting.generation;
                self.begin(&setting, key.clone(), sqs, frontend, current);
                at_work.insert(key, (generation, sender));
            }
            let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
        }
    }

    fn begin(
        self: &Arc<Self>,
        setting: &Setting,
        key: Key,
        sqs: &Sqs,
        frontend: &Arc<Frontend<LocalBackend>>,
        current: watch::Receiver<()>,
    ) {
        let Some(mapping) = Mapping::read(&setting.body) else {
            return tracing::error!(mapping = setting.key, "an event source mapping cannot be read");
        };
        let filters = match mapping.read_filters() {
            Ok(filters) => filters,
            Err(error) => {
                tracing::error!(
                    mapping = setting.key,
                    error,
                    "the filters of an event source mapping cannot be read"
                );
                return self.note(&key, "PROBLEM: The filters cannot be read: update the mapping");
            }
        };
        if mapping.enabled {
            let poller = Poller {
                filters,
                mappings: Arc::clone(self),
                frontend: Arc::clone(frontend),
                sqs: sqs.clone(),
                key,
                mapping,
                current,
                refusals: AtomicU32::new(0),
            };
            tokio::spawn(poller.run());
        }
    }

    fn note(&self, key: &Key, result: &str) {
        let mut results = self.results();
        match results.get_mut(key) {
            Some(known) if known == result => {}
            _ => {
                results.insert(key.clone(), result.to_owned());
            }
        }
    }

    fn results(&self) -> MutexGuard<'_, HashMap<Key, String>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
