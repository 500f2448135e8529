//! Events in a SQLite file of their own, many to one sync.
//!
//! One thread has the connection. It takes what waits for it into one transaction, as much as comes while the disk is
//! busy with the one before and a moment longer, and answers when that is on disk. An event costs a share of a sync; a
//! job that fails takes only itself back, unless SQLite had to give up the whole transaction: then none of it was kept,
//! and all are told so.

mod batch;
mod rows;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use hearth_types::{AccountId, FunctionId};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub use self::batch::GroupCommit;
use self::batch::{Answered, Job};
use super::broken;
use super::open::{self, OpenError};
use super::rows::failed;
use crate::{
    BoxFuture, EventHead, EventRecord, EventStore, Expected, NewEvent, Setting, SettingKind, StoreError,
};

/// Jobs that may wait for the thread.
const QUEUE: usize = 4_096;
/// The longest a caller waits for a place in the queue.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

type Settings = Arc<RwLock<BTreeMap<(SettingKind, AccountId, String), Setting>>>;

/// [`EventStore`] in a SQLite file.
#[derive(Debug)]
pub struct SqliteEvents {
    // Some until drop, which closes the queue before it waits for the thread.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    settings: Settings,
}

impl SqliteEvents {
    /// Opens the file at `path`, or makes it there if none ever was.
    ///
    /// # Errors
    /// See [`OpenError`]; a refusal changes nothing on disk.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, GroupCommit::default())
    }

    /// The same, with other bounds of what is synced together.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(path: &Path, group: GroupCommit) -> Result<Self, OpenError> {
        let connection = open::open(path, open::EVENTS)?;
        let read = |error| OpenError::Sqlite { step: "read", path: path.to_owned(), source: error };
        let settings = rows::settings(&connection).map_err(read)?;
        let key = |setting: Setting| ((setting.kind, setting.account.clone(), setting.key.clone()), setting);
        let settings: Settings = Arc::new(RwLock::new(settings.into_iter().map(key).collect()));
        let counters = rows::Counters::read(&connection).map_err(read)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let work = move || batch::serve(&connection, counters, queue, group);
        let thread = std::thread::Builder::new().name("events".to_owned()).spawn(work).map_err(|source| {
            OpenError::Io { step: "start the thread that serves", path: path.to_owned(), source }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), settings })
    }

    async fn send(&self, context: &'static str, job: Job) -> Result<(), StoreError> {
        let gone = || broken(context, "the thread of the events has ended");
        match self.jobs.as_ref().ok_or_else(gone)?.send_timeout(job, QUEUE_WAIT).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(gone()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(broken(context, "the disk is too slow: the queue of the events stays full"))
            }
        }
    }

    /// Has `work` done in a transaction with others, and `kept` when that is on disk.
    async fn write<T: Send + 'static>(
        &self,
        context: &'static str,
        work: impl FnOnce(&Connection, &mut rows::Counters) -> rusqlite::Result<T> + Send + 'static,
        kept: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let (work, kept) = (Some(work), Some(kept));
        let write = Answered { context, work, kept, value: None, reply };
        self.send(context, Job::Write(Box::new(write))).await?;
        answer.await.map_err(|_| broken(context, "the thread of the events has ended"))?
    }

    /// Has `work` done at once.
    async fn read<T: Send + 'static>(
        &self,
        context: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Read(Box::new(move |connection| {
            // An error means that the caller went away.
            let _ = reply.send(work(connection).map_err(|error| failed(context, error)));
        }));
        self.send(context, job).await?;
        answer.await.map_err(|_| broken(context, "the thread of the events has ended"))?
    }
}

impl Drop for SqliteEvents {
    /// Waits until the file is closed, so that it can be opened again at once.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the events panicked");
        }
    }
}

