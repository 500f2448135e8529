//! The arrows of the chart in [`crate::instance`].

use std::sync::Arc;
use std::time::Duration;

use hearth_types::{
    EndReason, FunctionId, FunctionSpec, InstanceId, LeaseOutcome, Refusal, RevisionId, StartReason,
    TenantId, Time, WorkerId,
};

use super::{Held, Manager};
use crate::instance::{Instance, InstanceKey, Phase};
use crate::limiter::Served;
use crate::list::{List, Order};
use crate::messages::Action;
use crate::pool::PoolKey;

/// How often it is looked whether an idle provisioned instance is still one, at most.
const PROVISIONED_CHECK: Duration = Duration::from_secs(1);

// === start ===

impl Manager {
    /// Decides that the pool gets one more instance.
    pub(super) fn start(
        &mut self,
        now: Time,
        pool: PoolKey,
        reason: StartReason,
        actions: &mut Vec<Action>,
    ) -> InstanceKey {
        let id = InstanceId::new(self.config.epoch, self.next_instance);
        self.next_instance += 1;
        let mut instance = Instance::new(id, pool, self.pools[pool].limiter(now), now);
        instance.started_for = Some(reason);
        let key = self.insert(instance);
        self.arm(key, now + self.config.start_deadline);
        let (spec, tenant) = (Arc::clone(&self.pools[pool].spec), self.pools[pool].tenant.clone());
        // Nothing of an image is the same for another function.
        if self.config.blanks > 0 && spec.image.is_none() {
            self.blank_wanted(now, spec.blank_kind());
        }
        actions.push(Action::StartInstance { instance: id, spec, tenant, reason });
        key
    }

