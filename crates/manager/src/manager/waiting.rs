//! Requests that wait for a slot: first come, first served, within their revision.

use std::time::Duration;

use hearth_types::{EndReason, Refusal, StartReason, Time};

use super::timers::Timer;
use super::{Manager, PoolKey};
use crate::messages::{Acquired, Action, WaitId};

/// Time after which it is looked again whether an instance is still on its way, at least.
const LEAST_WAIT: Duration = Duration::from_millis(100);

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
        let queue = entry.spec.queue;
        let pause = entry.health.pause(now);
        if let Some((failures, retry_after)) = pause
            && entry.live() == 0
        {
            return Err(Refusal::InitFailing { failures, retry_after });
        }
        // A request for which an instance can be started waits for that, and behind nobody.
        let queued = entry.waiting.len().saturating_sub(entry.starting_slots(now));
        if (pause.is_some() || entry.owed > 0) && queued >= queue.depth as usize {
            return Err(Refusal::QueueFull { limit: queue.depth as usize });
        }
        self.ledger.begin(entry.function);
        let wait = WaitId(self.next_wait);
        self.next_wait += 1;
        entry.waiting.insert(wait);
        let deadline = now + queue.wait;
        self.waits.insert(wait, Wait { pool, since: now, deadline });
        self.timers.insert((deadline, Timer::Wait(wait)));
        if pause.is_none() {
            if entry.needs_a_start(now) {
                self.idle_ended_cold(now, pool);
                self.start(now, pool, StartReason::Request, actions);
            }
            self.start_ahead(now, pool, actions);
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

    pub(super) fn waiter_left(&mut self, now: Time, wait: WaitId) {
        if let Some(Wait { pool, .. }) = self.end_wait(wait) {
            self.close_pool_if_empty(now, pool);
        }
    }

    /// A waiting request has waited for as long as its function's queue allows. It goes on if an instance is on its way
    /// that will take it, for that has a deadline of its own.
    pub(super) fn wait_due(&mut self, now: Time, wait: WaitId, actions: &mut Vec<Action>) {
        let Some(&Wait { pool, since, deadline }) = self.waits.get(&wait) else { return };
        let entry = &self.pools[pool];
        let expected = entry.starting_slots(now);
        let longest = since + self.config.wait_deadline;
        if now < longest && entry.waiting.iter().take(expected).any(|&other| other == wait) {
            let again = (now + entry.spec.queue.wait.max(LEAST_WAIT)).min(longest);
            self.timers.remove(&(deadline, Timer::Wait(wait)));
            self.timers.insert((again, Timer::Wait(wait)));
            self.waits.insert(wait, Wait { pool, since, deadline: again });
            return;
        }
        let refusal = match &entry.no_room {
            Some(reason) if entry.owed > 0 => Refusal::NoRoom { reason: reason.clone() },
            Some(_) | None => Refusal::TimedOut { waited: now - since },
        };
        self.end_wait(wait);
        actions.push(Action::Refuse { wait, refusal });
        self.close_pool_if_empty(now, pool);
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
        if pool.waiting.is_empty() {
            self.owe_nothing(entry.pool);
        }
        Some(entry)
    }
}
