//! Room on workers: who gets it when there is not enough, and who makes way.
//!
//! Starts that found no room wait in turn, one instance to a function and round. Idle instances make way first, those
//! not used for long before others. When none is idle, a function that holds more memory than the one that waits gives an
//! instance up at the end of a request, so that no function's flood keeps another out (max-min fairness).

use std::cmp::Ordering;

use hearth_types::{EndReason, InstanceId, Refusal, StartReason, Time, WorkerId};

use super::{Manager, PoolKey};
use crate::instance::{InstanceKey, Phase};
use crate::messages::{Action, Relief};

/// Idle instances that go at once when a worker is short of memory: this part of them, at least one.
const RELIEF_PART: usize = 8;

impl Manager {
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
            if instance.started_for == Some(StartReason::Provisioned) {
                self.provision_failed(now, pool, reason.clone());
            }
            let entry = &self.pools[pool];
            if room_may_come && entry.spec.queue.depth > 0 && entry.needs_a_start(now) {
                self.want_room(now, pool, reason, actions);
            } else {
                self.start_lost(now, pool, &Refusal::NoRoom { reason }, actions);
            }
        }
        self.close_pool_if_empty(now, pool);
    }

    /// A start waits for room, and an idle instance makes it if one is there.
    fn want_room(&mut self, now: Time, pool: PoolKey, reason: String, actions: &mut Vec<Action>) {
        let entry = &mut self.pools[pool];
        entry.owed += 1;
        entry.no_room = Some(reason);
        if entry.owed == 1 {
            self.room_wanted.push_back(pool);
        }
        if self.ending < self.starts_owed()
            && let Some(idle) = self.long_idle(now)
        {
            self.drain(idle, EndReason::Evicted, actions);
        }
    }

    fn starts_owed(&self) -> usize {
        self.room_wanted.iter().filter_map(|&pool| self.pools.get(pool)).map(|pool| pool.owed).sum()
    }

    /// An instance that is idle, may go, and was not used since it was looked at last: nearly the one that is idle
    /// longest, found without keeping all in order (the CLOCK algorithm, Corbato 1968).
    fn long_idle(&mut self, now: Time) -> Option<InstanceKey> {
        // Each is looked at twice at most: once for its use, once for good.
        for _ in 0..self.instances.len() * 2 {
            let key = self.service.oldest()?;
            let instance = &mut self.instances[key];
            let unused = instance.last_used <= instance.looked_at;
            if unused && instance.is_idle() && !self.pools[instance.pool].needs_all() {
                return Some(key);
            }
            instance.looked_at = now;
            self.service.remove(&mut self.instances, key);
            self.service.add(&mut self.instances, key);
        }
        None
    }

    /// Starts what waits for room and whose turn it is.
    pub(super) fn room_freed(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(pool) = self.room_wanted.pop_front() {
            let Some(entry) = self.pools.get_mut(pool) else { continue };
            if entry.owed == 0 {
                continue;
            }
            entry.owed -= 1;
            let still_owed = entry.owed > 0;
            let needed = entry.needs_a_start(now);
            if !needed {
                // Others serve those who waited.
                self.owe_nothing(pool);
                continue;
            }
            if still_owed {
                self.room_wanted.push_back(pool);
            }
            self.start(now, pool, StartReason::Request, actions);
            return;
        }
    }

    /// Nobody waits any more for the starts that wait for room.
    pub(super) fn owe_nothing(&mut self, pool: PoolKey) {
        if let Some(entry) = self.pools.get_mut(pool)
            && entry.owed > 0
        {
            entry.owed = 0;
            self.room_wanted.retain(|&waiting| waiting != pool);
        }
    }

    /// Gives up an instance that just ended a request, for a function with less memory that waits for room. True if it
    /// was given up.
    pub(super) fn make_way(&mut self, key: InstanceKey, actions: &mut Vec<Action>) -> bool {
        let Some(&waiting) = self.room_wanted.front() else { return false };
        let instance = &self.instances[key];
        if instance.load > 0 || instance.phase != Phase::Ready || self.ending >= self.starts_owed() {
            return false;
        }
        let (mine, theirs) = (&self.pools[instance.pool], &self.pools[waiting]);
        if mine.needs_all() || mine.function == theirs.function {
            return false;
        }
        let (given, needed) = (u64::from(mine.spec.memory_mb), u64::from(theirs.spec.memory_mb));
        let (rich, poor) = (
            self.ledger.functions[mine.function].memory_mb,
            self.ledger.functions[theirs.function].memory_mb,
        );
        if rich.saturating_sub(given).cmp(&(poor + needed)) == Ordering::Less {
            return false;
        }
        self.drain(key, EndReason::Evicted, actions);
        true
    }

    /// Lets some idle instances of a worker hibernate or end, those used longest ago first.
    pub(super) fn relieve(
        &mut self,
        now: Time,
        worker: &WorkerId,
        relief: Relief,
        actions: &mut Vec<Action>,
    ) {
        let may_go = |key: &InstanceKey| {
            let instance = &self.instances[*key];
            let may = match relief {
                Relief::Hibernate => !instance.asleep,
                Relief::Evict => !self.pools[instance.pool].needs_all(),
            };
            may && instance.is_idle() && instance.worker.as_ref() == Some(worker)
        };
        let mut idle: Vec<_> = self.service.iter(&self.instances).filter(may_go).collect();
        idle.sort_by_key(|&key| (self.instances[key].last_used, key));
        idle.truncate((idle.len() / RELIEF_PART).max(1));
        for key in idle {
            match relief {
                Relief::Hibernate => {
                    self.change(key, |instance| instance.asleep = true);
                    let instance = self.instances[key].id;
                    actions.push(Action::HibernateInstance { instance, worker: worker.clone() });
                }
                Relief::Evict => {
                    let instance = &self.instances[key];
                    let (pool, since) = (instance.pool, instance.idle_since);
                    self.drain(key, EndReason::Evicted, actions);
                    self.remember_idle(now, pool, since);
                }
            }
        }
    }
}
