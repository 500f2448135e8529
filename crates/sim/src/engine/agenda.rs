//! What comes next: the next request of each function, and what workers will do, each in a heap of its own.
//!
//! A heap of 24 bytes a function and one of what is in flight stay in the processor's caches, and the smaller each is, the
//! fewer steps an entry takes. Equal moments are told apart by order of entry, so a run
//! repeats.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::control::{LeaseNumber, Report};
use crate::workload::arrivals::Arrival;

/// What a worker does.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// A request has run.
    Done { lease: LeaseNumber, instance: u32 },
    /// A worker reports on an instance.
    Report { instance: u32, generation: u32, report: Report },
    /// The failure of this number.
    WorkersDie(u32),
    /// A blank is ready, or gone.
    Blank { blank: u32, gone: bool },
    /// It is looked at how much memory is used.
    Look,
    /// A worker is there again.
    WorkerBack(u32),
    /// The time is over in which requests come.
    Over,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// A request that will run so long, nanoseconds.
    Request {
        function: u32,
        runs: u64,
    },
    What(What),
    /// The manager's deadline.
    Deadline,
}

#[derive(Debug)]
struct Entry {
    at: u64,
    order: u64,
    what: What,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

/// All that is to come.
#[derive(Debug)]
pub(super) struct Agenda {
    now: u64,
    order: u64,
    /// When, which function, how long it runs.
    requests: BinaryHeap<Reverse<(u64, u32, u64)>>,
    others: BinaryHeap<Reverse<Entry>>,
}

impl Agenda {
    pub(super) fn new() -> Self {
        Self { now: 0, order: 0, requests: BinaryHeap::new(), others: BinaryHeap::new() }
    }

    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn add_function(&mut self, function: u32, arrival: Arrival) {
        self.requests.push(Reverse((arrival.at, function, arrival.runs)));
    }

    pub(super) fn add(&mut self, at: u64, what: What) {
        self.order += 1;
        self.others.push(Reverse(Entry { at, order: self.order, what }));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.others.is_empty()
    }

    /// What comes next; sets the clock to it. A request stays until [`Agenda::replace_request`]. Of what comes at the same moment, deadlines are first, then what
    /// workers do, then requests.
    pub(super) fn next(&mut self, deadline: Option<u64>) -> Option<Next> {
        let request = self.requests.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        let other = self.others.peek().map_or(u64::MAX, |Reverse(entry)| entry.at);
        if let Some(deadline) = deadline
            && deadline <= request.min(other)
        {
            self.now = self.now.max(deadline);
            return Some(Next::Deadline);
        }
        if other <= request {
            let Reverse(Entry { at, what, .. }) = self.others.pop()?;
            self.now = self.now.max(at);
            return Some(Next::What(what));
        }
        let &Reverse((at, function, runs)) = self.requests.peek()?;
        self.now = self.now.max(at);
        Some(Next::Request { function, runs })
    }

    /// Puts the next request of the function in the place of the one that [`Agenda::next`] gave last.
    pub(super) fn replace_request(&mut self, next: Option<Arrival>) {
        let Some(mut first) = self.requests.peek_mut() else { return };
        match next {
            Some(Arrival { at, runs }) => {
                let Reverse((_, function, _)) = *first;
                *first = Reverse((at, function, runs));
            }
            None => {
                PeekMut::pop(first);
            }
        }
    }

    /// Takes out the requests in flight in instances of which `lost` is true; in the order in which they began.
    pub(super) fn remove_leases(&mut self, lost: impl Fn(u32) -> bool) -> Vec<(LeaseNumber, u32)> {
        let mut removed = Vec::new();
        self.others.retain(|Reverse(entry)| {
            let What::Done { lease, instance } = entry.what else { return true };
            if lost(instance) {
                removed.push((entry.order, lease, instance));
                return false;
            }
            true
        });
        removed.sort_unstable_by_key(|&(order, ..)| order);
        removed.into_iter().map(|(_, lease, instance)| (lease, instance)).collect()
    }
}
