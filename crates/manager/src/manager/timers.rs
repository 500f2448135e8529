//! Deadlines: of starts, of idle instances, of waiting requests.
//!
//! An instance has at most one entry. Use does not move it (the hot path stays free of allocation); an entry that
//! comes due too early is set again to the moment that counts then, so a deadline may be named earlier than needed but
//! never later.

use hearth_types::{EndReason, InstanceState, Refusal, StartReason, Time};

use super::Manager;
use crate::instance::InstanceKey;
use crate::messages::{Action, WaitId};
use crate::pool::PoolKey;

/// What comes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A start, or an instance's idle time.
    Instance(InstanceKey),
    /// A waiting request.
    Wait(WaitId),
    /// A revision: what is provisioned, foreseen or forgotten.
    Pool(PoolKey),
    /// Blanks: those that are missing, and those that nobody needs.
    Blanks,
}

impl Manager {
    /// When [`crate::Event::TimePassed`] is due next; nothing if there is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Sets the timer of an instance that has none.
    pub(super) fn arm(&mut self, key: InstanceKey, at: Time) {
        self.instances[key].timer = Some(at);
        self.timers.insert((at, Timer::Instance(key)));
    }

    /// Removes the timer of an instance, if it has one.
    pub(super) fn disarm(&mut self, key: InstanceKey) {
        if let Some(at) = self.instances[key].timer.take() {
            self.timers.remove(&(at, Timer::Instance(key)));
        }
    }

    pub(super) fn time_passed(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(&(at, timer)) = self.timers.first()
            && at <= now
        {
            match timer {
                Timer::Instance(key) => self.instance_due(now, key, actions),
                Timer::Wait(wait) => self.wait_due(now, wait, actions),
                Timer::Pool(pool) => {
                    self.disarm_pool(pool);
                    self.pool_due(now, pool, actions);
                }
                Timer::Blanks => {
                    self.timers.remove(&(at, timer));
                    self.blanks.timer = None;
                    self.keep_blanks(now, actions);
                }
            }
        }
    }

    fn instance_due(&mut self, now: Time, key: InstanceKey, actions: &mut Vec<Action>) {
        self.disarm(key);
        let instance = &self.instances[key];
        let pool = instance.pool;
        match instance.state() {
            InstanceState::Starting => {
                let waited = (now - instance.since).as_millis();
                let reason = format!("it was not ready after {waited} ms");
                let provisioned = instance.started_for == Some(StartReason::Provisioned);
                self.drain(key, EndReason::Failed, actions);
                if provisioned {
                    self.provision_failed(now, pool, reason.clone());
                }
                self.start_lost(now, pool, &Refusal::StartFailed { reason }, actions);
            }
            InstanceState::Idle | InstanceState::Hibernating => {
                let due = self.idle_deadline(key);
                if due <= now {
                    self.idle_over(now, key, actions);
                } else {
                    self.arm(key, due);
                }
            }
            // Its next idle time sets a timer again.
            InstanceState::Busy | InstanceState::Draining => {}
        }
    }
}
