//! Instances that are there before their request: provisioned, kept as idle times say, pre-warmed, started ahead of a
//! rising burst.

use std::sync::Arc;
use std::time::Duration;

use hearth_types::{EndReason, FunctionSpec, KeepAlive, RevisionId, StartReason, Time};

use super::timers::Timer;
use super::{Manager, PoolKey};
use crate::idle_times::{IdleTimes, Windows};
use crate::instance::InstanceKey;
use crate::messages::Action;

/// Provisioned instances that are on their way at once; the next follow as these get ready.
const PROVISION_AT_ONCE: usize = 100;
/// Time between attempts to have as many instances as are provisioned.
const PROVISION_RETRY: Duration = Duration::from_secs(1);

// === provisioned ===

impl Manager {
    pub(super) fn provision(
        &mut self,
        now: Time,
        spec: &Arc<FunctionSpec>,
        count: u32,
        actions: &mut Vec<Action>,
    ) {
        if self.stopping {
            return;
        }
        let pool = self.open_pool(spec, None);
        self.refresh(now, pool, spec, actions);
        let entry = &mut self.pools[pool];
        // Instances of a revision that was replaced or deleted are on their way out.
        let count = if entry.retired.is_some() { 0 } else { count };
        let before = std::mem::replace(&mut entry.provisioned, count);
        entry.provision_failure = None;
        let function = entry.function;
        self.ledger.provision(function, before, count);
        self.provide(now, pool, actions);
        self.close_pool_if_empty(now, pool);
    }

    /// Starts what is missing of a pool's provisioned instances, unless starts fail: then it is tried again later.
    pub(super) fn provide(&mut self, now: Time, pool: PoolKey, actions: &mut Vec<Action>) {
        let Some(entry) = self.pools.get(pool) else { return };
        if self.stopping || entry.retired.is_some() {
            return;
        }
        let missing = entry.provisioned_instances().saturating_sub(entry.live());
        if missing == 0 {
            return;
        }
        if entry.health.may_grow(now) {
            let more = missing.min(PROVISION_AT_ONCE.saturating_sub(entry.starting_count()));
            for _ in 0..more {
                self.start(now, pool, StartReason::Provisioned, actions);
            }
        } else {
            self.arm_pool(pool, now + PROVISION_RETRY);
        }
    }

    /// A provisioned instance could not be had.
    pub(super) fn provision_failed(&mut self, now: Time, pool: PoolKey, reason: String) {
        let entry = &mut self.pools[pool];
        if entry.retired.is_none() && entry.live() < entry.provisioned_instances() {
            entry.provision_failure = Some(reason);
            entry.health.growth_failed(now);
            self.arm_pool(pool, now + PROVISION_RETRY);
        }
    }
}

// === ahead of need ===

impl Manager {
    /// Starts one instance ahead of need, for all are as full as they should be; at most one at a time.
    pub(super) fn grow(&mut self, now: Time, pool: PoolKey, actions: &mut Vec<Action>) {
        let entry = &self.pools[pool];
        if entry.on_their_way() == 0 && entry.retired.is_none() && entry.health.may_grow(now) {
            self.start(now, pool, StartReason::Ahead, actions);
        }
    }

    /// Starts as many instances as a rising burst will need, at most two for each request that waits, and none that the
    /// limits would leave without a request.
    pub(super) fn start_ahead(&mut self, now: Time, pool: PoolKey, actions: &mut Vec<Action>) {
        let entry = &mut self.pools[pool];
        let expected = entry.burst.request(now) as usize;
        if !self.config.scale_ahead || expected == 0 || entry.retired.is_some() || !entry.health.may_grow(now)
        {
            return;
        }
        let wanted = entry.instances_for(now, entry.waiting.len() + expected.min(entry.waiting.len()));
        let limit = self.ledger.room(entry.function) as usize;
        let (on_their_way, ready) = (entry.on_their_way(), entry.ready_count());
        let more = wanted.saturating_sub(on_their_way).min(limit.saturating_sub(on_their_way + ready));
        for _ in 0..more {
            self.start(now, pool, StartReason::Ahead, actions);
        }
    }
}

// === idle times ===

impl Manager {
    /// Whether idle times are learned, unless its instances are to end anyway; never those of a tenant.
    fn may_learn(&self, pool: PoolKey) -> bool {
        let entry = &self.pools[pool];
        let learned = entry.spec.keep_alive == KeepAlive::Learned && entry.tenant.is_none();
        self.config.learn_idle_times && learned
    }

    fn learns(&self, pool: PoolKey) -> bool {
        self.may_learn(pool) && self.pools[pool].retired.is_none()
    }

    /// The windows that the pool's idle times say, if they say any.
    fn windows(&mut self, pool: PoolKey) -> Option<Windows> {
        if !self.learns(pool) {
            return None;
        }
        let entry = &mut self.pools[pool];
        let worth = self.config.cold_start_worth.unwrap_or(entry.spec.idle_timeout);
        entry.idle_times.windows(worth)
    }

    /// When an idle instance is to end.
    pub(super) fn idle_deadline(&mut self, key: InstanceKey) -> Time {
        let instance = &self.instances[key];
        let (pool, since, last_used) = (instance.pool, instance.idle_since, instance.last_used);
        let in_window = instance.started_for == Some(StartReason::Prewarmed) && !instance.used;
        match self.windows(pool) {
            None => last_used + self.pools[pool].spec.idle_timeout,
            Some(windows) if in_window || windows.prewarm.is_zero() => since + windows.keep,
            Some(_) => since,
        }
    }

