//! The arrows of the chart in [`crate::instance`].

use std::sync::Arc;
use std::time::Duration;

use hearth_types::{
    EndReason, FunctionId, FunctionSpec, InstanceId, InstanceState, LeaseOutcome, Refusal, RevisionId, Time,
    WorkerId,
};

use super::Manager;
use crate::instance::{Instance, InstanceKey, Phase};
use crate::messages::Action;
use crate::pool::PoolKey;

/// After a start that no request needed has failed: time without another such start of the revision.
const GROWTH_PAUSE: Duration = Duration::from_secs(1);

// === start ===

impl Manager {
    /// Decides that the pool gets one more instance.
    pub(super) fn start(&mut self, now: Time, pool: PoolKey, actions: &mut Vec<Action>) {
        let id = InstanceId::new(self.config.epoch, self.next_instance);
        self.next_instance += 1;
        let key = self.insert(Instance::new(id, pool, now));
        self.arm(key, now + self.config.start_deadline);
        let spec = Arc::clone(&self.pools[pool].spec);
        actions.push(Action::StartInstance { instance: id, spec });
    }

    /// Starts one instance ahead of need, for all are as full as they should be; at most one at a time.
    pub(super) fn grow(&mut self, now: Time, pool: PoolKey, actions: &mut Vec<Action>) {
        let entry = &self.pools[pool];
        if !entry.has_a_start() && entry.retired.is_none() && now >= entry.grow_after {
            self.start(now, pool, actions);
        }
    }

    pub(super) fn placed(&mut self, id: InstanceId, worker: WorkerId, actions: &mut Vec<Action>) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        let instance = &mut self.instances[key];
        if instance.worker.is_none() {
            instance.worker = Some(worker);
            self.end_if_free(key, actions);
        }
    }

    pub(super) fn placement_failed(
        &mut self,
        now: Time,
        id: InstanceId,
        reason: String,
        room_may_come: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        if self.instances[key].worker.is_some() {
            return;
        }
        let Some(instance) = self.forget(key) else { return };
        let pool = instance.pool;
        if instance.phase == Phase::Starting {
            if room_may_come && self.pools[pool].needs_a_start() && self.room_will_be_free(actions) {
                self.pools[pool].owed += 1;
                self.room_wanted.push_back(pool);
            } else {
                self.start_lost(now, pool, &Refusal::NoRoom { reason }, actions);
            }
        }
        self.close_pool_if_empty(pool);
    }

    /// Whether an instance ends, or was made to, whose room nobody waits for yet.
    fn room_will_be_free(&mut self, actions: &mut Vec<Action>) -> bool {
        if self.ending <= self.room_wanted.len()
            && let Some(longest_idle) = self.idle.oldest()
        {
            self.drain(longest_idle, EndReason::Evicted, actions);
        }
        self.ending > self.room_wanted.len()
    }

    /// Starts what waited for room longest and is still needed.
    fn room_freed(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(pool) = self.room_wanted.pop_front() {
            let Some(entry) = self.pools.get_mut(pool) else { continue };
            entry.owed -= 1;
            if entry.needs_a_start() {
                self.start(now, pool, actions);
                return;
            }
        }
    }

    /// A start came to nothing: the oldest requests that no other start will serve are refused.
    pub(super) fn start_lost(
        &mut self,
        now: Time,
        pool: PoolKey,
        refusal: &Refusal,
        actions: &mut Vec<Action>,
    ) {
        if !self.pools[pool].needs_a_start() {
            self.pools[pool].grow_after = now + GROWTH_PAUSE;
        }
        while self.pools[pool].needs_a_start() && self.refuse_oldest(pool, refusal, actions) {}
    }
}

// === ready, idle, busy ===

