//! The interface that every driver offers, and all that a worker knows of one.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use hearth_network::NetworkError;
use hearth_types::{Egress, InstanceId, Isolation};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream between a worker and a process in a sandbox.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A directory of the worker's machine, seen read-only in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnlyMount {
    /// Absolute path of an existing directory on the worker's machine.
    pub source: PathBuf,
    /// Absolute path in the sandbox; one of the fixed places of the root (`/var/task`, `/var/lang`, `/var/runtime`, `/opt`).
    pub target: PathBuf,
}

/// What a sandbox's processes see as `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// The programs and libraries of the worker's machine, read-only, and none of its configuration and data.
    #[default]
    Host,
    /// An image, and nothing of the machine.
    Image(ImageRoot),
}

/// An image that a sandbox has as its root, shared by all sandboxes that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRoot {
    /// Its layers: absolute paths of directories with overlayfs' own marks of what a layer takes away, the uppermost first.
    /// Never empty.
    pub layers: Vec<PathBuf>,
    /// How much may be written over the layers, bytes, on a disk that goes with the sandbox; `None` if the root is read-only
    /// and only `/tmp` can be written to, as in Lambda.
    pub writable_bytes: Option<u64>,
    /// Who runs its programs; `None` for the sandbox's ordinary user, as with functions.
    pub user: Option<ImageUser>,
    /// Which ids of users and groups there are besides those below 1,000: those that the image's own `/etc/passwd` and `/etc/group`
    /// name. As many as there is room for.
    pub more_ids: Vec<u32>,
}

/// Who runs an image's programs. The root user has some power over what is the sandbox's own, and none over anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUser {
    /// Its number.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// What a sandbox is made of and what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The instance it is for; its name in cgroups, logs and on disk.
    pub instance: InstanceId,
    /// What its root is.
    pub root: Root,
    /// Directories that it sees besides.
    pub mounts: Vec<ReadOnlyMount>,
    /// Memory limit, bytes. Over it the kernel ends the sandbox's processes.
    pub memory_bytes: u64,
    /// CPU in thousandths of a vCPU: its share when the worker is busy.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub processes: u32,
    /// Open files per process.
    pub open_files: u32,
    /// Size of `/tmp`, bytes.
    pub scratch_bytes: u64,
    /// Where its processes may connect to.
    pub egress: Egress,
}

/// A program to start in a sandbox, as the sandbox's ordinary user or the one that its image is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Path in the sandbox of the executable, then its arguments. Never empty.
    pub argv: Vec<String>,
    /// All of its environment.
    pub environment: BTreeMap<String, String>,
    /// Where it starts.
    pub working_directory: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
    /// The whole sandbox ended, and it with it.
    SandboxGone,
}

/// A process running in a sandbox.
#[derive(Debug)]
pub struct Process {
    /// What it writes to stdout and stderr, in the order written. Ends when all holders of the pipe are gone.
    pub output: pipe::Receiver,
    /// Resolves once, when it ended; a dropped sender means [`Exit::SandboxGone`].
    pub exit: oneshot::Receiver<Exit>,
}

/// How long a machine took from the decision to its agent's first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineTimes {
    /// From power-on.
    pub boot: Duration,
    /// From its template.
    pub restore: Duration,
}

/// What a sandbox uses and has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory now, bytes.
    pub memory_bytes: u64,
    /// Most memory ever, bytes.
    pub memory_peak_bytes: u64,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// CPU time, microseconds.
    pub cpu_us: u64,
}

