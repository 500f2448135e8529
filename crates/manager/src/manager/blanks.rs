//! The arrows of the chart in [`crate::blanks`].

use hearth_types::{BlankKind, InstanceId, Time, WorkerId};

use super::Manager;
use super::timers::Timer;
use crate::blanks::BlankState;
use crate::messages::Action;

impl Manager {
    /// An instance is being started that a blank of that kind would have served.
    pub(super) fn blank_wanted(&mut self, now: Time, kind: BlankKind) {
        self.blanks.wanted(now, kind);
        self.arm_blanks(now);
    }

    /// Ends what nobody needs, and makes what is missing.
    pub(super) fn keep_blanks(&mut self, now: Time, actions: &mut Vec<Action>) {
        for blank in self.blanks.surplus(now) {
            self.end_blank(blank, actions);
        }
        // Who waits for room comes first.
        if self.owed > 0 {
            self.blanks.shortage(now);
        }
        while let Some(kind) = self.blanks.missing(now) {
            let blank = InstanceId::new(self.config.epoch, self.next_instance);
            self.next_instance += 1;
            self.blanks.add(now, blank, kind.clone());
            actions.push(Action::MakeBlank { blank, kind });
        }
        self.arm_blanks(now);
    }

    /// Sets their timer to what is due next.
    fn arm_blanks(&mut self, now: Time) {
        let next = self.blanks.next_look(now);
        if self.blanks.timer == next {
            return;
        }
        if let Some(at) = self.blanks.timer.take() {
            self.timers.remove(&(at, Timer::Blanks));
        }
        if let Some(at) = next {
            self.timers.insert((at, Timer::Blanks));
        }
        self.blanks.timer = next;
    }

    /// Whether the one placed was a blank.
    pub(super) fn blank_placed(
        &mut self,
        id: InstanceId,
        worker: &WorkerId,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(blank) = self.blanks.all.get_mut(&id) else { return false };
        if blank.worker.is_none() {
            blank.worker = Some(worker.clone());
            if blank.state == BlankState::Ending {
                actions.push(Action::EndBlank { blank: id, worker: worker.clone() });
            }
        }
        true
    }

    /// Whether the one that found no place was a blank.
    pub(super) fn blank_not_placed(&mut self, now: Time, id: InstanceId) -> bool {
        let Some(blank) = self.blanks.all.get(&id) else { return false };
        if blank.worker.is_none() {
            self.forget_blank(id);
            self.blanks.shortage(now);
            self.arm_blanks(now);
        }
        true
    }

    pub(super) fn blank_ready(
        &mut self,
        now: Time,
        id: InstanceId,
        worker: &WorkerId,
        actions: &mut Vec<Action>,
    ) {
        self.blank_placed(id, worker, actions);
        self.blanks.ready(id);
        self.keep_blanks(now, actions);
    }

    pub(super) fn blank_taken(&mut self, id: InstanceId) {
        if self.forget_blank(id) {
            self.savings.blanks += 1;
        }
    }

    pub(super) fn blank_gone(&mut self, now: Time, id: InstanceId, actions: &mut Vec<Action>) {
        let Some(blank) = self.blanks.all.get(&id) else { return };
        if blank.state != BlankState::Ending {
            let kind = blank.kind.clone();
            self.blanks.failed(now, &kind);
        }
        self.forget_blank(id);
        self.room_freed(now, actions);
        self.keep_blanks(now, actions);
    }

    fn forget_blank(&mut self, id: InstanceId) -> bool {
        let Some(blank) = self.blanks.all.remove(&id) else { return false };
        if blank.state == BlankState::Ending {
            self.ending -= 1;
        }
        true
    }

    /// Ends a blank, now or as soon as its worker is known.
    pub(super) fn end_blank(&mut self, id: InstanceId, actions: &mut Vec<Action>) {
        let Some(blank) = self.blanks.all.get_mut(&id) else { return };
        if blank.state == BlankState::Ending {
            return;
        }
        blank.state = BlankState::Ending;
        self.ending += 1;
        if let Some(worker) = &blank.worker {
            actions.push(Action::EndBlank { blank: id, worker: worker.clone() });
        }
    }

    /// Ends all blanks of a worker that is short of memory; false if it had none.
    pub(super) fn give_up_blanks(&mut self, now: Time, worker: &WorkerId, actions: &mut Vec<Action>) -> bool {
        self.blanks.shortage(now);
        let theirs = self.blanks.of_worker(Some(worker));
        theirs.iter().for_each(|&blank| self.end_blank(blank, actions));
        self.arm_blanks(now);
        !theirs.is_empty()
    }

    /// Ends a blank so that an instance has its room; false if there is none.
    pub(super) fn blank_makes_room(&mut self, now: Time, actions: &mut Vec<Action>) -> bool {
        self.blanks.shortage(now);
        let blank = self.blanks.first_to_go();
        blank.into_iter().for_each(|blank| self.end_blank(blank, actions));
        self.arm_blanks(now);
        blank.is_some()
    }

    pub(super) fn blanks_leave(&mut self, worker: Option<&WorkerId>, actions: &mut Vec<Action>) {
        for blank in self.blanks.of_worker(worker) {
            self.end_blank(blank, actions);
        }
    }

    pub(super) fn blanks_lost(&mut self, now: Time, worker: &WorkerId) {
        let theirs: Vec<_> =
            self.blanks.all.iter().filter(|(_, blank)| blank.worker.as_ref() == Some(worker)).collect();
        for id in theirs.into_iter().map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget_blank(id);
        }
        self.arm_blanks(now);
    }

    /// No more are made, and those that are there end.
    pub(super) fn stop_blanks(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.blanks.stop();
        self.blanks_leave(None, actions);
        self.arm_blanks(now);
    }
}
