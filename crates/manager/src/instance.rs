//! One instance as the manager sees it.
//!
//! ```text
//!              StartInstance                    slot given (M)
//!  (nothing) ----------------> Starting   Idle ----------------> Busy
//!        need for a slot (M)      |        ^ ^   all released (F)  |
//!                                 | ready  | |_____________________|
//!                                 |  (W)   |                       |
//!                                 |________|                       |
//!                                 |        |                       |
//!   no room (P), start            |        | idle timeout, evicted,| replaced, deleted,
//!   failed or gone (W) <----------|        | replaced, deleted,    | stopping (S); lost (F)
//!           |                     |        | stopping (M, S)       |
//!           |     deadline (M),   |        |                       v
//!           |     deleted,        |        |                   Draining
//!           |     stopping (S)    |        |                       | last lease released (F)
//!           |                     v        v                       |
//!           |                  Ending <----------------------------'
//!           |                     | EndInstance went out, once
//!           v     gone (W)        |
//!         Gone <------------------'      (and from every state, when its worker says so)
//! ```
//! Idle has a quieter form, Hibernating: the manager has the worker stop it and take its memory back when memory is
//! short (HibernateInstance), and the next slot given wakes it.
//!
//! Who causes an arrow: M the manager's own decision, F the frontend by a release, W the worker's report, P placement's
//! answer, S the store's change or the server's stop. Starting goes to Draining first while its worker is not known yet,
//! for nobody could be told to end it. Draining and Ending are both shown as `draining`; Gone is not remembered.

use hearth_types::{EndReason, InstanceId, InstanceState, StartReason, Time, WorkerId};

use crate::limiter::Limiter;
use crate::list::{Links, Order};
use crate::pool::{PoolKey, Shelf};

slotmap::new_key_type! {
    /// Where an instance is kept.
    pub(crate) struct InstanceKey;
}

/// A place in the chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Being placed and made.
    Starting,
    /// Takes requests: Idle without one, Busy with some.
    Ready,
    /// Takes no more; ends when its leases do and its worker is known.
    Draining(EndReason),
    /// Its worker was told to end it.
    Ending,
}

/// One instance. What a warm request touches lies together at the beginning: with a hundred thousand instances each
/// line of the cache that it needs is a miss.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Instance {
    pub(crate) pool: PoolKey,
    pub(crate) phase: Phase,
    /// Whether a request ever had a slot of it.
    pub(crate) used: bool,
    /// Whether its last or only init phase failed.
    pub(crate) init_failed: bool,
    /// Whether it hibernates.
    pub(crate) asleep: bool,
    /// What it was started for; nothing if it was found.
    pub(crate) started_for: Option<StartReason>,
    /// Whether it was started because room was freed: placement's answer tells whether there is more of it.
    pub(crate) tries_room: bool,
    /// Leases that hold a slot of it.
    pub(crate) load: u32,
    /// Where in its pool it lies.
    pub(crate) shelf: Shelf,
    /// When it last became ready, got or ended a request.
    pub(crate) last_used: Time,
    pool_links: Links,
    pub(crate) id: InstanceId,
    /// Known once placed.
    pub(crate) worker: Option<WorkerId>,
    /// Since when nothing used it, or the instance in whose stead it was started.
    pub(crate) idle_since: Time,
    /// The time of its entry among the timers, if it has one.
    pub(crate) timer: Option<Time>,
    /// How many requests at once it bears, as far as is known.
    pub(crate) limiter: Limiter,
    /// When the manager decided to start it, or found it.
    pub(crate) since: Time,
    /// When it was last looked at for eviction, or came into service.
    pub(crate) looked_at: Time,
    service_links: Links,
    worker_links: Links,
}

impl Instance {
    pub(crate) fn new(id: InstanceId, pool: PoolKey, limiter: Limiter, now: Time) -> Self {
        Self {
            pool,
            phase: Phase::Starting,
            used: false,
            init_failed: false,
            asleep: false,
            started_for: None,
            tries_room: false,
            load: 0,
            shelf: Shelf::Closed,
            last_used: now,
            pool_links: Links::default(),
            id,
            worker: None,
            idle_since: now,
            timer: None,
            limiter,
            since: now,
            looked_at: now,
            service_links: Links::default(),
            worker_links: Links::default(),
        }
    }

    /// Whether it takes requests and has none.
    pub(crate) const fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Ready) && self.load == 0
    }

    /// Its state as the other parts call it.
    pub(crate) const fn state(&self) -> InstanceState {
        match self.phase {
            Phase::Starting => InstanceState::Starting,
            Phase::Ready if self.load == 0 && self.asleep => InstanceState::Hibernating,
            Phase::Ready if self.load == 0 => InstanceState::Idle,
            Phase::Ready => InstanceState::Busy,
            Phase::Draining(_) | Phase::Ending => InstanceState::Draining,
        }
    }

    pub(crate) const fn links(&self, order: Order) -> &Links {
        match order {
            Order::Pool => &self.pool_links,
            Order::Service => &self.service_links,
            Order::Worker => &self.worker_links,
        }
    }

    pub(crate) const fn links_mut(&mut self, order: Order) -> &mut Links {
        match order {
            Order::Pool => &mut self.pool_links,
            Order::Service => &mut self.service_links,
            Order::Worker => &mut self.worker_links,
        }
    }
}