/// Why a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A step of the set-up failed.
    #[error("cannot {step}")]
    Step {
        /// What was being done, as an infinitive: `mount /var/task`.
        step: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The sandbox's own set-up process ended early or spoke nonsense.
    #[error("the sandbox's set-up failed: {reason}")]
    SetUp {
        /// What it said last.
        reason: String,
    },
    /// It cannot have the network that its function's `hearth:egress` asks for.
    #[error("cannot give it the network that hearth:egress asks for")]
    Network(#[source] NetworkError),
    /// The driver has no networks for its sandboxes.
    #[error("hearth:egress must be none here: {0}")]
    NoNetwork(&'static str),
    /// The driver is shutting down.
    #[error("the driver is shutting down")]
    Closed,
}

/// Why a process could not be started in a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// `execve` refused: no such file, no execute permission, not a program.
    #[error("cannot execute {program}")]
    Exec {
        /// Its path in the sandbox.
        program: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The sandbox is gone.
    #[error("the sandbox is gone")]
    Gone,
}

/// Why a sandbox cannot be stopped and gone on with.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// This machine gives the driver no means to.
    #[error("this machine's cgroups cannot freeze processes; `hearth doctor` says what it lacks")]
    Unsupported,
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What was being done, as an infinitive.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The sandbox is gone.
    #[error("the sandbox is gone")]
    Gone,
}

/// What a starting driver found of its predecessor and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sandboxes whose remains were removed.
    pub sandboxes: usize,
}

/// A sandbox that goes on where a snapshot was taken.
pub struct Restored {
    /// The sandbox.
    pub sandbox: Box<dyn Sandbox>,
    /// The processes that run in it, in the order in which they were started.
    pub processes: Vec<Process>,
    /// What was noted with the snapshot.
    pub note: String,
}

impl fmt::Debug for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restored").field("processes", &self.processes.len()).finish_non_exhaustive()
    }
}

/// What a driver offers that can save a sandbox with all that runs in it, and make any number of sandboxes from that.
pub trait Snapshotter: Send + Sync {
    /// Makes a sandbox with nothing running in it, as [`Driver::create`] does, that can be saved.
    ///
    /// # Errors
    /// As there.
    fn create_to_save(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Box<dyn Sandbox>, CreateError>>;

    /// Whether [`Self::restore`] would find a snapshot.
    ///
    /// # Errors
    /// When what is needed to say so cannot be made.
    fn has_snapshot<'a>(
        &'a self,
        spec: SandboxSpec,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, CreateError>>;

    /// Makes a sandbox from the snapshot that was taken with [`Sandbox::snapshot`] under this key, of a sandbox of an equal
    /// spec (but for its instance); nothing if there is none that is whole and fits this machine as it is now. The
    /// processes go on as the call returns, with random bytes and a clock of their own.
    ///
    /// # Errors
    /// When there is one and no sandbox comes of it; nothing of that is left then.
    fn restore<'a>(
        &'a self,
        spec: SandboxSpec,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Restored>, CreateError>>;
}

/// Makes sandboxes of one kind.
pub trait Driver: Send + Sync + 'static {
    /// Which kind.
    fn isolation(&self) -> Isolation;

    /// Makes a sandbox with nothing running in it.
    ///
    /// # Errors
    /// When it cannot be made; nothing of it is left then.
    fn create(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Box<dyn Sandbox>, CreateError>>;

    /// Makes ready what sandboxes with that root share and what takes long to make, so that no start waits for it.
    ///
    /// # Errors
    /// When it cannot be made; no sandbox with that root can, either.
    fn prepare_root<'a>(&'a self, root: &'a Root) -> BoxFuture<'a, Result<(), CreateError>> {
        let _ = root;
        Box::pin(async { Ok(()) })
    }

    /// Whether a sandbox can be made before it is known which function it is for, and get what that asks for later, with
    /// [`Sandbox::adapt`].
    fn adapts(&self) -> bool {
        false
    }

    /// Whether [`Sandbox::rest`] does anything.
    fn rests(&self) -> bool {
        false
    }

    /// How sandboxes are saved and made again, if this kind can be.
    fn snapshotter(&self) -> Option<&dyn Snapshotter> {
        None
    }

    /// Boots a machine like the one that a sandbox of that spec is cloned from, clones one, and ends both: how long their first
    /// words took. Nothing for a kind that boots none.
    fn time_machine(&self, spec: SandboxSpec) -> BoxFuture<'_, Option<Result<MachineTimes, CreateError>>> {
        let _ = spec;
        Box::pin(async { None })
    }

