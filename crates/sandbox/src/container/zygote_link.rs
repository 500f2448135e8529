//! The worker's side of the zygote: starts it, asks it for clones, starts it anew when it died.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use super::channel;
use super::protocol::{Clone, Cloned, Request};
use super::zygote::ZYGOTE_ARGUMENT;

/// A zygote that can be asked from any thread, one question at a time.
#[derive(Debug)]
pub(super) struct ZygoteLink {
    program: PathBuf,
    socket: Mutex<Option<OwnedFd>>,
}

// === impl ZygoteLink ===

impl ZygoteLink {
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        Ok(Self { program: program.to_owned(), socket: Mutex::new(Some(spawn(program)?)) })
    }

    /// A new process as `order` says, with its pidfd. Blocks for as long as the kernel takes.
    pub(super) fn clone(&self, order: Clone, fds: &[&OwnedFd]) -> io::Result<(i32, OwnedFd)> {
        self.request(&Request::Sandbox(Box::new(order)), fds)
    }

    /// A process in a user namespace of its own, which does nothing until it is killed.
    pub(super) fn user_namespace(&self) -> io::Result<(i32, OwnedFd)> {
        self.request(&Request::UserNamespace, &[])
    }

    fn request(&self, order: &Request, fds: &[&OwnedFd]) -> io::Result<(i32, OwnedFd)> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let current = socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        match ask(current, order, fds) {
            Err(error) if is_gone(&error) => {
                tracing::warn!(%error, "the zygote died; starting another");
                let fresh = spawn(&self.program)?;
                let answer = ask(&fresh, order, fds);
                *socket = Some(fresh);
                answer
            }
            answer => answer,
        }
    }

    /// Ends the zygote; it can be asked nothing more.
    pub(super) fn stop(&self) {
        // It ends when it reads the end of its socket, and its keeper thread reaps it.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
    )
}

fn ask(socket: &OwnedFd, order: &Request, fds: &[&OwnedFd]) -> io::Result<(i32, OwnedFd)> {
    let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    channel::send(socket, order, &borrowed)?;
    match channel::receive::<Cloned>(socket)? {
        Some((Cloned::Pid(pid), mut fds)) => {
            let pidfd = fds.pop().ok_or(io::ErrorKind::InvalidData)?;
            Ok((pid, pidfd))
        }
        Some((Cloned::Failed(errno), _)) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Starts a zygote. It dies with the thread that started it, so that thread does nothing but wait for its end.
fn spawn(program: &Path) -> io::Result<OwnedFd> {
    let (ours, theirs) = channel::pair()?;
    let mut command = Command::new(program);
    command.arg(ZYGOTE_ARGUMENT).stdin(Stdio::from(theirs)).stdout(Stdio::null()).env_clear();
    let (started, result) = mpsc::sync_channel(1);
    thread::Builder::new().name("zygote-keeper".into()).stack_size(64 * 1024).spawn(move || {
        let child: io::Result<Child> = command.spawn();
        // The other end of the socket is the child's alone.
        drop(command);
        match child {
            Ok(mut child) => {
                let _ = started.send(Ok(()));
                let _ = child.wait();
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    })?;
    result.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
    Ok(ours)
}
