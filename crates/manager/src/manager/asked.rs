//! What an operator asks of one instance: to be suspended, to go on, to end. What it cannot be asked now is left undone; who
//! asks sees in its state what came of it.

use hearth_types::{EndReason, InstanceId, Time};

use super::Manager;
use crate::instance::InstanceKey;
use crate::messages::Action;

impl Manager {
    /// Has an idle instance hibernate.
    pub(super) fn suspend(&mut self, id: InstanceId, actions: &mut Vec<Action>) {
        let Some(key) = self.idle_one(id, false) else { return };
        let Some(worker) = self.instances[key].worker.clone() else { return };
        self.change(key, |instance| instance.asleep = true);
        actions.push(Action::HibernateInstance { instance: id, worker });
    }

    /// Wakes a hibernating instance without a request for it.
    pub(super) fn resume(&mut self, id: InstanceId, actions: &mut Vec<Action>) {
        let Some(key) = self.idle_one(id, true) else { return };
        let Some(worker) = self.instances[key].worker.clone() else { return };
        self.change(key, |instance| instance.asleep = false);
        actions.push(Action::WakeInstance { instance: id, worker });
    }

    /// Ends an instance, once the requests that it has are answered. One that is provisioned is replaced.
    pub(super) fn terminate(&mut self, now: Time, id: InstanceId, actions: &mut Vec<Action>) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        let pool = self.instances[key].pool;
        self.drain(key, EndReason::Terminated, actions);
        self.replace_lost(now, pool, actions);
        self.provide(now, pool, actions);
    }

    fn idle_one(&self, id: InstanceId, asleep: bool) -> Option<InstanceKey> {
        let key = self.by_id.get(&id).copied()?;
        let instance = &self.instances[key];
        (instance.is_idle() && instance.asleep == asleep).then_some(key)
    }
}
