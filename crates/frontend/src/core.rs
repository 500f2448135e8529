//! What all operations share: the store, the cache before it, and the making ready of revisions in the background.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hearth_image::ImageStore;
use hearth_oci::Puller;
use hearth_store::{Change, FunctionRecord, LastUpdate, State, StateReason, Store, StoreError, UpdateStatus};
use hearth_types::{FunctionId, FunctionSpec};
use tokio::sync::{Mutex, Semaphore};

use crate::access::{Denials, Gate};
use crate::cache::{Cache, Entry};
use crate::challenges::Challenges;
use crate::download::Signer;
use crate::error::ApiError;
use crate::names::Scope;
use crate::neighbours::LOG_READERS;
use crate::read::{CODE_UPLOADS, FETCHES, MEMORY_KIB, UNPACKING};
use crate::registry::Uploads;
use crate::router::Router;
use crate::services::Hosts;
use crate::spec::{self, Source};
use crate::tags::HOSTS;
use crate::url::Urls;
use crate::{Backend, FrontendConfig, FrontendMetrics};

/// Times a change is tried again because somebody else changed the record in between.
const ATTEMPTS: usize = 16;

/// The frontend behind its handle.
pub(crate) struct Core<B> {
    pub(crate) config: FrontendConfig,
    pub(crate) region: Arc<str>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) images: Arc<ImageStore>,
    /// Brings container images from other registries, and has those that are here.
    pub(crate) puller: Arc<Puller>,
    /// Content that is being pushed.
    pub(crate) registry_uploads: Uploads,
    pub(crate) backend: Arc<B>,
    pub(crate) cache: Cache,
    pub(crate) gate: Gate,
    pub(crate) denials: Denials,
    pub(crate) signer: Signer,
    pub(crate) urls: Urls,
    pub(crate) hosts: Hosts,
    pub(crate) challenges: Arc<Challenges>,
    pub(crate) metrics: FrontendMetrics,
    pub(crate) router: Router,
    /// Large archives that are decoded and unpacked at once.
    pub(crate) uploads: Semaphore,
    /// Archives that are unpacked at once, wherever they come from.
    pub(crate) unpacking: Semaphore,
    /// Objects of S3 that are brought at once.
    pub(crate) fetches: Semaphore,
    /// KiB of large bodies in memory at once.
    pub(crate) memory: Semaphore,
    /// Calls of CloudWatch Logs that are answered at once: each may hold tens of megabytes of logs.
    pub(crate) log_readers: Semaphore,
    /// Held while what an account reserves or provisions is checked and changed, and with it versions and aliases,
    /// which decide what is provisioned; and while a host is checked and given.
    pub(crate) reserving: Mutex<()>,
    /// Held while an event source mapping is made, of which there is one for a queue and a function.
    pub(crate) mapping: Mutex<()>,
}

impl<B> std::fmt::Debug for Core<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<B: Backend> Core<B> {
    pub(crate) fn new(
        config: FrontendConfig,
        store: Arc<dyn Store>,
        images: Arc<ImageStore>,
        puller: Arc<Puller>,
        backend: Arc<B>,
    ) -> Self {
        Self {
            region: config.region.as_str().into(),
            gate: Gate::new(config.access.clone()),
            denials: Denials::default(),
            config,
            store,
            images,
            puller,
            registry_uploads: Uploads::default(),
            backend,
            cache: Cache::default(),
            signer: Signer::random(),
            urls: Urls::default(),
            challenges: Arc::default(),
            hosts: Hosts::default(),
            metrics: FrontendMetrics::default(),
            router: Router::new(),
            uploads: Semaphore::new(CODE_UPLOADS),
            unpacking: Semaphore::new(UNPACKING),
            fetches: Semaphore::new(FETCHES),
            memory: Semaphore::new(MEMORY_KIB),
            log_readers: Semaphore::new(LOG_READERS),
            reserving: Mutex::new(()),
            mapping: Mutex::new(()),
        }
    }

    pub(crate) async fn resume(self: &Arc<Self>) -> Result<(), StoreError> {
        self.gate.load(self.store.as_ref()).await?;
        self.denials.load(self.store.as_ref()).await?;
        for record in self.store.unfinished_functions().await? {
            tracing::info!(function = %record.id, "taking up again what was interrupted");
            self.settle(record);
        }
        for version in self.store.unfinished_versions().await? {
            // Those of a function that is itself unfinished come with it.
            let ready = |record: &FunctionRecord| record.last_update.status == UpdateStatus::Successful;
            if self.store.function(&version.function).await?.as_ref().is_some_and(ready) {
                self.settle_version(version);
            }
        }
        self.read_urls().await?;
        for record in self.store.tagged_functions(HOSTS).await? {
            match self.check_hosts(&record.id, &record.tags) {
                Ok(()) => self.hosts.set(&record.id, &record.tags),
                Err(error) => {
                    tracing::warn!(function = %record.id, reason = error.message, "it does not get its hosts");
                }
            }
        }
        for (function, reserved) in self.store.reservations().await? {
            self.backend.concurrency_reserved(&function, Some(reserved));
        }
        for function in self.store.provisioned_functions().await? {
            if let Err(error) = self.provision_again(&function).await {
                tracing::warn!(%function, ?error, "what is provisioned for it is not made ready");
            }
        }
        Ok(())
    }

