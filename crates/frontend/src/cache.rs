//! Which revision of each function serves, in memory, so that a warm invocation never asks the store.
//!
//! It also remembers the revision before an update while the new one is prepared, and after it failed; after a
//! restart that one is no longer known and the record's own takes its place.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use hearth_store::{FunctionRecord, State, UpdateStatus};
use hearth_types::{FunctionId, FunctionSpec};

use crate::spec;

/// What an invocation needs to know of a function.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    generation: u64,
    /// Whether it can be invoked.
    pub(crate) state: State,
    /// The revision that serves.
    pub(crate) serving: Option<Arc<FunctionSpec>>,
}

impl Entry {
    /// The entry of a record of which nothing else is known.
    pub(crate) fn of(record: &FunctionRecord, region: &str) -> Self {
        let serving = spec::of(record, region).ok().filter(|_| record.state == State::Active);
        Self { generation: record.generation, state: record.state, serving }
    }
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<FunctionId, Entry>,
    removals: u64,
}

/// A moment in the cache's life, taken before the store is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(u64);

/// The entries.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    inner: RwLock<Inner>,
}

impl Cache {
    /// The moment now.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.inner.read().unwrap_or_else(PoisonError::into_inner).removals)
    }

    /// A function's entry.
    pub(crate) fn get(&self, id: &FunctionId) -> Option<Entry> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).entries.get(id).cloned()
    }

    /// Takes note of a record that the store gave after `epoch`. What was read before some function was removed may
    /// be that function, so it is not kept then; the next one who asks reads it again.
    pub(crate) fn put(&self, epoch: Epoch, record: &FunctionRecord, region: &str) {
        let mut entry = Entry::of(record, region);
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.removals != epoch.0 {
            inner.entries.remove(&record.id);
            return;
        }
        let old = inner.entries.get(&record.id);
        if old.is_some_and(|old| old.generation > record.generation) {
            return;
        }
        let settled = record.last_update.status == UpdateStatus::Successful;
        if let Some(serving) = old.and_then(|old| old.serving.as_ref()).filter(|_| !settled) {
            entry.serving = Some(spec::adjusted(serving, record));
        }
        inner.entries.insert(record.id.clone(), entry);
    }

    /// Forgets a function that the store no longer has.
    pub(crate) fn remove(&self, id: &FunctionId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.removals += 1;
        inner.entries.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hearth_store::{CodeRef, FunctionConfig, LastUpdate, LoggingConfig};
    use hearth_types::CodeDigest;

    use super::*;

    fn record(generation: u64, revision: u64, state: State, status: UpdateStatus) -> FunctionRecord {
        FunctionRecord {
            id: FunctionId { account: "123456789012".parse().unwrap(), name: "f".into() },
            generation,
            revision,
            revision_id: String::new(),
            config: FunctionConfig {
                description: String::new(),
                role: String::new(),
                runtime: "provided.al2023".to_owned(),
                handler: "h".to_owned(),
                memory_mb: 128,
                timeout_seconds: 3,
                ephemeral_mb: 512,
                environment: None,
                architecture: "x86_64".to_owned(),
                tracing_mode: "PassThrough".to_owned(),
                logging: LoggingConfig {
                    format: "Text".to_owned(),
                    group: "g".to_owned(),
                    application_level: None,
                    system_level: None,
                },
                passive: BTreeMap::new(),
            },
            code: CodeRef { digest: CodeDigest([0; 32]), size: 1 },
            state,
            state_reason: None,
            last_update: LastUpdate { status, reason: None },
            modified_ms: 0,
            tags: BTreeMap::new(),
            reserved_concurrency: None,
        }
    }

    fn serving(cache: &Cache, id: &FunctionId) -> Option<u64> {
        cache.get(id)?.serving.map(|spec| spec.revision.number)
    }

    #[test]
    fn the_old_revision_serves_until_the_new_one_is_ready_and_when_it_fails() {
        let cache = Cache::default();
        let put = |record: &FunctionRecord| cache.put(cache.epoch(), record, "us-east-1");
        let first = record(1, 1, State::Pending, UpdateStatus::InProgress);
        put(&first);
        assert_eq!(serving(&cache, &first.id), None);
        put(&record(2, 1, State::Active, UpdateStatus::Successful));
        assert_eq!(serving(&cache, &first.id), Some(1));
        let mut tagged = record(3, 2, State::Active, UpdateStatus::InProgress);
        tagged.reserved_concurrency = Some(7);
        put(&tagged);
        assert_eq!(serving(&cache, &first.id), Some(1));
        assert_eq!(cache.get(&first.id).unwrap().serving.unwrap().reserved_concurrency, Some(7));
        put(&record(4, 2, State::Active, UpdateStatus::Failed));
        assert_eq!(serving(&cache, &first.id), Some(1));
        put(&record(6, 3, State::Active, UpdateStatus::Successful));
        assert_eq!(serving(&cache, &first.id), Some(3));
        // News that come late are no news.
        put(&record(5, 3, State::Active, UpdateStatus::InProgress));
        assert_eq!(serving(&cache, &first.id), Some(3));
    }

    #[test]
    fn what_was_read_before_a_removal_is_not_kept() {
        let cache = Cache::default();
        let epoch = cache.epoch();
        let read = record(1, 1, State::Active, UpdateStatus::Successful);
        cache.remove(&read.id);
        cache.put(epoch, &read, "us-east-1");
        assert!(cache.get(&read.id).is_none());
    }
}
