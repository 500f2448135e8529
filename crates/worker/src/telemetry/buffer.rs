//! What a subscriber has not been sent yet: bounded, and every loss counted. No I/O, no clock.
//!
//! ```text
//!   offer --+--> waiting --(full, old enough, or in a hurry)--> take --> under way --+--> sent
//!           |                                                                        |
//!           +--> dropped, counted: the next batch says so <---- given up ------------+
//! ```
//!
//! Lambda lets a subscriber expect twice its `maxBytes` at once. So a batch is due when that many bytes or `maxItems` wait, and what
//! waits and is under way together has twice that at most.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::time::Instant;

use super::subscription::Buffering;

/// What an event takes beside its bytes.
const OVERHEAD: usize = 128;

/// What the subscribers of one instance may have together, bytes: what each may have is theirs to choose.
#[derive(Debug)]
pub(super) struct Room {
    used: AtomicUsize,
    most: usize,
}

/// What did not reach its subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// When to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
    Never,
}

/// What is sent at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) events: Vec<Bytes>,
    /// What was lost since the batch before.
    pub(super) dropped: Dropped,
}

/// Lines that were written at once, of which events are made for whoever has room for them first.
pub(super) struct Lines<'a, F> {
    /// Those that nobody had room for so far.
    rest: Option<&'a [u8]>,
    all: usize,
    bytes: usize,
    /// Of those before, with the lengths of the lines.
    events: Vec<(usize, Bytes)>,
    make: F,
}

#[derive(Debug)]
pub(super) struct Buffer {
    limits: Buffering,
    room: Arc<Room>,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// Events and bytes that are being sent.
    under_way: (usize, usize),
    /// When the oldest of those that wait came.
    since: Option<Instant>,
    dropped: Dropped,
    /// A batch is, if only to say what was lost.
    sending: bool,
    /// Nobody took the news of the loss, which was all there was left.
    hopeless: bool,
    /// All that waits now is due.
    hurry: bool,
    /// So is all that comes.
    closing: bool,
}

/// So many events of so many bytes, as a subscriber's buffer counts them.
fn weight(events: usize, bytes: usize) -> usize {
    bytes + events * OVERHEAD
}

/// The same, as they are counted for an instance: when they are sent, there are they and the batch made of them.
fn share(events: usize, bytes: usize) -> usize {
    weight(events, bytes) + bytes
}

// === impl Room ===

impl Room {
    pub(super) fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most }
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.most)
        });
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// === impl Dropped ===

impl Dropped {
    fn add(&mut self, records: usize, bytes: usize) {
        self.records += records as u64;
        self.bytes += bytes as u64;
    }
}

// === impl Lines ===

impl<'a, F: Fn(&[u8]) -> Bytes> Lines<'a, F> {
    pub(super) fn new(written: &'a [u8], make: F) -> Self {
        let written = written.strip_suffix(b"\n").unwrap_or(written);
        let ends = written.iter().filter(|byte| **byte == b'\n').count();
        Self { rest: Some(written), all: ends + 1, bytes: written.len() - ends, events: Vec::new(), make }
    }

    fn total(&self) -> (usize, usize) {
        (self.all, self.bytes)
    }

    /// Of a line that was made an event, or is the next to be.
    fn length(&self, place: usize) -> Option<usize> {
        let made = self.events.get(place).map(|(length, _)| *length);
        made.or_else(|| self.next().map(|(line, _)| line.len()))
    }

    fn event(&mut self, place: usize) -> Option<Bytes> {
        if self.events.len() <= place {
            let (line, rest) = self.next()?;
            self.events.push((line.len(), (self.make)(line)));
            self.rest = rest;
        }
        self.events.get(place).map(|(_, event)| event.clone())
    }

    fn next(&self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let rest = self.rest?;
        Some(match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (rest.get(..end).unwrap_or_default(), rest.get(end + 1..)),
            None => (rest, None),
        })
    }
}

// === impl Buffer ===

impl Buffer {
    pub(super) fn new(limits: Buffering, room: Arc<Room>) -> Self {
        Self {
            limits,
            room,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: (0, 0),
            since: None,
            sending: false,
            hopeless: false,
            dropped: Dropped::default(),
            hurry: false,
            closing: false,
        }
    }

