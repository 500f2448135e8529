//! The machine: the choice of a worker, and the book of promises.
//!
//! **Who is looked at.** With a handful of workers, all. With more, a few that have the image and a few at random: the
//! best of two or more random choices is nearly as good as the best of all ("The Power of Two Choices in Randomized Load
//! Balancing", Mitzenmacher 2001), at a cost that does not depend on how many there are. If none of them fits, a search
//! for room finds one if there is one at all.
//!
//! **Who is chosen.** The worker with the lowest cost, in thousandths of a worker:
//!
//! | term | why |
//! |---|---|
//! | load, the larger of the promised shares of memory and CPU; with [`Packing::Tight`] the emptiness instead | balanced workers stall last when more is promised than there is, and a burst starts on many machines; tight packing leaves whole workers empty, for large instances or to be switched off |
//! | [`FETCH`] if the image is not there | a cold start waits for a fetch |
//! | [`SAME_FUNCTION`] for each instance of the function there, up to [`MOST_SAME`] | a worker that dies takes fewer instances of one function along |
//!
//! A second instance joins the first, where the image is; the third goes elsewhere if the loads are alike. Among equals
//! the worker that was given an instance longest ago wins, then the lowest slot.

mod blanks;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;

use hearth_types::{CodeDigest, InstanceId, Time, WorkerId};

use blanks::Blanks;

use crate::fleet::Fleet;
use crate::messages::{Event, MAX_INSTANCES_PER_WORKER, PlaceRequest, WorkerView};
use crate::no_room::NoRoom;
use crate::random::{Mixed, NumberMap, Random, Seeded};
use crate::room::Room;
use crate::worker::{Promise, Worker};

/// Up to so many slots, every worker is looked at.
const FEW: usize = 16;
/// Workers with the image that are looked at.
const WITH_IMAGE: usize = 2;
/// Workers that are drawn from all.
const AT_RANDOM: usize = 2;
/// Workers that are searched for when none of those drawn fits.
const SEARCHED: usize = 2;
/// Workers that are looked at for the reasons of a refusal.
const EXPLAINED: usize = 64;

/// Cost of a worker that does not have the image.
const FETCH: u64 = 150;
/// Cost of each instance of the same function.
const SAME_FUNCTION: u64 = 100;
/// Instances of the same function that count.
const MOST_SAME: u64 = 5;

/// What of two workers that are alike but for their load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// The emptier one.
    #[default]
    Even,
    /// The fuller one.
    Tight,
}

/// Where an instance is.
#[derive(Debug)]
struct Placed {
    slot: usize,
    /// Its place among the worker's instances.
    place: usize,
    promise: Promise,
    function: u64,
}

/// A request in the words of the indexes.
struct Asked<'a> {
    request: &'a PlaceRequest,
    need: Room,
    function: u64,
    image: u64,
}

/// How good a worker is for an instance; the lowest wins.
type Score = (u64, Time, usize);

/// All workers, and what each is promised for.
#[derive(Debug)]
pub struct Placement {
    fleet: Fleet,
    placed: NumberMap<InstanceId, Placed>,
    /// How many instances of a function, by its hash, a slot's worker has.
    together: NumberMap<(usize, u64), u32>,
    /// Where the last instance went: with [`Packing::Tight`] always looked at again.
    last: usize,
    packing: Packing,
    random: Random,
    hash: Seeded,
    blanks: Blanks,
}

impl Default for Placement {
    fn default() -> Self {
        Self::with_seed(0, Packing::default())
    }
}

impl Placement {
    /// A placement that knows of no worker, with seed zero and even packing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A placement that knows of no worker. The same seed makes the same choices; one that tenants do not know keeps
    /// them from making names that slow it down.
    #[must_use]
    pub fn with_seed(seed: u64, packing: Packing) -> Self {
        let mut random = Random::new(seed);
        let (hash, numbers) = (Seeded::new(random.next()), Mixed::new(random.next()));
        Self {
            fleet: Fleet::new(hash, numbers),
            placed: NumberMap::with_hasher(numbers),
            together: NumberMap::with_hasher(numbers),
            last: 0,
            packing,
            random,
            hash,
            blanks: Blanks::default(),
        }
    }

