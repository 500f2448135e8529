//! Jobs of many callers in one transaction, so that they share its sync.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::rows::Counters;
use crate::StoreError;
use crate::sqlite::broken;
use crate::sqlite::open;
use crate::sqlite::rows::failed;

/// What is synced together.
#[derive(Clone, Copy, Debug)]
pub struct GroupCommit {
    /// Most writes.
    pub most: usize,
    /// Of the time that the last commit took, so many percent are waited for those who were answered by it to come
    /// again: a commit costs what it costs, whoever is in it.
    pub linger_percent: u32,
}

impl Default for GroupCommit {
    fn default() -> Self {
        Self { most: 512, linger_percent: 50 }
    }
}

/// The longest wait for more, however slow the disk is.
const LONGEST_LINGER: Duration = Duration::from_millis(3);
/// A pause in which nothing more comes ends the wait.
const PAUSE: Duration = Duration::from_micros(150);

/// Something to do with the connection.
pub(super) enum Job {
    /// At once.
    Read(Box<dyn FnOnce(&Connection) + Send>),
    /// In a transaction.
    Write(Box<dyn Write>),
}

/// A write, and what is done when its transaction is on disk.
pub(super) trait Write: Send {
    /// What it does, for errors.
    fn context(&self) -> &'static str;
    /// Does it, in a transaction that others share.
    fn run(&mut self, connection: &Connection, counters: &mut Counters) -> rusqlite::Result<()>;
    /// Tells the caller what came of it.
    fn settle(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// A write whose caller waits for a `T`.
pub(super) struct Answered<T, W, K> {
    pub(super) context: &'static str,
    /// Both are there until they have run.
    pub(super) work: Option<W>,
    pub(super) kept: Option<K>,
    pub(super) value: Option<T>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W, K> Write for Answered<T, W, K>
where
    T: Send,
    W: FnOnce(&Connection, &mut Counters) -> rusqlite::Result<T> + Send,
    K: FnOnce(&T) + Send,
{
    fn context(&self) -> &'static str {
        self.context
    }

    fn run(&mut self, connection: &Connection, counters: &mut Counters) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(connection, counters)?);
        }
        Ok(())
    }

    fn settle(mut self: Box<Self>, outcome: Result<(), StoreError>) {
        let answer = match (outcome, self.value.take()) {
            (Ok(()), Some(value)) => {
                if let Some(kept) = self.kept.take() {
                    kept(&value);
                }
                Ok(value)
            }
            (Ok(()), None) => Err(broken(self.context, "it was not done")),
            (Err(error), _) => Err(error),
        };
        // An error means that the caller went away.
        let _ = self.reply.send(answer);
    }
}

/// Does jobs until nobody is left to give any.
pub(super) fn serve(
    connection: &Connection,
    mut counters: Counters,
    mut queue: mpsc::Receiver<Job>,
    group: GroupCommit,
) {
    let mut last_commit = Duration::ZERO;
    let mut last_size = 0;
    while let Some(job) = next(connection, &mut queue) {
        match job {
            Job::Read(work) => work(connection),
            Job::Write(first) => {
                let linger = (last_commit * group.linger_percent / 100).min(LONGEST_LINGER);
                let mut batch = Batch { connection, counters: &mut counters, done: Vec::new() };
                let size = batch.run(first, &mut queue, group.most, last_size, linger);
                let began = Instant::now();
                batch.commit();
                last_commit = began.elapsed();
                last_size = size;
            }
        }
    }
}

/// The next job. While there is none, the file gives back what it does not need.
fn next(connection: &Connection, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
    let mut shrank = false;
    loop {
        match queue.try_recv() {
            Ok(job) => return Some(job),
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        match open::shrink(connection, shrank) {
            Ok(true) => shrank = true,
            Ok(false) => return queue.blocking_recv(),
            Err(error) => {
                // It costs disk, nothing else, and is tried again after the next job.
                tracing::warn!(%error, "the database of events cannot be made smaller");
                return queue.blocking_recv();
            }
        }
    }
}

struct Batch<'a> {
    connection: &'a Connection,
    counters: &'a mut Counters,
    done: Vec<Box<dyn Write>>,
}

impl Batch<'_> {
    /// Does a write and all that come with it; answers how many they were.
    fn run(
        &mut self,
        first: Box<dyn Write>,
        queue: &mut mpsc::Receiver<Job>,
        most: usize,
        expected: usize,
        linger: Duration,
    ) -> usize {
        if let Err(error) = statement(self.connection, "BEGIN IMMEDIATE") {
            first.settle(Err(failed("begin a transaction", error)));
            return 1;
        }
        let (began, mut last, mut size) = (Instant::now(), Instant::now(), 1);
        let mut goes_on = self.write(first);
        while goes_on && size < most {
            match queue.try_recv() {
                Ok(Job::Read(work)) => work(self.connection),
                Ok(Job::Write(write)) => {
                    size += 1;
                    last = Instant::now();
                    goes_on = self.write(write);
                }
                // The last commit's size says how many may come again.
                Err(mpsc::error::TryRecvError::Empty)
                    if size < expected && began.elapsed() < linger && last.elapsed() < PAUSE =>
                {
                    std::thread::sleep(PAUSE / 5);
                }
                Err(_) => break,
            }
        }
        size
    }

    /// False if SQLite gave up the whole transaction.
    fn write(&mut self, mut write: Box<dyn Write>) -> bool {
        let ran = statement(self.connection, "SAVEPOINT job")
            .and_then(|()| write.run(self.connection, self.counters))
            .and_then(|()| statement(self.connection, "RELEASE job"));
        let Err(error) = ran else {
            self.done.push(write);
            return true;
        };
        let error = failed(write.context(), error);
        let undone = !self.connection.is_autocommit()
            && self.connection.execute_batch("ROLLBACK TO job; RELEASE job").is_ok();
        if !undone {
            self.give_up(&error);
        }
        write.settle(Err(error));
        undone
    }

    fn commit(mut self) {
        if self.done.is_empty() && self.connection.is_autocommit() {
            return;
        }
        match statement(self.connection, "COMMIT") {
            Ok(()) => self.done.into_iter().for_each(|write| write.settle(Ok(()))),
            Err(error) => self.give_up(&failed("commit events", error)),
        }
    }

    /// Takes all back, and says so to all.
    fn give_up(&mut self, error: &StoreError) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction of events cannot be taken back");
        }
        for write in self.done.drain(..) {
            let error = match error {
                StoreError::DiskFull => StoreError::DiskFull,
                other => broken(write.context(), other.to_string()),
            };
            write.settle(Err(error));
        }
    }
}

fn statement(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
