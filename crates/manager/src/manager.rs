//! The machine itself: what it keeps, the hot path, and who answers each event.
//!
//! No decision depends on the order in which a hash map is walked: none is.

mod lives;
mod timers;
pub(crate) mod view;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use hearth_types::{
    EndReason, FunctionSpec, InstanceId, Lease, LeaseId, LeaseOutcome, LeaseRequest, Refusal, RevisionId,
    Time,
};
use slotmap::SlotMap;

use crate::instance::{Instance, InstanceKey};
use crate::ledger::Ledger;
use crate::list::{List, Order};
use crate::messages::{Acquired, Action, Config, Event, WaitId};
use crate::pool::{Pool, PoolKey};

use timers::Timer;
use waiting::Wait;

/// All instances, slots and waiting requests that one manager is responsible for.
#[derive(Debug)]
pub struct Manager {
    config: Config,
    stopping: bool,
    next_instance: u64,
    next_lease: u64,
    next_wait: u64,
    instances: SlotMap<InstanceKey, Instance>,
    by_id: BTreeMap<InstanceId, InstanceKey>,
    pools: SlotMap<PoolKey, Pool>,
    by_revision: HashMap<RevisionId, PoolKey>,
    ledger: Ledger,
    leases: HashMap<LeaseId, Held>,
    waits: BTreeMap<WaitId, Wait>,
    /// All idle instances, for eviction.
    idle: List,
    /// Instances in `Phase::Ending`: the room that will be free soon.
    ending: usize,
    /// Starts that wait for room, never more than `ending`.
    room_wanted: VecDeque<PoolKey>,
    timers: BTreeSet<(Time, Timer)>,
}

/// What a lease holds. The instance may be gone; the lease is in flight until it is released.
#[derive(Clone, Copy, Debug)]
struct Held {
    pool: PoolKey,
    instance: InstanceKey,
}

