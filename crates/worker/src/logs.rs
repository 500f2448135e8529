//! Functions' logs on disk, bounded for each function.
//!
//! ```text
//! logs/<account>/<function>/<number>.log    lines: epoch-ms TAB instance TAB text; the highest number is written to
//! ```
//!
//! Whoever logs appends to the function's buffer in memory; one thread writes the buffers, some fifty times a second at most. A
//! buffer that is full, or a disk that is, drops lines and counts them: invocations go on. What is in memory when the process
//! is killed is lost.

mod files;
mod line;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::time::Duration;

use hearth_types::{FunctionId, InstanceId};
use tokio::sync::mpsc;

use crate::clock::epoch_ms;
use files::Files;
pub use line::LogLine;

/// What one function may have in memory, not yet written, bytes.
const MAX_PENDING: usize = 1 << 20;
/// Lines that one follower may be behind; more are lost to it.
const MAX_BEHIND: usize = 1_024;
/// Time in which lines gather before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// The logs of all functions.
#[derive(Clone, Debug)]
pub struct Logs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    bytes_per_function: u64,
    functions: Mutex<HashMap<FunctionId, Arc<FunctionLog>>>,
    written: AtomicU64,
    dropped: AtomicU64,
    ring: std_mpsc::SyncSender<Ring>,
}

/// What wakes the writer.
#[derive(Debug)]
enum Ring {
    Written,
    Flush(std_mpsc::SyncSender<()>),
}

/// The log of one function.
#[derive(Debug)]
pub(crate) struct FunctionLog {
    pending: Mutex<Vec<u8>>,
    dirty: AtomicBool,
    disk: Mutex<Disk>,
    shared: std::sync::Weak<Shared>,
}

#[derive(Debug)]
struct Disk {
    files: Files,
    followers: Vec<mpsc::Sender<LogLine>>,
}

/// Lines of a function's log as they come.
#[derive(Debug)]
pub struct Follow {
    lines: mpsc::Receiver<LogLine>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Logs ===

impl Logs {
    /// The logs in the folder `root`, which is made if it is not there; of each function `bytes_per_function` are kept.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: PathBuf, bytes_per_function: u64) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        let (ring, rung) = std_mpsc::sync_channel(1);
        let shared = Arc::new(Shared {
            root,
            bytes_per_function,
            functions: Mutex::default(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            ring,
        });
        let weak = Arc::downgrade(&shared);
        std::thread::Builder::new().name("hearth-logs".into()).spawn(move || {
            while let Ok(ring) = rung.recv() {
                if let Ring::Written = ring {
                    std::thread::sleep(GATHER);
                }
                let Some(shared) = weak.upgrade() else { return };
                shared.write_all();
                if let Ring::Flush(done) = ring {
                    let _ = done.send(());
                }
            }
        })?;
        Ok(Self { shared })
    }

    /// The last `lines` lines of a function's log, oldest first, of those not older than `since_ms` (since 1970). Blocks.
    ///
    /// # Errors
    /// When the name is none of a function, or the disk fails.
    pub fn read(&self, function: &FunctionId, lines: usize, since_ms: u64) -> io::Result<Vec<LogLine>> {
        self.flush();
        let log = self.function(function)?;
        let disk = lock(&log.disk);
        disk.files.tail(lines, since_ms)
    }

    /// As [`Self::read`], and then each line as it is written, none missing and none twice. A follower that does not
    /// keep up loses lines. Blocks.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn follow(
        &self,
        function: &FunctionId,
        lines: usize,
        since_ms: u64,
    ) -> io::Result<(Vec<LogLine>, Follow)> {
        self.flush();
        let log = self.function(function)?;
        let mut disk = lock(&log.disk);
        let before = disk.files.tail(lines, since_ms)?;
        let (sender, lines) = mpsc::channel(MAX_BEHIND);
        disk.followers.push(sender);
        Ok((before, Follow { lines }))
    }

