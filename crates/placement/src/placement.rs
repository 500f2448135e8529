//! The machine: the choice of a worker, and the book of promises.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use hearth_types::{InstanceId, Time, WorkerId};

use crate::messages::{Event, PlaceRequest, WorkerView};
use crate::no_room::NoRoom;
use crate::worker::{Promise, Worker};

/// All workers, and what each is promised for.
#[derive(Debug, Default)]
pub struct Placement {
    workers: BTreeMap<WorkerId, Worker>,
    placed: BTreeMap<InstanceId, (WorkerId, Promise)>,
}

impl Placement {
    /// A placement that knows of no worker.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses a worker for an instance and records the promise. Asked again for the same instance, it gives the same
    /// worker and promises nothing twice.
    ///
    /// # Errors
    /// When no worker has room, with the reasons; nothing is recorded then.
    pub fn place(&mut self, now: Time, request: &PlaceRequest) -> Result<WorkerId, NoRoom> {
        if let Some((worker, _)) = self.placed.get(&request.instance) {
            return Ok(worker.clone());
        }
        let fits = self.workers.iter_mut().filter(|(_, worker)| worker.lack(request).is_ok());
        let Some((id, worker)) = fits.min_by_key(|(_, worker)| worker.score()) else {
            return Err(self.no_room(request));
        };
        let promise = Promise::from(request);
        worker.promise(now, promise);
        self.placed.insert(request.instance, (id.clone(), promise));
        Ok(id.clone())
    }

    /// Takes note of what happened. Late, repeated and unknown events are ignored.
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::WorkerJoined { worker, capacity, oversubscription } => match self.workers.entry(worker) {
                Entry::Vacant(place) => {
                    place.insert(Worker::new(now, capacity, oversubscription));
                }
                Entry::Occupied(mut place) => place.get_mut().restate(capacity, oversubscription),
            },
            Event::WorkerDraining { worker } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.draining = true;
                }
            }
            Event::WorkerLeft { worker } => {
                self.workers.remove(&worker);
                self.placed.retain(|_, (on, _)| *on != worker);
            }
            Event::InstanceFound { worker: id, request } => self.found(now, id, &request),
            Event::InstanceEnded { instance } => {
                if let Some((worker, promise)) = self.placed.remove(&instance)
                    && let Some(worker) = self.workers.get_mut(&worker)
                {
                    worker.take_back(promise);
                }
            }
        }
    }

    /// The workers, by name.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView<'_>> {
        self.workers.iter().map(|(id, worker)| worker.view(id))
    }

    /// The worker that an instance was placed on.
    #[must_use]
    pub fn worker_of(&self, instance: InstanceId) -> Option<&WorkerId> {
        self.placed.get(&instance).map(|(worker, _)| worker)
    }

    /// An instance that is there counts, whether or not it should have been put there.
    fn found(&mut self, now: Time, id: WorkerId, request: &PlaceRequest) {
        if let Some(worker) = self.workers.get_mut(&id)
            && let Entry::Vacant(place) = self.placed.entry(request.instance)
        {
            let promise = Promise::from(request);
            worker.promise(now, promise);
            place.insert((id, promise));
        }
    }

    fn no_room(&self, request: &PlaceRequest) -> NoRoom {
        let mut reasons = NoRoom::default();
        for (id, worker) in &self.workers {
            if let Err(lack) = worker.lack(request) {
                reasons.add(id, lack);
                reasons.room_may_come |= worker.fits_alone(request);
            }
        }
        reasons
    }
}
