//! Both ends' view of all streams: what may be sent, what may come, and the bytes to do it with.

use std::collections::BTreeMap;

use crate::frame::{HEADER, Header, Kind, MAX_DATA, MAX_OPEN};
use crate::message::MAX_MESSAGE_BYTES;

/// Most streams at once.
pub const MAX_STREAMS: usize = 1_024;
/// What a new stream's peer may send before anything of it is read, bytes.
const FIRST_WINDOW: u32 = 16 << 10;
/// What it may at most be ahead of its reader, bytes.
const MAX_WINDOW: u32 = 256 << 10;
/// What all streams' windows together may grow to, beyond their first, bytes.
const GROWTH: u32 = 16 << 20;
/// Past this many unsent bytes streams are given no more room to write.
const FULL: usize = 1 << 20;
/// A peer that makes us answer and does not read is cut off here, bytes.
const FLOODED: usize = 2 << 20;

/// A stream's name, unique in a conversation.
pub type StreamId = u32;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The worker's.
    Host,
    /// The agent's.
    Guest,
}

/// What is told of bytes that came in, in their order.
pub trait Sink {
    /// The other side opened a stream, for what `purpose` says.
    fn opened(&mut self, stream: StreamId, purpose: &[u8]);
    /// Bytes came. Whoever has dealt with them says so with [`Mux::consumed`].
    fn data(&mut self, stream: StreamId, bytes: &[u8]);
    /// No more bytes will come.
    fn ended(&mut self, stream: StreamId);
    /// The stream is gone.
    fn reset(&mut self, stream: StreamId);
    /// More may be sent.
    fn writable(&mut self, stream: StreamId);
    /// A message came.
    fn message(&mut self, bytes: &[u8]);
}

/// What an honest peer never does. The conversation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not a frame.
    #[error("bytes that are no frame")]
    Frame,
    /// A stream of the wrong side, of a used name, or that was never opened.
    #[error("a stream that it may not name")]
    Stream,
    /// More bytes than it had credit for, or bytes after the end.
    #[error("more bytes than it may send")]
    Credit,
    /// It makes work without end and does not take the answers.
    #[error("it does not read what it is sent")]
    Flood,
}

/// Why nothing was opened or said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many streams are open.
    #[error("{MAX_STREAMS} streams are open")]
    Streams,
    /// It does not fit into a frame.
    #[error("a message of more than {MAX_MESSAGE_BYTES} bytes")]
    Size,
}

/// One stream.
#[derive(Debug)]
struct Flow {
    /// Bytes that may still be sent.
    credit: u32,
    /// Someone had more to send than there was room for.
    blocked: bool,
    /// Bytes that may be outstanding.
    window: u32,
    /// Bytes that may still come.
    expected: u32,
    /// Bytes that came and were dealt with, and for which no credit was given yet.
    owed: u32,
    we_ended: bool,
    they_ended: bool,
}

/// Where in a frame the input stands.
#[derive(Debug)]
enum Input {
    Header { bytes: [u8; HEADER], filled: usize },
    Data { stream: StreamId, left: usize },
    Whole { header: Header, bytes: Vec<u8> },
}

/// All streams of a conversation.
#[derive(Debug)]
pub struct Mux {
    side: Side,
    next: StreamId,
    /// The last name that the other side used.
    last_theirs: StreamId,
    flows: BTreeMap<StreamId, Flow>,
    grown: u32,
    input: Input,
    output: Vec<u8>,
    /// Streams that wait for room in `output`.
    waiting: bool,
}

// === impl Mux ===

impl Mux {
    /// A conversation in which nothing has been said.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self {
            side,
            next: if side == Side::Host { 1 } else { 2 },
            last_theirs: 0,
            flows: BTreeMap::new(),
            grown: 0,
            input: Input::empty(),
            output: Vec::new(),
            waiting: false,
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// When there are too many, or the purpose is too long.
    pub fn open(&mut self, purpose: &[u8]) -> Result<StreamId, Refused> {
        if self.flows.len() >= MAX_STREAMS {
            return Err(Refused::Streams);
        }
        if purpose.len() > MAX_OPEN {
            return Err(Refused::Size);
        }
        let stream = self.next;
        // At a million streams a second it takes half an hour to get here, and then the conversation ends.
        self.next = stream.checked_add(2).ok_or(Refused::Streams)?;
        self.flows.insert(stream, Flow::new());
        self.frame(Kind::Open, stream, purpose);
        Ok(stream)
    }

