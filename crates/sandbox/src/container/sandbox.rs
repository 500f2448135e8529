//! A sandbox as the worker holds it: its control socket, its limits, and its end.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hearth_network::Link;
use rustix::fs::{Gid, Uid};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpSocket, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use super::init::{FUNCTION_GID, FUNCTION_UID};
use super::protocol::{Order, Report};
use super::{Shared, channel};
use crate::cgroup::Group;
use crate::driver::{
    BoxFuture, CreateError, Exit, ImageRoot, Io, PauseError, Process, ProcessSpec, Root, Sandbox,
    SandboxSpec, SpawnError, Stats,
};

mod connection;
mod making;

use connection::Counted;
use making::Making;
pub(super) use making::{binds, join_network};

/// A set-up that takes longer hangs.
const SET_UP_DEADLINE: Duration = Duration::from_secs(10);
/// A first process that takes longer to start another is stuck: it lacks memory, or is stopped.
const SPAWN_DEADLINE: Duration = Duration::from_secs(10);
/// Connections to the Runtime API that a sandbox may hold; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;

/// All sandboxes of a driver that are not destroyed.
#[derive(Debug, Default)]
pub(super) struct Registry {
    sandboxes: Mutex<Vec<Weak<Inner>>>,
}

/// A sandbox of the container driver.
#[derive(Debug)]
pub(super) struct ContainerSandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    control: AsyncFd<OwnedFd>,
    /// Of its first process.
    pub(super) pid: i32,
    pub(super) pidfd: AsyncFd<OwnedFd>,
    /// Who runs its programs, as numbered on the machine; nobody in particular without root.
    runs_as: Option<(u32, u32)>,
    listener: TcpListener,
    connections: Arc<Semaphore>,
    processes: Mutex<Processes>,
    pub(super) remains: tokio::sync::Mutex<Option<Remains>>,
    pub(super) group: Arc<Mutex<Group>>,
    pub(super) link: Mutex<Option<Link>>,
    /// What it was made as, until it is adapted.
    pub(super) made_as: Mutex<Option<SandboxSpec>>,
}

/// What is there to be removed once.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) user_range: u32,
}

#[derive(Debug, Default)]
struct Processes {
    next: u64,
    starting: HashMap<u64, oneshot::Sender<Result<(), io::Error>>>,
    running: HashMap<u64, oneshot::Sender<Exit>>,
    /// Who waits for a socket, in the order in which they asked.
    sockets: VecDeque<oneshot::Sender<io::Result<OwnedFd>>>,
    gone: bool,
}

// === impl Registry ===

impl Registry {
    fn add(&self, sandbox: &Arc<Inner>) {
        let mut sandboxes = lock(&self.sandboxes);
        sandboxes.retain(|sandbox| sandbox.strong_count() > 0);
        sandboxes.push(Arc::downgrade(sandbox));
    }

