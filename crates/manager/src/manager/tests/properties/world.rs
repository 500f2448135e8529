//! Frontend, placement and workers in one, with books of their own.
//!
//! It believes nothing that the manager says of itself: every action is checked against the books, and the manager's
//! lists against a recount.

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hearth_types::{
    Concurrency, FunctionId, FunctionSpec, InstanceId, InstanceState, Lease, LeaseId, LeaseOutcome,
    LeaseRequest, Refusal, RevisionId, Time, WorkerId,
};

use super::super::spec;
use crate::{Acquired, Action, Config, Event, Manager, WaitId};

pub(super) const FUNCTIONS: usize = 4;
pub(super) const WORKERS: usize = 2;
const ACCOUNT_LIMIT: u32 = 12;
const MAX_WAITING: usize = 5;

/// What the function of this number is like.
pub(super) fn kind(number: usize, revision: u64) -> Arc<FunctionSpec> {
    let mut spec = spec(&format!("f{number}"), revision);
    spec.idle_timeout = Duration::from_secs(2);
    match number {
        1 => spec.concurrency = Concurrency::new(2, 4),
        2 => spec.reserved_concurrency = Some(3),
        3 => spec.idle_timeout = Duration::ZERO,
        _ => {}
    }
    Arc::new(spec)
}

/// Where in its life an instance is, as its worker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Asked,
    Placed,
    Ready,
    Ended,
}

#[derive(Debug)]
struct Running {
    spec: Arc<FunctionSpec>,
    life: Life,
    worker: Option<WorkerId>,
    load: u32,
    /// Tells it from one of the same id that was gone and is found again.
    birth: usize,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    revision: RevisionId,
    /// Of its instance.
    birth: usize,
}

pub(super) struct World {
    pub(super) manager: Manager,
    pub(super) now: Time,
    /// The newest revision of each function.
    pub(super) revisions: [u64; FUNCTIONS],
    /// How many instances were found so far.
    pub(super) found: u64,
    instances: BTreeMap<InstanceId, Running>,
    ever_started: BTreeSet<InstanceId>,
    leases: BTreeMap<LeaseId, Held>,
    waits: BTreeMap<WaitId, RevisionId>,
    reserved: BTreeMap<FunctionId, u32>,
    births: usize,
    past: Vec<Event>,
    stopping: bool,
}

impl World {
    pub(super) fn new() -> Self {
        let config = Config {
            account_concurrency: ACCOUNT_LIMIT,
            max_waiting_per_function: MAX_WAITING,
            start_deadline: Duration::from_secs(5),
            wait_deadline: Duration::from_secs(4),
            ..Config::default()
        };
        Self {
            manager: Manager::new(config),
            now: Time::ZERO,
            revisions: [1; FUNCTIONS],
            found: 0,
            instances: BTreeMap::new(),
            ever_started: BTreeSet::new(),
            leases: BTreeMap::new(),
            waits: BTreeMap::new(),
            reserved: BTreeMap::new(),
            births: 0,
            past: Vec::new(),
            stopping: false,
        }
    }

    // === steps ===

    pub(super) fn acquire(&mut self, spec: &Arc<FunctionSpec>) {
        let id = spec.revision.version.function.clone();
        if !self.stopping {
            self.reserve(&id, spec.reserved_concurrency);
        }
        let before = self.in_flight();
        let request = LeaseRequest { spec: Arc::clone(spec) };
        let mut actions = Vec::new();
        match self.manager.acquire(self.now, &request, &mut actions) {
            Acquired::Leased(lease) => {
                assert!(self.admits(&id, &before), "over a limit: {lease:?}");
                self.take_lease(lease, &spec.revision);
            }
            Acquired::Waiting(wait) => {
                assert!(self.admits(&id, &before), "over a limit: {wait:?}");
                assert_eq!(self.waits.insert(wait, spec.revision.clone()), None, "a number given twice");
            }
            Acquired::Refused(Refusal::AccountLimit { .. } | Refusal::FunctionLimit { .. }) => {
                assert!(!self.admits(&id, &before), "refused below every limit");
            }
            Acquired::Refused(Refusal::QueueFull { .. }) => {
                let waiting = self.waits.values().filter(|waits| waits.version.function == id).count();
                assert_eq!(waiting, MAX_WAITING);
            }
            Acquired::Refused(Refusal::FunctionDeleted) => {}
            Acquired::Refused(Refusal::Stopping) => assert!(self.stopping),
            Acquired::Refused(refusal) => panic!("not a reason to refuse at once: {refusal:?}"),
        }
        self.carry_out(actions);
    }

