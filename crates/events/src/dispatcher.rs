//! Which event runs when.
//!
//! ```text
//!  reserve --> admit --> waiting --next--> running --finished--> gone
//!                         |  ^               |
//!                         |  +- retry, no slot, lost
//!                         |
//!                         +-- too old --> expiring --expired--> gone
//!                                 ^          |
//!                                 +- its end cannot be told
//! ```
//! Every lane that may start an event gets its turn before any gets a second. What waits past its age is given out
//! as [`Step::Expire`], however long its lane's queue is; so many at once, for after a long stop it may be all of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use hearth_types::Time;

use crate::lane::{Lane, Queue, backoff};

/// Limits and times.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Events of one lane, of any state.
    pub lane_depth: u64,
    /// Events of all lanes.
    pub depth: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Events that run at once.
    pub running: u32,
    /// Events of one lane that run at once.
    pub lane_running: u32,
    /// Events that are too old whose end is told at once.
    pub expiring: u32,
    /// Wait before the second attempt; twice that before the third.
    pub retry: Duration,
    /// First and longest wait of a lane that gets no slot.
    pub refused: (Duration, Duration),
}

/// An event that waits on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its number.
    pub id: u64,
    /// Whose it is.
    pub lane: Lane,
    /// The size of its payload.
    pub bytes: u64,
    /// When it was accepted.
    pub accepted: Time,
    /// When it is too old to run.
    pub expires: Time,
    /// When it runs next.
    pub due: Time,
    /// Attempts that failed.
    pub failures: u32,
}

/// Why no event is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Its function has enough.
    #[error("{limit} events of the function wait already, which is the most allowed")]
    Lane {
        /// The most allowed.
        limit: u64,
    },
    /// All functions together have.
    #[error("{limit} events wait already, which is the most allowed")]
    Depth {
        /// The most allowed.
        limit: u64,
    },
    /// They take too much of the disk.
    #[error("the events that wait have {limit} bytes already, which is the most allowed")]
    Bytes {
        /// The most allowed.
        limit: u64,
    },
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Run it, then say [`Dispatcher::finished`].
    Run {
        /// Which.
        id: u64,
        /// Attempts that failed before.
        failures: u32,
    },
    /// It is too old: tell its end, then say [`Dispatcher::expired`].
    Expire {
        /// Which.
        id: u64,
        /// Attempts that failed before.
        failures: u32,
    },
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The event is done with.
    Done,
    /// It can never run or be sent.
    Never,
    /// The function failed; it may be run so many times again in all.
    Failed {
        /// `MaximumRetryAttempts`.
        retries: u32,
    },
    /// There was no slot for it, nor is there for any other of its lane.
    Refused,
    /// It waits by itself: it may have run, and nobody knows; or it was not taken, which says nothing of the others.
    Lost,
}

/// What becomes of an event after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is gone.
    Finished,
    /// It is gone, and has neither succeeded nor failed.
    Dropped,
    /// It failed for the last time, and is gone.
    Exhausted {
        /// How many times it failed.
        failures: u32,
    },
    /// It waits again.
    Waits {
        /// For when.
        due: Time,
        /// How many times it has failed.
        failures: u32,
    },
    /// Its lane was forgotten while it ran.
    Forgotten,
}

/// A lane for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// Which.
    pub lane: Lane,
    /// Events that wait.
    pub waiting: u64,
    /// Events that run.
    pub running: u32,
    /// Bytes of payloads.
    pub bytes: u64,
    /// When the next is due, unless none waits.
    pub next_due: Option<Time>,
    /// When the oldest that waits was accepted.
    pub oldest: Option<Time>,
}

/// Sums over all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events that wait.
    pub waiting: u64,
    /// Events that run.
    pub running: u32,
    /// Bytes of payloads.
    pub bytes: u64,
    /// When the oldest was accepted.
    pub oldest: Option<Time>,
}

#[derive(Debug)]
struct Event {
    lane: usize,
    bytes: u64,
    accepted: Time,
    /// When its age is looked at: when it is too old, or later, if its end could not be told.
    expiry: Time,
    failures: u32,
    losses: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until it is due.
    Waits(Time),
    Runs,
    /// And waits for its end to be told.
    TooOld,
    /// Its end is being told.
    Expires,
}

