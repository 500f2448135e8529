//! Blanks: how many of each kind there should be, and which there are.
//!
//! ```text
//!              MakeBlank              ready (W)           taken by a start (P)
//!   (nothing) -----------> Making ---------------> Ready ----------------------> (an instance's sandbox)
//!      start of that kind    |                       |
//!                            | memory short, room wanted, not needed, drained, stopping (M, S)
//!                            v                       v
//!                          Ending -----------------------> Gone      (and from every state, when its worker says so)
//! ```
//! Letters as in [`crate::instance`]. A kind of which an instance was started lately is kept as many blanks of as were wanted
//! within one second, at most so many as the settings say. They are made when starts have come to rest, so that they never compete
//! with one; nobody ever waits for one.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_types::{BlankKind, InstanceId, Time, WorkerId};

/// Kinds that blanks are kept of; of more, those go that were wanted longest ago.
const MOST_KINDS: usize = 8;
/// Blanks that are made at once.
const AT_ONCE: usize = 2;
/// Starts within this time count as one burst.
const BURST: Duration = Duration::from_secs(1);
/// For so long, a burst is expected to come again.
const BURST_MEMORY: Duration = Duration::from_secs(300);
/// For so long after a start, blanks of its kind are kept.
const MEMORY: Duration = Duration::from_secs(900);
/// Starts have come to rest when there was none for this time.
const REST: Duration = Duration::from_millis(250);
/// But blanks are made again after this time, however many starts there are.
const LONGEST_REST: Duration = Duration::from_secs(2);
/// No blanks are made for this time after memory was short or there was no room.
const SHORTAGE: Duration = Duration::from_secs(10);
/// Time until it is tried again, after one could not be made; doubles with each one more, up to the last.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];

/// A place in the chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlankState {
    /// Being placed and made.
    Making,
    /// An instance can be made of it.
    Ready,
    /// Its worker was told to end it, or will be as soon as it is known.
    Ending,
}

#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) kind: BlankKind,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) state: BlankState,
    pub(crate) since: Time,
}

/// What is known of the starts of one kind.
#[derive(Debug)]
struct Demand {
    last: Time,
    burst_began: Time,
    burst: u32,
    peak: u32,
    peak_at: Time,
    failures: u32,
    retry_at: Time,
}

/// All blanks of one manager.
#[derive(Debug)]
pub(crate) struct Blanks {
    /// Most of one kind; none are made if it is zero.
    most: u32,
    demand: BTreeMap<BlankKind, Demand>,
    pub(crate) all: BTreeMap<InstanceId, Blank>,
    /// When starts will have come to rest, and when that is not waited for any longer.
    rest: Option<(Time, Time)>,
    /// Until when there is a shortage.
    shortage: Time,
    /// The time of their entry among the timers, if they have one.
    pub(crate) timer: Option<Time>,
}

impl Blanks {
    pub(crate) const fn new(most: u32) -> Self {
        Self {
            most,
            demand: BTreeMap::new(),
            all: BTreeMap::new(),
            rest: None,
            shortage: Time::ZERO,
            timer: None,
        }
    }

    /// An instance of that kind is started, of a blank or not.
    pub(crate) fn wanted(&mut self, now: Time, kind: BlankKind) {
        let latest = self.rest.map_or(now + LONGEST_REST, |(_, latest)| latest);
        self.rest = Some(((now + REST).min(latest), latest));
        let demand = self.demand.entry(kind).or_insert_with(|| Demand {
            last: now,
            burst_began: now,
            burst: 0,
            peak: 0,
            peak_at: now,
            failures: 0,
            retry_at: Time::ZERO,
        });
        demand.last = now;
        if now - demand.burst_began > BURST {
            demand.burst_began = now;
            demand.burst = 0;
        }
        demand.burst = demand.burst.saturating_add(1);
        if demand.burst >= demand.peak || now - demand.peak_at > BURST_MEMORY {
            demand.peak = demand.burst;
            demand.peak_at = now;
        }
        while self.demand.len() > MOST_KINDS {
            let oldest = self.demand.iter().min_by_key(|(_, demand)| demand.last);
            let Some(oldest) = oldest.map(|(kind, _)| kind.clone()) else { break };
            self.demand.remove(&oldest);
        }
    }

    /// How many of a kind there should be.
    fn target(&self, now: Time, kind: &BlankKind) -> usize {
        let Some(demand) = self.demand.get(kind) else { return 0 };
        let lately = now - demand.peak_at <= BURST_MEMORY;
        (if lately { demand.peak.min(self.most) } else { 1 }) as usize
    }

