//! Requests that wait for a slot: first come, first served, within their revision.

use hearth_types::{EndReason, Refusal, Time};

use super::timers::Timer;
use super::{Manager, PoolKey};
use crate::messages::{Acquired, Action, WaitId};

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pool: PoolKey,
    since: Time,
    deadline: Time,
}

impl Manager {
    /// Makes an admitted request wait, and starts an instance for it unless one is on its way that nobody else needs.
    pub(super) fn wait(
        &mut self,
        now: Time,
        pool: PoolKey,
        actions: &mut Vec<Action>,
    ) -> Result<Acquired, Refusal> {
        let entry = &mut self.pools[pool];
        if entry.retired == Some(EndReason::FunctionDeleted) {
            return Err(Refusal::FunctionDeleted);
        }
        let function = entry.function;
        let waiting = &mut self.ledger.functions[function].waiting;
        let limit = self.config.max_waiting_per_function;
        if *waiting >= limit {
            return Err(Refusal::QueueFull { limit });
        }
        *waiting += 1;
        self.ledger.begin(function);
        let wait = WaitId(self.next_wait);
        self.next_wait += 1;
        let deadline = now + self.config.wait_deadline;
        self.waits.insert(wait, Wait { pool, since: now, deadline });
        self.timers.insert((deadline, Timer::Wait(wait)));
        entry.waiting.insert(wait);
        if entry.needs_a_start() {
            self.start(now, pool, actions);
        }
        Ok(Acquired::Waiting(wait))
    }

    /// Gives the pool's free slots to those who wait for them.
    pub(super) fn serve(&mut self, now: Time, pool: PoolKey, cold: bool, actions: &mut Vec<Action>) {
        while let Some(&wait) = self.pools[pool].waiting.first()
            && let Some((instance, _)) = self.pools[pool].choose()
            && let Some(lease) = self.lease(now, instance, cold)
        {
            // The request stays in flight: it only changes from waiting to leased.
            self.remove_wait(wait);
            actions.push(Action::Grant { wait, lease });
        }
    }

    /// Refuses the one who waited longest; false if nobody waits.
    pub(super) fn refuse_oldest(
        &mut self,
        pool: PoolKey,
        refusal: &Refusal,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(&wait) = self.pools[pool].waiting.first() else { return false };
        self.end_wait(wait);
        actions.push(Action::Refuse { wait, refusal: refusal.clone() });
        true
    }

    pub(super) fn waiter_left(&mut self, wait: WaitId) {
        if let Some(Wait { pool, .. }) = self.end_wait(wait) {
            self.close_pool_if_empty(pool);
        }
    }

    /// The deadline of a waiting request has come.
    pub(super) fn wait_expired(&mut self, now: Time, wait: WaitId, actions: &mut Vec<Action>) {
        if let Some(Wait { pool, since, .. }) = self.end_wait(wait) {
            let refusal = Refusal::TimedOut { waited: now - since };
            actions.push(Action::Refuse { wait, refusal });
            self.close_pool_if_empty(pool);
        }
    }

    /// Ends a wait and its request with it.
    fn end_wait(&mut self, wait: WaitId) -> Option<Wait> {
        let entry = self.remove_wait(wait)?;
        self.ledger.finish(self.pools[entry.pool].function);
        Some(entry)
    }

    fn remove_wait(&mut self, wait: WaitId) -> Option<Wait> {
        let entry = self.waits.remove(&wait)?;
        self.timers.remove(&(entry.deadline, Timer::Wait(wait)));
        let pool = &mut self.pools[entry.pool];
        pool.waiting.remove(&wait);
        self.ledger.functions[pool.function].waiting -= 1;
        Some(entry)
    }
}