impl Manager {
    pub(super) fn ready(&mut self, now: Time, id: InstanceId, worker: WorkerId, actions: &mut Vec<Action>) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        self.placed(id, worker, actions);
        if self.instances[key].phase == Phase::Starting {
            self.disarm(key);
            self.enter_service(now, key, true, actions);
        }
    }

    pub(super) fn found(
        &mut self,
        now: Time,
        id: InstanceId,
        worker: WorkerId,
        spec: &Arc<FunctionSpec>,
        actions: &mut Vec<Action>,
    ) {
        let first = InstanceId::new(self.config.epoch, 0);
        let next = InstanceId::new(self.config.epoch, self.next_instance);
        if self.by_id.contains_key(&id) || (first..next).contains(&id) {
            return;
        }
        let pool = self.open_pool(spec);
        let mut instance = Instance::new(id, pool, now);
        instance.worker = Some(worker);
        let key = self.insert(instance);
        self.enter_service(now, key, false, actions);
        if self.stopping {
            self.drain(key, EndReason::Shutdown, actions);
        }
    }

    /// Makes a starting instance ready and serves who waits.
    fn enter_service(&mut self, now: Time, key: InstanceKey, cold: bool, actions: &mut Vec<Action>) {
        self.change(key, |instance| {
            instance.phase = Phase::Ready;
            instance.last_used = now;
        });
        let pool = self.instances[key].pool;
        self.serve(now, pool, cold, actions);
        match self.pools[pool].retired {
            Some(reason) => self.drain(key, reason, actions),
            None => self.watch_idle(now, key),
        }
    }

    /// One request less in an instance.
    pub(super) fn slot_freed(
        &mut self,
        now: Time,
        key: InstanceKey,
        outcome: LeaseOutcome,
        actions: &mut Vec<Action>,
    ) {
        self.change(key, |instance| {
            instance.load -= 1;
            instance.last_used = now;
        });
        match outcome {
            LeaseOutcome::Reusable => {
                self.serve(now, self.instances[key].pool, false, actions);
                self.watch_idle(now, key);
            }
            LeaseOutcome::InstanceLost => self.drain(key, EndReason::Failed, actions),
        }
        self.end_if_free(key, actions);
    }

    /// Sees to it that an idle instance ends in time.
    pub(super) fn watch_idle(&mut self, now: Time, key: InstanceKey) {
        let instance = &self.instances[key];
        if instance.state() == InstanceState::Idle && instance.timer.is_none() {
            self.arm(key, now + self.pools[instance.pool].spec.idle_timeout);
        }
    }
}

// === drain, end, gone ===

impl Manager {
    /// Takes an instance out of service; it ends as soon as it can.
    pub(super) fn drain(&mut self, key: InstanceKey, reason: EndReason, actions: &mut Vec<Action>) {
        match self.instances[key].phase {
            Phase::Starting | Phase::Ready => {
                self.disarm(key);
                self.change(key, |instance| instance.phase = Phase::Draining(reason));
                self.end_if_free(key, actions);
            }
            Phase::Draining(_) | Phase::Ending => {}
        }
    }

    /// Ends a draining instance when no lease holds it and its worker can be told.
    fn end_if_free(&mut self, key: InstanceKey, actions: &mut Vec<Action>) {
        let instance = &mut self.instances[key];
        if let (Phase::Draining(reason), 0, Some(worker)) = (instance.phase, instance.load, &instance.worker)
        {
            actions.push(Action::EndInstance { instance: instance.id, worker: worker.clone(), reason });
            instance.phase = Phase::Ending;
            self.ending += 1;
        }
    }

    pub(super) fn start_failed(
        &mut self,
        now: Time,
        id: InstanceId,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        // An instance that is ready, or still has requests, did not fail to start: the report makes no sense.
        let instance = &self.instances[key];
        if instance.phase != Phase::Ready && instance.load == 0 {
            self.gone(now, key, &Refusal::StartFailed { reason }, actions);
        }
    }

    pub(super) fn instance_gone(&mut self, now: Time, id: InstanceId, actions: &mut Vec<Action>) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        let reason = "the instance ended before it was ready".to_owned();
        self.gone(now, key, &Refusal::StartFailed { reason }, actions);
    }

    pub(super) fn worker_lost(&mut self, now: Time, worker: &WorkerId, actions: &mut Vec<Action>) {
        let reason = format!("worker {worker} was lost");
        let refusal = Refusal::StartFailed { reason };
        let of_worker = |key: &InstanceKey| self.instances[*key].worker.as_ref() == Some(worker);
        let lost: Vec<_> = self.by_id.values().copied().filter(of_worker).collect();
        for key in lost {
            self.gone(now, key, &refusal, actions);
        }
    }

    /// Nothing is left of an instance. Its leases stay in flight until they are released.
    fn gone(&mut self, now: Time, key: InstanceKey, refusal: &Refusal, actions: &mut Vec<Action>) {
        let Some(instance) = self.forget(key) else { return };
        if instance.phase == Phase::Starting {
            self.start_lost(now, instance.pool, refusal, actions);
        }
        self.room_freed(now, actions);
        self.close_pool_if_empty(instance.pool);
    }
}

