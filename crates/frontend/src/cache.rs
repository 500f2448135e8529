//! Which revision of each function serves, and where each of its qualifiers leads, in memory, so that a warm
//! invocation never asks the store.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use hearth_store::{FunctionRecord, State};
use hearth_types::{FunctionId, FunctionSpec};

use crate::names::Qualifier;
use crate::route::Route;
use crate::spec::{self, Source};

/// Qualifiers of one function whose routes are kept.
const ROUTES: usize = 64;

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
    /// The entry of a record.
    pub(crate) fn of(record: &FunctionRecord, region: &str) -> Self {
        let serving = spec::of(record, Source::serving(record), region).ok();
        let serving = serving.filter(|_| record.state == State::Active);
        Self { generation: record.generation, state: record.state, serving }
    }
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<FunctionId, Entry>,
    /// Those of the entries with the same key, and gone when that changes.
    routes: HashMap<FunctionId, HashMap<Qualifier, Arc<Route>>>,
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

    /// Where a qualifier leads.
    pub(crate) fn route(&self, id: &FunctionId, qualifier: &Qualifier) -> Option<Arc<Route>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.routes.get(id)?.get(qualifier).cloned()
    }

    /// Takes note of a record that the store gave after `epoch`. What was read before some function was removed may
    /// be that function, so it is not kept then; the next one who asks reads it again.
    pub(crate) fn put(&self, epoch: Epoch, record: &FunctionRecord, region: &str) {
        let entry = Entry::of(record, region);
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.removals != epoch.0 {
            inner.entries.remove(&record.id);
            inner.routes.remove(&record.id);
            return;
        }
        if inner.entries.get(&record.id).is_some_and(|old| old.generation > record.generation) {
            return;
        }
        inner.routes.remove(&record.id);
        inner.entries.insert(record.id.clone(), entry);
    }

    /// Takes note of a route that was made after `epoch` from `record` and what hangs on it.
    pub(crate) fn put_route(
        &self,
        epoch: Epoch,
        record: &FunctionRecord,
        qualifier: Qualifier,
        route: Arc<Route>,
    ) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let current =
            inner.entries.get(&record.id).is_some_and(|entry| entry.generation == record.generation);
        if inner.removals != epoch.0 || !current {
            return;
        }
        let routes = inner.routes.entry(record.id.clone()).or_default();
        // Starting over beats bookkeeping.
        if routes.len() >= ROUTES {
            routes.clear();
        }
        routes.insert(qualifier, route);
    }

    /// Forgets where the qualifiers of a function lead, because one leads elsewhere now.
    pub(crate) fn forget_routes(&self, id: &FunctionId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.removals += 1;
        inner.routes.remove(id);
    }

    /// Forgets a function that the store no longer has.
    pub(crate) fn remove(&self, id: &FunctionId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.removals += 1;
        inner.entries.remove(id);
        inner.routes.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hearth_store::{CodeRef, FunctionConfig, LastUpdate, LoggingConfig, Served, UpdateStatus};
    use hearth_types::CodeDigest;

    use super::*;
    use crate::route::Branch;

    fn record(generation: u64, revision: u64, state: State, status: UpdateStatus) -> FunctionRecord {
        FunctionRecord {
            id: FunctionId { account: "123456789012".parse().unwrap(), name: "f".into() },
            generation,
            revision,
            revision_id: String::new(),
            config: FunctionConfig {
                description: String::new(),
                role: String::new(),
                image: None,
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
                layers: Vec::new(),
                passive: BTreeMap::new(),
            },
            code: CodeRef { digest: CodeDigest([0; 32]), size: 1 },
            state,
            state_reason: None,
            last_update: LastUpdate { status, reason: None },
            modified_ms: 0,
            tags: BTreeMap::new(),
            reserved_concurrency: None,
            serving: None,
        }
    }

    fn serving(cache: &Cache, id: &FunctionId) -> Option<u64> {
        cache.get(id)?.serving.map(|spec| spec.revision.number)
    }

    #[test]
    fn what_serves_is_the_newest_revision_unless_the_record_says_otherwise() {
        let cache = Cache::default();
        let put = |record: &FunctionRecord| cache.put(cache.epoch(), record, "us-east-1");
        let first = record(1, 1, State::Pending, UpdateStatus::InProgress);
        put(&first);
        assert_eq!(serving(&cache, &first.id), None);
        put(&record(2, 1, State::Active, UpdateStatus::Successful));
        assert_eq!(serving(&cache, &first.id), Some(1));
        let mut updated = record(3, 2, State::Active, UpdateStatus::InProgress);
        let (config, code) = (updated.config.clone(), updated.code);
        updated.serving = Some(Served { revision: 1, config, code });
        updated.reserved_concurrency = Some(7);
        put(&updated);
        assert_eq!(serving(&cache, &first.id), Some(1));
        assert_eq!(cache.get(&first.id).unwrap().serving.unwrap().reserved_concurrency, Some(7));
        put(&record(6, 3, State::Active, UpdateStatus::Successful));
        assert_eq!(serving(&cache, &first.id), Some(3));
        // News that come late are no news.
        put(&updated);
        assert_eq!(serving(&cache, &first.id), Some(3));
    }

    #[test]
    fn a_route_is_kept_until_the_function_or_one_of_its_qualifiers_changes() {
        let cache = Cache::default();
        let first = record(1, 1, State::Active, UpdateStatus::Successful);
        let live = Qualifier::Alias("live".to_owned());
        let route = || Arc::new(Route::new(Branch { state: State::Active, spec: None }, None, 0));
        cache.put(cache.epoch(), &first, "us-east-1");
        for change in [
            (|cache, first| Cache::forget_routes(cache, &first.id)) as fn(&Cache, &FunctionRecord),
            |cache, first| cache.put(cache.epoch(), first, "us-east-1"),
        ] {
            let before = cache.epoch();
            cache.put_route(before, &first, live.clone(), route());
            assert!(cache.route(&first.id, &live).is_some());
            change(&cache, &first);
            assert!(cache.route(&first.id, &live).is_none());
        }
        let before = cache.epoch();
        cache.forget_routes(&first.id);
        cache.put_route(before, &first, live.clone(), route());
        assert!(cache.route(&first.id, &live).is_none());
        let older = record(0, 1, State::Active, UpdateStatus::Successful);
        cache.put_route(cache.epoch(), &older, live.clone(), route());
        assert!(cache.route(&first.id, &live).is_none());
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
