//! On which worker an instance goes, or none and why: a state machine without clock or I/O, whose chance is a seed.
//!
//! Whoever drives it tells it of workers with [`Placement::handle`] and asks with [`Placement::place`]. A worker that is
//! named has been promised the instance's memory and CPU share until [`Event::InstanceEnded`] or until it leaves.
//!
//! | file | what it owns |
//! |---|---|
//! | `messages` | the vocabulary: [`Capacity`], [`PlaceRequest`], [`Event`], [`WorkerView`] |
//! | `worker` | one worker: what it has, what is promised, and whether an instance fits (the filters) |
//! | `fleet` | all workers by slot and name, and the indexes over them |
//! | `room` | the index that finds room, or says at once that there is none |
//! | `images` | the index of who has which image |
//! | `no_room` | why there is no room, in numbers and in a sentence |
//! | `placement` | the machine: the choice among those that fit (the score), the book of promises |
//! | `pressure` | from what a kernel says to how hard its machine is pressed; a machine of its own |
//! | `random` | draws and hashes by seed |
//!
//! Invariants, each held by a property test: what a worker is promised is the sum of its instances; it is never more
//! than its capacity times its oversubscription; an instance is promised to one worker at most; there is a refusal only
//! if no worker has room; the same seed and events give the same choices; when all is over, nothing is remembered.
//!
//! Deliberately absent: how many instances there should be, and which to end for room (the manager's); reading the
//! kernel's files and hibernating (the worker's).

#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants,
    clippy::iter_over_hash_type
)]

mod fleet;
mod images;
mod messages;
mod no_room;
mod placement;
pub mod pressure;
mod random;
mod room;
mod worker;

pub use messages::{
    Capacity, Event, Labels, MAX_INSTANCES_PER_WORKER, MAX_LABELS, MAX_WORKERS, Oversubscription,
    PlaceRequest, WorkerView,
};
pub use no_room::{HeldBack, Lack, NoRoom};
pub use placement::{Packing, Placement};
pub use pressure::PressureLevel;
