//! The machine itself: what it keeps, the hot path, and who answers each event.
//!
//! No decision depends on the order in which a hash map is walked: none is.

mod asked;
mod blanks;
mod lives;
mod room;
mod tenants;
mod timers;
pub(crate) mod view;
mod waiting;
mod warm;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hearth_types::{
    EndReason, FunctionSpec, InstanceId, Lease, LeaseId, LeaseOutcome, LeaseRequest, Refusal, RevisionId,
    TenantId, Time, WorkerId,
};
use slotmap::{Key, KeyData, SlotMap};

use crate::blanks::Blanks;
use crate::deleted::Deleted;
use crate::instance::{Instance, InstanceKey};
use crate::ledger::Ledger;
use crate::list::{List, Order};
use crate::messages::{Acquired, Action, Config, Event, WaitId};
use crate::pool::{Pool, PoolKey};
use crate::room_queue::RoomQueue;

use tenants::{PoolName, name};
use timers::Timer;
use view::Savings;
use waiting::Wait;

slotmap::new_key_type! {
    /// Where a lease is kept: the lower half of its id.
    struct LeaseKey;
}

/// All instances, slots and waiting requests that one manager is responsible for.
#[derive(Debug)]
pub struct Manager {
    config: Config,
    stopping: bool,
    next_instance: u64,
    next_wait: u64,
    instances: SlotMap<InstanceKey, Instance>,
    by_id: BTreeMap<InstanceId, InstanceKey>,
    pools: SlotMap<PoolKey, Pool>,
    by_name: HashMap<PoolName, PoolKey, RandomState>,
    /// The pool whose spec lies at an address: most requests bring the very spec that the one before brought, and are
    /// spared the look at its names. A pool holds its spec, so no other can come to lie there. Pools of tenants are not
    /// in it: one spec is that of many.
    by_spec: HashMap<usize, PoolKey, RandomState>,
    ledger: Ledger,
    leases: SlotMap<LeaseKey, Held>,
    waits: BTreeMap<WaitId, Wait>,
    /// All instances that take requests, for eviction: those come first that were not looked at for longest.
    service: List,
    /// Those of each worker, for its relief and drain: those come first that were not looked at for longest.
    by_worker: HashMap<WorkerId, List, RandomState>,
    /// Instances in `Phase::Ending`, and blanks that end: the room that will be free soon.
    ending: usize,
    /// Pools with starts that wait for room; and all those starts.
    room_wanted: RoomQueue,
    owed: usize,
    timers: BTreeSet<(Time, Timer)>,
    blanks: Blanks,
    deleted: Deleted,
    savings: Savings,
}

/// What a lease holds. The instance may be gone; the lease is in flight until it is released.
#[derive(Clone, Copy, Debug)]
struct Held {
    pool: PoolKey,
    instance: InstanceKey,
    since: Time,
    /// Requests in the instance then, this one included.
    load: u32,
}

