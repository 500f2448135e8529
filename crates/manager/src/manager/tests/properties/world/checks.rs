//! What must be true after each step, and how it all must end.

use std::time::Duration;

use hearth_types::{InstanceState, KeepAlive, LeaseOutcome, RevisionId};

use super::super::super::function;
use super::{FUNCTIONS, Life, World, kind};
use crate::{Counts, Event, InstanceView};

impl World {
    pub(in super::super) fn check(&self) {
        let views: Vec<_> = self.manager.instances().collect();
        let mut counts = Counts { leased: self.leases.len(), waiting: self.waits.len(), ..Counts::default() };
        assert_eq!(views.len(), self.instances.len(), "instances in the manager and in the world");
        for view in &views {
            let running = self.instances.get(&view.id).expect("an instance that is not there");
            assert_eq!((view.leases, view.worker), (running.load, running.worker.as_ref()));
            assert_eq!(view.tenant, running.tenant.as_ref());
            let free = view.leases < view.slots;
            match view.state {
                InstanceState::Starting => {
                    counts.starting += 1;
                    assert!(matches!(running.life, Life::Asked | Life::Placed));
                }
                InstanceState::Idle | InstanceState::Hibernating | InstanceState::Busy => {
                    assert_eq!(running.life, Life::Ready);
                    assert_eq!(view.state != InstanceState::Busy, view.leases == 0);
                    assert!(view.leases <= view.hard && (1..=view.hard).contains(&view.slots));
                    let wanted = self.waits.values().any(|(revision, tenant)| {
                        (revision, tenant.as_ref()) == (view.revision, view.tenant)
                    });
                    assert!(!(free && wanted), "a request waits while a slot is free");
                    *match view.state {
                        InstanceState::Hibernating => &mut counts.hibernating,
                        InstanceState::Idle => &mut counts.idle,
                        InstanceState::Starting | InstanceState::Busy | InstanceState::Draining => {
                            &mut counts.busy
                        }
                    } += 1;
                }
                InstanceState::Draining => {
                    counts.draining += 1;
                    let ended = running.life == Life::Ended;
                    assert!(ended || view.leases > 0 || view.worker.is_none(), "drains for no reason");
                }
            }
        }
        assert_eq!(self.manager.counts(), counts);
        self.check_blanks();
        self.manager.assert_nobody_waits_in_vain();
        let in_flight: u32 = self.manager.accounts().map(|account| account.in_flight).sum();
        assert_eq!(in_flight as usize, self.leases.len() + self.waits.len());
        assert!(self.waits.is_empty() || self.manager.next_deadline().is_some(), "a wait without a deadline");
        let by_function = self.manager.counts_by_function();
        assert_eq!(by_function.values().map(Counts::instances).sum::<usize>(), views.len());
    }

    pub(super) fn check_after(&self, event: &Event) {
        let idle = |view: &InstanceView<'_>| view.state == InstanceState::Idle;
        let mut idle = self.manager.instances().filter(idle);
        match event {
            Event::TimePassed => {
                assert!(
                    self.manager.next_deadline().is_none_or(|at| at > self.now),
                    "a deadline in the past"
                );
                for view in idle.filter(|_| !self.clock_goes_back) {
                    let spec = &self.instances[&view.id].spec;
                    if spec.keep_alive == KeepAlive::Learned || self.provisioned.contains_key(&spec.revision)
                    {
                        continue;
                    }
                    assert!(view.last_used + spec.idle_timeout > self.now, "idle for too long");
                }
            }
            Event::RevisionReplaced { revision: new } => {
                let old = |old: &RevisionId| old.version == new.version && old.number < new.number;
                assert!(!idle.any(|view| old(view.revision)), "idle though replaced");
            }
            Event::FunctionDeleted { function, .. } => {
                assert!(!idle.any(|view| view.revision.version.function == *function), "idle though deleted");
                assert!(!self.waits.values().any(|(waits, _)| waits.version.function == *function));
            }
            Event::Stopping => assert!(idle.next().is_none() && self.waits.is_empty()),
            Event::Placed { .. }
            | Event::PlacementFailed { .. }
            | Event::InstanceReady { .. }
            | Event::InstanceStartFailed { .. }
            | Event::InstanceGone { .. }
            | Event::BlankReady { .. }
            | Event::BlankTaken { .. }
            | Event::BlankGone { .. }
            | Event::InstanceFound { .. }
            | Event::WorkerLost { .. }
            | Event::WaiterLeft { .. }
            | Event::Provision { .. }
            | Event::WorkerDraining { .. }
            | Event::RoomMayHaveCome
            | Event::MemoryShort { .. }
            | Event::SuspensionAsked { .. }
            | Event::ResumptionAsked { .. }
            | Event::TerminationAsked { .. }
            | Event::ConcurrencyReserved { .. } => {}
        }
    }

    /// Lets everything come to its end: no new requests, all leases released, all waits and instances over.
    pub(in super::super) fn wind_down(&mut self, by_stopping: bool) {
        if by_stopping {
            self.event(Event::Stopping);
        }
        for revision in std::mem::take(&mut self.provisioned).into_keys() {
            let number = |number: &usize| function(&format!("f{number}")) == revision.version.function;
            if let Some(number) = (0..FUNCTIONS).find(number) {
                self.event(Event::Provision { spec: kind(number, revision.number), count: 0 });
            }
        }
        self.provisioned.clear();
        // Each round passes more than any deadline, so a few of them must do.
        for round in 0..8 {
            while !self.leases.is_empty() {
                self.release(0, LeaseOutcome::Reusable);
            }
            // The last ones pass more than what is learned is worth.
            self.now = self.now + Duration::from_secs(if round < 5 { 10 } else { 20_000 });
            self.event(Event::TimePassed);
            self.wind_down_blanks();
            for instance in self.instances.keys().copied().collect::<Vec<_>>() {
                match self.instances.get(&instance).map(|running| running.life) {
                    Some(Life::Asked) => {
                        self.event(Event::PlacementFailed {
                            instance,
                            reason: "end".into(),
                            room_may_come: true,
                        });
                    }
                    Some(Life::Ended) => self.event(Event::InstanceGone { instance }),
                    Some(Life::Placed | Life::Ready) | None => {}
                }
            }
        }
        self.check();
        for number in 0..FUNCTIONS {
            let function = function(&format!("f{number}"));
            self.event(Event::ConcurrencyReserved { function, reserved: None });
        }
    }
}
