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

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::time::Instant;

use super::subscription::Buffering;

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
    /// All that waits now is due.
    hurry: bool,
    /// So is all that comes.
    closing: bool,
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
            dropped: Dropped::default(),
            hurry: false,
            closing: false,
        }
    }

    /// An event; whether there was room for it.
    pub(super) fn offer(&mut self, now: Instant, event: Bytes) -> bool {
        let bytes = event.len();
        if !self.fits(bytes) || !self.room.take(bytes) {
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
            if !self.fits(event_bytes) || !self.room.take(event_bytes) {
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
            && self.waiting_bytes + under_way + bytes <= 2 * self.limits.bytes
    }

    /// When the next batch is to be sent, none being under way.
    pub(super) fn due(&self, now: Instant) -> Due {
        let Some(since) = self.since else {
            // That something was lost is no reason to knock at a door that nobody opens, but for the last time.
            return if self.closing && self.dropped.records > 0 { Due::Now } else { Due::Never };
        };
        let at = since + self.limits.time;
        let is_full = self.waiting_bytes >= self.limits.bytes || self.waiting.len() >= self.limits.items;
        if is_full || self.hurry || self.closing || at <= now { Due::Now } else { Due::At(at) }
    }

    /// All that waits, to be sent.
    pub(super) fn take(&mut self) -> Batch {
        self.under_way = (self.waiting.len(), self.waiting_bytes);
        self.waiting_bytes = 0;
        self.since = None;
        self.hurry = false;
        let dropped = std::mem::take(&mut self.dropped);
        Batch { events: std::mem::take(&mut self.waiting).into(), dropped }
    }

    /// The batch has arrived.
    pub(super) fn sent(&mut self) {
        let (_, bytes) = std::mem::take(&mut self.under_way);
        self.room.give_back(bytes);
    }

    /// The batch never will: how many events that were, and what it was to say of those before.
    pub(super) fn given_up(&mut self, before: Dropped) -> usize {
        let (events, bytes) = std::mem::take(&mut self.under_way);
        self.room.give_back(bytes);
        self.dropped.add(events, bytes);
        self.dropped.records += before.records;
        self.dropped.bytes += before.bytes;
        events
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
        self.waiting.is_empty() && self.under_way.0 == 0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.room.give_back(self.waiting_bytes + self.under_way.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const LIMITS: Buffering = Buffering { items: 3, bytes: 100, time: Duration::from_millis(50) };

    const ROOM: usize = 150;

    fn buffer(room: usize) -> (Buffer, Instant) {
        (Buffer::new(LIMITS, Arc::new(Room::new(room))), Instant::now())
    }

    fn put(buffer: &mut Buffer, now: Instant, bytes: usize) -> bool {
        buffer.offer(now, vec![b'x'; bytes].into())
    }

    #[test]
    fn a_batch_is_due_when_its_oldest_is_old_enough_or_there_is_enough_of_it() {
        let (mut few, now) = buffer(1_000);
        assert_eq!(few.due(now), Due::Never);
        assert!(put(&mut few, now, 10));
        assert!(put(&mut few, now + LIMITS.time / 2, 10));
        assert_eq!(few.due(now), Due::At(now + LIMITS.time));
        assert_eq!(few.due(now + LIMITS.time), Due::Now);
        assert!(put(&mut few, now, 10));
        assert_eq!(few.due(now), Due::Now, "three are enough");
        let (mut large, now) = buffer(1_000);
        assert!(put(&mut large, now, 100));
        assert_eq!(large.due(now), Due::Now, "a hundred bytes are enough");
    }

    #[test]
    fn what_does_not_fit_is_counted_and_said_with_the_next_batch() {
        let (mut full, now) = buffer(1_000);
        for _ in 0..6 {
            assert!(put(&mut full, now, 10));
        }
        let made = std::cell::Cell::new(0);
        let make = |line: &[u8]| {
            made.set(made.get() + 1);
            Bytes::copy_from_slice(line)
        };
        assert_eq!(full.offer_lines(now, &mut Lines::new(b"0123456789\n", make)), 1);
        assert_eq!(made.get(), 0, "it is not made where there is no room");
        assert!(!put(&mut full, now, 7));
        let batch = full.take();
        assert_eq!((batch.events.len(), batch.dropped), (6, Dropped { records: 2, bytes: 17 }));
        assert!(!put(&mut full, now, 1), "what is under way still counts");
        full.sent();
        assert!(put(&mut full, now, 1));
        assert_eq!(full.take().dropped, Dropped { records: 1, bytes: 1 });
    }

    #[test]
    fn lines_that_find_no_room_are_counted_in_one_step_and_made_events_once_for_all() {
        let ((mut first, now), (mut second, _)) = (buffer(1_000), buffer(1_000));
        assert!(put(&mut second, now, 10) && put(&mut second, now, 10));
        let made = std::cell::Cell::new(0);
        let make = |line: &[u8]| {
            made.set(made.get() + 1);
            Bytes::copy_from_slice(line)
        };
        let mut lines = Lines::new(b"a\n\nbcd\n\n\ne\n\nfgh\n", make);
        assert_eq!(second.offer_lines(now, &mut lines), 4);
        assert_eq!((made.get(), first.offer_lines(now, &mut lines)), (4, 2));
        assert_eq!(made.get(), 6);
        let (first, second) = (first.take(), second.take());
        assert_eq!(first.events, ["a", "", "bcd", "", "", "e"]);
        assert_eq!(
            (first.dropped, second.dropped),
            (Dropped { records: 2, bytes: 3 }, Dropped { records: 4, bytes: 4 })
        );
        assert_eq!(second.events[2..], ["a", "", "bcd", ""]);
    }

    #[test]
    fn a_batch_that_is_given_up_is_counted_with_what_it_was_to_say() {
        let (mut lossy, now) = buffer(1_000);
        assert!(put(&mut lossy, now, 10) && !put(&mut lossy, now, 500));
        let batch = lossy.take();
        lossy.given_up(batch.dropped);
        assert!(lossy.is_settled());
        assert_eq!(lossy.due(now), Due::Never);
        lossy.close();
        assert_eq!(lossy.due(now), Due::Now, "the loss itself is news in the end");
        assert_eq!(lossy.take().dropped, Dropped { records: 2, bytes: 510 });
    }

    #[test]
    fn who_is_in_a_hurry_waits_for_nothing() {
        let (mut one, now) = buffer(1_000);
        one.hurry();
        assert!(put(&mut one, now, 10));
        assert_ne!(one.due(now), Due::Now, "there was nothing to hurry with");
        one.hurry();
        assert_eq!(one.due(now), Due::Now);
        one.take();
        one.sent();
        one.close();
        assert!(one.is_settled() && put(&mut one, now, 10));
        assert_eq!(one.due(now), Due::Now);
    }

    #[test]
    fn subscribers_of_an_instance_share_its_room() {
        let room = Arc::new(Room::new(100));
        let now = Instant::now();
        let mut first = Buffer::new(LIMITS, Arc::clone(&room));
        let mut second = Buffer::new(LIMITS, Arc::clone(&room));
        assert!(put(&mut first, now, 80) && !put(&mut second, now, 30) && put(&mut second, now, 20));
        drop(first);
        assert!(put(&mut second, now, 80));
        second.take();
        second.given_up(Dropped::default());
        drop(second);
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #[test]
        fn no_event_is_lost_without_being_counted_and_no_bound_is_passed(
            steps in prop::collection::vec((0_u8..5, 0_usize..120), 0..200),
        ) {
            let (mut buffer, now) = buffer(ROOM);
            let (mut offered, mut arrived, mut said) = (0_u64, 0_u64, 0_u64);
            let mut under_way: Option<Batch> = None;
            for (step, bytes) in steps {
                match (step, under_way.take()) {
                    (0 | 1, batch) => {
                        offered += 1;
                        put(&mut buffer, now, bytes);
                        under_way = batch;
                    }
                    (2, None) => under_way = Some(buffer.take()),
                    (3, Some(batch)) => {
                        arrived += batch.events.len() as u64;
                        said += batch.dropped.records;
                        buffer.sent();
                    }
                    (_, Some(batch)) => drop(buffer.given_up(batch.dropped)),
                    (_, None) => buffer.hurry(),
                }
                let held = buffer.waiting_bytes + buffer.under_way.1;
                prop_assert!(held <= (2 * LIMITS.bytes).min(ROOM));
                prop_assert!(buffer.waiting.len() + buffer.under_way.0 <= 2 * LIMITS.items);
                prop_assert_eq!(buffer.room.used.load(Ordering::Relaxed), held);
            }
            if let Some(batch) = under_way.take() {
                arrived += batch.events.len() as u64;
                said += batch.dropped.records;
                buffer.sent();
            }
            let last = buffer.take();
            prop_assert_eq!(offered, arrived + said + last.events.len() as u64 + last.dropped.records);
        }
    }
}
