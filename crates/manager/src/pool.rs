//! The instances and the waiting requests of one revision, or of a tenant's of that, and the choice among them.
//!
//! Instances that take requests lie on shelves: one for each load, one for those that hibernate, one for those that
//! have as many requests as they may. On a shelf the most recently used lies first. The choice is the first of the
//! lowest load under the soft limit, so that the others can go away; then one that hibernates, which costs no start;
//! then the least loaded above the soft limit, while another instance is made.

use std::collections::BTreeSet;
use std::sync::Arc;

use hearth_types::{EndReason, FunctionSpec, TenantId, Time};
use slotmap::SlotMap;

use crate::burst::Burst;
use crate::idle_times::IdleTimes;
use crate::instance::{Instance, InstanceKey, Phase};
use crate::ledger::FunctionKey;
use crate::limiter::{Learned, Limiter};
use crate::list::{List, Order};
use crate::messages::WaitId;
use crate::start_health::StartHealth;

slotmap::new_key_type! {
    /// Where a pool is kept.
    pub(crate) struct PoolKey;
}

/// Where in its pool an instance lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// It is on its way.
    Starting,
    /// It has none and is awake.
    Idle,
    /// It has this many requests and one more, and may have others.
    Load(u32),
    /// It has none and hibernates.
    Asleep,
    /// It has as many requests as it may.
    Full,
    /// It takes no more.
    Closed,
}

/// All that the manager has of one revision, or of a tenant's of that. What a warm request touches lies together at the beginning.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Pool {
    pub(crate) function: FunctionKey,
    pub(crate) spec: Arc<FunctionSpec>,
    /// Leases given out, also of instances that are gone.
    pub(crate) leases: usize,
    /// Requests without a slot, oldest first.
    pub(crate) waiting: BTreeSet<WaitId>,
    /// Instances in `Phase::Ready` without a request, awake; and those with as many as they may have.
    idle: List,
    full: List,
    asleep: List,
    /// Those with requests and slots, by their load less one.
    by_load: Vec<List>,
    /// Instances in `Phase::Ready`, and in `Phase::Starting`.
    ready: usize,
    starting: usize,
    /// Why its instances are to end when they have nothing to do, if they are.
    pub(crate) retired: Option<EndReason>,
    /// Requests at once that instances are kept for, whether or not they come.
    pub(crate) provisioned: u32,
    /// Instances of it in any phase.
    pub(crate) instances: usize,
    /// Starts that wait for room on a worker.
    pub(crate) owed: usize,
    starting_list: List,
    /// Why the last attempt to have what is provisioned came to nothing, until one succeeds.
    pub(crate) provision_failure: Option<String>,
    /// How starts have gone of late.
    pub(crate) health: StartHealth,
    /// How requests come that find no slot.
    pub(crate) burst: Burst,
    /// Why starts wait for room, if some do.
    pub(crate) no_room: Option<String>,
    /// The time of its entry among the timers, if it has one.
    pub(crate) timer: Option<Time>,
    /// What its instances have learned of how many requests one bears.
    pub(crate) learned: Learned,
    /// What is known of the times between its uses.
    pub(crate) idle_times: IdleTimes,
    /// Whose it is, if its function keeps tenants apart.
    pub(crate) tenant: Option<TenantId>,
}

