//! The store of a single Hearth: one SQLite file that only this process has open.
//!
//! One thread owns the connection and does every job in turn, so that a slow disk stalls no async worker and
//! writes need no retries. Records that are asked for by name, which every invocation does, are answered from
//! memory: the thread alone writes that memory, after the disk has the change.

mod aliases;
mod documents;
mod events;
mod layers;
mod open;
mod rows;
mod urls;
mod versions;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use hearth_types::{AccountId, CodeDigest, FunctionId, Version};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub use self::events::{GroupCommit, SqliteEvents};
pub use self::open::OpenError;
use crate::{
    AliasRecord, BoxFuture, Change, FunctionRecord, NewFunction, NewVersion, ProvisionedRecord, State,
    StateReason, Store, StoreError, UrlRecord, Usage, VersionRecord,
};

/// Jobs that may wait for the thread.
const QUEUE: usize = 1_024;
/// The longest a caller waits for a place in the queue: a disk this slow is a broken one.
const QUEUE_WAIT: Duration = Duration::from_secs(10);
/// Records kept in memory; at some kilobytes each, a few tens of megabytes at most.
const CACHED: usize = 4_096;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;
type Cache = Arc<RwLock<HashMap<FunctionId, FunctionRecord>>>;

/// [`Store`] in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    // Some until drop, which closes the queue before it waits for the thread.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    cache: Cache,
}

impl SqliteStore {
    /// Opens the store at `path`, or makes it there if none ever was. Blocks while it checks the whole file.
    ///
    /// # Errors
    /// See [`OpenError`]; a refusal changes nothing on disk.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::serve(open::open(path, open::FUNCTIONS)?, path)
    }

    fn serve(mut connection: Connection, path: &Path) -> Result<Self, OpenError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut connection);
            }
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(work).map_err(|source| {
            OpenError::Io { step: "start the thread that serves", path: path.to_owned(), source }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), cache: Cache::default() })
    }

    /// Has the thread do `work`. Once queued it is done even if the caller goes away.
    async fn run<T: Send + 'static>(
        &self,
        context: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || broken(context, "the store's thread has ended");
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // An error means that the caller went away.
            let _ = reply.send(work(connection));
        });
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        match jobs.send_timeout(job, QUEUE_WAIT).await {
            Ok(()) => answer.await.map_err(|_| gone())?,
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(gone()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(broken(context, "the disk is too slow: the queue of the store stays full"))
            }
        }
    }

    fn cached(&self, id: &FunctionId) -> Option<FunctionRecord> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

impl Drop for SqliteStore {
    /// Waits until the file is closed, so that it can be opened again at once.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

impl Store for SqliteStore {
    fn create_function(&self, new: NewFunction) -> BoxFuture<'_, Result<FunctionRecord, StoreError>> {
        let cache = Arc::clone(&self.cache);
        Box::pin(self.run("keep a new function", move |connection| {
            let record = rows::create(connection, new)?;
            remember(&cache, &record);
            Ok(record)
        }))
    }

    fn function<'a>(
        &'a self,
        id: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<FunctionRecord>, StoreError>> {
        Box::pin(async move {
            if let Some(record) = self.cached(id) {
                return Ok(Some(record));
            }
            let (id, cache) = (id.clone(), Arc::clone(&self.cache));
            self.run("read a function", move |connection| {
                let record = rows::function(connection, &id)?;
                if let Some(record) = &record {
                    remember(&cache, record);
                }
                Ok(record)
            })
            .await
        })
    }

