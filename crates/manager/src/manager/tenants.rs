//! Functions whose instances each serve one tenant: every tenant has a pool of its own, which nothing goes into or out of.
//!
//! A request finds only its tenant's pool, and all that the manager decides of instances it decides within a pool: who
//! gets a slot, whose wait an instance ends, which one hibernates. So there is no place at which two tenants could meet
//! in an instance. What they share is what the function has: its concurrency, and room on workers, where an idle
//! instance of one tenant makes way for another's.
//!
//! A tenant's pool learns no idle times and goes with its last instance: tenant ids are the callers' to choose, and what
//! is remembered of each would be theirs to fill. For the same reason a function has pools of no
//! more tenants at once than Lambda has environments of all of them together. What is made ahead of its function (a blank) has nothing of anybody's in it, and becomes one tenant's.

use std::sync::Arc;

use hearth_types::{FunctionSpec, LeaseRequest, Refusal, RevisionId, TenantId, limits};

use super::Manager;
use crate::pool::PoolKey;

/// What a pool is of: a revision, and of that a tenant if its function has tenants.
pub(super) type PoolName = (RevisionId, Option<TenantId>);

/// The name of a pool. Allocates nothing: both parts are counted references.
pub(super) fn name(spec: &FunctionSpec, tenant: Option<&TenantId>) -> PoolName {
    (spec.revision.clone(), tenant.cloned())
}

impl Manager {
    /// The tenant's pool, if it is there and has this very spec.
    pub(super) fn pool_of_tenant(&self, spec: &Arc<FunctionSpec>, tenant: &TenantId) -> Option<PoolKey> {
        let pool = *self.by_name.get(&name(spec, Some(tenant)))?;
        Arc::ptr_eq(&self.pools[pool].spec, spec).then_some(pool)
    }

    /// Whether the function may have a pool for the request's tenant: one that has any has as many as there are versions
    /// and revisions at work. One that it may not have is told first whatever else keeps the request from a slot.
    pub(super) fn admit_tenant(&mut self, request: &LeaseRequest) -> Result<(), Refusal> {
        let LeaseRequest { spec, tenant: Some(tenant) } = request else { return Ok(()) };
        let Some(function) = self.ledger.find(&spec.revision.version.function) else { return Ok(()) };
        let (is_known, tenants) = self.ledger.functions[function].tenants(tenant);
        if is_known || tenants == 0 {
            return Ok(());
        }
        if self.deleted.has(&spec.revision) {
            return Err(Refusal::FunctionDeleted);
        }
        // As when its pool is opened.
        self.ledger.reserve(function, spec.reserved_concurrency);
        let concurrency = self.ledger.most(function) as usize;
        let limit = (concurrency.saturating_mul(limits::TENANTS_PER_THOUSAND) / 1_000).max(1);
        if tenants < limit {
            return Ok(());
        }
        self.ledger.admit(function)?;
        Err(Refusal::TenantLimit { limit })
    }

    /// Whether both are pools of one function whose tenants are apart.
    pub(super) fn are_tenants_of_one(&self, one: PoolKey, other: PoolKey) -> bool {
        let (one, other) = (&self.pools[one], &self.pools[other]);
        one.function == other.function && one.tenant != other.tenant
    }
}