impl Pool {
    pub(crate) fn new(
        function: FunctionKey,
        spec: Arc<FunctionSpec>,
        tenant: Option<TenantId>,
        retired: Option<EndReason>,
    ) -> Self {
        Self {
            function,
            spec,
            leases: 0,
            waiting: BTreeSet::new(),
            idle: List::new(Order::Pool),
            full: List::new(Order::Pool),
            asleep: List::new(Order::Pool),
            by_load: Vec::new(),
            ready: 0,
            starting: 0,
            retired,
            provisioned: 0,
            instances: 0,
            owed: 0,
            starting_list: List::new(Order::Pool),
            provision_failure: None,
            health: StartHealth::default(),
            burst: Burst::default(),
            no_room: None,
            timer: None,
            learned: Learned::new(),
            idle_times: IdleTimes::new(),
            tenant,
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

    /// Whether instances have limits of their own below the hard one.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.spec.concurrency.adaptive && self.hard() > 1
    }

    /// Requests at once that a new instance takes before another is preferred.
    fn first_slots(&self, now: Time) -> u32 {
        if self.is_adaptive() { self.limiter(now).limit().min(self.soft()) } else { self.soft() }
    }

    /// The limit that a new instance begins with.
    pub(crate) fn limiter(&self, now: Time) -> Limiter {
        self.learned.begin(now, self.hard())
    }

    /// Requests at once that an instance of this pool is given now.
    pub(crate) fn slots(&self, instance: &Instance) -> u32 {
        if self.is_adaptive() { instance.limiter.limit().min(self.hard()) } else { self.hard() }
    }

    /// The instance for the next request, if any has a slot left, and whether it is so loaded that another is
    /// preferred.
    pub(crate) fn choose(&self) -> Option<(InstanceKey, bool)> {
        if let Some(idle) = self.idle.newest() {
            return Some((idle, false));
        }
        let shared = (self.soft() as usize - 1).min(self.by_load.len());
        let (under, over) = self.by_load.split_at(shared);
        let first = |lists: &[List]| lists.iter().find_map(List::newest);
        let rested = first(under).or_else(|| self.asleep.newest());
        rested.map(|key| (key, false)).or_else(|| first(over).map(|key| (key, true)))
    }

    /// Starts that are missing for the requests that wait.
    pub(crate) fn starts_needed(&self, now: Time) -> usize {
        self.starts_missing(now).saturating_sub(self.owed)
    }

    /// Starts that are missing for the requests that wait, those that wait for room included.
    pub(crate) fn starts_missing(&self, now: Time) -> usize {
        self.instances_for(now, self.waiting.len()).saturating_sub(self.starting)
    }

    /// New instances that so many requests need.
    pub(crate) fn instances_for(&self, now: Time, requests: usize) -> usize {
        requests.div_ceil((self.first_slots(now) as usize).max(1))
    }

    /// Whether more requests wait than the instances on their way can take.
    pub(crate) fn needs_a_start(&self, now: Time) -> bool {
        self.starts_needed(now) > 0
    }

    /// Waiting requests that the instances being made will take.
    pub(crate) fn starting_slots(&self, now: Time) -> usize {
        self.starting.saturating_mul(self.first_slots(now) as usize)
    }

    /// Instances that take requests now or soon.
    pub(crate) const fn live(&self) -> usize {
        self.starting + self.ready
    }

    /// Instances that take requests now.
    pub(crate) const fn ready_count(&self) -> usize {
        self.ready
    }

    /// Instances on their way.
    pub(crate) const fn starting_count(&self) -> usize {
        self.starting
    }

    /// Instances on their way, and starts that wait for room.
    pub(crate) const fn on_their_way(&self) -> usize {
        self.starting + self.owed
    }

    /// Instances that what is provisioned takes: each serves as many requests as it has before another is preferred.
    pub(crate) fn provisioned_instances(&self) -> usize {
        self.provisioned.div_ceil(self.soft()) as usize
    }

    /// Whether one instance fewer would be fewer than are provisioned.
    pub(crate) fn needs_all(&self) -> bool {
        self.retired.is_none() && self.live() <= self.provisioned_instances()
    }

    /// Whether nothing is left that this pool must be kept for.
    pub(crate) fn is_empty(&self) -> bool {
        self.instances == 0 && self.leases == 0 && self.waiting.is_empty() && self.provisioned == 0
    }

    /// Where an instance belongs.
    fn shelf(&self, instance: &Instance) -> Shelf {
        match instance.phase {
            Phase::Starting => Shelf::Starting,
            Phase::Ready if instance.load >= self.slots(instance) => Shelf::Full,
            Phase::Ready if instance.asleep => Shelf::Asleep,
            Phase::Ready => instance.load.checked_sub(1).map_or(Shelf::Idle, Shelf::Load),
            Phase::Draining(_) | Phase::Ending => Shelf::Closed,
        }
    }

    fn list(&mut self, shelf: Shelf) -> Option<&mut List> {
        match shelf {
            Shelf::Starting => Some(&mut self.starting_list),
            Shelf::Idle => Some(&mut self.idle),
            Shelf::Load(load) => {
                let load = load as usize;
                if self.by_load.len() <= load {
                    self.by_load.resize(load + 1, List::new(Order::Pool));
                }
                self.by_load.get_mut(load)
            }
            Shelf::Asleep => Some(&mut self.asleep),
            Shelf::Full => Some(&mut self.full),
            Shelf::Closed => None,
        }
    }

    /// Puts an instance where it belongs, first among its equals.
    pub(crate) fn put(&mut self, instances: &mut SlotMap<InstanceKey, Instance>, key: InstanceKey) {
        let Some(instance) = instances.get_mut(key) else { return };
        let shelf = self.shelf(instance);
        instance.shelf = shelf;
        match shelf {
            Shelf::Starting => self.starting += 1,
            Shelf::Idle | Shelf::Load(_) | Shelf::Asleep | Shelf::Full => self.ready += 1,
            Shelf::Closed => {}
        }
        if let Some(list) = self.list(shelf) {
            list.add(instances, key);
        }
    }

    /// Takes an instance out of where it was put.
    pub(crate) fn take(&mut self, instances: &mut SlotMap<InstanceKey, Instance>, key: InstanceKey) {
        let Some(instance) = instances.get_mut(key) else { return };
        let shelf = std::mem::replace(&mut instance.shelf, Shelf::Closed);
        match shelf {
            Shelf::Starting => self.starting -= 1,
            Shelf::Idle | Shelf::Load(_) | Shelf::Asleep | Shelf::Full => self.ready -= 1,
            Shelf::Closed => {}
        }
        if let Some(list) = self.list(shelf) {
            list.remove(instances, key);
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
        let lists = [&self.idle, &self.asleep, &self.full].into_iter().chain(&self.by_load);
        lists.flat_map(move |list| list.iter(instances))
    }
}