    fn held(&self, kind: &BlankKind) -> usize {
        let of_kind = self.all.values().filter(|blank| blank.kind == *kind);
        of_kind.filter(|blank| blank.state != BlankState::Ending).count()
    }

    fn making(&self) -> usize {
        self.all.values().filter(|blank| blank.state == BlankState::Making).count()
    }

    /// Forgets kinds that were wanted too long ago, and says which blanks nobody will need.
    pub(crate) fn surplus(&mut self, now: Time) -> Vec<InstanceId> {
        self.demand.retain(|_, demand| now - demand.last < MEMORY);
        let mut kept = BTreeMap::<&BlankKind, usize>::new();
        let ready = self.all.iter().filter(|(_, blank)| blank.state == BlankState::Ready);
        let surplus = ready.filter(|(_, blank)| {
            let kept = kept.entry(&blank.kind).or_default();
            *kept += 1;
            *kept > self.target(now, &blank.kind)
        });
        surplus.map(|(id, _)| *id).collect()
    }

    /// A kind of which one is missing and may be made now.
    pub(crate) fn missing(&mut self, now: Time) -> Option<BlankKind> {
        if self.rest.is_some_and(|(rest, _)| rest <= now) {
            self.rest = None;
        }
        if self.rest.is_some() || now < self.shortage || self.making() >= AT_ONCE {
            return None;
        }
        let missing = |(kind, demand): &(&BlankKind, &Demand)| {
            demand.retry_at <= now && self.held(kind) < self.target(now, kind)
        };
        self.demand.iter().find(missing).map(|(kind, _)| kind.clone())
    }

    /// When it is to be looked again for surplus and missing ones, if nothing happens before.
    pub(crate) fn next_look(&self, now: Time) -> Option<Time> {
        let forgotten = self.demand.values().map(|demand| demand.last + MEMORY);
        let shrunk = self.demand.values().map(|demand| demand.peak_at + BURST_MEMORY + BURST);
        let wanting = self.demand.iter().filter(|(kind, _)| self.held(kind) < self.target(now, kind));
        let rest = self.rest.map_or(Time::ZERO, |(rest, _)| rest);
        let made = wanting.map(|(_, demand)| demand.retry_at.max(self.shortage).max(rest));
        forgotten
            .chain(shrunk)
            .chain(made)
            .chain(self.rest.map(|(rest, _)| rest))
            .filter(|at| *at > now)
            .min()
    }

    /// One is being made.
    pub(crate) fn add(&mut self, now: Time, id: InstanceId, kind: BlankKind) {
        self.all.insert(id, Blank { kind, worker: None, state: BlankState::Making, since: now });
    }

    pub(crate) fn ready(&mut self, id: InstanceId) {
        if let Some(blank) = self.all.get_mut(&id)
            && blank.state == BlankState::Making
        {
            blank.state = BlankState::Ready;
            if let Some(demand) = self.demand.get_mut(&blank.kind) {
                demand.failures = 0;
            }
        }
    }

    /// One could not be made.
    pub(crate) fn failed(&mut self, now: Time, kind: &BlankKind) {
        if let Some(demand) = self.demand.get_mut(kind) {
            let [first, last] = RETRY;
            let doubled = first.saturating_mul(2_u32.saturating_pow(demand.failures));
            demand.failures = demand.failures.saturating_add(1);
            demand.retry_at = now + doubled.min(last);
        }
    }

    /// There is no memory or no room to spare.
    pub(crate) fn shortage(&mut self, now: Time) {
        self.shortage = now + SHORTAGE;
    }

    /// One that is not ending yet, rather a ready one, for that ends sooner.
    pub(crate) fn first_to_go(&self) -> Option<InstanceId> {
        let of_state = |state| self.all.iter().find(|(_, blank)| blank.state == state);
        of_state(BlankState::Ready).or_else(|| of_state(BlankState::Making)).map(|(id, _)| *id)
    }

    /// Those of a worker, or all, that are not ending.
    pub(crate) fn of_worker(&self, worker: Option<&WorkerId>) -> Vec<InstanceId> {
        let theirs = |blank: &Blank| worker.is_none() || blank.worker.as_ref() == worker;
        let kept = self.all.iter().filter(|(_, blank)| blank.state != BlankState::Ending && theirs(blank));
        kept.map(|(id, _)| *id).collect()
    }

    /// Forgets all that was learned.
    pub(crate) fn stop(&mut self) {
        self.most = 0;
        self.demand.clear();
        self.rest = None;
    }
}
