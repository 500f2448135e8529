//! The instances and the waiting requests of one revision, and the choice among them.
//!
//! Instances that take requests lie in one list per load, the most recently used first. The choice is the first of the
//! lowest load: the least loaded, and the most recently used among equals, so that the others can go away.

use std::collections::BTreeSet;
use std::sync::Arc;

use hearth_types::{EndReason, FunctionSpec, Time};
use slotmap::SlotMap;

use crate::instance::{Instance, InstanceKey, Phase};
use crate::ledger::FunctionKey;
use crate::list::{List, Order};
use crate::messages::WaitId;

slotmap::new_key_type! {
    /// Where a pool is kept.
    pub(crate) struct PoolKey;
}

/// All that the manager has of one revision.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) function: FunctionKey,
    pub(crate) spec: Arc<FunctionSpec>,
    /// Instances of it in any phase.
    pub(crate) instances: usize,
    /// Starts that wait for room on a worker.
    pub(crate) owed: usize,
    /// Leases given out, also of instances that are gone.
    pub(crate) leases: usize,
    /// Requests without a slot, oldest first.
    pub(crate) waiting: BTreeSet<WaitId>,
    /// Why its instances are to end when they have nothing to do, if they are.
    pub(crate) retired: Option<EndReason>,
    /// No instance beyond the waiting requests' need is started before this.
    pub(crate) grow_after: Time,
    /// How many instances are in `Phase::Starting`.
    starting: usize,
    /// Those.
    starting_list: List,
    /// Those in `Phase::Ready`, by load.
    by_load: Vec<List>,
}

impl Pool {
    pub(crate) fn new(function: FunctionKey, spec: Arc<FunctionSpec>, retired: Option<EndReason>) -> Self {
        Self {
            function,
            spec,
            instances: 0,
            owed: 0,
            leases: 0,
            waiting: BTreeSet::new(),
            retired,
            grow_after: Time::ZERO,
            starting: 0,
            starting_list: List::new(Order::Pool),
            by_load: vec![List::new(Order::Pool); 2],
        }
    }

    /// Requests at once that one instance never passes; at least 1, whatever the spec says.
    pub(crate) fn hard(&self) -> u32 {
        self.spec.concurrency.hard.max(1)
    }

    /// Requests at once from which on another instance is preferred; between 1 and [`Pool::hard`].
    pub(crate) fn soft(&self) -> u32 {
        self.spec.concurrency.soft.clamp(1, self.hard())
    }

    /// The instance for the next request and how many it has, if any has a slot left.
    pub(crate) fn choose(&self) -> Option<(InstanceKey, u32)> {
        (0..self.hard()).zip(&self.by_load).find_map(|(load, list)| Some((list.newest()?, load)))
    }

    /// Whether more requests wait than the instances on their way can take.
    pub(crate) fn needs_a_start(&self) -> bool {
        let soft = usize::try_from(self.soft()).unwrap_or(usize::MAX);
        (self.starting + self.owed).saturating_mul(soft) < self.waiting.len()
    }

    /// Whether nothing is left that this pool must be kept for.
    pub(crate) fn is_empty(&self) -> bool {
        self.instances == 0 && self.leases == 0 && self.waiting.is_empty()
    }

    /// Whether an instance is on its way, or will be when there is room.
    pub(crate) const fn has_a_start(&self) -> bool {
        self.starting + self.owed > 0
    }

    /// Puts an instance where its phase and load belong, first among its equals.
    pub(crate) fn put(&mut self, instances: &mut SlotMap<InstanceKey, Instance>, key: InstanceKey) {
        let Some(instance) = instances.get(key) else { return };
        match instance.phase {
            Phase::Starting => {
                self.starting += 1;
                self.starting_list.add(instances, key);
            }
            Phase::Ready => {
                let load = instance.load as usize;
                if self.by_load.len() <= load {
                    self.by_load.resize(load + 1, List::new(Order::Pool));
                }
                self.by_load[load].add(instances, key);
            }
            Phase::Draining(_) | Phase::Ending => {}
        }
    }

    /// Takes an instance out; its phase and load must be what they were when it was put in.
    pub(crate) fn take(&mut self, instances: &mut SlotMap<InstanceKey, Instance>, key: InstanceKey) {
        let Some(instance) = instances.get(key) else { return };
        match instance.phase {
            Phase::Starting => {
                self.starting -= 1;
                self.starting_list.remove(instances, key);
            }
            Phase::Ready => self.by_load[instance.load as usize].remove(instances, key),
            Phase::Draining(_) | Phase::Ending => {}
        }
    }

    /// Its instances in `Phase::Starting`.
    pub(crate) fn starting(
        &self,
        instances: &SlotMap<InstanceKey, Instance>,
    ) -> impl Iterator<Item = InstanceKey> {
        self.starting_list.iter(instances)
    }

    /// Its instances in `Phase::Ready`.
    pub(crate) fn ready(
        &self,
        instances: &SlotMap<InstanceKey, Instance>,
    ) -> impl Iterator<Item = InstanceKey> {
        self.by_load.iter().flat_map(move |list| list.iter(instances))
    }
}
