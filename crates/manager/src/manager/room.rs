//! Room on workers: who gets it when there is not enough, and who makes way.
//!
//! Starts that found no room wait; room goes to the function that holds least of those that have waited longest. Idle instances make way first, those
//! not used for long before others; but a function takes from one that holds less than itself only what was idle for
//! long, or its flood would cost the other a cold start at every pause. When nothing idle can be had, a function that
//! holds more memory than the one that waits gives an instance up at the end of a request (max-min fairness). Among the
//! tenants of one function the same holds with their own instances, but that what is idle goes at once: it is of no use to
//! another of them.

use std::time::Duration;

use hearth_types::{EndReason, InstanceId, Refusal, StartReason, Time, WorkerId};

use super::{Manager, PoolKey};
use crate::instance::{InstanceKey, Phase};
use crate::ledger::FunctionKey;
use crate::messages::{Action, Relief};

/// What was idle for longer may go for whoever needs the room.
const LONG_IDLE: Duration = Duration::from_secs(10);
/// Of the functions that wait for room, so many that have waited longest are compared.
const COMPARED: usize = 64;
/// Idle instances that go at once when a worker is short of memory: this part of them, at least one.
const RELIEF_PART: usize = 8;
/// Instances that are looked at for it at once: it is asked again a moment later, and goes on where it was.
const RELIEF_LOOKED_AT: usize = 2_048;

impl Manager {
    pub(super) fn placement_failed(
        &mut self,
        now: Time,
        id: InstanceId,
        reason: String,
        room_may_come: bool,
        actions: &mut Vec<Action>,
    ) {
        if self.blank_not_placed(now, id) {
            return;
        }
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
        if instance.tries_room && !room_may_come {
            // It took no room: the next may have it.
            self.room_freed(now, actions);
        }
        self.close_pool_if_empty(now, pool);
    }

    /// A start waits for room, and a blank or else an idle instance makes it if one is there.
    fn want_room(&mut self, now: Time, pool: PoolKey, reason: String, actions: &mut Vec<Action>) {
        let entry = &mut self.pools[pool];
        entry.owed += 1;
        self.owed += 1;
        entry.no_room = Some(reason);
        if entry.owed == 1 {
            self.room_wanted.push(entry.function, pool);
        }
        if self.ending < self.owed
            && !self.blank_makes_room(now, actions)
            && let Some(idle) = self.long_idle(now, pool)
        {
            self.drain(idle, EndReason::Evicted, actions);
        }
    }

    /// An instance that is idle, may go, and was not used since it was looked at last: nearly the one that is idle
    /// longest, found without keeping all in order (the CLOCK algorithm, Corbato 1968).
    fn long_idle(&mut self, now: Time, wanting: PoolKey) -> Option<InstanceKey> {
        // Each is looked at twice at most: once for its use, once for good.
        for _ in 0..self.instances.len() * 2 {
            let key = self.service.oldest()?;
            let instance = &mut self.instances[key];
            let unused = instance.last_used <= instance.looked_at;
            let idle_for_long = now - instance.last_used > LONG_IDLE;
            let pool = instance.pool;
            if unused
                && instance.is_idle()
                && !self.pools[pool].needs_all()
                && (idle_for_long
                    || self.are_tenants_of_one(pool, wanting)
                    || self.holds(pool) >= self.would_hold(wanting))
            {
                return Some(key);
            }
            let instance = &mut self.instances[key];
            instance.looked_at = now;
            self.service.remove(&mut self.instances, key);
            self.service.add(&mut self.instances, key);
        }
        None
    }

    /// Memory that the instances of the pool's function hold, MiB.
    fn holds(&self, pool: PoolKey) -> u64 {
        self.ledger.functions[self.pools[pool].function].memory_mb
    }

    /// The same, with one instance more.
    fn would_hold(&self, pool: PoolKey) -> u64 {
        self.holds(pool) + u64::from(self.pools[pool].spec.memory_mb)
    }

    /// The function that holds least, of those that have waited for room longest.
    fn poorest(&self) -> Option<FunctionKey> {
        let compared = self.room_wanted.functions().take(COMPARED);
        compared.min_by_key(|&function| self.ledger.functions[function].memory_mb)
    }

