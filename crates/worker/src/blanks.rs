//! Blanks: sandboxes with a runtime and nothing of any function, made ahead.
//!
//! ```text
//!   make() -> sandbox with interpreter and client -> interpreter started, client waits -> Ready
//!      Ready -> taken for an instance: it is that instance's sandbox from then on, and never comes back
//!      Ready -> ended by end(), or by itself -> Gone
//! ```
//! A blank that cannot be what a function asks for is thrown away, and the instance is made as if there had been none. How many
//! there are of each kind is the manager's to say.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_sandbox::{Driver, Exit, Process, ProcessSpec, ReadOnlyMount, Root, Sandbox, SandboxSpec};
use hearth_types::{BlankKind, Egress, InstanceId, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::environment;
use crate::launcher::{LaunchAhead, LaunchError, Launcher};

/// An interpreter that does not wait by then never will.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// One that is told that it is not needed ends within this, or is left to end with its sandbox.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);
/// Where a function's code will be, and where a runtime starts.
const TASK_ROOT: &str = "/var/task";

/// An interpreter whose client waits to be told its function.
pub(crate) struct Waiting {
    process: Process,
    socket: UnixStream,
    launch: LaunchAhead,
    environment: BTreeMap<String, String>,
}

/// A sandbox without a function.
pub(crate) struct Blank {
    pub(crate) sandbox: Arc<dyn Sandbox>,
    pub(crate) waiting: Option<Waiting>,
}

/// A blank as it is now.
#[derive(Clone, Debug)]
pub struct BlankReport {
    /// Its id.
    pub id: InstanceId,
    /// What can be made of it.
    pub kind: BlankKind,
    /// Whether it can be taken.
    pub ready: bool,
    /// Time since its making began.
    pub age: Duration,
    /// Memory now, bytes.
    pub memory_bytes: u64,
    /// CPU time used, microseconds.
    pub cpu_us: u64,
}

/// What is wanted of a blank.
enum Wish {
    Take(oneshot::Sender<Blank>),
    End,
}

struct Entry {
    kind: BlankKind,
    since: Instant,
    sandbox: Option<Arc<dyn Sandbox>>,
    ready: bool,
    wish: oneshot::Sender<Wish>,
}

/// A blank that is known and not made yet.
pub(crate) struct Expected {
    id: InstanceId,
    kind: BlankKind,
    wished: oneshot::Receiver<Wish>,
}

/// All blanks of a worker.
#[derive(Default)]
pub(crate) struct Blanks {
    entries: Mutex<HashMap<InstanceId, Entry>>,
}

// === impl Blanks ===

impl Blanks {
    /// Knows of a blank that is to be made: from now on it can be ended.
    pub(crate) fn expect(&self, id: InstanceId, kind: BlankKind) -> Expected {
        let (wish, wished) = oneshot::channel();
        let entry = Entry { kind: kind.clone(), since: Instant::now(), sandbox: None, ready: false, wish };
        self.lock().insert(id, entry);
        Expected { id, kind, wished }
    }

    /// Makes a blank and keeps it until it is taken or ended. `ready` is called once it can be taken. Why it ended, unless it
    /// was taken.
    pub(crate) async fn keep<F: Future<Output = ()>>(
        &self,
        Expected { id, kind, wished }: Expected,
        driver: &Arc<dyn Driver>,
        launcher: &Arc<dyn Launcher>,
        ready: impl FnOnce() -> F,
    ) -> Option<String> {
        let made = make(id, &kind, driver, launcher).await;
        let blank = match made {
            Ok(blank) => blank,
            Err(reason) => {
                self.lock().remove(&id);
                return Some(reason);
            }
        };
        if self.made(id, &blank) {
            ready().await;
        }
        self.wait(id, blank, wished).await
    }

    /// Has a blank be taken from now on; false if it was ended before.
    fn made(&self, id: InstanceId, blank: &Blank) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&id) else { return false };
        entry.sandbox = Some(Arc::clone(&blank.sandbox));
        entry.ready = true;
        true
    }

    async fn wait(
        &self,
        id: InstanceId,
        mut blank: Blank,
        mut wished: oneshot::Receiver<Wish>,
    ) -> Option<String> {
        let ended = async {
            match &mut blank.waiting {
                Some(waiting) => (&mut waiting.process.exit).await.unwrap_or(Exit::SandboxGone),
                None => std::future::pending().await,
            }
        };
        let wish = tokio::select! {
            wish = &mut wished => wish.unwrap_or(Wish::End),
            exit = ended => {
                self.lock().remove(&id);
                blank.sandbox.destroy().await;
                return Some(format!("its interpreter ended: {exit:?}"));
            }
        };
        match wish {
            Wish::Take(taker) => match taker.send(blank) {
                Ok(()) => None,
                Err(blank) => {
                    blank.sandbox.destroy().await;
                    None
                }
            },
            Wish::End => {
                blank.sandbox.destroy().await;
                Some("it was not needed".to_owned())
            }
        }
    }

    /// A blank, which is its taker's from now on; nothing if it is not there or not ready.
    pub(crate) async fn take(&self, id: InstanceId) -> Option<Blank> {
        let entry = {
            let mut entries = self.lock();
            entries.get(&id).filter(|entry| entry.ready)?;
            entries.remove(&id)?
        };
        let (taker, taken) = oneshot::channel();
        entry.wish.send(Wish::Take(taker)).ok()?;
        taken.await.ok()
    }

    /// Ends a blank, if it is there and was not taken.
    pub(crate) fn end(&self, id: InstanceId) {
        if let Some(entry) = self.lock().remove(&id) {
            let _ = entry.wish.send(Wish::End);
        }
    }

    /// Ends all.
    pub(crate) fn end_all(&self) {
        for (_, entry) in self.lock().drain() {
            let _ = entry.wish.send(Wish::End);
        }
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<BlankReport> {
        let entries = self.lock();
        entries
            .iter()
            .map(|(id, entry)| {
                let stats = entry.sandbox.as_ref().map(|sandbox| sandbox.stats()).unwrap_or_default();
                BlankReport {
                    id: *id,
                    kind: entry.kind.clone(),
                    ready: entry.ready,
                    age: entry.since.elapsed(),
                    memory_bytes: stats.memory_bytes,
                    cpu_us: stats.cpu_us,
                }
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn make(
    id: InstanceId,
    kind: &BlankKind,
    driver: &Arc<dyn Driver>,
    launcher: &Arc<dyn Launcher>,
) -> Result<Blank, String> {
    let explain = |error: &dyn std::error::Error| LaunchError::new(error).to_string();
    let launch = launcher.launch_ahead(kind).await.map_err(|error| explain(&error))?;
    let spec = SandboxSpec {
        instance: id,
        root: Root::Host,
        mounts: launch.mounts.clone(),
        memory_bytes: u64::from(kind.memory_mb) << 20,
        cpu_millis: (kind.memory_mb * 1000).div_ceil(limits::MEMORY_MB_PER_VCPU),
        processes: limits::PROCESSES,
        open_files: limits::OPEN_FILES,
        scratch_bytes: u64::from(limits::EPHEMERAL_MB.default) << 20,
        egress: Egress::None,
    };
    let sandbox: Arc<dyn Sandbox> = Arc::from(driver.create(spec).await.map_err(|error| explain(&error))?);
    if launch.argv.is_empty() {
        return Ok(Blank { sandbox, waiting: None });
    }
    match timeout(START_DEADLINE, start(&sandbox, launch)).await {
        Ok(Ok(waiting)) => Ok(Blank { sandbox, waiting: Some(waiting) }),
        failed => {
            sandbox.destroy().await;
            Err(match failed {
                Ok(Err(reason)) => reason,
                Ok(Ok(_)) | Err(_) => "its interpreter did not get to wait for a function".to_owned(),
            })
        }
    }
}

/// Starts the interpreter, and waits until its client waits.
async fn start(sandbox: &Arc<dyn Sandbox>, launch: LaunchAhead) -> Result<Waiting, String> {
    let environment = environment::ahead(&launch);
    let process = ProcessSpec {
        argv: launch.argv.clone(),
        environment: environment.clone(),
        working_directory: TASK_ROOT.into(),
    };
    let started = sandbox.spawn_listening(process).await;
    let (process, mut socket) = started.map_err(|error| LaunchError::new(&error).to_string())?;
    let waits = socket.read_u8().await;
    waits.map_err(|error| format!("its interpreter ended before it waited for a function: {error}"))?;
    Ok(Waiting { process, socket, launch, environment })
}

// === impl Waiting ===

impl Waiting {
    /// Has the client go on as the function's runtime, if that is then as one which was started for the function. If not, it
    /// ends, and there is nothing.
    pub(crate) async fn become_runtime(
        mut self,
        sandbox: &Arc<dyn Sandbox>,
        wanted: &ProcessSpec,
    ) -> Option<Process> {
        let common = self.launch.common;
        let alike = wanted.argv.len() == self.launch.argv.len()
            && wanted.argv.get(..common) == self.launch.argv.get(..common)
            && wanted.working_directory.as_os_str() == TASK_ROOT
            && environment::starts_alike(&self.environment, &wanted.environment);
        if alike {
            match timeout(START_DEADLINE, self.tell(sandbox, wanted)).await {
                Ok(Ok(())) => return Some(self.process),
                Ok(Err(error)) => tracing::warn!(%error, "an interpreter started ahead cannot be had"),
                Err(_) => tracing::warn!("an interpreter started ahead does not answer"),
            }
        }
        self.leave().await
    }

    /// Has the client end: it reads the end of its input before it was told all.
    pub(crate) async fn leave(self) -> Option<Process> {
        drop(self.socket);
        let _ = timeout(LEAVE_DEADLINE, self.process.exit).await;
        None
    }

    async fn tell(&mut self, sandbox: &Arc<dyn Sandbox>, wanted: &ProcessSpec) -> io::Result<()> {
        self.socket.write_all(&told(wanted)).await?;
        // It has taken over the variables, and needs those that it was started with no more.
        self.socket.read_u8().await?;
        sandbox.restate(wanted)?;
        self.socket.write_u8(b'\n').await
    }
}

/// Whether a function brings shared libraries where the loader looks before the system's own (`LD_LIBRARY_PATH`): one that is
/// loaded already could be another then. Blocks.
pub(crate) fn brings_libraries(mounts: &[ReadOnlyMount]) -> bool {
    let of_function =
        |mount: &&ReadOnlyMount| ["/var/task", "/opt"].iter().any(|root| mount.target.as_os_str() == *root);
    let places =
        mounts.iter().filter(of_function).flat_map(|mount| [mount.source.clone(), mount.source.join("lib")]);
    let mut entries = places.flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    entries.any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("lib") && name.contains(".so")
    })
}

/// What a client is told: the length of the rest in eight digits, then how many arguments, the arguments, the variables; each of
/// these ends with a zero byte, which none can hold.
fn told(wanted: &ProcessSpec) -> Vec<u8> {
    let mut told = format!("{}\0", wanted.argv.len());
    for argument in &wanted.argv {
        told.push_str(argument);
        told.push('\0');
    }
    for (name, value) in &wanted.environment {
        told.push_str(&format!("{name}={value}\0"));
    }
    format!("{:08}{told}", told.len()).into_bytes()
}
