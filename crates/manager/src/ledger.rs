//! Requests in flight by function and by account, and whether one more may be.
//!
//! Counted as Lambda does: a request is in flight from its acceptance to its end, its cold start included. A function
//! with reserved concurrency has that many to itself and no more; all functions without share what the account's limit
//! leaves over.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use hearth_types::{AccountId, FunctionId, Refusal, TenantId, Version};
use slotmap::SlotMap;

use crate::pool::PoolKey;

slotmap::new_key_type! {
    /// Where a function is kept.
    pub(crate) struct FunctionKey;
    /// Where an account is kept.
    pub(crate) struct AccountKey;
}

/// What the manager knows of a function as a whole.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) id: FunctionId,
    account: AccountKey,
    /// Its revisions, and of those the tenants, that have instances, leases or waiting requests.
    pub(crate) pools: BTreeMap<(Version, u64, Option<TenantId>), PoolKey>,
    /// The tenants that those are of, with how many pools each has.
    tenants: BTreeMap<TenantId, usize>,
    /// The newest revision of each version that was replaced while the function was known.
    pub(crate) newest: BTreeMap<Version, u64>,
    reserved: Option<u32>,
    in_flight: u32,
    /// Instances that its revisions have provisioned, together; wide, for each may have any number.
    provisioned: u64,
    /// Memory of its instances in any phase, MiB.
    pub(crate) memory_mb: u64,
}

/// What the manager knows of an account.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    functions: usize,
    /// Sum over its functions.
    pub(crate) reserved: u64,
    /// Over all its functions.
    pub(crate) in_flight: u32,
    /// Over its functions without a reservation: what each has provisioned or in flight, whichever is more.
    pub(crate) unreserved_in_use: u64,
}

impl Function {
    /// Takes note of a pool, which is not there yet.
    pub(crate) fn add_pool(&mut self, name: (Version, u64, Option<TenantId>), pool: PoolKey) {
        if let Some(tenant) = &name.2 {
            *self.tenants.entry(tenant.clone()).or_default() += 1;
        }
        self.pools.insert(name, pool);
    }

    /// Forgets a pool, and its tenant with the last of them.
    pub(crate) fn remove_pool(&mut self, name: &(Version, u64, Option<TenantId>)) {
        self.pools.remove(name);
        let Some(tenant) = &name.2 else { return };
        if let Some(pools) = self.tenants.get_mut(tenant) {
            *pools -= 1;
            if *pools == 0 {
                self.tenants.remove(tenant);
            }
        }
    }

    /// Whether it is one of its tenants, and how many it has.
    pub(crate) fn tenants(&self, tenant: &TenantId) -> (bool, usize) {
        (self.tenants.contains_key(tenant), self.tenants.len())
    }

    /// What it takes of the account's unreserved concurrency when it has no reservation.
    fn in_use(&self) -> u64 {
        u64::from(self.in_flight).max(self.provisioned)
    }
}

/// The books.
#[derive(Debug)]
pub(crate) struct Ledger {
    account_limit: u32,
    accounts: SlotMap<AccountKey, Account>,
    by_account: HashMap<AccountId, AccountKey, RandomState>,
    pub(crate) functions: SlotMap<FunctionKey, Function>,
    by_function: HashMap<FunctionId, FunctionKey, RandomState>,
}

impl Ledger {
    pub(crate) fn new(account_limit: u32) -> Self {
        Self {
            account_limit,
            accounts: SlotMap::with_key(),
            by_account: HashMap::default(),
            functions: SlotMap::with_key(),
            by_function: HashMap::default(),
        }
    }

    pub(crate) fn find(&self, id: &FunctionId) -> Option<FunctionKey> {
        self.by_function.get(id).copied()
    }

    /// The function's entry, made if there is none.
    pub(crate) fn open(&mut self, id: &FunctionId) -> FunctionKey {
        if let Some(key) = self.find(id) {
            return key;
        }
        let account = match self.by_account.get(&id.account) {
            Some(&key) => key,
            None => {
                let key = self.accounts.insert(Account {
                    id: id.account.clone(),
                    functions: 0,
                    reserved: 0,
                    in_flight: 0,
                    unreserved_in_use: 0,
                });
                self.by_account.insert(id.account.clone(), key);
                key
            }
        };
        self.accounts[account].functions += 1;
        let key = self.functions.insert(Function {
            id: id.clone(),
            account,
            pools: BTreeMap::new(),
            tenants: BTreeMap::new(),
            newest: BTreeMap::new(),
            reserved: None,
            in_flight: 0,
            provisioned: 0,
            memory_mb: 0,
        });
        self.by_function.insert(id.clone(), key);
        key
    }

