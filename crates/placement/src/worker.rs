//! One worker: what it has, what it is promised for, and whether one more instance fits.

use std::collections::VecDeque;

use hearth_types::{InstanceId, Time, WorkerId};

use crate::messages::{
    Capacity, MAX_INSTANCES_PER_WORKER, MAX_LABELS, Oversubscription, PlaceRequest, WorkerView,
};
use crate::no_room::Lack;
use crate::pressure::PressureLevel;
use crate::random::Seeded;
use crate::room::{Room, isolation_bit, label_bits, wanted_bits};

/// What an instance was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    memory_mb: u32,
    cpu_millis: u32,
}

impl From<&PlaceRequest> for Promise {
    fn from(request: &PlaceRequest) -> Self {
        Self { memory_mb: request.memory_mb, cpu_millis: request.cpu_millis }
    }
}

/// A worker and the sum of its promises. The sums cannot overflow: no more than 2^32 amounts of 32 bits each.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    capacity: Capacity,
    /// The bits of its drivers and labels in the indexes, so that the way of a request neither hashes nor searches.
    isolation_bits: u32,
    label_bits: u64,
    memory_limit_mb: u64,
    cpu_limit_millis: u64,
    memory_promised_mb: u64,
    cpu_promised_millis: u64,
    /// In no order.
    pub(crate) instances: Vec<InstanceId>,
    /// Hashes of the digests of its images, that noted longest ago first.
    pub(crate) images: VecDeque<u64>,
    pub(crate) draining: bool,
    pressure: PressureLevel,
    /// Memory of instances that ended since the worker was pressed, MiB: as much may be placed in their stead.
    replaceable_mb: u64,
    since: Time,
    last_placed: Time,
}

impl Worker {
    pub(crate) fn new(
        now: Time,
        id: WorkerId,
        capacity: Capacity,
        oversubscription: Oversubscription,
        hash: Seeded,
    ) -> Self {
        let mut worker = Self {
            id,
            capacity: Capacity::default(),
            isolation_bits: 0,
            label_bits: 0,
            memory_limit_mb: 0,
            cpu_limit_millis: 0,
            memory_promised_mb: 0,
            cpu_promised_millis: 0,
            instances: Vec::new(),
            images: VecDeque::new(),
            draining: false,
            pressure: PressureLevel::None,
            replaceable_mb: 0,
            since: now,
            last_placed: Time::ZERO,
        };
        worker.restate(capacity, oversubscription, hash);
        worker
    }

    /// Takes a new statement of what the worker has, cut to what is sane; promises stay.
    pub(crate) fn restate(
        &mut self,
        mut capacity: Capacity,
        oversubscription: Oversubscription,
        hash: Seeded,
    ) {
        capacity.instances = capacity.instances.min(MAX_INSTANCES_PER_WORKER);
        while capacity.labels.len() > MAX_LABELS {
            capacity.labels.pop_last();
        }
        capacity.isolations.sort_unstable_by_key(|&isolation| isolation_bit(isolation));
        capacity.isolations.dedup();
        let times = |amount: u64, percent: u32, most: u32| {
            let limit = u128::from(amount) * u128::from(percent.min(most)) / 100;
            u64::try_from(limit).unwrap_or(u64::MAX)
        };
        let Oversubscription { memory_percent, cpu_percent } = oversubscription;
        self.memory_limit_mb =
            times(capacity.memory_mb, memory_percent, Oversubscription::MAX_MEMORY_PERCENT);
        self.cpu_limit_millis = times(capacity.cpu_millis, cpu_percent, Oversubscription::MAX_CPU_PERCENT);
        self.isolation_bits =
            capacity.isolations.iter().fold(0, |bits, &isolation| bits | isolation_bit(isolation));
        self.label_bits = label_bits(hash, &capacity.labels);
        self.capacity = capacity;
        self.draining = false;
        self.pressure = PressureLevel::None;
    }

    /// Takes note of how hard the worker is pressed.
    pub(crate) fn press(&mut self, level: PressureLevel) {
        if self.pressure == PressureLevel::None || level == PressureLevel::Evict {
            self.replaceable_mb = 0;
        }
        self.pressure = level;
    }

    /// Memory that may be placed on the worker for all that pressure says, MiB. While it takes no new instances, some may
    /// still come in the stead of others that ended, or a request would be turned away for the sake of idle ones; but
    /// not while even idle ones are ended to have their memory.
    const fn bearable_mb(&self) -> u64 {
        match self.pressure {
            PressureLevel::None => u64::MAX,
            PressureLevel::StopPlacing | PressureLevel::Hibernate => self.replaceable_mb,
            PressureLevel::Evict => 0,
        }
    }

    /// What is asked of a worker whatever is placed on it.
    fn unsuited(&self, request: &PlaceRequest) -> Option<Lack> {
        if self.draining {
            return Some(Lack::Draining);
        }
        if self.isolation_bits & wanted_bits(request.isolation) == 0 {
            return Some(Lack::Isolation { needed: request.isolation });
        }
        let has = |(name, value): (&String, _)| self.capacity.labels.get(name) == Some(value);
        (!request.labels.iter().all(has)).then_some(Lack::Labels)
    }