    /// An idle instance gets a request. Notes how long it, or one in whose stead it is, was idle, and whether it saved a
    /// cold start.
    pub(super) fn idle_ends(&mut self, now: Time, key: InstanceKey, cold: bool) {
        let instance = &self.instances[key];
        let (pool, first) = (instance.pool, !instance.used);
        let (idle, started_for) = (now - instance.idle_since, instance.started_for);
        let gap_known = !first || started_for == Some(StartReason::Prewarmed);
        if gap_known && !cold && self.learns(pool) {
            self.pools[pool].idle_times.record(idle);
        }
        if first && started_for == Some(StartReason::Prewarmed) {
            // It was to end with its window; from now on it ends like any other.
            self.disarm(key);
        }
        if cold {
            return;
        }
        let beyond = idle > self.pools[pool].spec.idle_timeout;
        match started_for {
            Some(StartReason::Provisioned) if first || beyond => self.savings.provisioned += 1,
            Some(StartReason::Prewarmed) if first => self.savings.prewarmed += 1,
            Some(StartReason::Ahead) if first => self.savings.ahead += 1,
            Some(_) | None => self.savings.kept += u64::from(beyond && !first),
        }
    }

    /// A start was needed. If an instance ended idle before, its idle time ends here.
    pub(super) fn idle_ended_cold(&mut self, now: Time, pool: PoolKey) {
        if !self.learns(pool) {
            return;
        }
        let entry = &mut self.pools[pool];
        if let Some(last_used) = entry.idle_times.revive() {
            let idle = now - last_used;
            entry.idle_times.record(idle);
            self.savings.given_up += u64::from(idle <= entry.spec.idle_timeout);
        }
    }

    /// An instance ended for want of use: its last use is remembered, and the next is prepared for if it can be foreseen.
    pub(super) fn remember_idle(&mut self, now: Time, pool: PoolKey, idle_since: Time) {
        if !self.learns(pool) {
            return;
        }
        self.pools[pool].idle_times.ended(idle_since);
        if self.pools[pool].live() > 0 {
            return;
        }
        if let Some(windows) = self.windows(pool)
            && !windows.prewarm.is_zero()
            && idle_since + windows.prewarm > now
        {
            self.arm_pool(pool, idle_since + windows.prewarm);
        }
    }

    /// Whether an empty pool is kept for what is known of it: its idle times, or that its starts fail. Also when it was
    /// replaced, until the next revision has come and taken that over.
    pub(super) fn is_worth_remembering(&mut self, now: Time, pool: PoolKey) -> bool {
        let entry = &self.pools[pool];
        let passed_on = match entry.retired {
            None => false,
            Some(EndReason::Replaced) => entry.tenant.is_some() || !self.is_newest(pool),
            Some(_) => true,
        };
        if self.stopping || passed_on {
            return false;
        }
        let last_used = if self.may_learn(pool) { entry.idle_times.last_ghost() } else { None };
        let learned = last_used.map(|last_used| last_used + IdleTimes::span());
        let Some(until) = learned.max(entry.health.memory()).filter(|until| *until > now) else {
            return false;
        };
        if entry.timer.is_none() {
            self.arm_pool(pool, until);
        }
        true
    }

    /// Whether there is no pool of a later revision of its version.
    fn is_newest(&self, pool: PoolKey) -> bool {
        let entry = &self.pools[pool];
        let RevisionId { version, number } = &entry.spec.revision;
        let revisions = &self.ledger.functions[entry.function].pools;
        let from = revisions.range((version.version, *number, None)..);
        from.take_while(|((of, _, _), _)| *of == version.version).take(2).count() <= 1
    }

    /// A pool's time has come: for provisioned instances, for one that is foreseen, or to be forgotten.
    pub(super) fn pool_due(&mut self, now: Time, pool: PoolKey, actions: &mut Vec<Action>) {
        self.provide(now, pool, actions);
        let entry = &self.pools[pool];
        let idle = entry.live() == 0 && entry.waiting.is_empty() && entry.health.may_grow(now);
        if idle
            && !self.stopping
            && let Some(last_used) = self.pools[pool].idle_times.last_ghost()
            && let Some(windows) = self.windows(pool)
            && !windows.prewarm.is_zero()
            && (last_used + windows.prewarm..last_used + windows.keep).contains(&now)
        {
            self.pools[pool].idle_times.revive();
            let key = self.start(now, pool, StartReason::Prewarmed, actions);
            self.instances[key].idle_since = last_used;
        }
        self.close_pool_if_empty(now, pool);
    }

    /// Sets the pool's timer, unless an earlier one is set.
    pub(super) fn arm_pool(&mut self, pool: PoolKey, at: Time) {
        if self.pools[pool].timer.is_some_and(|timer| timer <= at) {
            return;
        }
        self.disarm_pool(pool);
        self.pools[pool].timer = Some(at);
        self.timers.insert((at, Timer::Pool(pool)));
    }

    /// Removes the pool's timer, if it has one.
    pub(super) fn disarm_pool(&mut self, pool: PoolKey) {
        if let Some(at) = self.pools.get_mut(pool).and_then(|entry| entry.timer.take()) {
            self.timers.remove(&(at, Timer::Pool(pool)));
        }
    }
}