    /// An event; whether there was room for it.
    pub(super) fn offer(&mut self, now: Instant, event: Bytes) -> bool {
        let bytes = event.len();
        if !self.fits(bytes) || !self.room.take(share(1, bytes)) {
            self.dropped.add(1, bytes);
            return false;
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(event);
        self.since.get_or_insert(now);
        true
    }

    /// An event for each line, until one finds no room: those behind it are lost with it, all in one step, because what writes
    /// them may write nothing but ends of lines. How many are.
    pub(super) fn offer_lines<F: Fn(&[u8]) -> Bytes>(
        &mut self,
        now: Instant,
        lines: &mut Lines<'_, F>,
    ) -> u64 {
        let (mut taken, mut bytes) = (0, 0);
        while let Some(line) = lines.length(taken) {
            let Some(event) = self.fits(line).then(|| lines.event(taken)).flatten() else { break };
            let event_bytes = event.len();
            if !self.fits(event_bytes) || !self.room.take(share(1, event_bytes)) {
                break;
            }
            self.waiting_bytes += event_bytes;
            self.waiting.push_back(event);
            self.since.get_or_insert(now);
            taken += 1;
            bytes += line;
        }
        let (all, all_bytes) = lines.total();
        self.dropped.add(all - taken, all_bytes - bytes);
        (all - taken) as u64
    }

    fn fits(&self, bytes: usize) -> bool {
        let (events, under_way) = self.under_way;
        self.waiting.len() + events < 2 * self.limits.items
            && weight(self.waiting.len() + events + 1, self.waiting_bytes + under_way + bytes)
                <= 2 * self.limits.bytes
    }

    /// When the next batch is to be sent, none being under way.
    pub(super) fn due(&self, now: Instant) -> Due {
        let Some(since) = self.since else {
            // That something was lost is no reason to knock at a door that nobody opens, but for the last time.
            return if self.has_last_words() { Due::Now } else { Due::Never };
        };
        let at = since + self.limits.time;
        let is_full = weight(self.waiting.len(), self.waiting_bytes) >= self.limits.bytes
            || self.waiting.len() >= self.limits.items;
        if is_full || self.hurry || self.closing || at <= now { Due::Now } else { Due::At(at) }
    }

    fn has_last_words(&self) -> bool {
        self.closing && !self.hopeless && self.dropped.records > 0
    }

    /// All that waits, to be sent.
    pub(super) fn take(&mut self) -> Batch {
        self.under_way = (self.waiting.len(), self.waiting_bytes);
        self.sending = true;
        self.waiting_bytes = 0;
        self.since = None;
        self.hurry = false;
        let dropped = std::mem::take(&mut self.dropped);
        Batch { events: std::mem::take(&mut self.waiting).into(), dropped }
    }

    /// The batch has arrived, and is no more.
    pub(super) fn sent(&mut self) {
        self.over();
    }

    fn over(&mut self) -> (usize, usize) {
        self.sending = false;
        let (events, bytes) = std::mem::take(&mut self.under_way);
        self.room.give_back(share(events, bytes));
        (events, bytes)
    }

    /// The batch never will: how many events that were, and what it was to say of those before.
    pub(super) fn given_up(&mut self, before: Dropped) -> usize {
        let (events, bytes) = self.over();
        self.dropped.add(events, bytes);
        self.dropped.records += before.records;
        self.dropped.bytes += before.bytes;
        self.hopeless = self.closing && events == 0;
        events
    }

    /// Nothing of it will be sent: how many events are lost with it.
    pub(super) fn discard(&mut self) -> usize {
        let (under_way, _) = self.over();
        let waiting = std::mem::take(&mut self.waiting).len();
        self.room.give_back(share(waiting, std::mem::take(&mut self.waiting_bytes)));
        self.since = None;
        waiting + under_way
    }

    /// What waits now is not to wait.
    pub(super) fn hurry(&mut self) {
        self.hurry = !self.waiting.is_empty();
    }

    /// Nothing is to wait from now on.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether all of it has been sent, or given up.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && !self.sending && !self.has_last_words()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.discard();
    }
}
