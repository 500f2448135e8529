//! Which functions' policies deny something. In memory, so that who is of the function's own account need not ask the store: nearly
//! none do, and another account's callers have the policy read anyway.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use hearth_store::{DocumentId, Store, StoreError};
use hearth_types::AccountId;

use crate::permissions::KIND;
use crate::policy;

/// The accounts and names of the policies with a statement that denies.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    of: RwLock<HashSet<(AccountId, Arc<str>)>>,
}

impl Denials {
    /// Looks through all policies that are kept.
    pub(crate) async fn load(&self, store: &dyn Store) -> Result<(), StoreError> {
        for document in store.all_documents(KIND).await? {
            self.note(&document.id, Some(&document.body));
        }
        Ok(())
    }

    /// Takes note of what a policy says now; nothing if there is none any more.
    pub(crate) fn note(&self, id: &DocumentId, policy: Option<&str>) {
        let entry = (id.account.clone(), Arc::clone(&id.name));
        let mut of = self.of.write().unwrap_or_else(PoisonError::into_inner);
        if policy.is_some_and(policy::has_denials) {
            of.insert(entry);
        } else {
            of.remove(&entry);
        }
    }

    /// Whether any policy denies anything.
    pub(super) fn is_empty(&self) -> bool {
        self.of.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn has(&self, id: &DocumentId) -> bool {
        let entry = (id.account.clone(), Arc::clone(&id.name));
        self.of.read().unwrap_or_else(PoisonError::into_inner).contains(&entry)
    }
}