    /// Chooses a worker for an instance and records the promise. Asked again for the same instance, it gives the same
    /// worker and promises nothing twice.
    ///
    /// # Errors
    /// When no worker has room, with the reasons; nothing is recorded then.
    pub fn place(&mut self, now: Time, request: &PlaceRequest) -> Result<WorkerId, NoRoom> {
        let known = self.placed.get(&request.instance).map(|placed| placed.slot);
        let slot = known.or_else(|| {
            let slot = self.choose(&self.asked(request))?;
            self.place_in(now, slot, request);
            Some(slot)
        });
        match slot.and_then(|slot| self.fleet.get(slot)) {
            Some(worker) => Ok(worker.id.clone()),
            None => Err(self.no_room(request)),
        }
    }

    /// Takes note of what happened. Late, repeated and unknown events are ignored.
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::WorkerJoined { worker, capacity, oversubscription } => {
                self.fleet.join(now, worker, capacity, oversubscription);
            }
            Event::WorkerDraining { worker } => {
                if let Some(slot) = self.fleet.slot_of(&worker) {
                    self.fleet.change_terms(slot, |worker| worker.draining = true);
                }
            }
            Event::WorkerLeft { worker } => self.left(&worker),
            Event::PressureChanged { worker, level } => {
                if let Some(slot) = self.fleet.slot_of(&worker) {
                    self.fleet.change_terms(slot, |worker| worker.press(level));
                }
            }
            Event::ImageCached { worker, code } => self.note_image(&worker, code, true),
            Event::ImageDropped { worker, code } => self.note_image(&worker, code, false),
            Event::InstanceFound { worker, request } => self.found(now, &worker, &request),
            Event::InstanceEnded { instance } => self.ended(instance),
            Event::BlankReady { blank, kind } => {
                if self.placed.contains_key(&blank) {
                    self.blanks.add(blank, kind);
                }
            }
            Event::BlankWithdrawn { blank } => self.blanks.remove(blank),
        }
    }

    /// The workers, by name.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView<'_>> {
        self.fleet.by_name().map(Worker::view)
    }

    /// One worker, if it is there.
    #[must_use]
    pub fn worker(&self, worker: &WorkerId) -> Option<WorkerView<'_>> {
        Some(self.fleet.get(self.fleet.slot_of(worker)?)?.view())
    }

    /// Whether a worker drains and has nothing left, so that it may go. One that is not there has nothing left either.
    #[must_use]
    pub fn is_drained(&self, worker: &WorkerId) -> bool {
        self.worker(worker).is_none_or(|view| view.drained)
    }

    /// The worker that an instance was placed on.
    #[must_use]
    pub fn worker_of(&self, instance: InstanceId) -> Option<&WorkerId> {
        Some(&self.fleet.get(self.placed.get(&instance)?.slot)?.id)
    }

    fn asked<'a>(&self, request: &'a PlaceRequest) -> Asked<'a> {
        Asked {
            request,
            need: self.fleet.need(request),
            function: self.hash.hash_one(&request.function),
            image: self.hash.hash_one(request.code),
        }
    }

    /// Puts an instance on the worker in a slot, which has or gets its image.
    fn place_in(&mut self, now: Time, slot: usize, request: &PlaceRequest) {
        self.put(now, slot, request, self.hash.hash_one(&request.function));
        self.fleet.note_image(slot, self.hash.hash_one(request.code), true);
        self.last = slot;
    }

    fn choose(&mut self, asked: &Asked<'_>) -> Option<usize> {
        let slots = self.fleet.slots();
        if slots <= FEW {
            return self.best_of(asked, 0..slots);
        }
        let holders = self.fleet.images.holders(asked.image);
        let mut drawn = [None; WITH_IMAGE + AT_RANDOM + 1];
        for draw in &mut drawn[..WITH_IMAGE] {
            *draw = holders.get(self.random.below(holders.len())).map(|&slot| slot as usize);
        }
        for draw in &mut drawn[WITH_IMAGE..WITH_IMAGE + AT_RANDOM] {
            *draw = Some(self.random.below(slots));
        }
        if self.packing == Packing::Tight {
            drawn[WITH_IMAGE + AT_RANDOM] = Some(self.last);
        }
        self.best_of(asked, drawn.into_iter().flatten()).or_else(|| {
            let found =
                [(); SEARCHED].map(|()| self.fleet.find(asked.request, &asked.need, self.random.next()));
            self.best_of(asked, found.into_iter().flatten())
        })
    }

    /// The best of those in the slots that the instance fits on.
    fn best_of(&self, asked: &Asked<'_>, slots: impl Iterator<Item = usize>) -> Option<usize> {
        let holders = self.fleet.images.holders(asked.image);
        slots.filter_map(|slot| self.score(asked, holders, slot)).min().map(|(_, _, slot)| slot)
    }

    fn score(&self, asked: &Asked<'_>, holders: &[u32], slot: usize) -> Option<Score> {
        let worker = self.fleet.get_with_room(slot, &asked.need)?;
        worker.lack(asked.request).ok()?;
        let load = match self.packing {
            Packing::Even => worker.load(),
            Packing::Tight => 1_000 - worker.load(),
        };
        let has = u32::try_from(slot).is_ok_and(|slot| holders.binary_search(&slot).is_ok());
        let same = u64::from(self.together.get(&(slot, asked.function)).copied().unwrap_or(0));
        let cost = load + if has { 0 } else { FETCH } + same.min(MOST_SAME) * SAME_FUNCTION;
        Some((cost, worker.last_placed(), slot))
    }

    fn put(&mut self, now: Time, slot: usize, request: &PlaceRequest, function: u64) {
        self.promise(now, slot, request.instance, Promise::from(request), function);
    }

    fn promise(&mut self, now: Time, slot: usize, instance: InstanceId, promise: Promise, function: u64) {
        let place = self.fleet.change(slot, |worker| worker.promise(now, instance, promise));
        if let Some(place) = place {
            self.placed.insert(instance, Placed { slot, place, promise, function });
            *self.together.entry((slot, function)).or_default() += 1;
        }
    }

    fn ended(&mut self, instance: InstanceId) {
        self.blanks.remove(instance);
        self.forget(instance);
    }

    fn forget(&mut self, instance: InstanceId) {
        let Some(Placed { slot, place, promise, function }) = self.placed.remove(&instance) else { return };
        self.separate(slot, function);
        let moved = self.fleet.change(slot, |worker| worker.take_back(place, promise)).flatten();
        if let Some(moved) = moved.and_then(|moved| self.placed.get_mut(&moved)) {
            moved.place = place;
        }
    }

    /// Counts one instance less of a function on a slot's worker.
    fn separate(&mut self, slot: usize, function: u64) {
        if let Some(count) = self.together.get_mut(&(slot, function)) {
            *count -= 1;
            if *count == 0 {
                self.together.remove(&(slot, function));
            }
        }
    }

    fn left(&mut self, worker: &WorkerId) {
        let Some((slot, worker)) = self.fleet.leave(worker) else { return };
        for instance in worker.instances {
            self.blanks.remove(instance);
            if let Some(placed) = self.placed.remove(&instance) {
                self.separate(slot, placed.function);
            }
        }
    }

    fn note_image(&mut self, worker: &WorkerId, code: CodeDigest, has: bool) {
        if let Some(slot) = self.fleet.slot_of(worker) {
            self.fleet.note_image(slot, self.hash.hash_one(code), has);
        }
    }

    /// An instance that is there counts, whether or not it should have been put there.
    fn found(&mut self, now: Time, worker: &WorkerId, request: &PlaceRequest) {
        if let Some(slot) = self.fleet.slot_of(worker)
            && self.fleet.get(slot).is_some_and(|worker| worker.count() < MAX_INSTANCES_PER_WORKER)
            && !self.placed.contains_key(&request.instance)
        {
            self.put(now, slot, request, self.hash.hash_one(&request.function));
        }
    }

    fn no_room(&mut self, request: &PlaceRequest) -> NoRoom {
        let mut reasons = NoRoom {
            workers: self.fleet.len(),
            room_may_come: self.fleet.fits_alone(request),
            ..NoRoom::default()
        };
        let slots = self.fleet.slots();
        let (roomiest, mut looked_at) = (self.fleet.roomiest(), 0);
        // Neighbours from a random slot on: one draw, and memory is read in order.
        let start = if slots > EXPLAINED { self.random.below(slots) } else { 0 };
        let others = (start..slots).chain(0..start).filter(|&slot| slots <= EXPLAINED || slot != roomiest);
        let first = (slots > EXPLAINED).then_some(roomiest);
        for worker in
            first.into_iter().chain(others).take(4 * EXPLAINED).filter_map(|slot| self.fleet.get(slot))
        {
            if let Err(lack) = worker.lack(request) {
                reasons.add(&worker.id, lack);
                looked_at += 1;
            }
            if looked_at == EXPLAINED {
                break;
            }
        }
        reasons
    }
}