impl Manager {
    /// A manager that knows of nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            stopping: false,
            next_instance: 0,
            next_wait: 0,
            instances: SlotMap::with_key(),
            by_id: BTreeMap::new(),
            pools: SlotMap::with_key(),
            by_name: HashMap::default(),
            by_spec: HashMap::default(),
            ledger: Ledger::new(config.account_concurrency),
            leases: SlotMap::with_key(),
            waits: BTreeMap::new(),
            service: List::new(Order::Service),
            by_worker: HashMap::default(),
            ending: 0,
            room_wanted: RoomQueue::default(),
            owed: 0,
            timers: BTreeSet::new(),
            blanks: Blanks::new(config.blanks),
            deleted: Deleted::default(),
            savings: Savings::default(),
            config,
        }
    }

    /// Asks for a slot. Does not allocate when one is free and the maps have grown to their usual size.
    pub fn acquire(&mut self, now: Time, request: &LeaseRequest, actions: &mut Vec<Action>) -> Acquired {
        if self.stopping {
            return Acquired::Refused(Refusal::Stopping);
        }
        let known = match &request.tenant {
            None => self.by_spec.get(&address(&request.spec)).copied(),
            Some(tenant) => self.pool_of_tenant(&request.spec, tenant),
        };
        let pool = match known {
            Some(pool) => pool,
            None => {
                if let Err(refusal) = self.admit_tenant(request) {
                    return Acquired::Refused(refusal);
                }
                let pool = self.open_pool(&request.spec, request.tenant.as_ref());
                self.refresh(now, pool, &request.spec, actions);
                pool
            }
        };
        match self.acquire_from(now, pool, actions) {
            Ok(acquired) => acquired,
            Err(refusal) => {
                // Whatever its limits were.
                let deleted = self.pools[pool].retired == Some(EndReason::FunctionDeleted);
                let refusal = if deleted { Refusal::FunctionDeleted } else { refusal };
                self.close_pool_if_empty(now, pool);
                Acquired::Refused(refusal)
            }
        }
    }

    /// Gives a slot back. A lease that is not known (any more) is ignored.
    pub fn release(&mut self, now: Time, lease: LeaseId, outcome: LeaseOutcome, actions: &mut Vec<Action>) {
        let Some(held) = self.lease_key(lease).and_then(|key| self.leases.remove(key)) else { return };
        self.pools[held.pool].leases -= 1;
        self.ledger.finish(self.pools[held.pool].function);
        if self.instances.contains_key(held.instance) {
            self.slot_freed(now, held, outcome, actions);
        }
        self.close_pool_if_empty(now, held.pool);
    }

    /// Takes note of what happened. Late, repeated and unknown events are ignored.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Placed { instance, worker } => self.placed(now, instance, worker, actions),
            Event::PlacementFailed { instance, reason, room_may_come } => {
                self.placement_failed(now, instance, reason, room_may_come, actions);
            }
            Event::InstanceReady { instance, worker, initialized } => {
                self.ready(now, instance, worker, initialized, actions);
            }
            Event::InstanceStartFailed { instance, reason } => {
                self.start_failed(now, instance, reason, actions);
            }
            Event::InstanceGone { instance } => self.instance_gone(now, instance, actions),
            Event::InstanceFound { instance, worker, spec, tenant } => {
                self.found(now, (instance, worker), &spec, tenant.as_ref(), actions);
            }
            Event::BlankReady { blank, worker } => self.blank_ready(now, blank, &worker, actions),
            Event::BlankTaken { blank } => self.blank_taken(blank),
            Event::BlankGone { blank } => self.blank_gone(now, blank, actions),
            Event::WorkerLost { worker } => self.worker_lost(now, &worker, actions),
            Event::WorkerDraining { worker } => self.drain_worker(now, &worker, actions),
            Event::WaiterLeft { wait } => self.waiter_left(now, wait),
            Event::RevisionReplaced { revision } => self.revision_replaced(now, &revision, actions),
            Event::FunctionDeleted { function, newest } => {
                self.function_deleted(now, &function, newest, actions);
            }
            Event::ConcurrencyReserved { function, reserved } => {
                let key = self.ledger.open(&function);
                self.ledger.reserve(key, reserved);
                self.ledger.close_if_empty(key);
            }
            Event::Provision { spec, count } => self.provision(now, &spec, count, actions),
            Event::MemoryShort { worker, relief } => self.relieve(now, &worker, relief, actions),
            Event::SuspensionAsked { instance } => self.suspend(instance, actions),
            Event::ResumptionAsked { instance } => self.resume(instance, actions),
            Event::TerminationAsked { instance } => self.terminate(now, instance, actions),
            Event::RoomMayHaveCome => self.room_freed(now, actions),
            Event::Stopping => self.stop(now, actions),
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
        let function = entry.function;
        self.ledger.admit(function)?;
        if let Some((instance, overfull)) = entry.choose()
            && let Some(lease) = self.lease(now, instance, false)
        {
            self.ledger.begin(function);
            if overfull {
                self.grow(now, pool, actions);
            }
            return Ok(Acquired::Leased(lease));
        }
        self.wait(now, pool, actions)
    }

    /// Gives out a slot of a ready instance that has one free.
    fn lease(&mut self, now: Time, key: InstanceKey, cold: bool) -> Option<Lease> {
        let instance = self.instances.get(key)?;
        let (pool, id) = (instance.pool, instance.id);
        let worker = instance.worker.clone()?;
        if instance.load == 0 {
            self.idle_ends(now, key, cold);
        }
        self.pools[pool].leases += 1;
        let mut load = 0;
        self.change(key, |instance| {
            instance.load += 1;
            load = instance.load;
            instance.last_used = now;
            instance.used = true;
            instance.asleep = false;
        });
        let lease = self.leases.insert(Held { pool, instance: key, since: now, load });
        let number = u128::from(self.config.epoch) << 64 | u128::from(lease.data().as_ffi());
        Some(Lease { id: LeaseId(number), instance: id, worker, cold })
    }

    /// Where the lease is kept, if this life of the manager gave it.
    fn lease_key(&self, LeaseId(number): LeaseId) -> Option<LeaseKey> {
        let lower = u64::try_from(number & u128::from(u64::MAX)).ok()?;
        (number >> 64 == u128::from(self.config.epoch)).then(|| KeyData::from_ffi(lower).into())
    }

    /// The pool of the revision, and of that the tenant's, made if there is none.
    fn open_pool(&mut self, spec: &Arc<FunctionSpec>, tenant: Option<&TenantId>) -> PoolKey {
        let name = name(spec, tenant);
        if let Some(&key) = self.by_name.get(&name) {
            return key;
        }
        let RevisionId { version, number } = &spec.revision;
        let function = self.ledger.open(&version.function);
        let entry = &mut self.ledger.functions[function];
        let outdated = entry.newest.get(&version.version).is_some_and(|newest| number < newest);
        let retired = match self.deleted.has(&spec.revision) {
            true => Some(EndReason::FunctionDeleted),
            false => outdated.then_some(EndReason::Replaced),
        };
        let mut pool = Pool::new(function, Arc::clone(spec), tenant.cloned(), retired);
        // A revision goes on from what the one before it has learned.
        let older = (version.version, 0, None)..(version.version, *number, None);
        let before = entry.pools.range(older).next_back().filter(|_| tenant.is_none());
        if let Some(before) = before.and_then(|(_, &key)| self.pools.get(key)) {
            pool.idle_times = before.idle_times.clone();
        }
        let key = self.pools.insert(pool);
        if tenant.is_none() {
            self.by_spec.insert(address(spec), key);
        }
        entry.add_pool((version.version, *number, tenant.cloned()), key);
        self.by_name.insert(name, key);
        key
    }

    /// Takes over what a spec says that may change without a new revision.
    fn refresh(&mut self, now: Time, pool: PoolKey, spec: &Arc<FunctionSpec>, actions: &mut Vec<Action>) {
        let entry = &mut self.pools[pool];
        // One who read the spec before the function was deleted does not bring its reservation back.
        if entry.retired != Some(EndReason::FunctionDeleted) {
            self.ledger.reserve(entry.function, spec.reserved_concurrency);
        }
        if Arc::ptr_eq(&entry.spec, spec) {
            return;
        }
        let rearranged = entry.spec.concurrency != spec.concurrency;
        if entry.tenant.is_none() {
            self.by_spec.remove(&address(&entry.spec));
            self.by_spec.insert(address(spec), pool);
        }
        entry.spec = Arc::clone(spec);
        if rearranged {
            // Where an instance lies depends on its slots.
            let ready: Vec<_> = entry.ready(&self.instances).collect();
            ready.into_iter().for_each(|key| self.change(key, |_| {}));
            self.serve(now, pool, false, actions);
        }
    }

    /// Forgets a pool, and its function and account, if nothing is left to know of them.
    fn close_pool_if_empty(&mut self, now: Time, key: PoolKey) {
        if !self.pools.get(key).is_some_and(Pool::is_empty) || self.is_worth_remembering(now, key) {
            return;
        }
        self.disarm_pool(key);
        let Some(pool) = self.pools.remove(key) else { return };
        let RevisionId { version, number } = &pool.spec.revision;
        self.by_name.remove(&name(&pool.spec, pool.tenant.as_ref()));
        if pool.tenant.is_none() {
            self.by_spec.remove(&address(&pool.spec));
        }
        if let Some(function) = self.ledger.functions.get_mut(pool.function) {
            function.remove_pool(&(version.version, *number, pool.tenant));
        }
        self.ledger.close_if_empty(pool.function);
    }

    /// Changes an instance's phase or load and moves it to where it then belongs. The only way to do so.
    fn change(&mut self, key: InstanceKey, change: impl FnOnce(&mut Instance)) {
        let Some(pool) = self.instances.get(key).map(|instance| instance.pool) else { return };
        self.pools[pool].take(&mut self.instances, key);
        if let Some(instance) = self.instances.get_mut(key) {
            change(instance);
        }
        self.pools[pool].put(&mut self.instances, key);
    }
}

/// What tells a spec from every other that exists.
fn address(spec: &Arc<FunctionSpec>) -> usize {
    Arc::as_ptr(spec).addr()
}