    /// Queues as much of `bytes` as may be sent now, and says how much that is. [`Sink::writable`] follows where it was
    /// not all.
    pub fn send(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        let Some(flow) = self.flows.get_mut(&stream) else { return bytes.len() };
        if flow.we_ended {
            return bytes.len();
        }
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let Some(flow) = self.flows.get_mut(&stream) else { break };
            let full = self.output.len() >= FULL;
            let credit = usize::try_from(flow.credit).unwrap_or(usize::MAX);
            let count = if full { 0 } else { rest.len().min(credit).min(MAX_DATA) };
            if count == 0 {
                flow.blocked = true;
                self.waiting |= full;
                break;
            }
            flow.credit -= small(count);
            self.frame(Kind::Data, stream, rest.get(..count).unwrap_or_default());
            sent += count;
        }
        sent
    }

    /// How many bytes [`Self::send`] would take now.
    #[must_use]
    pub fn room(&self, stream: StreamId) -> usize {
        let credit = self.flows.get(&stream).map_or(0, |flow| flow.credit);
        if self.output.len() >= FULL { 0 } else { usize::try_from(credit).unwrap_or(usize::MAX) }
    }

    /// Says that nothing more will be sent on a stream.
    pub fn end(&mut self, stream: StreamId) {
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        if !std::mem::replace(&mut flow.we_ended, true) {
            let over = flow.they_ended;
            self.frame(Kind::End, stream, &[]);
            if over {
                self.forget(stream);
            }
        }
    }

    /// Ends a stream at once, both ways.
    pub fn reset(&mut self, stream: StreamId) {
        if self.forget(stream) {
            self.frame(Kind::Reset, stream, &[]);
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When it is too long.
    pub fn message(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if bytes.is_empty() || bytes.len() > MAX_MESSAGE_BYTES {
            return Err(Refused::Size);
        }
        self.frame(Kind::Message, 0, bytes);
        Ok(())
    }

    /// `count` bytes that came on a stream have been dealt with: as many more may come.
    pub fn consumed(&mut self, stream: StreamId, count: usize) {
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        flow.owed = flow.owed.saturating_add(small(count));
        if flow.they_ended || flow.owed < flow.window / 2 {
            return;
        }
        // It was all read in time: more may be on its way.
        let growth = flow.window.min(MAX_WINDOW - flow.window).min(GROWTH - self.grown);
        flow.window += growth;
        self.grown += growth;
        let credit = std::mem::take(&mut flow.owed) + growth;
        flow.expected += credit;
        self.frame(Kind::Credit, stream, &credit.to_le_bytes());
    }

    /// Takes bytes from the other side.
    ///
    /// # Errors
    /// When they are not what an honest peer sends; nothing may be taken afterwards.
    pub fn receive(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<(), Violation> {
        while !bytes.is_empty() {
            match std::mem::replace(&mut self.input, Input::empty()) {
                Input::Header { bytes: mut header, mut filled } => {
                    let count = bytes.len().min(HEADER - filled);
                    let (now, rest) = bytes.split_at(count);
                    if let Some(place) = header.get_mut(filled..filled + count) {
                        place.copy_from_slice(now);
                    }
                    filled += count;
                    bytes = rest;
                    if filled < HEADER {
                        self.input = Input::Header { bytes: header, filled };
                    } else {
                        let header = Header::decode(header).ok_or(Violation::Frame)?;
                        self.begin(header, sink)?;
                    }
                }
                Input::Data { stream, left } => {
                    let (now, rest) = bytes.split_at(bytes.len().min(left));
                    bytes = rest;
                    if self.flows.contains_key(&stream) {
                        sink.data(stream, now);
                    }
                    if now.len() < left {
                        self.input = Input::Data { stream, left: left - now.len() };
                    }
                }
                Input::Whole { header, bytes: mut whole } => {
                    let wanted = usize::from(header.length) - whole.len();
                    let (now, rest) = bytes.split_at(bytes.len().min(wanted));
                    bytes = rest;
                    whole.extend_from_slice(now);
                    if whole.len() < usize::from(header.length) {
                        self.input = Input::Whole { header, bytes: whole };
                    } else {
                        self.complete(header, &whole, sink)?;
                    }
                }
            }
        }
        if self.output.len() > FLOODED { Err(Violation::Flood) } else { Ok(()) }
    }

    /// Bytes that are to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` bytes of [`Self::output`] have been sent.
    pub fn sent(&mut self, count: usize, sink: &mut impl Sink) {
        self.output.drain(..count.min(self.output.len()));
        if self.waiting && self.output.len() < FULL / 2 {
            self.waiting = false;
            for (stream, flow) in &mut self.flows {
                if flow.credit > 0 && std::mem::take(&mut flow.blocked) {
                    sink.writable(*stream);
                }
            }
        }
    }

    /// Streams that are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.flows.len()
    }

    fn frame(&mut self, kind: Kind, stream: StreamId, payload: &[u8]) {
        // Callers keep to the limits of their kind.
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        self.output.extend_from_slice(&Header { kind, length, stream }.encode());
        self.output.extend_from_slice(payload);
    }

    /// Whether there was such a stream.
    fn forget(&mut self, stream: StreamId) -> bool {
        let Some(flow) = self.flows.remove(&stream) else { return false };
        self.grown -= flow.window - FIRST_WINDOW;
        true
    }

    fn is_ours(&self, stream: StreamId) -> bool {
        (stream % 2 == 1) == (self.side == Side::Host)
    }

    /// Whether a stream has ever been opened: what is said of one that is over crossed with its end.
    fn was_opened(&self, stream: StreamId) -> bool {
        if self.is_ours(stream) { stream < self.next } else { stream <= self.last_theirs }
    }

    fn begin(&mut self, header: Header, sink: &mut impl Sink) -> Result<(), Violation> {
        let Header { kind, length, stream } = header;
        if kind == Kind::Open {
            if self.is_ours(stream) || stream <= self.last_theirs {
                return Err(Violation::Stream);
            }
        } else if kind != Kind::Message && !self.was_opened(stream) {
            return Err(Violation::Stream);
        }
        if kind == Kind::Data {
            if let Some(flow) = self.flows.get_mut(&stream) {
                let left = flow.expected.checked_sub(u32::from(length)).filter(|_| !flow.they_ended);
                flow.expected = left.ok_or(Violation::Credit)?;
            }
            self.input = Input::Data { stream, left: usize::from(length) };
        } else if length == 0 {
            self.complete(header, &[], sink)?;
        } else {
            self.input = Input::Whole { header, bytes: Vec::with_capacity(usize::from(length)) };
        }
        Ok(())
    }

    fn complete(&mut self, header: Header, payload: &[u8], sink: &mut impl Sink) -> Result<(), Violation> {
        let stream = header.stream;
        match header.kind {
            Kind::Open => {
                self.last_theirs = stream;
                if self.flows.len() >= MAX_STREAMS {
                    self.frame(Kind::Reset, stream, &[]);
                } else {
                    self.flows.insert(stream, Flow::new());
                    sink.opened(stream, payload);
                }
            }
            Kind::Credit => {
                let mut credit = [0; 4];
                credit.copy_from_slice(payload.get(..4).ok_or(Violation::Frame)?);
                self.credit(stream, u32::from_le_bytes(credit), sink)?;
            }
            Kind::End => {
                let Some(flow) = self.flows.get_mut(&stream) else { return Ok(()) };
                if std::mem::replace(&mut flow.they_ended, true) {
                    return Err(Violation::Credit);
                }
                let over = flow.we_ended;
                sink.ended(stream);
                if over {
                    self.forget(stream);
                }
            }
            Kind::Reset => {
                if self.forget(stream) {
                    sink.reset(stream);
                }
            }
            Kind::Message => sink.message(payload),
            Kind::Data => {}
        }
        Ok(())
    }

    fn credit(&mut self, stream: StreamId, credit: u32, sink: &mut impl Sink) -> Result<(), Violation> {
        let Some(flow) = self.flows.get_mut(&stream) else { return Ok(()) };
        flow.credit = flow.credit.checked_add(credit).ok_or(Violation::Credit)?;
        if credit > 0 && std::mem::take(&mut flow.blocked) {
            sink.writable(stream);
        }
        Ok(())
    }
}

// === impl Flow ===

impl Flow {
    fn new() -> Self {
        Self {
            credit: FIRST_WINDOW,
            blocked: false,
            window: FIRST_WINDOW,
            expected: FIRST_WINDOW,
            owed: 0,
            we_ended: false,
            they_ended: false,
        }
    }
}

// === impl Input ===

impl Input {
    fn empty() -> Self {
        Self::Header { bytes: [0; HEADER], filled: 0 }
    }
}

/// Counts here are of one frame or window.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
