//! What others may see: lists and counts, for `hearth ps` and metrics.

use std::collections::BTreeMap;

use hearth_types::{
    AccountId, BlankKind, FunctionId, InstanceId, InstanceState, RevisionId, StartReason, TenantId, Time,
    WorkerId,
};

use super::Manager;
use crate::blanks::BlankState;

/// One instance, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceView<'a> {
    /// Its id.
    pub id: InstanceId,
    /// Function, version and revision that it runs.
    pub revision: &'a RevisionId,
    /// Whom it serves and nobody else, if its function keeps tenants apart.
    pub tenant: Option<&'a TenantId>,
    /// Where it runs, once that is decided.
    pub worker: Option<&'a WorkerId>,
    /// Where in its life it is.
    pub state: InstanceState,
    /// Requests that it has.
    pub leases: u32,
    /// Requests that it is given at once, as far as is known to be good for it.
    pub slots: u32,
    /// Requests at once that it never passes.
    pub hard: u32,
    /// What it was started for; nothing if it was found.
    pub started_for: Option<StartReason>,
    /// When its start was decided, or it was found.
    pub since: Time,
    /// When it last became ready, got or ended a request.
    pub last_used: Time,
}

/// Requests and instances, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that hold a slot, also of an instance that is gone.
    pub leased: usize,
    /// Requests that wait for a slot.
    pub waiting: usize,
    /// Instances on their way.
    pub starting: usize,
    /// Instances without a request.
    pub idle: usize,
    /// Idle instances that were stopped and gave their memory back.
    pub hibernating: usize,
    /// Instances with requests.
    pub busy: usize,
    /// Instances that take no more requests.
    pub draining: usize,
}

impl Counts {
    /// Instances in any state.
    #[must_use]
    pub const fn instances(&self) -> usize {
        self.starting + self.idle + self.hibernating + self.busy + self.draining
    }

    const fn count(&mut self, state: InstanceState) {
        match state {
            InstanceState::Starting => self.starting += 1,
            InstanceState::Idle => self.idle += 1,
            InstanceState::Hibernating => self.hibernating += 1,
            InstanceState::Busy => self.busy += 1,
            InstanceState::Draining => self.draining += 1,
        }
    }
}

/// An account's requests in flight and what bounds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountView<'a> {
    /// Whose.
    pub id: &'a AccountId,
    /// Requests in flight, waiting ones included.
    pub in_flight: u32,
    /// What functions without a reservation have in flight or provisioned, whichever is more for each.
    pub unreserved_in_use: u32,
    /// Most that functions without a reservation may have.
    pub unreserved_limit: u32,
    /// What its functions have reserved.
    pub reserved: u64,
}

/// Cold starts that warm pools made or spared, since the manager started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Savings {
    /// Spared by provisioned instances: at their first request, and after an idle time longer than the idle timeout.
    pub provisioned: u64,
    /// Spared by keeping an instance longer than the idle timeout, for its function's idle times said so.
    pub kept: u64,
    /// Made by keeping an instance for less than the idle timeout.
    pub given_up: u64,
    /// Spared by instances that were ready when a foreseen request came.
    pub prewarmed: u64,
    /// Spared by instances that were started ahead of a rising burst or of full instances.
    pub ahead: u64,
    /// Not spared, but shortened: starts of instances that were made of a blank.
    pub blanks: u64,
}

/// A sandbox that was made before its function is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlankView<'a> {
    /// Its id.
    pub id: InstanceId,
    /// What can be made of it.
    pub kind: &'a BlankKind,
    /// Where it is, once that is decided.
    pub worker: Option<&'a WorkerId>,
    /// Where in its life it is.
    pub state: BlankState,
    /// When its making was decided.
    pub since: Time,
}

/// What has become of a revision's provisioned concurrency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// Requests at once that instances are wanted for.
    pub requested: u32,
    /// Slots of instances that are ready, up to that number.
    pub allocated: u32,
    /// Those of them that are free.
    pub available: u32,
    /// Why there are fewer than wanted and none is on its way, if so.
    pub failure: Option<String>,
}

