//! A VMM that runs, with all that it has of the worker's machine: its user, its control groups, its console.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::jail::{Jail, Start, Way};
use super::sys;
use super::tail::Tail;
use crate::cgroup::{Group, GroupLimits, Hierarchies};
use crate::driver::Stats;
use crate::users::UserRanges;

/// What one said last that said nothing.
pub(super) const SILENT: &str = "it ended without a word";

/// What all VMMs of a driver are made from.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) jail: Jail,
    pub(super) hierarchies: Hierarchies,
    pub(super) users: UserRanges,
    pub(super) confined: bool,
}

/// How to start one.
#[derive(Debug)]
pub(super) struct Order {
    /// In the names of control groups.
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) fds: Vec<OwnedFd>,
    /// Of [`Host::take_user`].
    pub(super) user: Option<u32>,
    pub(super) way: Way,
    /// Its standard output, if that is its machine's console.
    pub(super) console: Option<OwnedFd>,
    /// A folder that goes with it.
    pub(super) cell: Option<PathBuf>,
    pub(super) limits: GroupLimits,
}

/// A VMM that was started. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct VmmProcess {
    host: Arc<Host>,
    child: Mutex<Option<Child>>,
    exited: AsyncFd<OwnedFd>,
    group: Mutex<Group>,
    user: Option<u32>,
    cell: Option<PathBuf>,
    console: Tail,
    /// What it says on its standard error.
    complaint: Tail,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Host ===

impl Host {
    /// A user for a VMM: who starts one gives it to it.
    pub(super) fn take_user(&self) -> io::Result<Option<u32>> {
        if self.confined { self.users.take().map(Some) } else { Ok(None) }
    }
}

// === impl VmmProcess ===

impl VmmProcess {
    /// Starts one; `console` is the other end of what it writes its machine's console to.
    pub(super) async fn start(host: &Arc<Host>, order: Order, console: UnixStream) -> io::Result<Self> {
        let (user, cell) = (order.user, order.cell.clone());
        let started = Self::start_in_group(host, order).await;
        let (mut child, exited, group) = started.inspect_err(|_| give_back(host, user, cell.as_deref()))?;
        let complaint = child.stderr.take().and_then(|pipe| pipe::Receiver::from_owned_fd(pipe.into()).ok());
        Ok(Self {
            host: Arc::clone(host),
            child: Mutex::new(Some(child)),
            exited,
            group: Mutex::new(group),
            user,
            cell,
            complaint: complaint.map(Tail::of).unwrap_or_default(),
            console: Tail::of(console),
        })
    }

    async fn start_in_group(host: &Arc<Host>, order: Order) -> io::Result<(Child, AsyncFd<OwnedFd>, Group)> {
        let mut group = Group::create(&host.hierarchies, &order.name, order.limits)?;
        let made = async {
            let start = Start {
                program: order.program,
                arguments: order.arguments,
                fds: order.fds,
                way: order.way,
                console: order.console,
            };
            let mut child = host.jail.start(start).await?;
            match sys::watch_child(child.id()) {
                Ok(exited) => Ok((child, exited)),
                Err(error) => {
                    let _ = child.kill().and_then(|()| child.wait());
                    Err(error)
                }
            }
        };
        match made.await {
            Ok((child, exited)) => Ok((child, exited, group)),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    /// Puts it under its limits. That takes the kernel several milliseconds, in which it may well begin; nothing of a tenant's
    /// may run in it before.
    pub(super) async fn confine(self: &Arc<Self>) -> io::Result<()> {
        let process = Arc::clone(self);
        let confined = tokio::task::spawn_blocking(move || {
            let pid = match lock(&process.child).as_ref() {
                Some(child) => i32::try_from(child.id()).map_err(io::Error::other)?,
                None => return Ok(()),
            };
            lock(&process.group).attach(pid)
        });
        confined.await.map_err(io::Error::other)?
    }

    /// Resolves when it ended: what it said last.
    pub(super) async fn ended(&self) -> String {
        // An error here means that it cannot be waited for: as good as ended.
        let _ = self.exited.readable().await;
        self.complaint.settle().await;
        let said = [self.complaint.last_lines("; "), self.console.last_lines(" | ")];
        let said = said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; console: ");
        if said.is_empty() { SILENT.to_owned() } else { said }
    }

    /// What it uses of the worker's machine.
    pub(super) fn stats(&self) -> Stats {
        lock(&self.group).stats()
    }

    /// Whether it was ended by the worker.
    pub(super) fn was_destroyed(&self) -> bool {
        lock(&self.child).is_none()
    }

    /// Whether it ended, by itself or by the worker's hand.
    pub(super) fn has_ended(&self) -> bool {
        lock(&self.child).as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Has it stand still, or go on.
    pub(super) fn stand_still(&self, still: bool) -> io::Result<()> {
        let signal = if still { Signal::STOP } else { Signal::CONT };
        match lock(&self.child).as_ref() {
            Some(child) => {
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                kill_process(pid.ok_or(io::ErrorKind::InvalidInput)?, signal).map_err(Into::into)
            }
            None => Ok(()),
        }
    }

    /// Kills it and removes every trace of it. Blocks for a moment.
    pub(super) fn destroy(&self) {
        let Some(mut child) = lock(&self.child).take() else { return };
        let _ = child.kill().and_then(|()| child.wait());
        lock(&self.group).remove();
        give_back(&self.host, self.user, self.cell.as_deref());
    }
}

impl Drop for VmmProcess {
    fn drop(&mut self) {
        self.destroy();
    }
}

fn give_back(host: &Host, user: Option<u32>, cell: Option<&Path>) {
    if let Some(cell) = cell
        && let Err(error) = fs::remove_dir_all(cell)
    {
        tracing::warn!(path = %cell.display(), %error, "cannot remove what a VMM left; the next start does");
    }
    if let Some(user) = user {
        host.users.give_back(user);
    }
}

/// A file in memory that a VMM may write.
pub(super) fn memory_file(name: &str, bytes: u64) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, bytes)?;
    Ok(File::from(file))
}
