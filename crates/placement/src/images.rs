//! Which worker has which image: the index that placement looks for locality in.
//!
//! It is a hint. An image that is not where this says costs a fetch, no more; so images go by a hash of their digest,
//! and a worker that claims too many is believed for the latest ones only.

use std::collections::VecDeque;

use crate::random::{Mixed, NumberMap};

/// Most images remembered for one worker.
pub(crate) const IMAGES_PER_WORKER: usize = 256;

/// Workers by image, each list in ascending order.
#[derive(Debug)]
pub(crate) struct Images {
    holders: NumberMap<u64, Vec<u32>>,
}

impl Images {
    pub(crate) fn new(hash: Mixed) -> Self {
        Self { holders: NumberMap::with_hasher(hash) }
    }

    /// The slots of the workers that have the image.
    pub(crate) fn holders(&self, image: u64) -> &[u32] {
        self.holders.get(&image).map_or(&[], Vec::as_slice)
    }

    /// Notes that the worker in `slot`, which has `mine`, has `image` as well; forgets its oldest one for that when
    /// there are too many.
    pub(crate) fn add(&mut self, slot: u32, mine: &mut VecDeque<u64>, image: u64) {
        let holders = self.holders.entry(image).or_default();
        let Err(at) = holders.binary_search(&slot) else { return };
        holders.insert(at, slot);
        if mine.len() >= IMAGES_PER_WORKER
            && let Some(oldest) = mine.pop_front()
        {
            self.forget(slot, oldest);
        }
        mine.push_back(image);
    }

    /// Notes that the worker in `slot` has the image no more.
    pub(crate) fn remove(&mut self, slot: u32, mine: &mut VecDeque<u64>, image: u64) {
        if let Some(at) = mine.iter().position(|&held| held == image) {
            mine.remove(at);
            self.forget(slot, image);
        }
    }

    /// Takes the worker in `slot` out of the list of one image.
    pub(crate) fn forget(&mut self, slot: u32, image: u64) {
        if let Some(holders) = self.holders.get_mut(&image) {
            if let Ok(at) = holders.binary_search(&slot) {
                holders.remove(at);
            }
            if holders.is_empty() {
                self.holders.remove(&image);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }
}