/// All events of a Hearth, by number.
#[derive(Debug)]
pub struct Dispatcher {
    config: Config,
    events: HashMap<u64, Event>,
    lanes: HashMap<Lane, usize>,
    queues: Vec<Queue>,
    free: Vec<usize>,
    /// Lanes that may start an event, in the order of their turns.
    ready: VecDeque<usize>,
    /// When other lanes may.
    alarms: BTreeSet<(Time, usize)>,
    /// When what waits gets too old.
    expiries: BTreeSet<(Time, u64)>,
    ages: BTreeSet<(Time, u64)>,
    /// What waits for its end to be told, by how long it is too old.
    too_old: VecDeque<u64>,
    running: u32,
    expiring: u32,
    reserved: u64,
    bytes: u64,
}

// === impl Dispatcher ===

impl Dispatcher {
    /// One without events.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            events: HashMap::new(),
            lanes: HashMap::new(),
            queues: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            alarms: BTreeSet::new(),
            expiries: BTreeSet::new(),
            ages: BTreeSet::new(),
            too_old: VecDeque::new(),
            running: 0,
            expiring: 0,
            reserved: 0,
            bytes: 0,
        }
    }

    /// Holds a place for an event that is being written to disk.
    ///
    /// # Errors
    /// There is none.
    pub fn reserve(&mut self, lane: &Lane, bytes: u64) -> Result<(), Full> {
        let config = &self.config;
        let depth = self.lanes.get(lane).map_or(0, |at| self.queues[*at].depth());
        if depth >= config.lane_depth {
            return Err(Full::Lane { limit: config.lane_depth });
        }
        if self.events.len() as u64 + self.reserved >= config.depth {
            return Err(Full::Depth { limit: config.depth });
        }
        if self.bytes + bytes > config.bytes {
            return Err(Full::Bytes { limit: config.bytes });
        }
        let at = self.lane(lane);
        self.queues[at].reserved += 1;
        self.queues[at].bytes += bytes;
        self.reserved += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives a place back: its event is not on disk, or is admitted next.
    pub fn unreserve(&mut self, lane: &Lane, bytes: u64) {
        let Some(at) = self.lanes.get(lane).copied() else { return };
        let queue = &mut self.queues[at];
        queue.reserved = queue.reserved.saturating_sub(1);
        queue.bytes = queue.bytes.saturating_sub(bytes);
        self.reserved = self.reserved.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.tidy(at);
    }

    /// Takes an event that is on disk, however many there are.
    pub fn admit(&mut self, now: Time, new: &Pending) {
        let at = self.lane(&new.lane);
        self.queues[at].bytes += new.bytes;
        self.bytes += new.bytes;
        let Pending { id, bytes, accepted, expires, due, failures, .. } = *new;
        let state = State::Waits(due);
        let event = Event { lane: at, bytes, accepted, expiry: expires, failures, losses: 0, state };
        self.events.insert(id, event);
        self.ages.insert((accepted, id));
        self.wait(now, id, due);
    }

    /// What is to be done now, if anything is.
    pub fn next(&mut self, now: Time) -> Option<Step> {
        if let Some(step) = self.next_expired(now) {
            return Some(step);
        }
        while let Some((at, lane)) = self.alarms.first().copied()
            && at <= now
        {
            self.arrange(now, lane);
        }
        if self.running >= self.config.running {
            return None;
        }
        while let Some(at) = self.ready.pop_front() {
            self.queues[at].is_ready = false;
            let starts = self.queues[at].next_start().is_some_and(|time| time <= now);
            let Some((due, id)) = self.queues[at].waiting.first().copied().filter(|_| starts) else {
                self.arrange(now, at);
                self.tidy(at);
                continue;
            };
            let queue = &mut self.queues[at];
            queue.waiting.remove(&(due, id));
            queue.running += 1;
            self.running += 1;
            // Behind all others that are ready.
            self.arrange(now, at);
            let Some(event) = self.events.get_mut(&id) else { continue };
            event.state = State::Runs;
            self.expiries.remove(&(event.expiry, id));
            return Some(Step::Run { id, failures: event.failures });
        }
        None
    }

    /// One that is too old, if there is one and not too many are being told of.
    fn next_expired(&mut self, now: Time) -> Option<Step> {
        while let Some((_, id)) = self.expiries.first().copied().filter(|(expiry, _)| *expiry <= now) {
            self.expiries.pop_first();
            let Some(event) = self.events.get_mut(&id) else { continue };
            let at = event.lane;
            let queue = &mut self.queues[at];
            // From here on it cannot run, even if its turn to be told of is far.
            if let State::Waits(due) = std::mem::replace(&mut event.state, State::TooOld) {
                queue.waiting.remove(&(due, id));
            }
            queue.too_old += 1;
            self.too_old.push_back(id);
            self.arrange(now, at);
        }
        while self.expiring < self.config.expiring {
            let id = self.too_old.pop_front()?;
            // Unless its lane was forgotten since.
            let Some(event) = self.events.get_mut(&id).filter(|event| event.state == State::TooOld) else {
                continue;
            };
            event.state = State::Expires;
            self.expiring += 1;
            return Some(Step::Expire { id, failures: event.failures });
        }
        None
    }

    /// Takes note that the end of an event that was too old is told, or cannot be for now.
    pub fn expired(&mut self, now: Time, id: u64, is_told: bool) {
        let Some(event) = self.events.get_mut(&id).filter(|event| event.state == State::Expires) else {
            return;
        };
        self.expiring = self.expiring.saturating_sub(1);
        if is_told {
            self.take(now, id);
            return;
        }
        let (first, most) = self.config.refused;
        let again = now + backoff(first, most, event.losses);
        event.losses = event.losses.saturating_add(1);
        event.expiry = again;
        let queue = &mut self.queues[event.lane];
        queue.too_old = queue.too_old.saturating_sub(1);
        // It is never run: that it is too old is looked at first.
        self.wait(now, id, again);
    }

    /// Takes note of what came of an attempt.
    pub fn finished(&mut self, now: Time, id: u64, outcome: Outcome) -> Verdict {
        let Some(event) = self.events.get_mut(&id).filter(|event| event.state == State::Runs) else {
            return Verdict::Forgotten;
        };
        let at = event.lane;
        let queue = &mut self.queues[at];
        queue.running = queue.running.saturating_sub(1);
        self.running = self.running.saturating_sub(1);
        let (first, most) = self.config.refused;
        let due = match outcome {
            Outcome::Done => {
                queue.got_slot();
                self.take(now, id);
                return Verdict::Finished;
            }
            Outcome::Never => {
                self.take(now, id);
                return Verdict::Dropped;
            }
            Outcome::Failed { retries } => {
                queue.got_slot();
                event.failures = event.failures.saturating_add(1);
                let failures = event.failures;
                if failures > retries {
                    self.take(now, id);
                    return Verdict::Exhausted { failures };
                }
                now + self.config.retry.saturating_mul(failures)
            }
            Outcome::Refused => {
                queue.got_none(now, first, most);
                now
            }
            Outcome::Lost => {
                let wait = backoff(first, most, event.losses);
                event.losses = event.losses.saturating_add(1);
                now + wait
            }
        };
        let failures = event.failures;
        // Those that were accepted first go first again.
        let due = if outcome == Outcome::Refused { event.accepted.min(now) } else { due };
        self.wait(now, id, due);
        Verdict::Waits { due, failures }
    }

    /// Drops what waits in a lane, and what runs as soon as it is finished.
    pub fn forget(&mut self, now: Time, lane: &Lane) {
        let Some(at) = self.lanes.get(lane).copied() else { return };
        let ids: Vec<u64> =
            self.events.iter().filter(|(_, event)| event.lane == at).map(|(id, _)| *id).collect();
        for id in ids {
            match self.events.get(&id).map(|event| event.state) {
                Some(State::Runs) => {
                    self.queues[at].running = self.queues[at].running.saturating_sub(1);
                    self.running = self.running.saturating_sub(1);
                }
                Some(State::Expires) => self.expiring = self.expiring.saturating_sub(1),
                Some(State::Waits(_) | State::TooOld) | None => {}
            }
            self.take(now, id);
        }
    }

    /// When [`Self::next`] has something new to say, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let too_old =
            (!self.too_old.is_empty() && self.expiring < self.config.expiring).then_some(Time::ZERO);
        let expiry = self.expiries.first().map(|(time, _)| *time);
        let alarm = self.alarms.first().map(|(time, _)| *time);
        let now = (!self.ready.is_empty() && self.running < self.config.running).then_some(Time::ZERO);
        [too_old, expiry, alarm, now].into_iter().flatten().min()
    }

    /// Sums over all lanes.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            waiting: (self.events.len() as u64).saturating_sub(u64::from(self.running)),
            running: self.running,
            bytes: self.bytes,
            oldest: self.ages.first().map(|(time, _)| *time),
        }
    }

    /// Every lane that has events.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneView> {
        let mut oldest: HashMap<usize, Time> = HashMap::new();
        for event in self.events.values() {
            let kept = oldest.entry(event.lane).or_insert(event.accepted);
            *kept = (*kept).min(event.accepted);
        }
        let view = |at: &usize| {
            let queue = &self.queues[*at];
            LaneView {
                lane: queue.lane.clone(),
                waiting: queue.waiting.len() as u64 + queue.too_old,
                running: queue.running,
                bytes: queue.bytes,
                next_due: queue.waiting.first().map(|(due, _)| *due),
                oldest: oldest.get(at).copied(),
            }
        };
        let mut lanes: Vec<_> =
            self.lanes.values().filter(|at| self.queues[**at].depth() > 0).map(view).collect();
        lanes.sort_by(|one, other| one.lane.cmp(&other.lane));
        lanes
    }

    /// The place of a lane, which is made if there is none.
    fn lane(&mut self, lane: &Lane) -> usize {
        if let Some(at) = self.lanes.get(lane) {
            return *at;
        }
        let queue = Queue::new(lane.clone(), self.config.lane_running);
        let at = match self.free.pop() {
            Some(at) => {
                self.queues[at] = queue;
                at
            }
            None => {
                self.queues.push(queue);
                self.queues.len() - 1
            }
        };
        self.lanes.insert(lane.clone(), at);
        at
    }

    /// Has an event wait.
    fn wait(&mut self, now: Time, id: u64, due: Time) {
        let Some(event) = self.events.get_mut(&id) else { return };
        event.state = State::Waits(due);
        let at = event.lane;
        self.expiries.insert((event.expiry, id));
        self.queues[at].waiting.insert((due, id));
        self.arrange(now, at);
    }

    /// Takes an event out, wherever it is.
    fn take(&mut self, now: Time, id: u64) {
        let Some(event) = self.events.remove(&id) else { return };
        self.expiries.remove(&(event.expiry, id));
        self.ages.remove(&(event.accepted, id));
        self.bytes = self.bytes.saturating_sub(event.bytes);
        let queue = &mut self.queues[event.lane];
        queue.bytes = queue.bytes.saturating_sub(event.bytes);
        match event.state {
            State::Waits(due) => {
                queue.waiting.remove(&(due, id));
            }
            State::TooOld | State::Expires => queue.too_old = queue.too_old.saturating_sub(1),
            State::Runs => {}
        }
        self.arrange(now, event.lane);
        self.tidy(event.lane);
    }

    /// Puts a lane where it belongs: among those that may start one now, or later, or nowhere.
    fn arrange(&mut self, now: Time, at: usize) {
        let queue = &mut self.queues[at];
        if let Some(time) = queue.alarm.take() {
            self.alarms.remove(&(time, at));
        }
        if queue.is_ready {
            return;
        }
        match queue.next_start() {
            Some(time) if time <= now => {
                queue.is_ready = true;
                self.ready.push_back(at);
            }
            Some(time) => {
                queue.alarm = Some(time);
                self.alarms.insert((time, at));
            }
            None => {}
        }
    }

    /// Forgets a lane without events that has nothing to remember.
    fn tidy(&mut self, at: usize) {
        let queue = &self.queues[at];
        if queue.depth() == 0 && !queue.is_ready && queue.alarm.is_none() {
            self.lanes.remove(&queue.lane);
            self.free.push(at);
        }
    }
}

#[cfg(test)]
mod tests;
