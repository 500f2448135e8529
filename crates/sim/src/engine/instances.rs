//! The instances as the workers have them.

use hearth_types::InstanceId;

use crate::by_count::ByCount;
use crate::engine::books::Held;

/// Where in its life an instance is, for its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Ready,
    Ending,
}

/// One instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instance {
    pub(super) id: InstanceId,
    pub(super) function: u32,
    pub(super) worker: u32,
    pub(super) memory_mb: u32,
    /// Requests in it.
    pub(super) load: u32,
    /// How often its place was used before.
    pub(super) generation: u32,
    pub(super) phase: Phase,
    /// Whether it hibernates.
    pub(super) asleep: bool,
    /// Whether its init phase failed, and was not done again yet.
    pub(super) init_failed: bool,
    there: bool,
}

impl Instance {
    /// What its memory is held for.
    pub(super) const fn held(&self) -> Held {
        match self.phase {
            Phase::Starting => Held::Starting,
            _ if self.load > 0 => Held::Busy,
            Phase::Ready | Phase::Ending => Held::Idle,
        }
    }
}

/// All instances; places are used again.
#[derive(Debug, Default)]
pub(super) struct Instances {
    places: Vec<Instance>,
    free: Vec<u32>,
    by_id: ByCount<InstanceId, u32>,
}

impl Instances {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn find(&self, id: InstanceId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn entry(&mut self, key: u32) -> &mut Instance {
        &mut self.places[key as usize]
    }

    pub(super) fn worker(&self, key: u32) -> Option<u32> {
        self.places.get(key as usize).filter(|entry| entry.there).map(|entry| entry.worker)
    }

    /// The instance, unless its place has another by now.
    pub(super) fn of_generation(&mut self, key: u32, generation: u32) -> Option<&mut Instance> {
        self.places.get_mut(key as usize).filter(|entry| entry.there && entry.generation == generation)
    }

    /// Adds a starting instance: its place and generation.
    pub(super) fn add(&mut self, id: InstanceId, function: u32, worker: u32, memory_mb: u32) -> (u32, u32) {
        let key = self.free.pop().unwrap_or_else(|| u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        let generation = self.places.get(key as usize).map_or(0, |old| old.generation.wrapping_add(1));
        let there = true;
        let phase = Phase::Starting;
        let (load, asleep, init_failed) = (0, false, false);
        let entry =
            Instance { id, function, worker, memory_mb, load, generation, phase, asleep, init_failed, there };
        match self.places.get_mut(key as usize) {
            Some(place) => *place = entry,
            None => self.places.push(entry),
        }
        self.by_id.insert(id, key);
        (key, generation)
    }

    pub(super) fn remove(&mut self, key: u32) {
        let entry = &mut self.places[key as usize];
        if entry.there {
            entry.there = false;
            self.by_id.remove(&entry.id);
            self.free.push(key);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Instance> {
        self.places.iter().filter(|entry| entry.there)
    }

    /// The places of a worker's instances.
    pub(super) fn of_worker(&self, worker: u32) -> Vec<u32> {
        let places = (0..).zip(&self.places);
        places.filter(|(_, entry)| entry.there && entry.worker == worker).map(|(key, _)| key).collect()
    }
}
