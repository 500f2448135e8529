//! The rules of the manager, one test each.

mod blanks;
mod concurrency;
mod fairness;
mod lives;
mod properties;
mod room;
mod tenants;
mod waiting;
mod warm;
mod warm_path;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hearth_types::{
    CodeDigest, Concurrency, EndReason, FunctionId, FunctionSpec, InstanceId, InstanceState, Isolation,
    KeepAlive, Lease, LeaseId, LeaseOutcome, LeaseRequest, Queue, Refusal, RevisionId, StartReason, TenantId,
    Time, Version, VersionId, WorkerId,
};

use crate::pool::PoolKey;
use crate::{Acquired, Action, Config, Event, Manager, Provisioned, Relief, WaitId};

fn function(name: &str) -> FunctionId {
    FunctionId { account: "000000000000".parse().unwrap(), name: Arc::from(name) }
}

fn revision(name: &str, number: u64) -> RevisionId {
    RevisionId { version: VersionId { function: function(name), version: Version::Latest }, number }
}

fn spec(name: &str, number: u64) -> FunctionSpec {
    FunctionSpec {
        revision: revision(name, number),
        arn: String::new(),
        region: String::new(),
        runtime: "provided.al2023".parse().unwrap(),
        handler: String::new(),
        code: CodeDigest([0; 32]),
        image: None,
        memory_mb: 128,
        timeout: Duration::from_secs(3),
        ephemeral_mb: 512,
        environment: BTreeMap::new(),
        isolation: Some(Isolation::Container),
        egress: hearth_types::Egress::None,
        concurrency: Concurrency::default(),
        layers: Vec::new(),
        snap_start: false,
        per_tenant: false,
        logging: hearth_types::Logging::default(),
        idle_timeout: Duration::from_secs(300),
        keep_alive: KeepAlive::Fixed,
        http: None,
        queue: Queue::default(),
        reserved_concurrency: None,
    }
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn local() -> WorkerId {
    WorkerId::new("local")
}

/// A manager with its clock and everything it ever answered, for tests that read as stories.
struct Story {
    manager: Manager,
    now: Time,
    actions: Vec<Action>,
}

impl Story {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        Self { manager: Manager::new(config), now: Time::ZERO, actions: Vec::new() }
    }

    fn acquire(&mut self, spec: FunctionSpec) -> Acquired {
        self.ask(&LeaseRequest { spec: Arc::new(spec), tenant: None })
    }

    fn ask(&mut self, request: &LeaseRequest) -> Acquired {
        self.manager.acquire(self.now, request, &mut self.actions)
    }

    fn waits(&mut self, spec: FunctionSpec) -> WaitId {
        match self.acquire(spec) {
            Acquired::Waiting(wait) => wait,
            other @ (Acquired::Leased(_) | Acquired::Refused(_)) => panic!("expected to wait, got {other:?}"),
        }
    }

    fn leases(&mut self, spec: FunctionSpec) -> Lease {
        match self.acquire(spec) {
            Acquired::Leased(lease) => lease,
            other @ (Acquired::Waiting(_) | Acquired::Refused(_)) => {
                panic!("expected a lease, got {other:?}")
            }
        }
    }

    fn is_refused(&mut self, spec: FunctionSpec) -> Refusal {
        match self.acquire(spec) {
            Acquired::Refused(refusal) => refusal,
            other @ (Acquired::Leased(_) | Acquired::Waiting(_)) => {
                panic!("expected a refusal, got {other:?}")
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.manager.handle(self.now, event, &mut self.actions);
    }

    fn release(&mut self, lease: &Lease, outcome: LeaseOutcome) {
        self.manager.release(self.now, lease.id, outcome, &mut self.actions);
    }

    fn give_back(&mut self, lease: &Lease) {
        self.release(lease, LeaseOutcome::Reusable);
    }

    fn after(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.event(Event::TimePassed);
    }

    fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The instances that were asked for since the last look; other actions are dropped.
    fn started(&mut self) -> Vec<InstanceId> {
        let actions = self.take_actions();
        let started = actions.into_iter().filter_map(|action| match action {
            Action::StartInstance { instance, .. } => Some(instance),
            Action::EndInstance { .. }
            | Action::HibernateInstance { .. }
            | Action::WakeInstance { .. }
            | Action::MakeBlank { .. }
            | Action::EndBlank { .. }
            | Action::Grant { .. }
            | Action::Refuse { .. } => None,
        });
        started.collect()
    }

    /// The instances that were to be ended since the last look, and why; other actions are dropped.
    fn ended(&mut self) -> Vec<(InstanceId, EndReason)> {
        let actions = self.take_actions();
        let ended = actions.into_iter().filter_map(|action| match action {
            Action::EndInstance { instance, reason, .. } => Some((instance, reason)),
            Action::StartInstance { .. }
            | Action::HibernateInstance { .. }
            | Action::WakeInstance { .. }
            | Action::MakeBlank { .. }
            | Action::EndBlank { .. }
            | Action::Grant { .. }
            | Action::Refuse { .. } => None,
        });
        ended.collect()
    }

    /// The waiting requests that got a slot since the last look; other actions are dropped.
    fn granted(&mut self) -> Vec<(WaitId, Lease)> {
        let actions = self.take_actions();
        let granted = actions.into_iter().filter_map(|action| match action {
            Action::Grant { wait, lease } => Some((wait, lease)),
            Action::StartInstance { .. }
            | Action::EndInstance { .. }
            | Action::HibernateInstance { .. }
            | Action::WakeInstance { .. }
            | Action::MakeBlank { .. }
            | Action::EndBlank { .. }
            | Action::Refuse { .. } => None,
        });
        granted.collect()
    }

    fn placed(&mut self, instance: InstanceId) {
        self.event(Event::Placed { instance, worker: local() });
    }

    fn ready(&mut self, instance: InstanceId) {
        self.placed(instance);
        self.event(Event::InstanceReady { instance, worker: local(), initialized: true });
    }

    /// A cold start, from the request to its lease.
    fn cold(&mut self, spec: FunctionSpec) -> Lease {
        self.take_actions();
        let wait = self.waits(spec);
        let [instance] = self.started()[..] else { panic!("expected one start") };
        self.ready(instance);
        let [(granted, ref lease)] = self.granted()[..] else { panic!("expected one grant") };
        assert_eq!(granted, wait);
        lease.clone()
    }

    /// An instance with nothing to do.
    fn idle(&mut self, spec: FunctionSpec) -> InstanceId {
        let lease = self.cold(spec);
        self.give_back(&lease);
        lease.instance
    }

    fn state(&self, instance: InstanceId) -> Option<InstanceState> {
        self.manager.instances().find(|view| view.id == instance).map(|view| view.state)
    }

    /// Everything the manager remembers, for tests that it forgets.
    fn assert_nothing_left(&self) {
        self.manager.assert_forgotten();
    }
}

impl Manager {
    /// Whether the revision is remembered as one of a deleted function: nothing that is late brings it back.
    pub(super) fn is_deleted(&self, revision: &RevisionId) -> bool {
        let mut pools = self.pools.values().filter(|pool| pool.spec.revision == *revision);
        self.deleted.has(revision) || pools.any(|pool| pool.retired == Some(EndReason::FunctionDeleted))
    }

    /// Tenants that the function has pools of, counted in those.
    pub(super) fn tenants_of(&self, function: &FunctionId) -> BTreeSet<TenantId> {
        let Some(key) = self.ledger.find(function) else { return BTreeSet::new() };
        self.ledger.functions[key].pools.keys().filter_map(|(_, _, tenant)| tenant.clone()).collect()
    }

    /// Whoever waits has an instance that will serve it, or a start that waits for room.
    pub(super) fn assert_nobody_waits_in_vain(&self) {
        for pool in self.pools.values() {
            assert!(pool.waiting.is_empty() || pool.live() + pool.owed > 0, "{pool:#?}");
            let is_it = |turn: &PoolKey| self.pools.get(*turn).is_some_and(|p| std::ptr::eq(p, pool));
            let turns = self.room_wanted.pools().filter(is_it);
            assert_eq!(turns.count(), usize::from(pool.owed > 0), "{pool:#?}");
        }
    }

    pub(super) fn assert_forgotten(&self) {
        assert!(self.is_empty(), "{self:#?}");
        assert_eq!(self.instances.len() + self.pools.len() + self.by_name.len() + self.by_spec.len(), 0);
        assert_eq!(
            self.timers.len() + self.ending + self.room_wanted.pools().count() + self.owed,
            0,
            "{self:#?}"
        );
        assert_eq!(self.ledger.functions.len() + self.accounts().count(), 0);
        assert_eq!(self.service.newest(), None);
        assert!(self.by_worker.is_empty());
        assert_eq!(self.next_deadline(), None);
    }
}
