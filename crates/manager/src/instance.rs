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
//! Who causes an arrow: M the manager's own decision, F the frontend by a release, W the worker's report, P placement's
//! answer, S the store's change or the server's stop. Starting goes to Draining first while its worker is not known yet,
//! for nobody could be told to end it. Draining and Ending are both shown as `draining`; Gone is not remembered.

use hearth_types::{EndReason, InstanceId, InstanceState, Time, WorkerId};

use crate::list::{Links, Order};
use crate::pool::PoolKey;

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

/// One instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) pool: PoolKey,
    pub(crate) phase: Phase,
    /// Known once placed.
    pub(crate) worker: Option<WorkerId>,
    /// Leases that hold a slot of it.
    pub(crate) load: u32,
    /// When the manager decided to start it, or found it.
    pub(crate) since: Time,
    /// When it last became ready, got or ended a request.
    pub(crate) last_used: Time,
    /// The time of its entry among the timers, if it has one.
    pub(crate) timer: Option<Time>,
    pool_links: Links,
    idle_links: Links,
}

impl Instance {
    pub(crate) fn new(id: InstanceId, pool: PoolKey, now: Time) -> Self {
        Self {
            id,
            pool,
            phase: Phase::Starting,
            worker: None,
            load: 0,
            since: now,
            last_used: now,
            timer: None,
            pool_links: Links::default(),
            idle_links: Links::default(),
        }
    }

    /// Its state as the other parts call it.
    pub(crate) const fn state(&self) -> InstanceState {
        match self.phase {
            Phase::Starting => InstanceState::Starting,
            Phase::Ready if self.load == 0 => InstanceState::Idle,
            Phase::Ready => InstanceState::Busy,
            Phase::Draining(_) | Phase::Ending => InstanceState::Draining,
        }
    }

    pub(crate) const fn links(&self, order: Order) -> &Links {
        match order {
            Order::Pool => &self.pool_links,
            Order::Idle => &self.idle_links,
        }
    }

    pub(crate) const fn links_mut(&mut self, order: Order) -> &mut Links {
        match order {
            Order::Pool => &mut self.pool_links,
            Order::Idle => &mut self.idle_links,
        }
    }
}
