//! The promises that every run holds the state machines to.
//!
//! Requests in flight are counted on every request; a run that passes a limit ends with an error. Walks over everything
//! are made in debug builds only, at each sample.

use crate::cluster::Cluster;
use crate::control::{Control, Counts};
use crate::engine::books::Books;
use crate::engine::instances::Instances;
use crate::workload::Workload;

/// Requests in flight, and what bounds them.
#[derive(Debug)]
pub(super) struct Checks {
    account_limit: u32,
    accounts: Vec<u32>,
    /// In flight, reservation, account.
    functions: Vec<(u32, Option<u32>, u32)>,
    in_flight: usize,
}

impl Checks {
    pub(super) fn new(workload: &Workload, cluster: &Cluster) -> Self {
        let accounts = workload.functions.iter().map(|function| function.account as usize + 1).max();
        let functions = workload.functions.iter();
        Self {
            account_limit: cluster.account_concurrency,
            accounts: vec![0; accounts.unwrap_or(0)],
            functions: functions.map(|function| (0, function.reserved, function.account)).collect(),
            in_flight: 0,
        }
    }

    pub(super) const fn nothing_in_flight(&self) -> bool {
        self.in_flight == 0
    }

    /// A request was accepted.
    pub(super) fn begin(&mut self, function: u32) -> Result<(), String> {
        let (in_flight, reserved, account) = &mut self.functions[function as usize];
        let of_account = &mut self.accounts[*account as usize];
        *in_flight += 1;
        *of_account += 1;
        self.in_flight += 1;
        if *of_account > self.account_limit || reserved.is_some_and(|reserved| *in_flight > reserved) {
            return Err(format!(
                "function {function} has {in_flight} requests in flight, its account {of_account}"
            ));
        }
        Ok(())
    }

    /// A request that was accepted is over.
    pub(super) fn end(&mut self, function: u32) -> Result<(), String> {
        let (in_flight, _, account) = &mut self.functions[function as usize];
        *in_flight = in_flight.checked_sub(1).ok_or("a request ended twice")?;
        self.accounts[*account as usize] -= 1;
        self.in_flight -= 1;
        Ok(())
    }

    /// Whether the machines count what the workers have.
    pub(super) fn compare(
        &self,
        control: &Control,
        (there, blanks): (usize, usize),
        waiting: usize,
    ) -> Result<(), String> {
        if !cfg!(debug_assertions) {
            return Ok(());
        }
        let leased = self.in_flight - waiting;
        let placed = there + blanks;
        let wanted = Counts { leased, waiting, instances: there, placed, overfull_workers: 0, starved: 0 };
        let counts = control.counts();
        if counts != wanted {
            return Err(format!("the machines count {counts:?}, the workers {wanted:?}"));
        }
        Ok(())
    }

    /// Whether everything has drained and every request has one end.
    pub(super) fn at_the_end(
        &self,
        control: &Control,
        instances: &Instances,
        waiting: usize,
        books: &Books,
    ) -> Result<(), String> {
        if !control.is_empty() || instances.len() > 0 || waiting > 0 || self.in_flight > 0 {
            let there = instances.len();
            let counts = control.counts();
            return Err(format!("the end left {there} instances, {waiting} waiting requests, {counts:?}"));
        }
        if books.requests() != books.completed + books.failed + books.lost + books.refused() {
            return Err("requests are not those completed, failed, lost and refused".to_owned());
        }
        Ok(())
    }
}
