//! Where room is: a tournament tree over the workers' slots.
//!
//! Each node holds the most that any worker below it has of each thing, so that a search goes straight to a worker with
//! room, and sees at the root that there is none. Maxima of several things can come from different workers; such a
//! branch is searched in vain. The worst of these cases, workers short of memory beside workers short of CPU, is cut
//! off by a third maximum, of both together in the proportion that requests have.

use std::hash::BuildHasher;

use hearth_types::{Isolation, limits};

use crate::messages::Labels;
use crate::random::Seeded;

/// What one worker has, or the most that any of several has; also what an instance needs.
///
/// Requests count in `u32`, so larger amounts are cut to its maximum without loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    memory_mb: u32,
    cpu_millis: u32,
    /// The memory of the largest instance with Lambda's CPU share that fits both, MiB.
    both_mb: u32,
    /// Bit set of drivers; none on a worker that takes nothing.
    isolations: u32,
    /// Bit set of hashed labels.
    labels: u64,
}

impl Room {
    pub(crate) fn new(memory_mb: u64, cpu_millis: u64, isolations: u32, labels: u64) -> Self {
        let clamp = |amount: u64| u32::try_from(amount).unwrap_or(u32::MAX);
        let by_cpu = cpu_millis.saturating_mul(u64::from(limits::MEMORY_MB_PER_VCPU)) / 1_000;
        Self {
            memory_mb: clamp(memory_mb),
            cpu_millis: clamp(cpu_millis),
            both_mb: clamp(memory_mb.min(by_cpu)),
            isolations,
            labels,
        }
    }

    /// Whether somebody here may have all that is needed; never wrongly no.
    const fn may_hold(&self, need: &Self) -> bool {
        self.both_mb >= need.both_mb
            && self.memory_mb >= need.memory_mb
            && self.cpu_millis >= need.cpu_millis
            && self.isolations & need.isolations != 0
            && self.labels & need.labels == need.labels
    }

    fn or(self, other: Self) -> Self {
        Self {
            memory_mb: self.memory_mb.max(other.memory_mb),
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            both_mb: self.both_mb.max(other.both_mb),
            isolations: self.isolations | other.isolations,
            labels: self.labels | other.labels,
        }
    }
}

/// The bit of a driver in [`Room`].
pub(crate) const fn isolation_bit(isolation: Isolation) -> u32 {
    1 << isolation as u32
}

/// The bits of the drivers that would do.
pub(crate) fn wanted_bits(isolation: Option<Isolation>) -> u32 {
    isolation.map_or(u32::MAX, isolation_bit)
}

/// A bit for each label, so that a set of labels has all the bits of its subsets.
pub(crate) fn label_bits(hash: Seeded, labels: &Labels) -> u64 {
    labels.iter().fold(0, |bits, label| bits | 1 << (hash.hash_one(label) % 64))
}

/// The tree: node `i` has the children `2i` and `2i + 1`, the leaves are the upper half.
#[derive(Debug)]
pub(crate) struct RoomTree {
    nodes: Vec<Room>,
}

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) slot: Option<usize>,
    /// Nodes looked at.
    pub(crate) visited: usize,
}

impl RoomTree {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Room::default(); 2] }
    }

    const fn leaves(&self) -> usize {
        self.nodes.len() / 2
    }

    /// Writes down what the worker in `slot` has; the default for one that takes nothing.
    pub(crate) fn set(&mut self, slot: usize, room: Room) {
        if slot >= self.leaves() {
            self.grow(slot);
        }
        let mut node = self.leaves() + slot;
        self.nodes[node] = room;
        while node > 1 {
            node /= 2;
            let most = self.nodes[2 * node].or(self.nodes[2 * node + 1]);
            if self.nodes[node] == most {
                return;
            }
            self.nodes[node] = most;
        }
    }

    /// Whether the worker in `slot` may have what is needed; never wrongly no.
    pub(crate) fn may_hold(&self, slot: usize, need: &Room) -> bool {
        self.nodes.get(self.leaves() + slot).is_some_and(|room| room.may_hold(need))
    }

    fn grow(&mut self, slot: usize) {
        let (old, leaves) = (self.leaves(), (slot + 1).next_power_of_two());
        let mut nodes = vec![Room::default(); 2 * leaves];
        nodes[leaves..leaves + old].copy_from_slice(&self.nodes[old..]);
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node].or(nodes[2 * node + 1]);
        }
        self.nodes = nodes;
    }

    /// A slot whose worker may hold `need` and that `accept` takes. It is found if there is one; `turns` says, a bit a
    /// level, which way is tried first.
    pub(crate) fn find(&self, need: &Room, turns: u64, mut accept: impl FnMut(usize) -> bool) -> Found {
        let mut visited = 0;
        let slot = self.descend(1, need, turns, &mut visited, &mut accept);
        Found { slot, visited }
    }

    fn descend(
        &self,
        node: usize,
        need: &Room,
        turns: u64,
        visited: &mut usize,
        accept: &mut impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        *visited += 1;
        if !self.nodes[node].may_hold(need) {
            return None;
        }
        if let Some(slot) = node.checked_sub(self.leaves()) {
            return accept(slot).then_some(slot);
        }
        let first = 2 * node + usize::from(turns & 1 == 1);
        self.descend(first, need, turns >> 1, visited, accept)
            .or_else(|| self.descend(first ^ 1, need, turns >> 1, visited, accept))
    }

    /// The slot with the most memory.
    pub(crate) fn roomiest(&self) -> usize {
        let mut node = 1;
        while node < self.leaves() {
            let (left, right) = (self.nodes[2 * node], self.nodes[2 * node + 1]);
            node = 2 * node + usize::from(right.memory_mb > left.memory_mb);
        }
        node - self.leaves()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room() -> impl Strategy<Value = Room> {
        let amount = || prop_oneof![0..4_000_u64, Just(u64::MAX)];
        (amount(), amount(), 0..4_u32, 0..8_u64)
            .prop_map(|(memory, cpu, isolations, labels)| Room::new(memory, cpu, isolations, labels))
    }

    proptest! {
        #[test]
        fn a_search_finds_a_slot_exactly_if_a_plain_scan_does(
            sets in prop::collection::vec((0..70_usize, room()), 0..150),
            need in room(),
            turns: u64,
        ) {
            let mut tree = RoomTree::new();
            let mut plain = vec![Room::default(); 70];
            for (slot, room) in sets {
                tree.set(slot, room);
                plain[slot] = room;
            }
            let found = tree.find(&need, turns, |_| true).slot;
            prop_assert_eq!(found.is_some(), plain.iter().any(|room| room.may_hold(&need)));
            prop_assert!(found.is_none_or(|slot| plain[slot].may_hold(&need)));
            let most = plain.iter().map(|room| room.memory_mb).max();
            prop_assert_eq!(plain.get(tree.roomiest()).map(|room| room.memory_mb), most);
        }
    }
}