    /// Memory that all sandboxes together have and the kernel cannot simply drop, bytes; zero if that is not known.
    fn memory_bytes(&self) -> u64;

    /// Ends all sandboxes and removes every trace of the driver. Makes nothing afterwards.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A place set apart in which processes run.
pub trait Sandbox: Send + Sync {
    /// The next connection that a process inside made to the Runtime API's address, `127.0.0.1:9001`.
    ///
    /// # Errors
    /// When the sandbox is gone.
    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Io>>>;

    /// A connection to a TCP port that a process inside listens on.
    ///
    /// # Errors
    /// When nobody listens there, or the sandbox is gone.
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Io>>>;

    /// Starts a program as the sandbox's ordinary user.
    ///
    /// # Errors
    /// When the program cannot be executed, or the sandbox is gone.
    fn spawn(&self, process: ProcessSpec) -> BoxFuture<'_, Result<Process, SpawnError>>;

    /// Gives a sandbox in which nothing of a function is yet all that `spec` asks for: mounts that are missing, limits, a
    /// `/tmp` of another size, a network. Its name stays that of the instance it was made for. Only once.
    ///
    /// # Errors
    /// When this kind cannot ([`Driver::adapts`]), or a step failed: then it is of no use any more.
    fn adapt(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<(), CreateError>> {
        let _ = spec;
        let reason = "this kind of sandbox is made for its function".to_owned();
        Box::pin(async { Err(CreateError::SetUp { reason }) })
    }

    /// Starts a program as [`Sandbox::spawn`] does, with a socket as its standard input, whose other end comes back.
    ///
    /// # Errors
    /// As there, and where the driver cannot ([`Driver::adapts`]).
    fn spawn_listening(
        &self,
        process: ProcessSpec,
    ) -> BoxFuture<'_, Result<(Process, UnixStream), SpawnError>> {
        let _ = process;
        Box::pin(async { Err(SpawnError::Gone) })
    }

    /// Has the kernel show other arguments and variables of the one process that was started with
    /// [`Sandbox::spawn_listening`], as if it had been started with them. It must hold no pointers to the former any more.
    ///
    /// # Errors
    /// When they are longer than those, or the kernel does not let the driver.
    fn restate(&self, process: &ProcessSpec) -> io::Result<()> {
        let _ = process;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends SIGTERM to every process inside. Processes that ignore it stay.
    fn terminate(&self) -> BoxFuture<'_, ()>;

    /// What runs in it waits for the worker: it stands still, for no CPU at all, until something is said to it. Returns at once;
    /// a driver without such a thing does nothing, and says so by [`Driver::rests`].
    fn rest(&self) {}

    /// Stops every process inside where it is and gives back what memory can be had without them: with [`Sandbox::resume`]
    /// the two halves of hibernation. Of a sandbox that is paused already, nothing more happens.
    ///
    /// # Errors
    /// When the machine cannot, or the sandbox is gone; its processes run on then.
    fn pause(&self) -> BoxFuture<'_, Result<(), PauseError>>;

    /// Lets the processes of a paused sandbox go on; of another, nothing happens.
    ///
    /// # Errors
    /// When the machine cannot, or the sandbox is gone.
    fn resume(&self) -> BoxFuture<'_, Result<(), PauseError>>;

    /// Saves the sandbox under `key`, with all that runs in it and a `note`, for [`Snapshotter::restore`]. Only one that was
    /// made for it can; it is over then, whether that went well or not.
    ///
    /// # Errors
    /// When it was not made for it, or a step failed.
    fn snapshot<'a>(&'a self, key: &'a str, note: &'a str) -> BoxFuture<'a, Result<(), PauseError>> {
        let _ = (key, note);
        Box::pin(async { Err(PauseError::Unsupported) })
    }

    /// What it uses. Zeros once it is gone.
    fn stats(&self) -> Stats;

    /// Kills everything inside and removes every trace of it. Any time, any number of times; always succeeds in the end.
    fn destroy(&self) -> BoxFuture<'_, ()>;
}