impl Manager {
    /// Cold starts that warm pools made or spared.
    #[must_use]
    pub const fn savings(&self) -> Savings {
        self.savings
    }

    /// What has become of a revision's provisioned concurrency; all zeros if it has none.
    #[must_use]
    pub fn provisioned(&self, revision: &RevisionId) -> Provisioned {
        let Some(pool) = self.by_name.get(&(revision.clone(), None)).map(|&key| &self.pools[key]) else {
            return Provisioned::default();
        };
        let (requested, slots) = (pool.provisioned, pool.soft());
        let ready = pool.ready(&self.instances).filter(|&key| !self.instances[key].init_failed);
        let (instances, free) = ready.fold((0_usize, 0_u32), |(ready, free), key| {
            (ready + 1, free.saturating_add(slots.saturating_sub(self.instances[key].load)))
        });
        let ready = u32::try_from(instances).unwrap_or(u32::MAX).saturating_mul(slots);
        let failure = pool.provision_failure.clone().or_else(|| {
            let failing = pool.ready_count() > instances;
            failing.then(|| "the function fails to initialize; its log says why".to_owned())
        });
        Provisioned {
            requested,
            allocated: ready.min(requested),
            available: free.min(requested),
            failure: failure.filter(|_| ready < requested),
        }
    }

    /// All instances, oldest first within a life of the manager.
    pub fn instances(&self) -> impl Iterator<Item = InstanceView<'_>> {
        self.by_id.values().map(|&key| {
            let instance = &self.instances[key];
            let pool = &self.pools[instance.pool];
            InstanceView {
                id: instance.id,
                revision: &pool.spec.revision,
                tenant: pool.tenant.as_ref(),
                worker: instance.worker.as_ref(),
                state: instance.state(),
                leases: instance.load,
                slots: pool.slots(instance),
                hard: pool.hard(),
                started_for: instance.started_for,
                since: instance.since,
                last_used: instance.last_used,
            }
        })
    }

    /// All blanks, oldest first.
    pub fn blanks(&self) -> impl Iterator<Item = BlankView<'_>> {
        let blanks = self.blanks.all.iter();
        blanks.map(|(id, blank)| BlankView {
            id: *id,
            kind: &blank.kind,
            worker: blank.worker.as_ref(),
            state: blank.state,
            since: blank.since,
        })
    }

    /// Whether an instance can be made of a blank.
    #[must_use]
    pub fn offers(&self, blank: InstanceId) -> bool {
        self.blanks.all.get(&blank).is_some_and(|blank| blank.state == BlankState::Ready)
    }

    /// Everything, in numbers. Walks over all instances.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { leased: self.leases.len(), waiting: self.waits.len(), ..Counts::default() };
        self.instances.values().for_each(|instance| counts.count(instance.state()));
        counts
    }

    /// Everything by function, in numbers. Walks over all instances.
    #[must_use]
    pub fn counts_by_function(&self) -> BTreeMap<&FunctionId, Counts> {
        let mut by_function = BTreeMap::<_, Counts>::new();
        for pool in self.pools.values() {
            let counts = by_function.entry(&pool.spec.revision.version.function).or_default();
            counts.leased += pool.leases;
            counts.waiting += pool.waiting.len();
        }
        for instance in self.instances.values() {
            let function = &self.pools[instance.pool].spec.revision.version.function;
            by_function.entry(function).or_default().count(instance.state());
        }
        by_function
    }

    /// The accounts that have functions with instances, requests or reservations.
    pub fn accounts(&self) -> impl Iterator<Item = AccountView<'_>> {
        self.ledger.accounts().map(|account| AccountView {
            id: &account.id,
            in_flight: account.in_flight,
            unreserved_in_use: u32::try_from(account.unreserved_in_use).unwrap_or(u32::MAX),
            unreserved_limit: self.ledger.unreserved(account),
            reserved: account.reserved,
        })
    }

    /// Whether no instance, blank and request is left: what a server that stops waits for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.leases.is_empty() && self.waits.is_empty() && self.blanks.all.is_empty()
    }
}