    pub(super) fn all(&self) -> Vec<Arc<Inner>> {
        lock(&self.sandboxes).iter().filter_map(Weak::upgrade).collect()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl ContainerSandbox ===

impl ContainerSandbox {
    pub(super) async fn create(shared: &Arc<Shared>, spec: SandboxSpec) -> Result<Self, CreateError> {
        let step = |step: &str| {
            let step = step.to_owned();
            move |source| CreateError::Step { step, source }
        };
        let (ours, theirs) = channel::pair().map_err(step("make a control socket"))?;
        rustix::io::ioctl_fionbio(&ours, true)
            .map_err(|error| step("make a control socket")(error.into()))?;
        let control = super::sys::watch(ours).map_err(step("watch the control socket"))?;
        let for_start = Arc::clone(shared);
        let (scratch_bytes, egress, made_as) = (spec.scratch_bytes, spec.egress.clone(), spec.clone());
        let (uid, gid) = user(&spec.root);
        let started = tokio::task::spawn_blocking(move || Making::start(&for_start, &spec, &theirs)).await;
        let mut making = started.map_err(|error| step("start the set-up")(io::Error::other(error)))??;
        prepare_scratch(shared, scratch_bytes);
        let listener = tokio::time::timeout(SET_UP_DEADLINE, making.finish(&control))
            .await
            .map_err(|_| CreateError::SetUp { reason: "it took too long".into() })??;
        let link = making.join_network(&egress).await?;
        let listener = std::net::TcpListener::from(listener);
        listener.set_nonblocking(true).map_err(step("watch the Runtime API's socket"))?;
        let listener = TcpListener::from_std(listener).map_err(step("watch the Runtime API's socket"))?;
        // Until all is in the sandbox's hands, what was made is taken back by `making`.
        let pidfd = making.pidfd.as_ref().map(OwnedFd::try_clone).transpose();
        let pidfd = pidfd.map_err(step("watch the sandbox"))?;
        let pidfd = pidfd.map(super::sys::watch).transpose().map_err(step("watch the sandbox"))?;
        let (Some(pidfd), Some(group)) = (pidfd, making.group.take()) else {
            return Err(CreateError::SetUp { reason: "it was not started".into() });
        };
        making.pidfd = None;
        let runs_as = making.ids.outside(uid).zip(making.ids.outside(gid)).filter(|_| !shared.rootless);
        let pid = std::mem::replace(&mut making.pid, -1);
        let inner = Arc::new(Inner {
            shared: Arc::clone(shared),
            control,
            pid,
            pidfd,
            runs_as,
            listener,
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            processes: Mutex::default(),
            remains: tokio::sync::Mutex::new(Some(Remains { user_range: making.user_range })),
            group: Arc::new(Mutex::new(group)),
            link: Mutex::new(link),
            made_as: Mutex::new(Some(made_as)),
        });
        shared.registry.add(&inner);
        tokio::spawn(follow(Arc::clone(&inner)));
        Ok(Self { inner })
    }
}

/// Who runs the programs.
fn user(root: &Root) -> (u32, u32) {
    match root {
        Root::Image(ImageRoot { user: Some(user), .. }) => (user.uid, user.gid),
        Root::Image(_) | Root::Host => (FUNCTION_UID, FUNCTION_GID),
    }
}

/// Has the next disk ready before it is wanted.
pub(super) fn prepare_scratch(shared: &Arc<Shared>, bytes: u64) {
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || {
        if let Some(scratch) = &shared.scratch
            && let Err(error) = scratch.prepare(bytes)
        {
            tracing::warn!(%error, "cannot prepare a disk for /tmp");
        }
    });
}

/// Takes PID 1's reports until it is gone, and then tells all who wait.
async fn follow(inner: Arc<Inner>) {
    while let Ok(Some((report, fds))) = channel::receive_async::<Report>(&inner.control).await {
        if !inner.note(&report, fds) {
            break;
        }
    }
    let mut processes = lock(&inner.processes);
    processes.gone = true;
    processes.starting.clear();
    processes.sockets.clear();
    for (_, exit) in processes.running.drain() {
        let _ = exit.send(Exit::SandboxGone);
    }
}

// === impl Inner ===

impl Inner {
    /// Whether the report was one that PID 1 makes.
    fn note(&self, report: &Report, fds: Vec<OwnedFd>) -> bool {
        let mut processes = lock(&self.processes);
        match *report {
            Report::Spawned { number } => {
                if let Some(starting) = processes.starting.remove(&number) {
                    let _ = starting.send(Ok(()));
                }
            }
            Report::SpawnFailed { number, errno } => {
                processes.running.remove(&number);
                if let Some(starting) = processes.starting.remove(&number) {
                    let _ = starting.send(Err(io::Error::from_raw_os_error(errno)));
                }
            }
            Report::Exited { number, status, signal } => {
                if let Some(exit) = processes.running.remove(&number) {
                    let _ = exit.send(if signal { Exit::Signal(status) } else { Exit::Status(status) });
                }
            }
            Report::Socket => {
                let socket = fds.into_iter().next().ok_or_else(|| io::ErrorKind::InvalidData.into());
                if let Some(asker) = processes.sockets.pop_front() {
                    let _ = asker.send(socket);
                }
            }
            Report::NoSocket { errno } => {
                if let Some(asker) = processes.sockets.pop_front() {
                    let _ = asker.send(Err(io::Error::from_raw_os_error(errno)));
                }
            }
            Report::NeedsMap | Report::Ready | Report::Failed { .. } => return false,
        }
        true
    }

    async fn spawn(
        &self,
        process: ProcessSpec,
        input: Option<BorrowedFd<'_>>,
    ) -> Result<Process, SpawnError> {
        let program = process.argv.first().cloned().unwrap_or_default();
        let exec = |source| SpawnError::Exec { program: program.clone(), source };
        let (sender, output) = pipe::pipe().map_err(exec)?;
        let writer = sender.into_blocking_fd().map_err(exec)?;
        if let Some((uid, gid)) = self.runs_as {
            // Programs open /dev/stdout by its name, as whom they run.
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            rustix::fs::fchown(&writer, uid, gid).map_err(|error| exec(error.into()))?;
        }
        let (starting, started) = oneshot::channel();
        let (exited, exit) = oneshot::channel();
        let number = {
            let mut processes = lock(&self.processes);
            if processes.gone {
                return Err(SpawnError::Gone);
            }
            processes.next += 1;
            let number = processes.next;
            processes.starting.insert(number, starting);
            processes.running.insert(number, exited);
            number
        };
        let order = Order::Spawn {
            number,
            argv: process.argv,
            environment: process.environment.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            directory: process.working_directory.to_string_lossy().into_owned(),
        };
        let fds: Vec<_> = [writer.as_fd()].into_iter().chain(input).collect();
        if let Err(error) = channel::send(self.control.get_ref(), &order, &fds) {
            let mut processes = lock(&self.processes);
            processes.starting.remove(&number);
            processes.running.remove(&number);
            return Err(if error.kind() == io::ErrorKind::ArgumentListTooLong {
                exec(error)
            } else {
                SpawnError::Gone
            });
        }
        drop(writer);
        match tokio::time::timeout(SPAWN_DEADLINE, started).await {
            Ok(Ok(Ok(()))) => Ok(Process { output, exit }),
            Ok(Ok(Err(error))) => Err(exec(error)),
            Ok(Err(_)) => Err(SpawnError::Gone),
            Err(_) => {
                let mut processes = lock(&self.processes);
                processes.starting.remove(&number);
                processes.running.remove(&number);
                // It would start the program when it goes on, and nobody would know.
                let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
                Err(exec(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the sandbox's first process does not answer",
                )))
            }
        }
    }