    /// Removes what is kept of a function's log. What its instances still write begins a new one. Blocks.
    ///
    /// # Errors
    /// When the name is none of a function, or the disk fails.
    pub fn remove(&self, function: &FunctionId) -> io::Result<()> {
        self.flush();
        let log = self.function(function)?;
        let mut disk = lock(&log.disk);
        disk.files.remove()
    }

    /// Waits until all that was logged before is written. Blocks.
    pub fn flush(&self) {
        let (done, written) = std_mpsc::sync_channel(1);
        if self.shared.ring.send(Ring::Flush(done)).is_ok() {
            let _ = written.recv();
        }
    }

    /// The log of a function, to write to.
    pub(crate) fn function(&self, id: &FunctionId) -> io::Result<Arc<FunctionLog>> {
        let mut functions = lock(&self.shared.functions);
        if let Some(log) = functions.get(id) {
            return Ok(Arc::clone(log));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if id.name.is_empty() || id.name.len() > 140 || !id.name.bytes().all(allowed) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a function"));
        }
        let directory = self.shared.root.join(id.account.as_str()).join(&*id.name);
        let log = Arc::new(FunctionLog {
            pending: Mutex::default(),
            dirty: AtomicBool::new(false),
            disk: Mutex::new(Disk {
                files: Files::new(directory, self.shared.bytes_per_function),
                followers: Vec::new(),
            }),
            shared: Arc::downgrade(&self.shared),
        });
        functions.insert(id.clone(), Arc::clone(&log));
        Ok(log)
    }

    /// Bytes written and bytes dropped.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.shared.written.load(Ordering::Relaxed), self.shared.dropped.load(Ordering::Relaxed))
    }
}

// === impl Shared ===

impl Shared {
    fn write_all(&self) {
        let dirty: Vec<Arc<FunctionLog>> = {
            let mut functions = lock(&self.functions);
            // Those that nobody writes to, reads or follows are found again on disk.
            functions.retain(|_, log| {
                Arc::strong_count(log) > 1
                    || log.dirty.load(Ordering::Acquire)
                    || lock(&log.disk).followers.iter().any(|follower| !follower.is_closed())
            });
            functions.values().filter(|log| log.dirty.swap(false, Ordering::AcqRel)).cloned().collect()
        };
        for log in dirty {
            self.write(&log);
        }
    }

    fn write(&self, log: &FunctionLog) {
        let mut disk = lock(&log.disk);
        let bytes = std::mem::take(&mut *lock(&log.pending));
        let size = bytes.len() as u64;
        match disk.files.append(&bytes) {
            Ok(()) => self.written.fetch_add(size, Ordering::Relaxed),
            Err(error) => {
                crate::quiet::warn_rarely!(%error, "cannot write a function's log; its lines are dropped");
                self.dropped.fetch_add(size, Ordering::Relaxed)
            }
        };
        disk.followers.retain(|follower| !follower.is_closed());
        if !disk.followers.is_empty() {
            for line in line::parse_all(&bytes) {
                for follower in &disk.followers {
                    let _ = follower.try_send(line.clone());
                }
            }
        }
    }
}

// === impl FunctionLog ===

impl FunctionLog {
    /// Logs lines: `text` may have several, and needs no line end.
    pub(crate) fn write(&self, instance: InstanceId, text: &[u8]) {
        let now = epoch_ms();
        let fits = {
            let mut pending = lock(&self.pending);
            let fits = pending.len() + text.len() <= MAX_PENDING;
            if fits {
                line::append(&mut pending, now, instance, text);
            }
            fits
        };
        let Some(shared) = self.shared.upgrade() else { return };
        if !fits {
            shared.dropped.fetch_add(text.len() as u64, Ordering::Relaxed);
        }
        if !self.dirty.swap(true, Ordering::AcqRel) {
            // Full means that the writer is about to look anyway.
            let _ = shared.ring.try_send(Ring::Written);
        }
    }
}

// === impl Follow ===

impl Follow {
    /// The next line; nothing when the logs are closed.
    pub async fn next(&mut self) -> Option<LogLine> {
        self.lines.recv().await
    }
}
