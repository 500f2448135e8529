//! Who waits for room: functions take turns, and of each its pools, so that one with ever so many tenants or versions is
//! one among the others.

use std::collections::VecDeque;

use slotmap::SecondaryMap;

use crate::ledger::FunctionKey;
use crate::pool::PoolKey;

/// Pools with starts that wait for room, each once.
#[derive(Debug, Default)]
pub(crate) struct RoomQueue {
    /// Those first that have waited longest.
    functions: VecDeque<FunctionKey>,
    /// Their pools, in the same order; none is empty.
    pools: SecondaryMap<FunctionKey, VecDeque<PoolKey>>,
}

impl RoomQueue {
    /// Adds a pool, which is not there yet, as the last of its function.
    pub(crate) fn push(&mut self, function: FunctionKey, pool: PoolKey) {
        if let Some(pools) = self.pools.get_mut(function) {
            pools.push_back(pool);
        } else {
            self.pools.insert(function, VecDeque::from([pool]));
            self.functions.push_back(function);
        }
    }

    /// The functions, those first that have waited longest.
    pub(crate) fn functions(&self) -> impl Iterator<Item = FunctionKey> {
        self.functions.iter().copied()
    }

    /// The pool whose turn it is when it is the function's.
    pub(crate) fn first(&self, function: FunctionKey) -> Option<PoolKey> {
        self.pools.get(function)?.front().copied()
    }

    /// Takes the pool out whose turn it is. The function keeps its turn.
    pub(crate) fn pop(&mut self, function: FunctionKey) -> Option<PoolKey> {
        let pools = self.pools.get_mut(function)?;
        let pool = pools.pop_front();
        if pools.is_empty() {
            self.remove_function(function);
        }
        pool
    }

    /// The function had its turn: it is the last if it waits for more.
    pub(crate) fn had_a_turn(&mut self, function: FunctionKey) {
        if self.pools.contains_key(function) {
            self.functions.retain(|&waiting| waiting != function);
            self.functions.push_back(function);
        }
    }

    /// Takes a pool out that waits no more.
    pub(crate) fn remove(&mut self, function: FunctionKey, pool: PoolKey) {
        let Some(pools) = self.pools.get_mut(function) else { return };
        pools.retain(|&waiting| waiting != pool);
        if pools.is_empty() {
            self.remove_function(function);
        }
    }

    fn remove_function(&mut self, function: FunctionKey) {
        self.pools.remove(function);
        self.functions.retain(|&waiting| waiting != function);
    }

    /// All pools that wait.
    #[cfg(test)]
    pub(crate) fn pools(&self) -> impl Iterator<Item = PoolKey> {
        self.functions.iter().flat_map(|&function| self.pools[function].iter().copied())
    }
}
