//! Which instance serves a request, and how many there should be: a state machine without clock, chance or I/O.
//!
//! Whoever drives it (`hearth dev`, a fleet's manager role, the simulator) calls [`Manager::acquire`] and
//! [`Manager::release`] for requests, tells it with [`Manager::handle`] what happened to instances, carries out the
//! [`Action`]s in the order given, and wakes it at [`Manager::next_deadline`].
//!
//! | file | what it owns |
//! |---|---|
//! | `messages` | the vocabulary: [`Config`], [`Acquired`], [`Event`], [`Action`] |
//! | `instance` | one instance, and the chart of its life |
//! | `pool` | the instances and waiting requests of one revision or tenant, and the choice among them |
//! | `ledger` | requests in flight by function and account, and who may have one more |
//! | `limiter` | how many requests at once one instance bears |
//! | `idle_times` | how long an instance is worth keeping, and when one will be needed |
//! | `burst` | how many more requests are coming |
//! | `start_health` | whether starts are worth trying |
//! | `deleted` | which functions were deleted lately |
//! | `room_queue` | who waits for room on workers |
//! | `blanks` | how many sandboxes are made ahead for each runtime, and which there are |
//! | `list` | a linked list through the instances: order of use without allocation |
//! | `manager` | the machine: acquire, release, events |
//! | `manager/lives` | the arrows of the chart: start, ready, idle, drain, end, gone |
//! | `manager/warm` | instances before their request: provisioned, pre-warmed, ahead of a burst |
//! | `manager/blanks` | the arrows of their chart |
//! | `manager/tenants` | pools of their own for tenants that must not meet |
//! | `manager/room` | who gets room on workers, who makes way |
//! | `manager/waiting` | requests that wait: granted, refused, left |
//! | `manager/timers` | deadlines |
//! | `manager/view` | what `hearth ps` and the metrics see |
//!
//! Invariants, each held by a property test: no slot has two requests; no instance ever serves two tenants; no function and no account is over its limit;
//! every acquire ends in exactly one lease, refusal or leaving; every instance started is ended or reported gone
//! exactly once; no request waits while its revision has a free slot; when all is over, nothing is remembered but, for a
//! while, which functions were deleted.
//!
//! Deliberately absent: which worker (placement's), what a revision is (the store's), whether a request may be tried
//! again (the frontend's).

#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants,
    clippy::iter_over_hash_type
)]

mod blanks;
mod burst;
mod deleted;
mod idle_times;
mod instance;
mod ledger;
mod limiter;
mod list;
mod manager;
mod messages;
mod pool;
mod room_queue;
mod start_health;

pub use blanks::BlankState;
pub use manager::Manager;
pub use manager::view::{AccountView, BlankView, Counts, InstanceView, Provisioned, Savings};
pub use messages::{Acquired, Action, Config, Event, Relief, WaitId};
