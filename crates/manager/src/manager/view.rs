//! What others may see: lists and counts, for `hearth ps` and metrics.

use std::collections::BTreeMap;

use hearth_types::{AccountId, FunctionId, InstanceId, InstanceState, RevisionId, Time, WorkerId};

use super::Manager;

/// One instance, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceView<'a> {
    /// Its id.
    pub id: InstanceId,
    /// Function, version and revision that it runs.
    pub revision: &'a RevisionId,
    /// Where it runs, once that is decided.
    pub worker: Option<&'a WorkerId>,
    /// Where in its life it is.
    pub state: InstanceState,
    /// Requests that it has.
    pub leases: u32,
    /// Requests that it may have at once.
    pub slots: u32,
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
    /// Instances with requests.
    pub busy: usize,
    /// Instances that take no more requests.
    pub draining: usize,
}

impl Counts {
    /// Instances in any state.
    #[must_use]
    pub const fn instances(&self) -> usize {
        self.starting + self.idle + self.busy + self.draining
    }

    const fn count(&mut self, state: InstanceState) {
        match state {
            InstanceState::Starting => self.starting += 1,
            InstanceState::Idle => self.idle += 1,
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
    /// Those of functions without a reservation.
    pub unreserved_in_flight: u32,
    /// Most that functions without a reservation may have.
    pub unreserved_limit: u32,
    /// What its functions have reserved.
    pub reserved: u64,
}

impl Manager {
    /// All instances, oldest first within a life of the manager.
    pub fn instances(&self) -> impl Iterator<Item = InstanceView<'_>> {
        self.by_id.values().map(|&key| {
            let instance = &self.instances[key];
            let pool = &self.pools[instance.pool];
            InstanceView {
                id: instance.id,
                revision: &pool.spec.revision,
                worker: instance.worker.as_ref(),
                state: instance.state(),
                leases: instance.load,
                slots: pool.hard(),
                since: instance.since,
                last_used: instance.last_used,
            }
        })
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
            unreserved_in_flight: account.unreserved_in_flight,
            unreserved_limit: self.ledger.unreserved(account),
            reserved: account.reserved,
        })
    }

    /// Whether no instance and no request is left: what a server that stops waits for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.leases.is_empty() && self.waits.is_empty()
    }
}
