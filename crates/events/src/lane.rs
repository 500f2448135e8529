//! The events of one function, or of one destination: in which order they are due, and how many run at once.
//!
//! How many may run is found out, not configured: one more for each that many successes, and when one gets no slot,
//! as many as do run. So a function with two slots has two events at work and is not asked for a third all the time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hearth_types::{FunctionId, Time};

/// Whose events wait for each other, and for nobody else's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// A function, whatever version of it is meant.
    Function(FunctionId),
    /// A queue or an endpoint that records are sent to, by its ARN.
    Destination(Arc<str>),
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(id) => id.fmt(f),
            Self::Destination(arn) => f.write_str(arn),
        }
    }
}

/// Events at once that a lane begins with.
const FIRST_WINDOW: u32 = 8;

/// One lane's events.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) lane: Lane,
    /// What waits, by when it is due.
    pub(crate) waiting: BTreeSet<(Time, u64)>,
    pub(crate) running: u32,
    /// Those that got too old, until their end is told.
    pub(crate) too_old: u64,
    /// Events accepted but not yet on disk.
    pub(crate) reserved: u32,
    /// Of all of these, payloads on disk.
    pub(crate) bytes: u64,
    /// Most that run at once.
    window: u32,
    most: u32,
    /// Slots got since the window grew.
    got: u32,
    /// Refusals in a row while nothing ran.
    refusals: u32,
    paused_until: Time,
    /// Where it is in the dispatcher's order: among those that may start one, or with a time.
    pub(crate) is_ready: bool,
    pub(crate) alarm: Option<Time>,
}

// === impl Queue ===

impl Queue {
    pub(crate) fn new(lane: Lane, most: u32) -> Self {
        Self {
            lane,
            waiting: BTreeSet::new(),
            running: 0,
            too_old: 0,
            reserved: 0,
            bytes: 0,
            window: FIRST_WINDOW.min(most),
            most,
            got: 0,
            refusals: 0,
            paused_until: Time::ZERO,
            is_ready: false,
            alarm: None,
        }
    }

    /// Events of any kind.
    pub(crate) fn depth(&self) -> u64 {
        let at_work = u64::from(self.running) + u64::from(self.reserved);
        self.waiting.len() as u64 + self.too_old + at_work
    }

    /// When the next event may start; never while as many run as may.
    pub(crate) fn next_start(&self) -> Option<Time> {
        let (due, _) = self.waiting.first()?;
        (self.running < self.window).then(|| (*due).max(self.paused_until))
    }

    /// One that ran had a slot.
    pub(crate) fn got_slot(&mut self) {
        self.refusals = 0;
        self.paused_until = Time::ZERO;
        self.got += 1;
        if self.got >= self.window {
            self.got = 0;
            self.window = (self.window + 1).min(self.most);
        }
    }

    /// One that was to run got no slot. The others that run are how many there are for this lane; if there are none, it
    /// waits, longer each time.
    pub(crate) fn got_none(&mut self, now: Time, first: Duration, most: Duration) {
        self.got = 0;
        self.window = self.running.max(1);
        if self.running == 0 {
            self.paused_until = now + backoff(first, most, self.refusals);
            self.refusals = self.refusals.saturating_add(1);
        }
    }
}

/// `first`, doubled so many times, at most `most`.
pub(crate) fn backoff(first: Duration, most: Duration, times: u32) -> Duration {
    first.checked_mul(2_u32.saturating_pow(times)).map_or(most, |wait| wait.min(most))
}
