//! Frontend, placement and workers in one, with books of their own.
//!
//! It believes nothing that the manager says of itself: every action is checked against the books, and the manager's
//! lists against a recount.

mod blanks;
mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hearth_types::{
    Concurrency, FunctionId, FunctionSpec, InstanceId, InstanceState, KeepAlive, Lease, LeaseId,
    LeaseOutcome, LeaseRequest, Queue, Refusal, RevisionId, StartReason, TenantId, Time, WorkerId,
};

use super::super::{spec, tenant};
use crate::deleted::KEEP;
use crate::{Acquired, Action, Config, Event, Manager, WaitId};

pub(super) const FUNCTIONS: usize = 7;
pub(super) const TENANTS: usize = 4;
pub(super) const WORKERS: usize = 2;
const ACCOUNT_LIMIT: u32 = 12;
const MAX_WAITING: u32 = 5;

/// What the function of this number is like.
pub(super) fn kind(number: usize, revision: u64) -> Arc<FunctionSpec> {
    let mut spec = spec(&format!("f{number}"), revision);
    spec.idle_timeout = Duration::from_secs(2);
    spec.queue = Queue { wait: Duration::from_millis(500), depth: MAX_WAITING };
    match number {
        // An adaptive one in turn with a fixed one.
        1 => {
            spec.concurrency = Concurrency::new(2, 4);
            spec.concurrency.adaptive = revision.is_multiple_of(2);
        }
        2 => spec.reserved_concurrency = Some(3),
        3 => {
            spec.idle_timeout = Duration::ZERO;
            spec.runtime = "nodejs22.x".parse().unwrap();
        }
        4 | 6 => spec.keep_alive = KeepAlive::Learned,
        _ => {}
    }
    Arc::new(spec)
}

/// Whom a request of the function of this number is for: the last ones keep tenants apart, the very last sometimes.
pub(super) fn whose(number: usize, of: usize) -> Option<TenantId> {
    let has_tenants = number == FUNCTIONS - 2 || number == FUNCTIONS - 1 && of > 0;
    has_tenants.then(|| tenant(&format!("t{of}")))
}

/// A revision, and whom of its tenants something of it is for.
type Whose = (RevisionId, Option<TenantId>);

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
    tenant: Option<TenantId>,
    life: Life,
    worker: Option<WorkerId>,
    load: u32,
    /// Tells it from one of the same id that was gone and is found again.
    birth: usize,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    whose: Whose,
    /// Of its instance.
    birth: usize,
}

pub(super) struct World {
    pub(super) manager: Manager,
    pub(super) now: Time,
    /// The newest revision of each function.
    pub(super) revisions: [u64; FUNCTIONS],
    /// When a function was deleted, and its newest revision then.
    deleted: BTreeMap<FunctionId, (Time, u64)>,
    /// How many instances were found so far.
    pub(super) found: u64,
    instances: BTreeMap<InstanceId, Running>,
    blanks: BTreeMap<InstanceId, blanks::Blank>,
    ever_started: BTreeSet<InstanceId>,
    leases: BTreeMap<LeaseId, Held>,
    waits: BTreeMap<WaitId, Whose>,
    reserved: BTreeMap<FunctionId, u32>,
    pub(super) provisioned: BTreeMap<RevisionId, u32>,
    births: usize,
    past: Vec<Event>,
    stopping: bool,
    /// Whether the clock may go back: what is to be in time is so only by one that does not.
    pub(super) clock_goes_back: bool,
}

impl World {
    pub(super) fn new(clock_goes_back: bool) -> Self {
        let config = Config {
            account_concurrency: ACCOUNT_LIMIT,
            start_deadline: Duration::from_secs(5),
            wait_deadline: Duration::from_secs(4),
            blanks: blanks::MOST_BLANKS,
            ..Config::default()
        };
        Self {
            manager: Manager::new(config),
            now: Time::ZERO,
            revisions: [1; FUNCTIONS],
            deleted: BTreeMap::new(),
            found: 0,
            instances: BTreeMap::new(),
            blanks: BTreeMap::new(),
            ever_started: BTreeSet::new(),
            leases: BTreeMap::new(),
            waits: BTreeMap::new(),
            reserved: BTreeMap::new(),
            provisioned: BTreeMap::new(),
            births: 0,
            past: Vec::new(),
            stopping: false,
            clock_goes_back,
        }
    }

