//! Connections between the function and the worker, and what survives of them when the conversation ends.
//!
//! A snapshot ends the conversation with the worker, not the connections that processes hold: a runtime that waits for its
//! next invocation must not notice. So what a process has said since it was last answered is kept; whoever comes next is
//! told it again, on a new stream. Requests of the Runtime API are not pipelined: what is unanswered is one whole request.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use hearth_wire::{Mux, Purpose, StreamId, encode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};

/// What is kept of an unanswered request, bytes. A connection whose request is longer does not survive a snapshot.
const MAX_UNANSWERED: usize = 16 << 10;
/// Read at once, bytes.
const CHUNK: usize = 16 << 10;

/// A connection of a process and its stream.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) stream: StreamId,
    /// Whether the process made it, to the Runtime API's address.
    is_api: bool,
    to_local: VecDeque<u8>,
    /// Said before the last snapshot and to be said again.
    again: VecDeque<u8>,
    unanswered: Vec<u8>,
    worker_ended: bool,
    local_ended: bool,
    failed: bool,
    is_connecting: bool,
}

// === impl Connection ===

impl Connection {
    /// One that a process made.
    pub(crate) fn accepted(socket: OwnedFd, stream: StreamId) -> Self {
        Self::new(socket, stream, true)
    }

    /// One that the worker asks for.
    pub(crate) fn to_port(port: u16, stream: StreamId) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        match rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
            Ok(()) => Ok(Self::new(socket, stream, false)),
            Err(Errno::INPROGRESS) => Ok(Self { is_connecting: true, ..Self::new(socket, stream, false) }),
            Err(error) => Err(error.into()),
        }
    }

    fn new(socket: OwnedFd, stream: StreamId, is_api: bool) -> Self {
        Self {
            socket,
            stream,
            is_api,
            to_local: VecDeque::new(),
            again: VecDeque::new(),
            unanswered: Vec::new(),
            worker_ended: false,
            local_ended: false,
            failed: false,
            is_connecting: false,
        }
    }

    /// Whether it is there, or on its way still.
    pub(crate) fn is_connecting(&self) -> bool {
        self.is_connecting
    }

    /// Whether one that was on its way has come about.
    pub(crate) fn has_come_about(&mut self, mux: &mut Mux) -> bool {
        match rustix::net::sockopt::socket_error(&self.socket) {
            Ok(Ok(())) if rustix::net::getpeername(&self.socket).is_ok() => {
                self.is_connecting = false;
                true
            }
            Ok(Ok(())) => false,
            Ok(Err(_)) | Err(_) => {
                self.fail(mux);
                false
            }
        }
    }

    /// Whether a read would lead anywhere.
    pub(crate) fn wants_read(&self, mux: &Mux) -> bool {
        !self.is_connecting && !self.local_ended && self.again.is_empty() && mux.room(self.stream) > 0
    }

    /// Whether there is something to write to the process.
    pub(crate) fn wants_write(&self) -> bool {
        self.is_connecting || !self.to_local.is_empty()
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.failed || (self.local_ended && self.worker_ended && self.to_local.is_empty())
    }

    /// Sends again what was not answered, as far as it goes.
    pub(crate) fn repeat(&mut self, mux: &mut Mux) {
        while !self.again.is_empty() {
            let sent = mux.send(self.stream, self.again.as_slices().0);
            self.again.drain(..sent);
            if sent == 0 {
                return;
            }
        }
    }

    /// Passes on what the process has written. Whether that was anything.
    pub(crate) fn read(&mut self, mux: &mut Mux) -> bool {
        let mut buffer = [0; CHUNK];
        let room = mux.room(self.stream).min(CHUNK);
        let Some(space) = buffer.get_mut(..room).filter(|space| !space.is_empty()) else { return false };
        match rustix::io::read(&self.socket, space) {
            Ok(0) => {
                self.local_ended = true;
                mux.end(self.stream);
                false
            }
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                mux.send(self.stream, bytes);
                if self.is_api && self.unanswered.len() <= MAX_UNANSWERED {
                    self.unanswered.extend_from_slice(bytes);
                }
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_broken) => {
                self.fail(mux);
                false
            }
        }
    }

    /// Bytes from the worker.
    pub(crate) fn receive(&mut self, bytes: &[u8], mux: &mut Mux) {
        self.unanswered.clear();
        self.to_local.extend(bytes);
        self.write(mux);
    }

    /// The worker has said all.
    pub(crate) fn worker_ended(&mut self, mux: &mut Mux) {
        self.worker_ended = true;
        self.write(mux);
    }

    /// Writes to the process what it takes now.
    pub(crate) fn write(&mut self, mux: &mut Mux) {
        while !self.to_local.is_empty() {
            match rustix::net::send(
                &self.socket,
                self.to_local.as_slices().0,
                rustix::net::SendFlags::NOSIGNAL,
            ) {
                Ok(count) => {
                    self.to_local.drain(..count);
                    mux.consumed(self.stream, count);
                }
                Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => return,
                Err(_broken) => return self.fail(mux),
            }
        }
        if self.worker_ended {
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
    }

    fn fail(&mut self, mux: &mut Mux) {
        self.failed = true;
        mux.reset(self.stream);
    }

    /// Gives it a stream of the next conversation. Whether it goes on.
    pub(crate) fn resume(&mut self, mux: &mut Mux) -> bool {
        let whole = self.unanswered.len() <= MAX_UNANSWERED;
        if !self.is_api || !whole || self.local_ended || self.worker_ended {
            return false;
        }
        let Ok(stream) = mux.open(&encode(&Purpose::RuntimeApi)) else { return false };
        self.stream = stream;
        self.again = self.unanswered.iter().copied().collect();
        self.repeat(mux);
        true
    }
}