    /// Starts one instance for those who wait for room.
    pub(super) fn room_freed(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(function) = self.poorest()
            && let Some(pool) = self.room_wanted.pop(function)
        {
            let entry = &mut self.pools[pool];
            // Some who waited may have been served by others, or have left; those who still wait are owed theirs.
            let owed = entry.owed.min(entry.starts_missing(now));
            self.owed -= entry.owed - owed;
            entry.owed = owed;
            if owed == 0 {
                continue;
            }
            entry.owed -= 1;
            self.owed -= 1;
            if entry.owed > 0 {
                self.room_wanted.push(function, pool);
            }
            self.room_wanted.had_a_turn(function);
            let key = self.start(now, pool, StartReason::Request, actions);
            self.instances[key].tries_room = true;
            return;
        }
    }

    /// Nobody waits any more for the starts that wait for room.
    pub(super) fn owe_nothing(&mut self, pool: PoolKey) {
        if let Some(entry) = self.pools.get_mut(pool)
            && entry.owed > 0
        {
            self.owed -= std::mem::take(&mut entry.owed);
            self.room_wanted.remove(entry.function, pool);
        }
    }

    /// Gives up an instance that just ended a request, for a function with less memory that waits for room. True if it
    /// was given up.
    pub(super) fn make_way(&mut self, key: InstanceKey, actions: &mut Vec<Action>) -> bool {
        let Some(waiting) = self.poorest().and_then(|function| self.room_wanted.first(function)) else {
            return false;
        };
        let instance = &self.instances[key];
        if instance.load > 0 || instance.phase != Phase::Ready || self.ending >= self.owed {
            return false;
        }
        let (mine, theirs) = (&self.pools[instance.pool], &self.pools[waiting]);
        let given = u64::from(mine.spec.memory_mb);
        let holds_more = if self.are_tenants_of_one(instance.pool, waiting) {
            mine.live() > theirs.live() + 1
        } else {
            self.holds(instance.pool).saturating_sub(given) >= self.would_hold(waiting)
        };
        if mine.needs_all() || !holds_more {
            return false;
        }
        self.drain(key, EndReason::Evicted, actions);
        true
    }

    /// Takes all instances of a worker out of service; provisioned ones are made anew, elsewhere.
    pub(super) fn drain_worker(&mut self, now: Time, worker: &WorkerId, actions: &mut Vec<Action>) {
        self.blanks_leave(Some(worker), actions);
        let theirs = self.by_worker.get(worker);
        let leaving: Vec<_> = theirs.map(|theirs| theirs.iter(&self.instances).collect()).unwrap_or_default();
        for key in leaving {
            let pool = self.instances[key].pool;
            self.drain(key, EndReason::WorkerDrained, actions);
            self.replace_lost(now, pool, actions);
            self.provide(now, pool, actions);
        }
    }

    /// Lets some idle instances of a worker hibernate or end, those used longest ago first; but before any of them, all its
    /// blanks end.
    pub(super) fn relieve(
        &mut self,
        now: Time,
        worker: &WorkerId,
        relief: Relief,
        actions: &mut Vec<Action>,
    ) {
        if self.give_up_blanks(now, worker, actions) {
            return;
        }
        let mut idle = self.idle_of(worker, relief);
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
                    // Those that went just now may have left only what is provisioned.
                    if self.pools[pool].needs_all() {
                        continue;
                    }
                    self.drain(key, EndReason::Evicted, actions);
                    self.remember_idle(now, pool, since);
                }
            }
        }
    }

    /// Instances of a worker that may hibernate or end, of those that were not looked at for longest.
    fn idle_of(&mut self, worker: &WorkerId, relief: Relief) -> Vec<InstanceKey> {
        let Some(theirs) = self.by_worker.get_mut(worker) else { return Vec::new() };
        let mut idle = Vec::new();
        let last = theirs.newest();
        for _ in 0..RELIEF_LOOKED_AT {
            let Some(key) = theirs.oldest() else { break };
            let instance = &self.instances[key];
            let may = match relief {
                Relief::Hibernate => !instance.asleep,
                Relief::Evict => !self.pools[instance.pool].needs_all(),
            };
            if may && instance.is_idle() {
                idle.push(key);
            }
            theirs.remove(&mut self.instances, key);
            theirs.add(&mut self.instances, key);
            if Some(key) == last {
                break;
            }
        }
        idle
    }
}