// === changes of functions, stop ===

impl Manager {
    pub(super) fn revision_replaced(&mut self, revision: &RevisionId, actions: &mut Vec<Action>) {
        let version = revision.version.version;
        let Some(function) = self.ledger.find(&revision.version.function) else { return };
        let entry = &mut self.ledger.functions[function];
        let newest = entry.newest.entry(version).or_default();
        *newest = revision.number.max(*newest);
        let older: Vec<_> =
            entry.pools.range((version, 0)..(version, *newest)).map(|(_, &pool)| pool).collect();
        for pool in older {
            self.retire(pool, EndReason::Replaced, None, actions);
        }
    }

    pub(super) fn function_deleted(&mut self, function: &FunctionId, actions: &mut Vec<Action>) {
        let Some(key) = self.ledger.find(function) else { return };
        self.ledger.reserve(key, None);
        let pools: Vec<_> = self.ledger.functions[key].pools.values().copied().collect();
        for pool in pools {
            self.retire(pool, EndReason::FunctionDeleted, Some(&Refusal::FunctionDeleted), actions);
        }
        self.ledger.close_if_empty(key);
    }

    pub(super) fn stop(&mut self, actions: &mut Vec<Action>) {
        self.stopping = true;
        let pools: Vec<_> = self.pools.keys().collect();
        for pool in pools {
            self.retire(pool, EndReason::Shutdown, Some(&Refusal::Stopping), actions);
        }
    }

    /// Takes the pool's instances out of service. With a refusal also its waiting requests are refused; without one
    /// they still get the instances that were started for them.
    fn retire(
        &mut self,
        pool: PoolKey,
        reason: EndReason,
        refusal: Option<&Refusal>,
        actions: &mut Vec<Action>,
    ) {
        let entry = &mut self.pools[pool];
        // A deleted function's revisions stay deleted, whatever happens to them later.
        if entry.retired != Some(EndReason::FunctionDeleted) {
            entry.retired = Some(reason);
        }
        let mut ending: Vec<_> = entry.ready(&self.instances).collect();
        if refusal.is_some() {
            ending.extend(entry.starting(&self.instances));
        }
        for key in ending {
            self.drain(key, reason, actions);
        }
        if let Some(refusal) = refusal {
            while self.refuse_oldest(pool, refusal, actions) {}
        }
        self.close_pool_if_empty(pool);
    }
}

// === where an instance is kept ===

impl Manager {
    fn insert(&mut self, instance: Instance) -> InstanceKey {
        let (id, pool) = (instance.id, instance.pool);
        let key = self.instances.insert(instance);
        self.by_id.insert(id, key);
        self.pools[pool].instances += 1;
        self.enlist(key);
        key
    }

    fn forget(&mut self, key: InstanceKey) -> Option<Instance> {
        self.disarm(key);
        self.withdraw(key);
        let instance = self.instances.remove(key)?;
        self.by_id.remove(&instance.id);
        self.pools[instance.pool].instances -= 1;
        if instance.phase == Phase::Ending {
            self.ending -= 1;
        }
        Some(instance)
    }

    pub(super) fn withdraw(&mut self, key: InstanceKey) {
        let instance = &self.instances[key];
        if instance.state() == InstanceState::Idle {
            self.idle.remove(&mut self.instances, key);
        }
        let pool = self.instances[key].pool;
        self.pools[pool].take(&mut self.instances, key);
    }

    pub(super) fn enlist(&mut self, key: InstanceKey) {
        let instance = &self.instances[key];
        if instance.state() == InstanceState::Idle {
            self.idle.add(&mut self.instances, key);
        }
        let pool = self.instances[key].pool;
        self.pools[pool].put(&mut self.instances, key);
    }
}
