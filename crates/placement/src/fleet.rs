//! All workers, each in a slot that stays its own while it is there, with the indexes that find them.

use std::collections::BTreeMap;

use hearth_types::{Time, WorkerId};

use crate::images::Images;
use crate::messages::{Capacity, MAX_WORKERS, Oversubscription, PlaceRequest};
use crate::random::{Mixed, Seeded};
use crate::room::{Found, Room, RoomTree, label_bits, wanted_bits};
use crate::worker::Worker;

/// Most requests remembered that no worker has room for.
const BARREN: usize = 8;
/// A search that looked at more nodes than this and found nothing is remembered.
const LONG_SEARCH: usize = 64;

/// The workers and where to find them.
#[derive(Debug)]
pub(crate) struct Fleet {
    slots: Vec<Option<Worker>>,
    empty: Vec<usize>,
    names: BTreeMap<WorkerId, usize>,
    /// What each has free.
    free: RoomTree,
    /// What each would have free without instances and pressure.
    whole: RoomTree,
    pub(crate) images: Images,
    /// Requests for which a long search found that no worker fits; each leaves as soon as one does.
    barren: Vec<PlaceRequest>,
    hash: Seeded,
}

impl Fleet {
    pub(crate) fn new(hash: Seeded, numbers: Mixed) -> Self {
        Self {
            slots: Vec::new(),
            empty: Vec::new(),
            names: BTreeMap::new(),
            free: RoomTree::new(),
            whole: RoomTree::new(),
            images: Images::new(numbers),
            barren: Vec::new(),
            hash,
        }
    }

    /// How many workers there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// How many slots there are, empty ones included.
    pub(crate) const fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Worker> {
        self.slots.get(slot)?.as_ref()
    }

    /// Changes what the worker in `slot` is promised, and then what the index says is free.
    pub(crate) fn change<T>(&mut self, slot: usize, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let worker = self.slots.get_mut(slot)?.as_mut()?;
        let result = change(worker);
        self.free.set(slot, worker.free());
        self.barren.retain(|request| worker.lack(request).is_err());
        Some(result)
    }

    /// Changes on what terms the worker in `slot` takes instances, and then what the indexes say.
    pub(crate) fn change_terms(&mut self, slot: usize, change: impl FnOnce(&mut Worker)) {
        self.change(slot, change);
        let whole = self.get(slot).map(Worker::whole).unwrap_or_default();
        self.whole.set(slot, whole);
    }

    /// Changes which images the worker in `slot` is known to have.
    pub(crate) fn note_image(&mut self, slot: usize, image: u64, has: bool) {
        if let Some(Some(worker)) = self.slots.get_mut(slot)
            && let Ok(slot) = u32::try_from(slot)
        {
            if has {
                self.images.add(slot, &mut worker.images, image);
            } else {
                self.images.remove(slot, &mut worker.images, image);
            }
        }
    }

    pub(crate) fn slot_of(&self, worker: &WorkerId) -> Option<usize> {
        self.names.get(worker).copied()
    }

    pub(crate) fn by_name(&self) -> impl Iterator<Item = &Worker> {
        self.names.values().filter_map(|&slot| self.get(slot))
    }

    pub(crate) fn join(
        &mut self,
        now: Time,
        worker: WorkerId,
        capacity: Capacity,
        oversubscription: Oversubscription,
    ) {
        if let Some(slot) = self.slot_of(&worker) {
            let hash = self.hash;
            self.change_terms(slot, |worker| worker.restate(capacity, oversubscription, hash));
            return;
        }
        if self.names.len() >= MAX_WORKERS {
            return;
        }
        let slot = self.empty.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.names.insert(worker.clone(), slot);
        self.slots[slot] = Some(Worker::new(now, worker, capacity, oversubscription, self.hash));
        self.change_terms(slot, |_| ());
    }

    /// Takes a worker out, with the slot that it had.
    pub(crate) fn leave(&mut self, worker: &WorkerId) -> Option<(usize, Worker)> {
        let slot = self.names.remove(worker)?;
        let worker = self.slots[slot].take()?;
        self.free.set(slot, Room::default());
        self.whole.set(slot, Room::default());
        if let Ok(slot) = u32::try_from(slot) {
            worker.images.iter().for_each(|&image| self.images.forget(slot, image));
        }
        self.empty.push(slot);
        Some((slot, worker))
    }

    /// A worker that the instance fits on. It is found if there is one; `turns` says which way to look first.
    pub(crate) fn find(&mut self, request: &PlaceRequest, need: &Room, turns: u64) -> Option<usize> {
        if self.barren.iter().any(|barren| asks_no_less(request, barren)) {
            return None;
        }
        let fits = |slot| self.get(slot).is_some_and(|worker| worker.lack(request).is_ok());
        let Found { slot, visited } = self.free.find(need, turns, fits);
        if slot.is_none() && visited > LONG_SEARCH {
            if self.barren.len() >= BARREN {
                self.barren.remove(0);
            }
            self.barren.push(request.clone());
        }
        slot
    }

    /// Whether the instance would fit on a worker without others and without pressure.
    pub(crate) fn fits_alone(&self, request: &PlaceRequest) -> bool {
        let fits = |slot| self.get(slot).is_some_and(|worker| worker.fits_alone(request));
        self.whole.find(&self.need(request), 0, fits).slot.is_some()
    }

    /// The slot with the most memory left.
    pub(crate) fn roomiest(&self) -> usize {
        self.free.roomiest()
    }

    /// The worker in `slot`, unless the index says that it has no room.
    pub(crate) fn get_with_room(&self, slot: usize, need: &Room) -> Option<&Worker> {
        // The index is small enough to stay in the processor's caches; the workers are not.
        if self.free.may_hold(slot, need) { self.get(slot) } else { None }
    }

    pub(crate) fn need(&self, request: &PlaceRequest) -> Room {
        Room::new(
            u64::from(request.memory_mb),
            u64::from(request.cpu_millis),
            wanted_bits(request.isolation),
            label_bits(self.hash, &request.labels),
        )
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.images.is_empty() && self.slots.iter().all(Option::is_none)
    }
}

/// Whether a worker that fits `request` fits `other` as well.
fn asks_no_less(request: &PlaceRequest, other: &PlaceRequest) -> bool {
    (other.isolation.is_none() || request.isolation == other.isolation)
        && request.memory_mb >= other.memory_mb
        && request.cpu_millis >= other.cpu_millis
        && other.labels.iter().all(|(name, value)| request.labels.get(name) == Some(value))
}
