//! The byte stream to the worker: a port of a virtio console under QEMU, a vsock under Firecracker.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hearth_wire::{VSOCK_PORT, VSOCK_WORD};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Failed, step, sys};

/// A port that has not appeared by then will not.
const PATIENCE: Duration = Duration::from_secs(10);

/// The stream to the worker.
#[derive(Debug)]
pub(crate) enum Link {
    /// A device that stays the same over snapshots.
    Port(OwnedFd),
    /// A connection, which does not.
    Vsock(OwnedFd),
}

/// Opens it.
pub(crate) fn open() -> Result<Link, Failed> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if line.split_ascii_whitespace().any(|word| word == VSOCK_WORD) {
        return Ok(Link::Vsock(step("call the worker", call_worker())?));
    }
    let path = step("find the worker's port", find_port())?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let port = step("open the worker's port", rustix::fs::open(path, flags, Mode::empty()))?;
    Ok(Link::Port(port))
}

fn find_port() -> io::Result<PathBuf> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut entries = fs::read_dir("/dev")?.flatten();
        let port = entries.find(|entry| entry.file_name().to_string_lossy().starts_with("vport"));
        if let Some(port) = port {
            return Ok(port.path());
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::NotFound.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A connection to the worker, which waits for it: this side alone knows when it can speak.
fn call_worker() -> io::Result<OwnedFd> {
    let until = Instant::now() + PATIENCE;
    loop {
        let socket = sys::vsock_connect(VSOCK_PORT)?;
        wait(socket.as_fd(), PollFlags::OUT)?;
        match rustix::net::sockopt::socket_error(&socket)? {
            Ok(()) => return Ok(socket),
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_nobody_yet) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Waits until a connection is no more.
fn wait_for_end(connection: &OwnedFd) -> io::Result<()> {
    let mut discard = [0; 512];
    loop {
        wait(connection.as_fd(), PollFlags::IN)?;
        match rustix::io::read(connection, &mut discard) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_broken) => return Ok(()),
        }
    }
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

// === impl Link ===

impl Link {
    /// Reads what is there: `None` for nothing yet.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(self, &mut *buffer) {
            // A port whose other end is not there; the machine is about to end, or to be given another one.
            Ok(0) if matches!(self, Self::Port(_)) => {
                std::thread::sleep(Duration::from_millis(2));
                Ok(None)
            }
            Ok(0) => Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what goes in now.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::io::write(self, bytes) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until there is room to write.
    pub(crate) fn wait_writable(&self) -> io::Result<()> {
        wait(self.as_fd(), PollFlags::OUT)
    }

    /// Reads the first bytes of the next conversation, however long that takes.
    pub(crate) fn next_conversation(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Vsock(connection) = self {
            // The kernel breaks all connections that there are when it learns that its machine was saved. One that is made
            // before that would be among them.
            wait_for_end(connection)?;
            *connection = call_worker()?;
        }
        loop {
            wait(self.as_fd(), PollFlags::IN)?;
            match self.read(buffer) {
                Ok(Some(count)) => return Ok(count),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Port(port) => port.as_fd(),
            Self::Vsock(connection) => connection.as_fd(),
        }
    }
}