    pub(super) fn placed(&mut self, now: Time, id: InstanceId, worker: WorkerId, actions: &mut Vec<Action>) {
        if self.blank_placed(id, &worker, actions) {
            return;
        }
        let Some(key) = self.by_id.get(&id).copied() else { return };
        let instance = &mut self.instances[key];
        if instance.worker.is_none() {
            instance.worker = Some(worker);
            let tries_room = std::mem::take(&mut instance.tries_room);
            self.end_if_free(key, actions);
            if tries_room {
                // One that ended may have left room for several.
                self.room_freed(now, actions);
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
        if !self.pools[pool].needs_a_start(now) {
            self.pools[pool].health.growth_failed(now);
        }
        while self.pools[pool].needs_a_start(now) && self.refuse_oldest(pool, refusal, actions) {}
    }
}

impl Manager {
    /// An instance is lost that requests may have waited for. They get another if nothing else will serve them.
    pub(super) fn replace_lost(&mut self, now: Time, pool: PoolKey, actions: &mut Vec<Action>) {
        let entry = &self.pools[pool];
        if entry.waiting.is_empty() || entry.live() + entry.owed > 0 {
            return;
        }
        if let Some((failures, retry_after)) = entry.health.pause(now) {
            let refusal = Refusal::InitFailing { failures, retry_after };
            while self.refuse_oldest(pool, &refusal, actions) {}
            return;
        }
        for _ in 0..entry.starts_needed(now) {
            self.start(now, pool, StartReason::Request, actions);
        }
    }
}

// === ready, idle, busy ===

impl Manager {
    pub(super) fn ready(
        &mut self,
        now: Time,
        id: InstanceId,
        worker: WorkerId,
        initialized: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        self.placed(now, id, worker, actions);
        if self.instances[key].phase == Phase::Starting {
            self.disarm(key);
            let instance = &mut self.instances[key];
            instance.init_failed = !initialized;
            let since = instance.since;
            let pool = &mut self.pools[instance.pool];
            if initialized {
                pool.health.well();
                pool.provision_failure = None;
            } else {
                pool.health.init_failed(now, since);
            }
            let pool = self.instances[key].pool;
            self.enter_service(now, key, true, actions);
            self.provide(now, pool, actions);
        }
    }

    pub(super) fn found(
        &mut self,
        now: Time,
        (id, worker): (InstanceId, WorkerId),
        spec: &Arc<FunctionSpec>,
        tenant: Option<&TenantId>,
        actions: &mut Vec<Action>,
    ) {
        let first = InstanceId::new(self.config.epoch, 0);
        let next = InstanceId::new(self.config.epoch, self.next_instance);
        if self.by_id.contains_key(&id) || (first..next).contains(&id) {
            return;
        }
        let pool = self.open_pool(spec, tenant);
        self.refresh(now, pool, spec, actions);
        let mut instance = Instance::new(id, pool, self.pools[pool].limiter(now), now);
        instance.worker = Some(worker);
        let key = self.insert(instance);
        self.enter_service(now, key, false, actions);
        if self.stopping {
            self.drain(key, EndReason::Shutdown, actions);
        }
    }

    /// Makes a starting instance ready and serves who waits.
    fn enter_service(&mut self, now: Time, key: InstanceKey, cold: bool, actions: &mut Vec<Action>) {
        self.join_service(key);
        self.change(key, |instance| {
            instance.phase = Phase::Ready;
            instance.last_used = now;
            instance.looked_at = now;
            if instance.started_for != Some(StartReason::Prewarmed) {
                instance.idle_since = now;
            }
        });
        let pool = self.instances[key].pool;
        self.serve(now, pool, cold, actions);
        match self.pools[pool].retired {
            Some(reason) => {
                self.drain(key, reason, actions);
                self.replace_lost(now, pool, actions);
            }
            None => self.watch_idle(now, key, actions),
        }
    }

    /// One request less in an instance.
    pub(super) fn slot_freed(
        &mut self,
        now: Time,
        held: Held,
        outcome: LeaseOutcome,
        actions: &mut Vec<Action>,
    ) {
        let key = held.instance;
        let pool = &mut self.pools[held.pool];
        let (hard, adaptive) = (pool.hard(), pool.is_adaptive());
        let reusable = outcome == LeaseOutcome::Reusable;
        if adaptive && reusable {
            let served = Served { since: held.since, until: now, load: held.load };
            self.instances[key].limiter.served(key, served, &mut pool.learned, hard);
        }
        self.change(key, |instance| {
            instance.load -= 1;
            instance.last_used = now;
            instance.idle_since = now;
        });
        if reusable {
            if self.instances[key].init_failed {
                self.instances[key].init_failed = false;
                self.pools[held.pool].health.well();
            }
            if self.make_way(key, actions) {
                self.replace_lost(now, held.pool, actions);
            } else {
                self.serve(now, held.pool, false, actions);
                self.watch_idle(now, key, actions);
            }
        } else {
            if self.instances[key].init_failed {
                self.pools[held.pool].health.init_failed(now, held.since);
            }
            self.drain(key, EndReason::Failed, actions);
            self.replace_lost(now, held.pool, actions);
            self.provide(now, held.pool, actions);
        }
        self.end_if_free(key, actions);
    }

    /// Sees to it that an idle instance ends in time.
    pub(super) fn watch_idle(&mut self, now: Time, key: InstanceKey, actions: &mut Vec<Action>) {
        let instance = &self.instances[key];
        if !instance.is_idle() || instance.timer.is_some() {
            return;
        }
        let due = self.idle_deadline(key);
        if due > now {
            self.arm(key, due);
        } else {
            self.idle_over(now, key, actions);
        }
    }

    /// An idle instance's time is over: it ends, unless it is provisioned.
    pub(super) fn idle_over(&mut self, now: Time, key: InstanceKey, actions: &mut Vec<Action>) {
        let instance = &self.instances[key];
        let (pool, since) = (instance.pool, instance.idle_since);
        if self.pools[pool].needs_all() {
            self.arm(key, now + self.pools[pool].spec.idle_timeout.max(PROVISIONED_CHECK));
            return;
        }
        self.drain(key, EndReason::Idle, actions);
        self.remember_idle(now, pool, since);
    }
}

// === drain, end, gone ===

impl Manager {
    /// Takes an instance out of service; it ends as soon as it can.
    pub(super) fn drain(&mut self, key: InstanceKey, reason: EndReason, actions: &mut Vec<Action>) {
        match self.instances[key].phase {
            phase @ (Phase::Starting | Phase::Ready) => {
                if phase == Phase::Ready {
                    self.leave_service(key);
                }
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
        self.blanks_lost(now, worker);
        for key in lost {
            self.gone(now, key, &refusal, actions);
        }
    }

    /// Nothing is left of an instance. Its leases stay in flight until they are released.
    fn gone(&mut self, now: Time, key: InstanceKey, refusal: &Refusal, actions: &mut Vec<Action>) {
        let Some(instance) = self.forget(key) else { return };
        if instance.phase == Phase::Starting {
            if instance.started_for == Some(StartReason::Provisioned) {
                self.provision_failed(now, instance.pool, refusal.to_string());
            }
            self.start_lost(now, instance.pool, refusal, actions);
        } else {
            self.replace_lost(now, instance.pool, actions);
        }
        self.room_freed(now, actions);
        self.provide(now, instance.pool, actions);
        self.close_pool_if_empty(now, instance.pool);
    }
}

// === changes of functions, stop ===

impl Manager {
    pub(super) fn revision_replaced(&mut self, now: Time, revision: &RevisionId, actions: &mut Vec<Action>) {
        let version = revision.version.version;
        let Some(function) = self.ledger.find(&revision.version.function) else { return };
        let entry = &mut self.ledger.functions[function];
        let newest = entry.newest.entry(version).or_default();
        *newest = revision.number.max(*newest);
        let older: Vec<_> =
            entry.pools.range((version, 0, None)..(version, *newest, None)).map(|(_, &pool)| pool).collect();
        for pool in older {
            self.retire(now, pool, EndReason::Replaced, None, actions);
        }
    }

    pub(super) fn function_deleted(
        &mut self,
        now: Time,
        function: &FunctionId,
        newest: u64,
        actions: &mut Vec<Action>,
    ) {
        self.deleted.note(now, function, newest);
        let Some(key) = self.ledger.find(function) else { return };
        self.ledger.reserve(key, None);
        let pools: Vec<_> = self.ledger.functions[key].pools.values().copied().collect();
        for pool in pools {
            self.retire(now, pool, EndReason::FunctionDeleted, Some(&Refusal::FunctionDeleted), actions);
        }
        self.ledger.close_if_empty(key);
    }

    pub(super) fn stop(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.stopping = true;
        self.stop_blanks(now, actions);
        let pools: Vec<_> = self.pools.keys().collect();
        for pool in pools {
            self.retire(now, pool, EndReason::Shutdown, Some(&Refusal::Stopping), actions);
        }
    }

    /// Takes the pool's instances out of service. With a refusal also its waiting requests are refused; without one
    /// they still get the instances that were started for them.
    fn retire(
        &mut self,
        now: Time,
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
        let provisioned = std::mem::take(&mut entry.provisioned);
        let function = entry.function;
        self.ledger.provision(function, provisioned, 0);
        let entry = &self.pools[pool];
        let mut ending: Vec<_> = entry.ready(&self.instances).collect();
        if refusal.is_some() {
            ending.extend(entry.starting(&self.instances));
        }
        for key in ending {
            self.drain(key, reason, actions);
        }
        if let Some(refusal) = refusal {
            while self.refuse_oldest(pool, refusal, actions) {}
            self.owe_nothing(pool);
        }
        self.replace_lost(now, pool, actions);
        self.close_pool_if_empty(now, pool);
    }
}

// === where an instance is kept ===

impl Manager {
    fn insert(&mut self, instance: Instance) -> InstanceKey {
        let (id, pool) = (instance.id, instance.pool);
        let key = self.instances.insert(instance);
        self.by_id.insert(id, key);
        let entry = &mut self.pools[pool];
        entry.instances += 1;
        self.ledger.functions[entry.function].memory_mb += u64::from(entry.spec.memory_mb);
        entry.put(&mut self.instances, key);
        key
    }

    /// Puts an instance, whose worker is known, among those that take requests.
    fn join_service(&mut self, key: InstanceKey) {
        self.service.add(&mut self.instances, key);
        if let Some(worker) = self.instances[key].worker.clone() {
            let theirs = self.by_worker.entry(worker).or_insert_with(|| List::new(Order::Worker));
            theirs.add(&mut self.instances, key);
        }
    }

    fn leave_service(&mut self, key: InstanceKey) {
        self.service.remove(&mut self.instances, key);
        let Some(worker) = &self.instances[key].worker else { return };
        if let Some(theirs) = self.by_worker.get_mut(worker) {
            let worker = worker.clone();
            theirs.remove(&mut self.instances, key);
            if theirs.newest().is_none() {
                self.by_worker.remove(&worker);
            }
        }
    }

    pub(super) fn forget(&mut self, key: InstanceKey) -> Option<Instance> {
        self.disarm(key);
        let instance = self.instances.get(key)?;
        let (pool, ready) = (instance.pool, instance.phase == Phase::Ready);
        if ready {
            self.leave_service(key);
        }
        self.pools[pool].take(&mut self.instances, key);
        let instance = self.instances.remove(key)?;
        self.by_id.remove(&instance.id);
        let pool = &mut self.pools[instance.pool];
        pool.instances -= 1;
        pool.learned.gone(key);
        let memory_mb = &mut self.ledger.functions[pool.function].memory_mb;
        *memory_mb = memory_mb.saturating_sub(u64::from(pool.spec.memory_mb));
        if instance.phase == Phase::Ending {
            self.ending -= 1;
        }
        Some(instance)
    }
}
