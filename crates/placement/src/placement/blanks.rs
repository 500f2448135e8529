//! Instances that are made of blanks: sandboxes that are there already, with a promise of their own.
//!
//! The best of a few workers that have a blank of the kind is chosen, by the same score as ever. The blank's promise ends as the
//! instance's begins, so that a worker which is full but for its blanks still takes the instance.

use std::collections::{BTreeMap, VecDeque};

use hearth_types::{BlankKind, InstanceId, Time, WorkerId};

use super::{Asked, Placed, Placement};
use crate::messages::PlaceRequest;
use crate::no_room::NoRoom;

/// Blanks whose workers are looked at, those made first.
const LOOKED_AT: usize = 4;

/// Blanks are placed only where no more than this is promised with them, in thousandths of what may be: there is room to spare.
const SPARE: u64 = 750;

/// The blanks that instances can be made of.
#[derive(Debug, Default)]
pub(super) struct Blanks {
    by_kind: BTreeMap<BlankKind, VecDeque<InstanceId>>,
    kinds: BTreeMap<InstanceId, BlankKind>,
}

impl Blanks {
    pub(super) fn add(&mut self, blank: InstanceId, kind: BlankKind) {
        if self.kinds.insert(blank, kind.clone()).is_none() {
            self.by_kind.entry(kind).or_default().push_back(blank);
        }
    }

    pub(super) fn remove(&mut self, blank: InstanceId) {
        let Some(kind) = self.kinds.remove(&blank) else { return };
        if let Some(blanks) = self.by_kind.get_mut(&kind) {
            blanks.retain(|&other| other != blank);
            if blanks.is_empty() {
                self.by_kind.remove(&kind);
            }
        }
    }

    /// The first few of a kind.
    fn first(&self, kind: &BlankKind) -> impl Iterator<Item = InstanceId> {
        self.by_kind.get(kind).into_iter().flatten().copied().take(LOOKED_AT)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_kind.is_empty() && self.kinds.is_empty()
    }
}

impl Placement {
    /// Chooses a worker for a blank and records the promise, as [`Placement::place`] does for an instance, but only where there
    /// is room to spare.
    ///
    /// # Errors
    /// When no worker has that; nothing is recorded then.
    pub fn place_blank(
        &mut self,
        now: Time,
        blank: InstanceId,
        kind: &BlankKind,
    ) -> Result<WorkerId, NoRoom> {
        let request = PlaceRequest::for_blank(blank, kind);
        let worker = self.place(now, &request)?;
        let slot = self.placed.get(&blank).and_then(|placed| self.fleet.get(placed.slot));
        if slot.is_some_and(|worker| worker.load() > SPARE) {
            self.ended(blank);
            return Err(self.no_room(&request));
        }
        Ok(worker)
    }

    /// As [`Placement::place`], but has the instance made of a blank of that kind if a worker with one takes it: then that blank
    /// is none any more, and the worker's promise for it has ended.
    ///
    /// # Errors
    /// As there.
    pub fn place_on_blank(
        &mut self,
        now: Time,
        request: &PlaceRequest,
        kind: &BlankKind,
    ) -> Result<(WorkerId, Option<InstanceId>), NoRoom> {
        if !self.placed.contains_key(&request.instance)
            && let Some(blank) = self.choose_blank(now, request, kind)
            && let Some(Placed { slot, .. }) = self.placed.get(&blank)
        {
            let slot = *slot;
            self.ended(blank);
            self.place_in(now, slot, request);
            if let Some(worker) = self.fleet.get(slot) {
                return Ok((worker.id.clone(), Some(blank)));
            }
        }
        self.place(now, request).map(|worker| (worker, None))
    }

    fn choose_blank(&mut self, now: Time, request: &PlaceRequest, kind: &BlankKind) -> Option<InstanceId> {
        let those: Vec<_> = self.blanks.first(kind).collect();
        if those.is_empty() {
            return None;
        }
        let asked = self.asked(request);
        let slots: Vec<_> =
            those.iter().map(|blank| self.placed.get(blank).map(|placed| placed.slot)).collect();
        if let Some(best) = self.best_of(&asked, slots.iter().copied().flatten()) {
            let place = slots.iter().position(|slot| *slot == Some(best));
            return place.and_then(|place| those.get(place).copied());
        }
        those.into_iter().find(|&blank| self.fits_in_stead_of(now, &asked, blank))
    }

    /// Whether the instance fits on the blank's worker once the blank's promise has ended.
    fn fits_in_stead_of(&mut self, now: Time, asked: &Asked<'_>, blank: InstanceId) -> bool {
        let Some(&Placed { slot, promise, function, .. }) = self.placed.get(&blank) else { return false };
        self.forget(blank);
        let fits = self.best_of(asked, [slot].into_iter()).is_some();
        self.promise(now, slot, blank, promise, function);
        fits
    }
}