impl EventStore for SqliteEvents {
    fn accept(&self, new: NewEvent) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(
            "keep an event",
            move |connection, counters| rows::insert(connection, counters, &new),
            |_| {},
        ))
    }

    fn event(&self, id: u64) -> BoxFuture<'_, Result<Option<EventRecord>, StoreError>> {
        Box::pin(self.read("read an event", move |connection| rows::event(connection, id)))
    }

    fn heads(&self, after: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<EventHead>, StoreError>> {
        Box::pin(self.read("list events", move |connection| rows::heads(connection, after, limit)))
    }

    fn postpone(&self, id: u64, failures: u32, due_ms: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(
            "postpone an event",
            move |connection, _| rows::postpone(connection, id, failures, due_ms),
            |()| {},
        ))
    }

    fn finish(&self, id: u64, follow: Vec<NewEvent>) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        Box::pin(self.write(
            "finish an event",
            move |connection, counters| {
                rows::delete(connection, id)?;
                follow.iter().map(|new| rows::insert(connection, counters, new)).collect()
            },
            |_| {},
        ))
    }

    fn forget<'a>(&'a self, function: &'a FunctionId) -> BoxFuture<'a, Result<(), StoreError>> {
        let (id, settings) = (function.clone(), Arc::clone(&self.settings));
        let (account, prefix) = (function.account.clone(), format!("{}:", function.name));
        Box::pin(self.write(
            "forget the events of a function",
            move |connection, _| rows::forget(connection, &id),
            move |()| {
                let gone = |(kind, owner, key): &(SettingKind, AccountId, String)| {
                    *kind == SettingKind::EventInvokeConfig && *owner == account && key.starts_with(&prefix)
                };
                settings.write().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !gone(key));
            },
        ))
    }

    fn put_setting(
        &self,
        setting: Setting,
        expected: Expected,
    ) -> BoxFuture<'_, Result<Option<Setting>, StoreError>> {
        let settings = Arc::clone(&self.settings);
        Box::pin(self.write(
            "write a setting",
            move |connection, counters| rows::put(connection, counters, setting, expected),
            move |kept| {
                if let Some(kept) = kept {
                    let key = (kept.kind, kept.account.clone(), kept.key.clone());
                    settings.write().unwrap_or_else(PoisonError::into_inner).insert(key, kept.clone());
                }
            },
        ))
    }

    fn delete_setting<'a>(
        &'a self,
        kind: SettingKind,
        account: &'a AccountId,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let settings = Arc::clone(&self.settings);
        let named = (kind, account.clone(), key.to_owned());
        let gone = named.clone();
        Box::pin(self.write(
            "delete a setting",
            move |connection, _| rows::delete_setting(connection, named.0, &named.1, &named.2),
            move |_| {
                settings.write().unwrap_or_else(PoisonError::into_inner).remove(&gone);
            },
        ))
    }

    fn fire<'a>(
        &'a self,
        setting: &'a Setting,
        mark: u64,
        event: Option<NewEvent>,
    ) -> BoxFuture<'a, Result<Option<Vec<u64>>, StoreError>> {
        let settings = Arc::clone(&self.settings);
        let setting = setting.clone();
        let key = (setting.kind, setting.account.clone(), setting.key.clone());
        Box::pin(self.write(
            "fire a schedule",
            move |connection, counters| {
                if !rows::mark(connection, &setting, mark)? {
                    return Ok(None);
                }
                event
                    .iter()
                    .map(|new| rows::insert(connection, counters, new))
                    .collect::<Result<_, _>>()
                    .map(Some)
            },
            move |fired| {
                let mut settings = settings.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(kept) = settings.get_mut(&key).filter(|_| fired.is_some()) {
                    kept.mark = mark;
                }
            },
        ))
    }

    fn setting(&self, kind: SettingKind, account: &AccountId, key: &str) -> Option<Setting> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        settings.get(&(kind, account.clone(), key.to_owned())).cloned()
    }

    fn settings(
        &self,
        kind: SettingKind,
        account: &AccountId,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Vec<Setting> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let first = (kind, account.clone(), after.max(prefix).to_owned());
        let belongs = |setting: &&Setting| {
            setting.kind == kind && setting.account == *account && setting.key.starts_with(prefix)
        };
        let found = settings.range(first..).map(|(_, setting)| setting).take_while(belongs);
        found.filter(|setting| setting.key.as_str() > after).take(limit).cloned().collect()
    }

    fn all_settings(&self, kind: SettingKind) -> Vec<Setting> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        settings.values().filter(|setting| setting.kind == kind).cloned().collect()
    }
}