impl Manager {
    /// A manager that knows of nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            stopping: false,
            next_instance: 0,
            // Leases of this manager's predecessor may still be released: other numbers for each life.
            next_lease: config.epoch << 32,
            next_wait: 0,
            instances: SlotMap::with_key(),
            by_id: BTreeMap::new(),
            pools: SlotMap::with_key(),
            by_revision: HashMap::new(),
            ledger: Ledger::new(config.account_concurrency),
            leases: HashMap::new(),
            waits: BTreeMap::new(),
            idle: List::new(Order::Idle),
            ending: 0,
            room_wanted: VecDeque::new(),
            timers: BTreeSet::new(),
            config,
        }
    }

    /// Asks for a slot. Does not allocate when one is free and the maps have grown to their usual size.
    pub fn acquire(&mut self, now: Time, request: &LeaseRequest, actions: &mut Vec<Action>) -> Acquired {
        if self.stopping {
            return Acquired::Refused(Refusal::Stopping);
        }
        let pool = self.open_pool(&request.spec);
        self.ledger.reserve(self.pools[pool].function, request.spec.reserved_concurrency);
        match self.acquire_from(now, pool, actions) {
            Ok(acquired) => acquired,
            Err(refusal) => {
                self.close_pool_if_empty(pool);
                Acquired::Refused(refusal)
            }
        }
    }

    /// Gives a slot back. A lease that is not known (any more) is ignored.
    pub fn release(&mut self, now: Time, lease: LeaseId, outcome: LeaseOutcome, actions: &mut Vec<Action>) {
        let Some(Held { pool, instance }) = self.leases.remove(&lease) else { return };
        self.pools[pool].leases -= 1;
        self.ledger.finish(self.pools[pool].function);
        if self.instances.contains_key(instance) {
            self.slot_freed(now, instance, outcome, actions);
        }
        self.close_pool_if_empty(pool);
    }

    /// Takes note of what happened. Late, repeated and unknown events are ignored.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Placed { instance, worker } => self.placed(instance, worker, actions),
            Event::PlacementFailed { instance, reason, room_may_come } => {
                self.placement_failed(now, instance, reason, room_may_come, actions);
            }
            Event::InstanceReady { instance, worker } => self.ready(now, instance, worker, actions),
            Event::InstanceStartFailed { instance, reason } => {
                self.start_failed(now, instance, reason, actions);
            }
            Event::InstanceGone { instance } => self.instance_gone(now, instance, actions),
            Event::InstanceFound { instance, worker, spec } => {
                self.found(now, instance, worker, &spec, actions);
            }
            Event::WorkerLost { worker } => self.worker_lost(now, &worker, actions),
            Event::WaiterLeft { wait } => self.waiter_left(wait),
            Event::RevisionReplaced { revision } => self.revision_replaced(&revision, actions),
            Event::FunctionDeleted { function } => self.function_deleted(&function, actions),
            Event::ConcurrencyReserved { function, reserved } => {
                let key = self.ledger.open(&function);
                self.ledger.reserve(key, reserved);
                self.ledger.close_if_empty(key);
            }
            Event::Stopping => self.stop(actions),
            Event::TimePassed => self.time_passed(now, actions),
        }
    }

    fn acquire_from(
        &mut self,
        now: Time,
        pool: PoolKey,
        actions: &mut Vec<Action>,
    ) -> Result<Acquired, Refusal> {
        let entry = &self.pools[pool];
        let (function, soft) = (entry.function, entry.soft());
        self.ledger.admit(function)?;
        if let Some((instance, load)) = entry.choose()
            && let Some(lease) = self.lease(now, instance, false)
        {
            self.ledger.begin(function);
            if load >= soft {
                self.grow(now, pool, actions);
            }
            return Ok(Acquired::Leased(lease));
        }
        self.wait(now, pool, actions)
    }

    /// Gives out a slot of a ready instance that has one free.
    fn lease(&mut self, now: Time, key: InstanceKey, cold: bool) -> Option<Lease> {
        let instance = self.instances.get(key)?;
        let (pool, id) = (instance.pool, LeaseId(self.next_lease));
        let lease = Lease { id, instance: instance.id, worker: instance.worker.clone()?, cold };
        self.next_lease = self.next_lease.wrapping_add(1);
        self.leases.insert(id, Held { pool, instance: key });
        self.pools[pool].leases += 1;
        self.change(key, |instance| {
            instance.load += 1;
            instance.last_used = now;
        });
        Some(lease)
    }

    /// The revision's pool, made if there is none.
    fn open_pool(&mut self, spec: &Arc<FunctionSpec>) -> PoolKey {
        if let Some(&key) = self.by_revision.get(&spec.revision) {
            return key;
        }
        let RevisionId { version, number } = &spec.revision;
        let function = self.ledger.open(&version.function);
        let entry = &mut self.ledger.functions[function];
        let outdated = entry.newest.get(&version.version).is_some_and(|newest| number < newest);
        let retired = outdated.then_some(EndReason::Replaced);
        let key = self.pools.insert(Pool::new(function, Arc::clone(spec), retired));
        entry.pools.insert((version.version, *number), key);
        self.by_revision.insert(spec.revision.clone(), key);
        key
    }

    /// Forgets a pool, and its function and account, if nothing is left to know of them.
    fn close_pool_if_empty(&mut self, key: PoolKey) {
        if !self.pools.get(key).is_some_and(Pool::is_empty) {
            return;
        }
        let Some(pool) = self.pools.remove(key) else { return };
        let RevisionId { version, number } = &pool.spec.revision;
        self.by_revision.remove(&pool.spec.revision);
        if let Some(function) = self.ledger.functions.get_mut(pool.function) {
            function.pools.remove(&(version.version, *number));
        }
        self.ledger.close_if_empty(pool.function);
    }

    /// Changes an instance's phase or load and moves it to where it then belongs. The only way to do so.
    fn change(&mut self, key: InstanceKey, change: impl FnOnce(&mut Instance)) {
        self.withdraw(key);
        if let Some(instance) = self.instances.get_mut(key) {
            change(instance);
        }
        self.enlist(key);
    }
}
