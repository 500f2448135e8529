//! Sandboxes that are made before their function is known, by the world's own books.

use hearth_types::{BlankKind, InstanceId, WorkerId};

use super::{Life, World, nth};
use crate::{BlankState, Event};

/// Most of one kind, as the manager is told.
pub(in super::super) const MOST_BLANKS: u32 = 2;

#[derive(Debug)]
pub(super) struct Blank {
    kind: BlankKind,
    life: Life,
    worker: Option<WorkerId>,
}

impl World {
    /// Lets something become of a blank to which it can happen, if there is one.
    pub(in super::super) fn blank(&mut self, pick: usize, what: usize, worker: &WorkerId) {
        let can = |life: Life| match what {
            0 | 1 => life == Life::Asked,
            2 => matches!(life, Life::Asked | Life::Placed),
            3 => life == Life::Ready,
            4 => life != Life::Asked,
            _ => life == Life::Ended,
        };
        let those = self.blanks.iter().filter(|(_, blank)| can(blank.life)).map(|(id, _)| id);
        let Some(blank) = nth(those, pick) else { return };
        let worker = self.blanks[&blank].worker.clone().unwrap_or_else(|| worker.clone());
        self.event(match what {
            0 => Event::Placed { instance: blank, worker },
            1 => Event::PlacementFailed { instance: blank, reason: "full".into(), room_may_come: true },
            2 => Event::BlankReady { blank, worker },
            3 => Event::BlankTaken { blank },
            _ => Event::BlankGone { blank },
        });
    }

    pub(super) fn write_down_blank(&mut self, event: &Event) {
        match event {
            Event::Placed { instance: id, worker } | Event::BlankReady { blank: id, worker } => {
                let Some(blank) = self.blanks.get_mut(id) else { return };
                blank.worker.get_or_insert_with(|| worker.clone());
                let ready = matches!(event, Event::BlankReady { .. });
                blank.life = match blank.life {
                    Life::Asked | Life::Placed if ready => Life::Ready,
                    Life::Asked => Life::Placed,
                    life @ (Life::Placed | Life::Ready | Life::Ended) => life,
                };
            }
            Event::PlacementFailed { instance, .. } => {
                self.blanks.retain(|id, blank| id != instance || blank.worker.is_some());
            }
            Event::BlankTaken { blank } | Event::BlankGone { blank } => {
                self.blanks.remove(blank);
            }
            Event::WorkerLost { worker } => {
                self.blanks.retain(|_, blank| blank.worker.as_ref() != Some(worker));
            }
            Event::InstanceReady { .. }
            | Event::InstanceStartFailed { .. }
            | Event::InstanceGone { .. }
            | Event::InstanceFound { .. }
            | Event::WorkerDraining { .. }
            | Event::WaiterLeft { .. }
            | Event::RevisionReplaced { .. }
            | Event::FunctionDeleted { .. }
            | Event::ConcurrencyReserved { .. }
            | Event::Provision { .. }
            | Event::MemoryShort { .. }
            | Event::SuspensionAsked { .. }
            | Event::ResumptionAsked { .. }
            | Event::TerminationAsked { .. }
            | Event::RoomMayHaveCome
            | Event::Stopping
            | Event::TimePassed => {}
        }
    }

    pub(super) fn make_blank(&mut self, id: InstanceId, kind: BlankKind) {
        assert!(self.ever_started.insert(id), "an id used twice");
        assert!(!self.stopping, "a blank though all stops");
        self.blanks.insert(id, Blank { kind, life: Life::Asked, worker: None });
    }

    pub(super) fn end_blank(&mut self, id: InstanceId, worker: &WorkerId) {
        let blank = self.blanks.get_mut(&id).expect("the end of an unknown blank");
        assert_eq!(blank.worker.as_ref(), Some(worker));
        assert_ne!(blank.life, Life::Ended, "ended twice");
        blank.life = Life::Ended;
    }

    pub(super) fn check_blanks(&self) {
        let views: Vec<_> = self.manager.blanks().collect();
        assert_eq!(views.len(), self.blanks.len(), "blanks in the manager and in the world");
        for view in &views {
            let blank = &self.blanks[&view.id];
            assert_eq!((view.kind, view.worker), (&blank.kind, blank.worker.as_ref()));
            assert_eq!(self.manager.offers(view.id), view.state == BlankState::Ready);
            match view.state {
                BlankState::Making => assert!(matches!(blank.life, Life::Asked | Life::Placed)),
                BlankState::Ready => assert_eq!(blank.life, Life::Ready),
                BlankState::Ending => assert!(blank.life == Life::Ended || blank.worker.is_none()),
            }
            let alike =
                views.iter().filter(|other| other.kind == view.kind && other.state != BlankState::Ending);
            assert!(alike.count() <= MOST_BLANKS as usize, "more blanks than there may be: {views:?}");
        }
    }

    /// Lets blanks that are on their way in or out come to their end.
    pub(super) fn wind_down_blanks(&mut self) {
        for blank in self.blanks.keys().copied().collect::<Vec<_>>() {
            match self.blanks.get(&blank).map(|blank| blank.life) {
                Some(Life::Asked) => {
                    let (reason, room_may_come) = ("end".into(), true);
                    self.event(Event::PlacementFailed { instance: blank, reason, room_may_come });
                }
                Some(Life::Placed | Life::Ended) => self.event(Event::BlankGone { blank }),
                Some(Life::Ready) | None => {}
            }
        }
    }
}