    pub(super) fn release(&mut self, pick: usize, outcome: LeaseOutcome) {
        let Some(id) = nth(self.leases.keys(), pick) else { return };
        let held = self.leases.remove(&id).unwrap();
        if let Some(running) = self.instances.get_mut(&held.lease.instance)
            && running.birth == held.birth
        {
            running.load -= 1;
        }
        let mut actions = Vec::new();
        self.manager.release(self.now, id, outcome, &mut actions);
        self.carry_out(actions);
        self.release_unknown(id);
    }

    pub(super) fn release_unknown(&mut self, lease: LeaseId) {
        let mut actions = Vec::new();
        self.manager.release(self.now, lease, LeaseOutcome::InstanceLost, &mut actions);
        assert_eq!(actions, [], "a lease released twice");
    }

    pub(super) fn pick_wait(&self, pick: usize) -> Option<WaitId> {
        nth(self.waits.keys(), pick)
    }

    pub(super) fn repeat(&mut self, pick: usize) {
        if let Some(event) = nth(self.past.iter(), pick) {
            self.tell(&event);
        }
    }

    /// Sends an event about one of the instances in such a state, if there is one.
    pub(super) fn of_instance(
        &mut self,
        pick: usize,
        wanted: impl Fn(Life) -> bool,
        event: impl Fn(InstanceId) -> Event,
    ) {
        let of_life = self.instances.iter().filter(|(_, running)| wanted(running.life)).map(|(id, _)| id);
        if let Some(id) = nth(of_life, pick) {
            self.event(event(id));
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        self.tell(&event);
        self.past.push(event);
    }

    fn tell(&mut self, event: &Event) {
        self.write_down(event);
        let mut actions = Vec::new();
        self.manager.handle(self.now, event.clone(), &mut actions);
        self.carry_out(actions);
        self.check_after(event);
    }

    // === books ===

    fn write_down(&mut self, event: &Event) {
        match event {
            Event::Placed { instance, worker } | Event::InstanceReady { instance, worker } => {
                let Some(running) = self.instances.get_mut(instance) else { return };
                running.worker.get_or_insert_with(|| worker.clone());
                let ready = matches!(event, Event::InstanceReady { .. });
                running.life = match running.life {
                    Life::Asked | Life::Placed if ready => Life::Ready,
                    Life::Asked => Life::Placed,
                    life @ (Life::Placed | Life::Ready | Life::Ended) => life,
                };
            }
            Event::PlacementFailed { instance, .. } => {
                self.instances.retain(|id, running| id != instance || running.worker.is_some());
            }
            Event::InstanceStartFailed { instance, .. } => {
                self.instances.retain(|id, running| id != instance || running.life == Life::Ready);
            }
            Event::InstanceGone { instance } => {
                self.instances.remove(instance);
            }
            Event::InstanceFound { instance, worker, spec } => {
                let (spec, worker) = (Arc::clone(spec), Some(worker.clone()));
                let running = Running { spec, life: Life::Ready, worker, load: 0, birth: self.births };
                self.births += 1;
                self.instances.entry(*instance).or_insert(running);
            }
            Event::WorkerLost { worker } => {
                self.instances.retain(|_, running| running.worker.as_ref() != Some(worker));
            }
            Event::WaiterLeft { wait } => {
                self.waits.remove(wait);
            }
            Event::ConcurrencyReserved { function, reserved } => self.reserve(function, *reserved),
            Event::FunctionDeleted { function } => self.reserve(function, None),
            Event::Stopping => self.stopping = true,
            Event::RevisionReplaced { .. } | Event::TimePassed => {}
        }
    }

    fn reserve(&mut self, function: &FunctionId, reserved: Option<u32>) {
        match reserved {
            Some(limit) => self.reserved.insert(function.clone(), limit),
            None => self.reserved.remove(function),
        };
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::StartInstance { instance, spec } => self.start(instance, spec),
                Action::EndInstance { instance, worker, .. } => {
                    let running = self.instances.get_mut(&instance).expect("the end of an unknown instance");
                    assert_eq!(running.worker, Some(worker));
                    assert_eq!(running.load, 0, "ended with a request in it");
                    assert_ne!(running.life, Life::Ended, "ended twice");
                    running.life = Life::Ended;
                }
                Action::Grant { wait, lease } => {
                    let revision = self.waits.get(&wait).expect("a slot for nobody").clone();
                    let first = self.waits.iter().find(|(_, waits)| **waits == revision);
                    assert_eq!(first.map(|(first, _)| *first), Some(wait), "out of order");
                    self.waits.remove(&wait);
                    self.take_lease(lease, &revision);
                }
                Action::Refuse { wait, .. } => {
                    assert!(self.waits.remove(&wait).is_some(), "a refusal for nobody");
                }
            }
        }
    }

    fn start(&mut self, instance: InstanceId, spec: Arc<FunctionSpec>) {
        assert!(self.ever_started.insert(instance), "an id used twice");
        let views = self.manager.instances();
        let of_revision = views.filter(|view| *view.revision == spec.revision);
        let starting = of_revision.filter(|view| view.state == InstanceState::Starting).count();
        let waiting = self.waits.values().filter(|waits| **waits == spec.revision).count();
        let soft = spec.concurrency.soft as usize;
        let ahead_of_need = spec.concurrency.soft < spec.concurrency.hard && starting == 1;
        assert!(ahead_of_need || starting.saturating_sub(1) * soft < waiting, "more starts than waits");
        let running = Running { spec, life: Life::Asked, worker: None, load: 0, birth: self.births };
        self.births += 1;
        self.instances.insert(instance, running);
    }

    fn take_lease(&mut self, lease: Lease, revision: &RevisionId) {
        let running = self.instances.get_mut(&lease.instance).expect("a lease of an unknown instance");
        assert_eq!(running.life, Life::Ready);
        assert_eq!(running.worker.as_ref(), Some(&lease.worker));
        assert_eq!(running.spec.revision, *revision);
        running.load += 1;
        assert!(running.load <= running.spec.concurrency.hard, "two requests in a slot");
        let held = Held { birth: running.birth, revision: revision.clone(), lease };
        assert!(self.leases.insert(held.lease.id, held).is_none(), "a lease given twice");
    }

    /// Requests in flight by function.
    fn in_flight(&self) -> BTreeMap<FunctionId, u32> {
        let mut in_flight = BTreeMap::new();
        let leased = self.leases.values().map(|held| &held.revision);
        for revision in leased.chain(self.waits.values()) {
            *in_flight.entry(revision.version.function.clone()).or_default() += 1;
        }
        in_flight
    }

    /// Whether the limits allow one more, by the books.
    fn admits(&self, function: &FunctionId, in_flight: &BTreeMap<FunctionId, u32>) -> bool {
        let total: u32 = in_flight.values().sum();
        let mine = in_flight.get(function).copied().unwrap_or_default();
        let unreserved = in_flight.iter().filter(|(id, _)| !self.reserved.contains_key(id));
        let unreserved: u32 = unreserved.map(|(_, count)| count).sum();
        let left = ACCOUNT_LIMIT.saturating_sub(self.reserved.values().sum());
        let own = self.reserved.get(function).map_or(unreserved < left, |&limit| mine < limit);
        own && total < ACCOUNT_LIMIT
    }
}

fn nth<'a, T: Clone + 'a>(mut items: impl Iterator<Item = &'a T> + Clone, pick: usize) -> Option<T> {
    let count = items.clone().count();
    if count == 0 { None } else { items.nth(pick % count).cloned() }
}