    /// Forgets the function, and its account, if nothing is left to know of them.
    pub(crate) fn close_if_empty(&mut self, key: FunctionKey) {
        let Some(function) = self.functions.get(key) else { return };
        if !function.pools.is_empty() || function.in_flight > 0 || function.reserved.is_some() {
            return;
        }
        let Some(function) = self.functions.remove(key) else { return };
        self.by_function.remove(&function.id);
        let Some(account) = self.accounts.get_mut(function.account) else { return };
        account.functions -= 1;
        if account.functions == 0 {
            self.accounts.remove(function.account);
            self.by_account.remove(&function.id.account);
        }
    }

    /// Sets what the function has reserved; its requests in flight move to or from the account's unreserved ones.
    pub(crate) fn reserve(&mut self, key: FunctionKey, reserved: Option<u32>) {
        let Some(function) = self.functions.get_mut(key) else { return };
        if function.reserved == reserved {
            return;
        }
        let Some(account) = self.accounts.get_mut(function.account) else { return };
        match function.reserved {
            Some(old) => account.reserved -= u64::from(old),
            None => account.unreserved_in_use -= function.in_use(),
        }
        match reserved {
            Some(new) => account.reserved += u64::from(new),
            None => account.unreserved_in_use += function.in_use(),
        }
        function.reserved = reserved;
    }

    /// Whether the function may have one more request in flight.
    pub(crate) fn admit(&self, key: FunctionKey) -> Result<(), Refusal> {
        let function = &self.functions[key];
        let account = &self.accounts[function.account];
        if let Some(limit) = function.reserved {
            if function.in_flight >= limit {
                return Err(Refusal::FunctionLimit { limit });
            }
        } else {
            let limit = self.unreserved(account);
            // What is provisioned is in use already.
            if u64::from(function.in_flight) >= function.provisioned
                && account.unreserved_in_use >= u64::from(limit)
            {
                return Err(Refusal::AccountLimit { limit });
            }
        }
        if account.in_flight >= self.account_limit {
            return Err(Refusal::AccountLimit { limit: self.account_limit });
        }
        Ok(())
    }

    /// What the account's limit leaves to functions without a reservation.
    pub(crate) fn unreserved(&self, account: &Account) -> u32 {
        let left = u64::from(self.account_limit).saturating_sub(account.reserved);
        u32::try_from(left).unwrap_or(self.account_limit)
    }

    /// How many requests at once the function may have if nobody else has any.
    pub(crate) fn most(&self, key: FunctionKey) -> u32 {
        let function = &self.functions[key];
        function.reserved.unwrap_or_else(|| self.unreserved(&self.accounts[function.account]))
    }

    /// How many requests at once the function may have, those that it has included.
    pub(crate) fn room(&self, key: FunctionKey) -> u32 {
        let function = &self.functions[key];
        let account = &self.accounts[function.account];
        let others = account.unreserved_in_use.saturating_sub(function.in_use());
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        function.reserved.unwrap_or_else(|| self.unreserved(account).saturating_sub(others))
    }

    /// Counts one request more in flight.
    pub(crate) fn begin(&mut self, key: FunctionKey) {
        self.change(key, |function| function.in_flight += 1);
        if let Some(account) = self.functions.get(key).and_then(|f| self.accounts.get_mut(f.account)) {
            account.in_flight += 1;
        }
    }

    /// Counts one request less in flight.
    pub(crate) fn finish(&mut self, key: FunctionKey) {
        self.change(key, |function| function.in_flight -= 1);
        if let Some(account) = self.functions.get(key).and_then(|f| self.accounts.get_mut(f.account)) {
            account.in_flight -= 1;
        }
    }

    /// A revision of the function has so many instances provisioned, and had so many before.
    pub(crate) fn provision(&mut self, key: FunctionKey, before: u32, now: u32) {
        self.change(key, |function| {
            function.provisioned = function.provisioned.saturating_sub(u64::from(before)) + u64::from(now);
        });
    }

    /// Changes a function, and what its account has in use with it.
    fn change(&mut self, key: FunctionKey, change: impl FnOnce(&mut Function)) {
        let Some(function) = self.functions.get_mut(key) else { return };
        let before = function.in_use();
        change(function);
        if function.reserved.is_none()
            && let Some(account) = self.accounts.get_mut(function.account)
        {
            account.unreserved_in_use = account.unreserved_in_use.saturating_sub(before) + function.in_use();
        }
    }

    /// The accounts, in the order of their keys.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }
}
