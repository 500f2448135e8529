//! A stream of a conversation as what the worker's HTTP server takes: something to read from and to write to.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hearth_wire::StreamId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::{Shared, State};

/// What came on a stream and was not read, and who waits.
#[derive(Debug, Default)]
pub(super) struct Half {
    received: VecDeque<u8>,
    ended: bool,
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Whoever waits for the connection to come about.
    connecting: Option<oneshot::Sender<()>>,
}

// === impl Half ===

impl Half {
    /// One that is asked for, and what says that it is there.
    pub(super) fn connecting() -> (Self, oneshot::Receiver<()>) {
        let (connecting, connected) = oneshot::channel();
        (Self { connecting: Some(connecting), ..Self::default() }, connected)
    }

    /// It came about, which is said once of one that was asked for.
    pub(super) fn connected(&mut self) -> Option<()> {
        let _ = self.connecting.take()?.send(());
        Some(())
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend(bytes);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn over(&mut self, reset: bool) {
        self.ended = true;
        self.broken |= reset;
        self.connecting = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        if reset {
            self.wake_writer();
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    pub(super) fn wake_both(mut self) {
        self.over(true);
    }
}

/// A connection between the worker and a process in a guest.
#[derive(Debug)]
pub(crate) struct Stream {
    shared: Arc<Shared>,
    conversation: u64,
    id: StreamId,
    shut: bool,
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, conversation: u64, id: StreamId) -> Self {
        Self { shared, conversation, id, shut: false }
    }
}

/// The stream's half, unless its conversation is over.
fn half(state: &mut State, conversation: u64, id: StreamId) -> Option<&mut Half> {
    if state.conversation == conversation { state.streams.get_mut(&id) } else { None }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        let Some(half) = half(&mut state, self.conversation, self.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if half.received.is_empty() {
            if half.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if half.ended {
                return Poll::Ready(Ok(()));
            }
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut count = 0;
        while !half.received.is_empty() && buffer.remaining() > 0 {
            let (first, _) = half.received.as_slices();
            let now = first.len().min(buffer.remaining());
            buffer.put_slice(first.get(..now).unwrap_or_default());
            half.received.drain(..now);
            count += now;
        }
        state.mux.consumed(self.id, count);
        self.shared.flush(&mut state);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        match half(&mut state, self.conversation, self.id) {
            Some(half) if !half.broken && !self.shut => {}
            _ => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = state.mux.send(self.id, bytes);
        if count == 0 {
            if let Some(half) = half(&mut state, self.conversation, self.id) {
                half.writer = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        self.shared.flush(&mut state);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.conversation == self.conversation && !std::mem::replace(&mut self.shut, true) {
            state.mux.end(self.id);
            shared.flush(&mut state);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.conversation != self.conversation {
            return;
        }
        if let Some(half) = state.streams.remove(&self.id) {
            if half.ended && self.shut && !half.broken {
                // Both sides said all: the mux has forgotten it.
                return;
            }
            state.mux.reset(self.id);
            self.shared.flush(&mut state);
        }
    }
}