    async fn connect(&self, port: u16) -> io::Result<Box<dyn Io>> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let (asker, answer) = oneshot::channel();
        {
            // Asked and noted in one: answers come in the order of the questions.
            let mut processes = lock(&self.processes);
            if processes.gone || processes.sockets.len() >= MAX_CONNECTIONS {
                return Err(gone());
            }
            channel::send(self.control.get_ref(), &Order::Socket, &[])?;
            processes.sockets.push_back(asker);
        }
        let socket = answer.await.map_err(|_| gone())??;
        // Whatever it is: it is spoken to as to any stranger.
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    async fn accept(&self) -> io::Result<Box<dyn Io>> {
        let gone = || io::Error::from(io::ErrorKind::ConnectionAborted);
        let permit = Arc::clone(&self.connections).acquire_owned().await.map_err(|_| gone())?;
        tokio::select! {
            accepted = self.listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                Ok(Box::new(Counted::new(stream, permit)))
            }
            _ = self.pidfd.readable() => Err(gone()),
        }
    }

    /// Freezes or thaws, and gives memory back in between; all of it blocks. Whoever destroys the sandbox waits until it
    /// is frozen or not, for what is frozen after it was thawed to be killed would never end.
    async fn set_paused(self: &Arc<Self>, paused: bool) -> Result<(), PauseError> {
        let inner = Arc::clone(self);
        let work = move || {
            let remains = inner.remains.blocking_lock();
            if remains.is_none() {
                return Err(PauseError::Gone);
            }
            let (freezer, reclaimer) = {
                let group = lock(&inner.group);
                (group.freezer().ok_or(PauseError::Unsupported)?, group.reclaimer())
            };
            let step =
                if paused { "stop the sandbox's processes" } else { "let the sandbox's processes go on" };
            let done = if paused { freezer.freeze() } else { freezer.thaw() };
            done.map_err(|source| PauseError::Step { step, source })?;
            drop(remains);
            if paused && let Some(reclaimer) = reclaimer {
                reclaimer.reclaim();
            }
            Ok(())
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(PauseError::Gone))
    }

    pub(super) async fn destroy(&self) {
        let mut remains = self.remains.lock().await;
        let Some(Remains { user_range }) = remains.take() else { return };
        let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
        let freezer = lock(&self.group).freezer();
        if let Some(Err(error)) = freezer.map(|freezer| freezer.thaw()) {
            tracing::warn!(%error, "cannot let a killed sandbox go on; it ends when somebody does");
        }
        // Readable means ended; the kernel ends the rest of the pid namespace first.
        let _ = self.pidfd.readable().await;
        let group = Arc::clone(&self.group);
        if tokio::task::spawn_blocking(move || lock(&group).remove()).await.is_err() {
            tracing::warn!("removing a cgroup broke off");
        }
        self.shared.users.give_back(user_range);
    }
}

impl Sandbox for ContainerSandbox {
    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(self.inner.accept())
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(self.inner.connect(port))
    }

    fn spawn(&self, process: ProcessSpec) -> BoxFuture<'_, Result<Process, SpawnError>> {
        Box::pin(self.inner.spawn(process, None))
    }

    fn adapt(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<(), CreateError>> {
        Box::pin(async move { self.inner.adapt(spec).await })
    }

    fn spawn_listening(
        &self,
        process: ProcessSpec,
    ) -> BoxFuture<'_, Result<(Process, UnixStream), SpawnError>> {
        Box::pin(async move {
            let program = process.argv.first().cloned().unwrap_or_default();
            let exec = |source| SpawnError::Exec { program: program.clone(), source };
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(exec)?;
            ours.set_nonblocking(true).map_err(exec)?;
            let ours = UnixStream::from_std(ours).map_err(exec)?;
            let process = self.inner.spawn(process, Some(theirs.as_fd())).await?;
            Ok((process, ours))
        })
    }

    fn restate(&self, process: &ProcessSpec) -> io::Result<()> {
        self.inner.restate(process)
    }

    fn terminate(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // If it cannot be told, it is gone already.
            let _ = channel::send(self.inner.control.get_ref(), &Order::Terminate, &[]);
        })
    }

    fn pause(&self) -> BoxFuture<'_, Result<(), PauseError>> {
        Box::pin(self.inner.set_paused(true))
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), PauseError>> {
        Box::pin(self.inner.set_paused(false))
    }

    fn stats(&self) -> Stats {
        lock(&self.inner.group).stats()
    }

    fn destroy(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.destroy())
    }
}

impl Drop for ContainerSandbox {
    fn drop(&mut self) {
        let inner = Arc::clone(&self.inner);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { inner.destroy().await });
        }
    }
}
