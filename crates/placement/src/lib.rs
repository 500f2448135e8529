//! On which worker an instance goes, or none and why: a state machine without clock, chance or I/O.
//!
//! Whoever drives it tells it of workers with [`Placement::handle`] and asks with [`Placement::place`]. A worker that is
//! named has been promised the instance's memory and CPU share until [`Event::InstanceEnded`] or until it leaves.
//!
//! | file | what it owns |
//! |---|---|
//! | `messages` | the vocabulary: [`Capacity`], [`PlaceRequest`], [`Event`], [`WorkerView`] |
//! | `worker` | one worker: what it has, what is promised, and whether an instance fits (the filters) |
//! | `no_room` | why there is no room, in numbers and in a sentence |
//! | `placement` | the machine: the choice among those that fit (the score), the book of promises |
//!
//! Invariants, each held by a property test: what a worker is promised is the sum of its instances; it is never more
//! than its capacity times its oversubscription; an instance is promised to one worker at most; when all is over, nothing
//! is remembered.
//!
//! Deliberately absent: how many instances there should be, and which to end for room (the manager's).

#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants,
    clippy::iter_over_hash_type
)]

mod messages;
mod no_room;
mod placement;
mod worker;

pub use messages::{Capacity, Event, Oversubscription, PlaceRequest, WorkerView};
pub use no_room::{HeldBack, Lack, NoRoom};
pub use placement::Placement;