    fn list_functions<'a>(
        &'a self,
        account: &'a AccountId,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<FunctionRecord>, StoreError>> {
        let (account, after) = (account.clone(), after.map(str::to_owned));
        Box::pin(self.run("list functions", move |connection| {
            rows::list(connection, &account, after.as_deref(), limit)
        }))
    }

    fn unfinished_functions(&self) -> BoxFuture<'_, Result<Vec<FunctionRecord>, StoreError>> {
        Box::pin(self.run("list unfinished functions", |connection| rows::unfinished(connection)))
    }

    fn update_function(
        &self,
        record: FunctionRecord,
        change: Change,
    ) -> BoxFuture<'_, Result<FunctionRecord, StoreError>> {
        let cache = Arc::clone(&self.cache);
        Box::pin(self.run("update a function", move |connection| {
            let record = rows::update(connection, record, change)?;
            remember(&cache, &record);
            Ok(record)
        }))
    }

    fn delete_function<'a>(&'a self, id: &'a FunctionId) -> BoxFuture<'a, Result<u64, StoreError>> {
        let (id, cache) = (id.clone(), Arc::clone(&self.cache));
        Box::pin(self.run("delete a function", move |connection| {
            let newest = rows::delete(connection, &id)?;
            cache.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            Ok(newest)
        }))
    }

    fn usage<'a>(&'a self, account: &'a AccountId) -> BoxFuture<'a, Result<Usage, StoreError>> {
        let account = account.clone();
        Box::pin(self.run("sum up an account", move |connection| rows::usage(connection, &account)))
    }

    fn code_in_use(&self) -> BoxFuture<'_, Result<Vec<CodeDigest>, StoreError>> {
        Box::pin(self.run("list code in use", |connection| {
            let mut all = rows::code_in_use(connection)?;
            all.extend(layers::code_in_use(connection)?);
            all.sort();
            all.dedup();
            Ok(all)
        }))
    }

    fn reservations(&self) -> BoxFuture<'_, Result<Vec<(FunctionId, u32)>, StoreError>> {
        Box::pin(self.run("list reservations", |connection| rows::reservations(connection)))
    }

    fn tagged_functions(&self, key: &'static str) -> BoxFuture<'_, Result<Vec<FunctionRecord>, StoreError>> {
        Box::pin(self.run("list tagged functions", move |connection| rows::tagged(connection, key)))
    }

    fn unfinished_versions(&self) -> BoxFuture<'_, Result<Vec<VersionRecord>, StoreError>> {
        Box::pin(self.run("list unfinished versions", |connection| versions::unfinished(connection)))
    }

    fn publish_version(&self, new: NewVersion) -> BoxFuture<'_, Result<VersionRecord, StoreError>> {
        Box::pin(self.run("publish a version", move |connection| versions::publish(connection, new)))
    }

    fn settle_versions<'a>(
        &'a self,
        function: &'a FunctionId,
        revision: u64,
        state: State,
        reason: Option<StateReason>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let function = function.clone();
        Box::pin(self.run("note a version's state", move |connection| {
            versions::settle(connection, &function, revision, state, reason.as_ref())
        }))
    }

    fn version<'a>(
        &'a self,
        function: &'a FunctionId,
        number: u64,
    ) -> BoxFuture<'a, Result<Option<VersionRecord>, StoreError>> {
        let function = function.clone();
        Box::pin(
            self.run("read a version", move |connection| versions::version(connection, &function, number)),
        )
    }

    fn list_versions<'a>(
        &'a self,
        function: &'a FunctionId,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<VersionRecord>, StoreError>> {
        let function = function.clone();
        Box::pin(
            self.run("list versions", move |connection| versions::list(connection, &function, after, limit)),
        )
    }

    fn delete_version<'a>(
        &'a self,
        function: &'a FunctionId,
        number: u64,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let function = function.clone();
        Box::pin(
            self.run("delete a version", move |connection| versions::delete(connection, &function, number)),
        )
    }

    fn put_alias(&self, record: AliasRecord) -> BoxFuture<'_, Result<Option<AliasRecord>, StoreError>> {
        Box::pin(self.run("write an alias", move |connection| aliases::put_alias(connection, record)))
    }

    fn alias<'a>(
        &'a self,
        function: &'a FunctionId,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<AliasRecord>, StoreError>> {
        let (function, name) = (function.clone(), name.to_owned());
        Box::pin(self.run("read an alias", move |connection| aliases::alias(connection, &function, &name)))
    }

    fn list_aliases<'a>(
        &'a self,
        function: &'a FunctionId,
        version: Option<Version>,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<AliasRecord>, StoreError>> {
        let (function, after) = (function.clone(), after.to_owned());
        Box::pin(self.run("list aliases", move |connection| {
            aliases::list_aliases(connection, &function, version, &after, limit)
        }))
    }

    fn delete_alias<'a>(
        &'a self,
        function: &'a FunctionId,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let (function, name) = (function.clone(), name.to_owned());
        Box::pin(
            self.run("delete an alias", move |connection| {
                aliases::delete_alias(connection, &function, &name)
            }),
        )
    }

    fn put_provisioned(&self, record: ProvisionedRecord) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.run("write what is provisioned", move |connection| {
            aliases::put_provisioned(connection, &record)
        }))
    }

    fn provisioned<'a>(
        &'a self,
        function: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Vec<ProvisionedRecord>, StoreError>> {
        let function = function.clone();
        Box::pin(
            self.run("read what is provisioned", move |connection| {
                aliases::provisioned(connection, &function)
            }),
        )
    }

    fn delete_provisioned<'a>(
        &'a self,
        function: &'a FunctionId,
        qualifier: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let (function, qualifier) = (function.clone(), qualifier.to_owned());
        Box::pin(self.run("delete what is provisioned", move |connection| {
            aliases::delete_provisioned(connection, &function, &qualifier)
        }))
    }

    fn put_url(&self, record: UrlRecord) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.run("write a function URL", move |connection| urls::put(connection, &record)))
    }

    fn urls<'a>(&'a self, function: &'a FunctionId) -> BoxFuture<'a, Result<Vec<UrlRecord>, StoreError>> {
        let function = function.clone();
        Box::pin(self.run("read function URLs", move |connection| urls::of(connection, &function)))
    }

    fn all_urls(&self) -> BoxFuture<'_, Result<Vec<UrlRecord>, StoreError>> {
        Box::pin(self.run("read function URLs", |connection| urls::all(connection)))
    }

    fn delete_url<'a>(
        &'a self,
        function: &'a FunctionId,
        qualifier: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let (function, qualifier) = (function.clone(), qualifier.to_owned());
        Box::pin(
            self.run("delete a function URL", move |connection| {
                urls::delete(connection, &function, &qualifier)
            }),
        )
    }

    fn provisioned_functions(&self) -> BoxFuture<'_, Result<Vec<FunctionId>, StoreError>> {
        Box::pin(
            self.run("list what is provisioned", |connection| aliases::provisioned_functions(connection)),
        )
    }
}

fn remember(cache: &Cache, record: &FunctionRecord) {
    let mut cache = cache.write().unwrap_or_else(PoisonError::into_inner);
    // Starting over beats bookkeeping: it costs one read for each function that is still in use.
    if cache.len() >= CACHED && !cache.contains_key(&record.id) {
        cache.clear();
    }
    cache.insert(record.id.clone(), record.clone());
}

fn broken(context: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Broken { context: format!("cannot {context}"), source: source.into() }
}
