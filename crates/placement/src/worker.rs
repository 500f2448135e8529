//! One worker: what it has, what it is promised for, and whether one more instance fits.

use hearth_types::{Time, WorkerId};

use crate::messages::{Capacity, Oversubscription, PlaceRequest, WorkerView};
use crate::no_room::Lack;

/// What an instance was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    memory_mb: u64,
    cpu_millis: u64,
}

impl From<&PlaceRequest> for Promise {
    fn from(request: &PlaceRequest) -> Self {
        Self { memory_mb: u64::from(request.memory_mb), cpu_millis: u64::from(request.cpu_millis) }
    }
}

/// A worker and the sum of its promises.
#[derive(Debug)]
pub(crate) struct Worker {
    capacity: Capacity,
    memory_limit_mb: u64,
    cpu_limit_millis: u64,
    instances: u32,
    memory_promised_mb: u64,
    cpu_promised_millis: u64,
    pub(crate) draining: bool,
    since: Time,
    last_placed: Time,
}

/// How good a worker is for an instance; the lowest wins. See [`Worker::score`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    memory_share: u64,
    last_placed: Time,
}

impl Worker {
    pub(crate) fn new(now: Time, capacity: Capacity, oversubscription: Oversubscription) -> Self {
        let mut worker = Self {
            capacity,
            memory_limit_mb: 0,
            cpu_limit_millis: 0,
            instances: 0,
            memory_promised_mb: 0,
            cpu_promised_millis: 0,
            draining: false,
            since: now,
            last_placed: Time::ZERO,
        };
        worker.set_limits(oversubscription);
        worker
    }

    /// Takes a new statement of what the worker has; promises stay.
    pub(crate) fn restate(&mut self, capacity: Capacity, oversubscription: Oversubscription) {
        self.capacity = capacity;
        self.draining = false;
        self.set_limits(oversubscription);
    }

    fn set_limits(&mut self, oversubscription: Oversubscription) {
        let times = |amount: u64, percent: u32| {
            let limit = u128::from(amount) * u128::from(percent) / 100;
            u64::try_from(limit).unwrap_or(u64::MAX)
        };
        self.memory_limit_mb = times(self.capacity.memory_mb, oversubscription.memory_percent);
        self.cpu_limit_millis = times(self.capacity.cpu_millis, oversubscription.cpu_percent);
    }

    /// The filters, one after the other: what the worker lacks for the instance, if anything.
    pub(crate) fn lack(&self, request: &PlaceRequest) -> Result<(), Lack> {
        let Promise { memory_mb, cpu_millis } = request.into();
        if self.draining {
            return Err(Lack::Draining);
        }
        if !self.capacity.isolations.contains(&request.isolation) {
            return Err(Lack::Isolation { needed: request.isolation });
        }
        if self.instances >= self.capacity.instances {
            return Err(Lack::Instances { placed: self.instances, limit: self.capacity.instances });
        }
        let (promised, limit) = (self.memory_promised_mb, self.memory_limit_mb);
        if promised.saturating_add(memory_mb) > limit {
            return Err(Lack::Memory { promised_mb: promised, limit_mb: limit, needed_mb: memory_mb });
        }
        let (promised, limit) = (self.cpu_promised_millis, self.cpu_limit_millis);
        if promised.saturating_add(cpu_millis) > limit {
            return Err(Lack::Cpu {
                promised_millis: promised,
                limit_millis: limit,
                needed_millis: cpu_millis,
            });
        }
        Ok(())
    }

    /// Whether the instance would fit if the worker had no other.
    pub(crate) fn fits_alone(&self, request: &PlaceRequest) -> bool {
        !self.draining
            && self.capacity.isolations.contains(&request.isolation)
            && self.capacity.instances > 0
            && u64::from(request.memory_mb) <= self.memory_limit_mb
            && u64::from(request.cpu_millis) <= self.cpu_limit_millis
    }

    /// The score: spread. The worker of whose memory the smallest share is promised wins, so that neighbours feel
    /// each other least; among equals the one that was given an instance longest ago.
    pub(crate) fn score(&self) -> Score {
        // In millionths, for an order that needs no floating point.
        let share = u128::from(self.memory_promised_mb) * 1_000_000 / u128::from(self.memory_limit_mb.max(1));
        Score { memory_share: u64::try_from(share).unwrap_or(u64::MAX), last_placed: self.last_placed }
    }

    pub(crate) fn promise(&mut self, now: Time, promise: Promise) {
        self.instances += 1;
        self.memory_promised_mb += promise.memory_mb;
        self.cpu_promised_millis += promise.cpu_millis;
        self.last_placed = now;
    }

    pub(crate) fn take_back(&mut self, promise: Promise) {
        self.instances -= 1;
        self.memory_promised_mb -= promise.memory_mb;
        self.cpu_promised_millis -= promise.cpu_millis;
    }

    pub(crate) const fn view<'a>(&'a self, id: &'a WorkerId) -> WorkerView<'a> {
        WorkerView {
            id,
            capacity: &self.capacity,
            instances: self.instances,
            memory_promised_mb: self.memory_promised_mb,
            memory_limit_mb: self.memory_limit_mb,
            cpu_promised_millis: self.cpu_promised_millis,
            cpu_limit_millis: self.cpu_limit_millis,
            draining: self.draining,
            since: self.since,
        }
    }
}