    /// The scope of a function's owner.
    pub(crate) fn scope(&self, id: &FunctionId) -> Scope {
        Scope { region: Arc::clone(&self.region), account: id.account.clone() }
    }

    pub(crate) fn arn(&self, id: &FunctionId) -> String {
        self.scope(id).arn(id)
    }

    /// A function's record.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub(crate) async fn record(&self, id: &FunctionId) -> Result<FunctionRecord, ApiError> {
        let found = self.store.function(id).await.map_err(|error| ApiError::store(&error, &self.arn(id)))?;
        found.ok_or_else(|| ApiError::function_not_found(&self.arn(id)))
    }

    /// What an invocation needs to know; from memory if it was asked before.
    ///
    /// # Errors
    /// There is no such function, or the store failed.
    pub(crate) async fn entry(&self, id: &FunctionId) -> Result<Entry, ApiError> {
        if let Some(entry) = self.cache.get(id) {
            return Ok(entry);
        }
        let epoch = self.cache.epoch();
        let record = self.record(id).await?;
        self.cache.put(epoch, &record, &self.region);
        match self.cache.get(id) {
            Some(entry) => Ok(entry),
            None => Ok(Entry::of(&record, &self.region)),
        }
    }

    /// Changes a record, again if somebody else was faster.
    ///
    /// # Errors
    /// There is no such function, `edit` refused, or the store failed; nothing is changed then.
    pub(crate) async fn modify<F>(
        &self,
        id: &FunctionId,
        change: Change,
        mut edit: F,
    ) -> Result<FunctionRecord, ApiError>
    where
        F: FnMut(&mut FunctionRecord) -> Result<(), ApiError> + Send,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let epoch = self.cache.epoch();
            let mut record = self.record(id).await?;
            edit(&mut record)?;
            match self.store.update_function(record, change).await {
                Ok(kept) => {
                    self.cache.put(epoch, &kept, &self.region);
                    return Ok(kept);
                }
                Err(StoreError::Conflict(_)) if attempt < ATTEMPTS => {}
                Err(error) => return Err(ApiError::store(&error, &self.arn(id))),
            }
        }
    }

    /// Makes a record's revision ready in the background and notes what came of it.
    pub(crate) fn settle(self: &Arc<Self>, record: FunctionRecord) {
        let core = Arc::clone(self);
        tokio::spawn(async move {
            let prepared = match spec::of(&record, Source::newest(&record), &core.region) {
                Ok(spec) => core.prepare(spec).await,
                Err(reason) => Err(reason),
            };
            let outcome = prepared.as_ref().err().cloned();
            core.settle_versions(&record, outcome.as_ref()).await;
            let noted = core
                .modify(&record.id, Change::Bookkeeping, |kept| {
                    note_outcome(kept, record.revision, &prepared)
                })
                .await;
            match (noted, outcome) {
                (Err(error), _) => tracing::warn!(function = %record.id, ?error, "the outcome is not kept"),
                (Ok(_), Some(reason)) => {
                    tracing::warn!(function = %record.id, code = reason.code, reason = reason.text, "cannot run");
                }
                (Ok(kept), None) => {
                    tracing::info!(function = %record.id, revision = record.revision, "ready");
                    if let Ok(spec) = spec::of(&kept, Source::newest(&kept), &core.region) {
                        core.backend.revision_replaced(&spec.revision);
                    }
                }
            }
        });
    }

    /// Has the backend prepare in a task of its own, so that a bug there leaves no function InProgress for ever.
    pub(crate) async fn prepare(&self, spec: Arc<FunctionSpec>) -> Result<(), StateReason> {
        let backend = Arc::clone(&self.backend);
        tokio::spawn(async move { backend.prepare(spec).await }).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the preparation of a function broke down");
            let text = "Hearth failed while it prepared the function; its log says why".to_owned();
            Err(StateReason { code: "InternalError".to_owned(), text })
        })
    }
}

/// Puts into a record what came of the preparation of its revision.
fn note_outcome(
    record: &mut FunctionRecord,
    revision: u64,
    prepared: &Result<(), StateReason>,
) -> Result<(), ApiError> {
    if record.revision != revision {
        return Err(ApiError::conflict("the function was changed while it was prepared"));
    }
    match prepared {
        Ok(()) => {
            record.state = State::Active;
            record.state_reason = None;
            record.last_update = LastUpdate { status: UpdateStatus::Successful, reason: None };
            record.serving = None;
        }
        Err(reason) => {
            // A function that ran before goes on running as it was.
            if record.state != State::Active {
                record.state = State::Failed;
                record.state_reason = Some(reason.clone());
            }
            record.last_update = LastUpdate { status: UpdateStatus::Failed, reason: Some(reason.clone()) };
        }
    }
    Ok(())
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