    /// The filters, one after the other: what the worker lacks for the instance, if anything.
    pub(crate) fn lack(&self, request: &PlaceRequest) -> Result<(), Lack> {
        if let Some(lack) = self.unsuited(request) {
            return Err(lack);
        }
        if self.pressure == PressureLevel::Evict || u64::from(request.memory_mb) > self.bearable_mb() {
            return Err(Lack::Pressure { level: self.pressure });
        }
        if self.count() >= self.capacity.instances {
            return Err(Lack::Instances { placed: self.count(), limit: self.capacity.instances });
        }
        let (promised_mb, limit_mb) = (self.memory_promised_mb, self.memory_limit_mb);
        let needed_mb = u64::from(request.memory_mb);
        if promised_mb + needed_mb > limit_mb {
            return Err(Lack::Memory { promised_mb, limit_mb, needed_mb });
        }
        let (promised_millis, limit_millis) = (self.cpu_promised_millis, self.cpu_limit_millis);
        let needed_millis = u64::from(request.cpu_millis);
        if promised_millis + needed_millis > limit_millis {
            return Err(Lack::Cpu { promised_millis, limit_millis, needed_millis });
        }
        Ok(())
    }

    /// Whether the instance would fit if the worker had no other and were not pressed.
    pub(crate) fn fits_alone(&self, request: &PlaceRequest) -> bool {
        self.unsuited(request).is_none()
            && self.capacity.instances > 0
            && u64::from(request.memory_mb) <= self.memory_limit_mb
            && u64::from(request.cpu_millis) <= self.cpu_limit_millis
    }

    /// What is free for instances.
    pub(crate) fn free(&self) -> Room {
        let evicts = self.pressure == PressureLevel::Evict;
        if self.draining || evicts || self.count() >= self.capacity.instances {
            return Room::default();
        }
        let memory = self.memory_limit_mb.saturating_sub(self.memory_promised_mb).min(self.bearable_mb());
        let cpu = self.cpu_limit_millis.saturating_sub(self.cpu_promised_millis);
        Room::new(memory, cpu, self.isolation_bits, self.label_bits)
    }

    /// What would be free if the worker had no instance and were not pressed.
    pub(crate) fn whole(&self) -> Room {
        if self.draining || self.capacity.instances == 0 {
            return Room::default();
        }
        Room::new(self.memory_limit_mb, self.cpu_limit_millis, self.isolation_bits, self.label_bits)
    }

    /// The larger of the shares of memory and CPU that are promised, in thousandths of what may be.
    pub(crate) fn load(&self) -> u64 {
        let share = |promised: u64, limit: u64| promised.saturating_mul(1_000) / limit.max(1);
        share(self.memory_promised_mb, self.memory_limit_mb)
            .max(share(self.cpu_promised_millis, self.cpu_limit_millis))
            .min(1_000)
    }

    pub(crate) const fn last_placed(&self) -> Time {
        self.last_placed
    }

    /// Records an instance, and says at which place of [`Worker::instances`] it is.
    pub(crate) fn promise(&mut self, now: Time, instance: InstanceId, promise: Promise) -> usize {
        self.memory_promised_mb += u64::from(promise.memory_mb);
        self.cpu_promised_millis += u64::from(promise.cpu_millis);
        self.replaceable_mb = self.replaceable_mb.saturating_sub(u64::from(promise.memory_mb));
        self.last_placed = now;
        self.instances.push(instance);
        self.instances.len() - 1
    }

    /// Takes the instance at a place of [`Worker::instances`] out, and says which one is there now.
    pub(crate) fn take_back(&mut self, place: usize, promise: Promise) -> Option<InstanceId> {
        self.memory_promised_mb -= u64::from(promise.memory_mb);
        self.cpu_promised_millis -= u64::from(promise.cpu_millis);
        if matches!(self.pressure, PressureLevel::StopPlacing | PressureLevel::Hibernate) {
            self.replaceable_mb += u64::from(promise.memory_mb);
        }
        self.instances.swap_remove(place);
        self.instances.get(place).copied()
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.instances.len()).unwrap_or(u32::MAX)
    }

    pub(crate) const fn is_drained(&self) -> bool {
        self.draining && self.instances.is_empty()
    }

    pub(crate) fn view(&self) -> WorkerView<'_> {
        WorkerView {
            id: &self.id,
            capacity: &self.capacity,
            instances: self.count(),
            memory_promised_mb: self.memory_promised_mb,
            memory_limit_mb: self.memory_limit_mb,
            cpu_promised_millis: self.cpu_promised_millis,
            cpu_limit_millis: self.cpu_limit_millis,
            draining: self.draining,
            drained: self.is_drained(),
            pressure: self.pressure,
            replaceable_mb: self.replaceable_mb,
            images: self.images.len(),
            since: self.since,
        }
    }
}
