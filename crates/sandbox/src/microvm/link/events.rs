//! What comes from the agent, and what it does to the worker's state.

use std::io;
use std::sync::Arc;

use hearth_wire::{GuestMessage, Purpose, Sink, StreamId, Violation, decode};
use tokio::net::unix::pipe;

use super::stream::Half;
use super::{GuestProcess, MAX_UNTAKEN, Shared, State};
use crate::driver::Exit;

/// One thing that came.
#[derive(Debug)]
pub(super) enum Event {
    Opened(StreamId, Vec<u8>),
    Data(StreamId, Vec<u8>),
    Ended(StreamId),
    Reset(StreamId),
    Writable(StreamId),
    Message(Vec<u8>),
}

/// Keeps what came until the mux is free again.
#[derive(Debug, Default)]
pub(super) struct Inbox(pub(super) Vec<Event>);

impl Sink for Inbox {
    fn opened(&mut self, stream: StreamId, purpose: &[u8]) {
        self.0.push(Event::Opened(stream, purpose.to_vec()));
    }
    fn data(&mut self, stream: StreamId, bytes: &[u8]) {
        self.0.push(Event::Data(stream, bytes.to_vec()));
    }
    fn ended(&mut self, stream: StreamId) {
        self.0.push(Event::Ended(stream));
    }
    fn reset(&mut self, stream: StreamId) {
        self.0.push(Event::Reset(stream));
    }
    fn writable(&mut self, stream: StreamId) {
        self.0.push(Event::Writable(stream));
    }
    fn message(&mut self, bytes: &[u8]) {
        self.0.push(Event::Message(bytes.to_vec()));
    }
}

// === impl Shared ===

impl Shared {
    /// Takes one event, and waits while a pipe is full.
    pub(super) async fn take(&self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Opened(id, purpose) => self.opened(id, &purpose)?,
            Event::Data(id, bytes) => {
                let pipe = {
                    let mut state = self.lock();
                    let Some(pipe) = state.pipe(id) else {
                        state.receive(id, &bytes);
                        return Ok(());
                    };
                    pipe
                };
                if let Some(pipe) = pipe {
                    write_all(&pipe, &bytes).await;
                }
                let mut state = self.lock();
                state.mux.consumed(id, bytes.len());
                self.flush(&mut state);
            }
            Event::Ended(id) | Event::Reset(id) => {
                let mut state = self.lock();
                state.over(id, matches!(event, Event::Reset(_)));
            }
            Event::Writable(id) => self.lock().wake_writer(id),
            Event::Message(bytes) => {
                let message = decode(&bytes).map_err(|_| Violation::Frame)?;
                self.note(message)?;
            }
        }
        Ok(())
    }

    fn opened(&self, id: StreamId, purpose: &[u8]) -> Result<(), Violation> {
        let mut state = self.lock();
        match decode(purpose).map_err(|_| Violation::Frame)? {
            Purpose::RuntimeApi if state.untaken.len() < MAX_UNTAKEN => {
                state.streams.insert(id, Half::default());
                state.untaken.push_back(id);
                drop(state);
                self.arrived.notify_one();
            }
            Purpose::RuntimeApi => state.mux.reset(id),
            Purpose::Output(number) if state.processes.contains_key(&number) => {
                state.outputs.insert(id, number);
            }
            Purpose::Output(_) | Purpose::Port(_) => return Err(Violation::Stream),
        }
        Ok(())
    }

    fn note(&self, message: GuestMessage) -> Result<(), Violation> {
        let mut state = self.lock();
        match message {
            GuestMessage::Usage(usage) => state.usage = usage,
            GuestMessage::Spawned { number } => {
                let process = state.processes.get_mut(&number).ok_or(Violation::Stream)?;
                let starting = process.starting.take().ok_or(Violation::Stream)?;
                let _ = starting.send(Ok(()));
            }
            GuestMessage::SpawnFailed { number, errno } => {
                let process = state.processes.remove(&number).ok_or(Violation::Stream)?;
                let starting = process.starting.ok_or(Violation::Stream)?;
                let _ = starting.send(Err(io::Error::from_raw_os_error(errno)));
            }
            GuestMessage::Connected { stream } => {
                // One that was dropped on this side meanwhile is not there.
                if let Some(half) = state.streams.get_mut(&stream) {
                    half.connected().ok_or(Violation::Stream)?;
                }
            }
            GuestMessage::Exited { number, status, signal } => {
                let process = state.processes.get_mut(&number).ok_or(Violation::Stream)?;
                let exit = process.exit.take().ok_or(Violation::Stream)?;
                let _ = exit.send(if signal { Exit::Signal(status) } else { Exit::Status(status) });
                state.forget_over(number);
            }
            GuestMessage::Quiesced => {
                let reply = state.reply.take().ok_or(Violation::Stream)?;
                state.quiesced = true;
                state.break_streams();
                let _ = reply.send(message);
            }
            GuestMessage::Hello { .. }
            | GuestMessage::Resumed { .. }
            | GuestMessage::Configured
            | GuestMessage::Failed { .. } => {
                let reply = state.reply.take().ok_or(Violation::Stream)?;
                let _ = reply.send(message);
            }
        }
        Ok(())
    }
}

/// Writes to a pipe; when nobody reads it any more, to nowhere.
async fn write_all(pipe: &pipe::Sender, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match pipe.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if pipe.writable().await.is_err() {
                    return;
                }
            }
            Err(_nobody) => return,
        }
    }
}

// === impl State ===

impl State {
    /// Whether the stream carries output; if so, the pipe it goes to while somebody has the other end.
    #[expect(clippy::option_option, reason = "no output stream, or one whose process is forgotten")]
    fn pipe(&self, id: StreamId) -> Option<Option<Arc<pipe::Sender>>> {
        let number = self.outputs.get(&id)?;
        Some(self.processes.get(number).and_then(|process| process.output.clone()))
    }

    fn receive(&mut self, id: StreamId, bytes: &[u8]) {
        match self.streams.get_mut(&id) {
            Some(half) => half.receive(bytes),
            // Dropped on this side; its reset is on the way.
            None => self.mux.consumed(id, bytes.len()),
        }
    }

    fn over(&mut self, id: StreamId, reset: bool) {
        if let Some(half) = self.streams.get_mut(&id) {
            half.over(reset);
        }
        if reset {
            self.untaken.retain(|untaken| *untaken != id);
        }
        if let Some(number) = self.outputs.remove(&id) {
            if let Some(process) = self.processes.get_mut(&number) {
                process.output = None;
            }
            self.mux.end(id);
            self.forget_over(number);
        }
    }

    /// A process is done with when it ended and all it wrote was read.
    fn forget_over(&mut self, number: u64) {
        let over = |process: &GuestProcess| process.exit.is_none() && process.output.is_none();
        if self.processes.get(&number).is_some_and(over) {
            self.processes.remove(&number);
        }
    }
}