    // === steps ===

    pub(super) fn acquire(&mut self, spec: &Arc<FunctionSpec>, tenant: Option<TenantId>) {
        let whose = (spec.revision.clone(), tenant.clone());
        let id = spec.revision.version.function.clone();
        let before = self.in_flight();
        let request = LeaseRequest { spec: Arc::clone(spec), tenant };
        let mut actions = Vec::new();
        let acquired = self.manager.acquire(self.now, &request, &mut actions);
        let is_read = !matches!(acquired, Acquired::Refused(Refusal::FunctionDeleted));
        if !self.stopping && is_read {
            self.reserve(&id, spec.reserved_concurrency);
        }
        let late = self
            .deleted
            .get(&id)
            .is_some_and(|(deleted, newest)| spec.revision.number <= *newest && self.now - *deleted <= KEEP);
        assert!(!late || matches!(acquired, Acquired::Refused(Refusal::FunctionDeleted | Refusal::Stopping)));
        match acquired {
            Acquired::Leased(lease) => {
                assert!(self.admits(&id, &before), "over a limit: {lease:?}");
                self.take_lease(lease, &whose);
            }
            Acquired::Waiting(wait) => {
                assert!(self.admits(&id, &before), "over a limit: {wait:?}");
                assert_eq!(self.waits.insert(wait, whose), None, "a number given twice");
            }
            Acquired::Refused(Refusal::AccountLimit { .. } | Refusal::FunctionLimit { .. }) => {
                assert!(!self.admits(&id, &before), "refused below every limit");
            }
            Acquired::Refused(Refusal::QueueFull { .. }) => {
                let waiting = self.waits.values().filter(|waits| **waits == whose).count();
                assert!(waiting >= MAX_WAITING as usize);
            }
            Acquired::Refused(Refusal::TenantLimit { limit }) => {
                let tenants = self.manager.tenants_of(&id);
                assert!(tenants.len() >= limit, "refused below {limit} tenants");
                assert!(whose.1.is_some_and(|tenant| !tenants.contains(&tenant)), "one that is there");
                assert!(self.admits(&id, &before), "a limit of requests hidden");
            }
            Acquired::Refused(Refusal::InitFailing { failures, .. }) => assert!(failures >= 3),
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
        let reserved = self.reserved.clone();
        self.write_down(event);
        let mut actions = Vec::new();
        self.manager.handle(self.now, event.clone(), &mut actions);
        if let Event::Provision { spec, .. } = event {
            self.take_provisioned(spec);
        }
        if let Event::Provision { .. } | Event::InstanceFound { .. } = event {
            self.take_reserved(reserved);
        }
        self.carry_out(actions);
        self.check_after(event);
    }

    /// An operator asks for something of an instance.
    pub(in super::super) fn ask(&mut self, pick: usize, what: usize) {
        let Some(instance) = nth(self.instances.keys(), pick) else { return };
        self.event(match what {
            0 => Event::SuspensionAsked { instance },
            1 => Event::ResumptionAsked { instance },
            _ => Event::TerminationAsked { instance },
        });
    }

    // === books ===

    fn note_deletion(&mut self, function: &FunctionId, newest: u64) {
        if self.deleted.get(function).is_none_or(|(_, known)| *known < newest) {
            self.deleted.insert(function.clone(), (self.now, newest));
        }
        // A clock that jumps has the manager forget sooner.
        self.deleted.retain(|_, (deleted, _)| self.now - *deleted <= KEEP);
    }

    fn write_down(&mut self, event: &Event) {
        self.write_down_blank(event);
        match event {
            Event::Placed { instance, worker } | Event::InstanceReady { instance, worker, .. } => {
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
            Event::InstanceFound { instance, worker, spec, tenant } => {
                if !self.instances.contains_key(instance) && !self.manager.is_deleted(&spec.revision) {
                    self.reserve(&spec.revision.version.function, spec.reserved_concurrency);
                }
                let (spec, worker) = (Arc::clone(spec), Some(worker.clone()));
                let tenant = tenant.clone();
                let running =
                    Running { spec, tenant, life: Life::Ready, worker, load: 0, birth: self.births };
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
            Event::FunctionDeleted { function, newest } => {
                self.note_deletion(function, *newest);
                self.reserve(function, None);
                self.provisioned.retain(|revision, _| revision.version.function != *function);
            }
            Event::Provision { spec, count } => {
                if !self.stopping {
                    self.provisioned.insert(spec.revision.clone(), *count);
                    if !self.manager.is_deleted(&spec.revision) {
                        self.reserve(&spec.revision.version.function, spec.reserved_concurrency);
                    }
                }
            }
            Event::Stopping => {
                self.stopping = true;
                self.provisioned.clear();
            }
            Event::RevisionReplaced { revision: new } => {
                self.provisioned.retain(|old, _| old.version != new.version || old.number >= new.number);
            }
            Event::MemoryShort { .. }
            | Event::SuspensionAsked { .. }
            | Event::ResumptionAsked { .. }
            | Event::TerminationAsked { .. }
            | Event::BlankReady { .. }
            | Event::BlankTaken { .. }
            | Event::BlankGone { .. }
            | Event::RoomMayHaveCome
            | Event::WorkerDraining { .. }
            | Event::TimePassed => {}
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
                Action::StartInstance { instance, spec, tenant, reason } => {
                    self.start(instance, spec, tenant, reason);
                }
                Action::MakeBlank { blank, kind } => self.make_blank(blank, kind),
                Action::EndBlank { blank, worker } => self.end_blank(blank, &worker),
                Action::HibernateInstance { instance, worker }
                | Action::WakeInstance { instance, worker } => {
                    let running = &self.instances[&instance];
                    assert_eq!((running.life, running.load), (Life::Ready, 0), "only idle ones hibernate");
                    assert_eq!(running.worker, Some(worker));
                }
                Action::EndInstance { instance, worker, .. } => {
                    let running = self.instances.get_mut(&instance).expect("the end of an unknown instance");
                    assert_eq!(running.worker, Some(worker));
                    assert_eq!(running.load, 0, "ended with a request in it");
                    assert_ne!(running.life, Life::Ended, "ended twice");
                    running.life = Life::Ended;
                }
                Action::Grant { wait, lease } => {
                    let whose = self.waits.get(&wait).expect("a slot for nobody").clone();
                    let first = self.waits.iter().find(|(_, waits)| **waits == whose);
                    assert_eq!(first.map(|(first, _)| *first), Some(wait), "out of order");
                    self.waits.remove(&wait);
                    self.take_lease(lease, &whose);
                }
                Action::Refuse { wait, .. } => {
                    assert!(self.waits.remove(&wait).is_some(), "a refusal for nobody");
                }
            }
        }
    }

    fn start(
        &mut self,
        instance: InstanceId,
        spec: Arc<FunctionSpec>,
        tenant: Option<TenantId>,
        reason: StartReason,
    ) {
        let whose = (spec.revision.clone(), tenant.clone());
        assert!(self.ever_started.insert(instance), "an id used twice");
        let views = self.manager.instances();
        let alike = views.filter(|view| (view.revision, view.tenant) == (&whose.0, whose.1.as_ref()));
        let states: Vec<_> = alike.map(|view| view.state).collect();
        let starting = states.iter().filter(|state| **state == InstanceState::Starting).count();
        let live = states.iter().filter(|state| **state != InstanceState::Draining).count();
        let waiting = self.waits.values().filter(|waits| **waits == whose).count();
        let others = starting.saturating_sub(1);
        let provisioned = self.provisioned.get(&spec.revision).filter(|_| tenant.is_none());
        let provisioned = provisioned.copied().unwrap_or(0) as usize;
        match reason {
            // Several starts of one event are all in the manager's books when the first is looked at here.
            StartReason::Request => {
                assert!(others.saturating_sub(provisioned) * spec.concurrency.soft as usize <= 2 * waiting);
            }
            StartReason::Provisioned => assert!(live <= provisioned, "{live} of {provisioned}"),
            StartReason::Prewarmed => assert_eq!((live, waiting, &tenant), (1, 0, &None)),
            StartReason::Ahead => {
                let grows = spec.concurrency.soft < spec.concurrency.hard && others == 0;
                assert!(grows || starting <= 2 * waiting + provisioned, "{starting} for {waiting}");
            }
        }
        let running = Running { spec, tenant, life: Life::Asked, worker: None, load: 0, birth: self.births };
        self.births += 1;
        self.instances.insert(instance, running);
    }

    fn take_lease(&mut self, lease: Lease, whose: &Whose) {
        let running = self.instances.get_mut(&lease.instance).expect("a lease of an unknown instance");
        assert_eq!(running.life, Life::Ready);
        assert_eq!(running.worker.as_ref(), Some(&lease.worker));
        assert_eq!(running.spec.revision, whose.0);
        assert_eq!(running.tenant, whose.1, "an instance that serves two tenants");
        running.load += 1;
        assert!(running.load <= running.spec.concurrency.hard, "two requests in a slot");
        let held = Held { birth: running.birth, whose: whose.clone(), lease };
        assert!(self.leases.insert(held.lease.id, held).is_none(), "a lease given twice");
    }

    /// Requests in flight by function.
    fn in_flight(&self) -> BTreeMap<FunctionId, u32> {
        let mut in_flight = BTreeMap::new();
        let leased = self.leases.values().map(|held| &held.whose);
        for (revision, _) in leased.chain(self.waits.values()) {
            *in_flight.entry(revision.version.function.clone()).or_default() += 1;
        }
        in_flight
    }

    /// What was asked for is kept ready, unless the revision is on its way out.
    fn take_provisioned(&mut self, spec: &FunctionSpec) {
        let requested = self.manager.provisioned(&spec.revision).requested;
        let asked = self.provisioned.get(&spec.revision).copied().unwrap_or(0);
        assert!(requested == asked || requested == 0);
        self.provisioned.insert(spec.revision.clone(), requested);
    }

    /// A spec brings its function's reservation along, unless the function was deleted since.
    fn take_reserved(&mut self, before: BTreeMap<FunctionId, u32>) {
        let theirs: u64 = self.manager.accounts().map(|account| account.reserved).sum();
        let sum = |all: &BTreeMap<FunctionId, u32>| all.values().copied().map(u64::from).sum::<u64>();
        if theirs != sum(&self.reserved) {
            assert_eq!(theirs, sum(&before));
            self.reserved = before;
        }
    }

    /// What a function has provisioned, over its revisions.
    fn provisioned_of(&self, function: &FunctionId) -> u32 {
        let mine = self.provisioned.iter().filter(|(revision, _)| revision.version.function == *function);
        mine.map(|(_, count)| count).sum()
    }

    /// Whether the limits allow one more, by the books.
    fn admits(&self, function: &FunctionId, in_flight: &BTreeMap<FunctionId, u32>) -> bool {
        let total: u32 = in_flight.values().sum();
        let flying = |id: &FunctionId| in_flight.get(id).copied().unwrap_or_default();
        let (mine, provisioned) = (flying(function), self.provisioned_of(function));
        let known: BTreeSet<_> =
            in_flight.keys().chain(self.provisioned.keys().map(|key| &key.version.function)).collect();
        let unreserved = known.into_iter().filter(|id| !self.reserved.contains_key(id));
        let in_use: u32 = unreserved.map(|id| flying(id).max(self.provisioned_of(id))).sum();
        let left = ACCOUNT_LIMIT.saturating_sub(self.reserved.values().sum());
        let own = match self.reserved.get(function) {
            Some(&limit) => mine < limit,
            None => mine < provisioned || in_use < left,
        };
        own && total < ACCOUNT_LIMIT
    }
}

fn nth<'a, T: Clone + 'a>(mut items: impl Iterator<Item = &'a T> + Clone, pick: usize) -> Option<T> {
    let count = items.clone().count();
    if count == 0 { None } else { items.nth(pick % count).cloned() }
}
