//! What goes into the manager and what comes out of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hearth_types::{
    BlankKind, EndReason, FunctionId, FunctionSpec, InstanceId, Lease, Refusal, RevisionId, StartReason,
    TenantId, WorkerId, limits,
};

/// The settings of a manager.
#[derive(Clone, Debug)]
pub struct Config {
    /// Upper half of all instance ids, drawn at random for each life of a manager.
    pub epoch: u64,
    /// Requests in flight at once that an account may have.
    pub account_concurrency: u32,
    /// Longest time from the decision to start an instance until it is ready; then it is given up.
    pub start_deadline: Duration,
    /// Longest time that a request waits for a slot, whatever its function's queue allows.
    pub wait_deadline: Duration,
    /// Whether functions may have their idle times learned; if not, all keep to their idle timeout.
    pub learn_idle_times: bool,
    /// Idle time that is worth one cold start; a function's own idle timeout if none is given. The more it is, the
    /// fewer cold starts and the more idle memory the learned windows have.
    pub cold_start_worth: Option<Duration>,
    /// Whether instances are started ahead of a rising burst.
    pub scale_ahead: bool,
    /// Most blanks of each kind; zero if none are to be made, or no worker can make any.
    pub blanks: u32,
}

impl Default for Config {
    /// Lambda's account limit; a minute for a start and for a wait; everything on but blanks, which not every worker can
    /// make.
    fn default() -> Self {
        Self {
            epoch: 0,
            account_concurrency: limits::ACCOUNT_CONCURRENCY,
            start_deadline: Duration::from_mins(1),
            wait_deadline: Duration::from_mins(1),
            learn_idle_times: true,
            cold_start_worth: None,
            scale_ahead: true,
            blanks: 0,
        }
    }
}

/// What an operator wants of idle instances when a worker is short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relief {
    /// Some of them should hibernate, those first that were used longest ago.
    Hibernate,
    /// Some of them should end, those first that were used longest ago.
    Evict,
}

/// A request that waits for a slot, numbered by the manager in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(pub u64);

impl fmt::Display for WaitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What came of asking for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a lease that is dropped is never released"]
pub enum Acquired {
    /// A slot is there.
    Leased(Lease),
    /// An instance is on its way; exactly one [`Action::Grant`] or [`Action::Refuse`] with this id follows,
    /// unless [`Event::WaiterLeft`] comes first.
    Waiting(WaitId),
    /// No slot, now or soon.
    Refused(Refusal),
}

/// What happened. Late, repeated and unknown ones are ignored.
#[derive(Clone, Debug)]
pub enum Event {
    /// Placement gave the instance of a [`Action::StartInstance`], or the blank of a [`Action::MakeBlank`], to a worker.
    Placed {
        /// The instance.
        instance: InstanceId,
        /// Its worker.
        worker: WorkerId,
    },
    /// Placement has no worker for the instance of a [`Action::StartInstance`], or the blank of a
    /// [`Action::MakeBlank`]; it is over.
    PlacementFailed {
        /// The instance.
        instance: InstanceId,
        /// Why no worker takes it.
        reason: String,
        /// Whether a worker would take it if others made way; if not, none is asked to.
        room_may_come: bool,
    },
    /// An instance can take requests.
    InstanceReady {
        /// The instance.
        instance: InstanceId,
        /// Its worker; counts as [`Event::Placed`] if that is still on its way.
        worker: WorkerId,
        /// Whether its init phase succeeded; if not, its first request does that again.
        initialized: bool,
    },
    /// An instance could not be made, and nothing of it is left on its worker.
    InstanceStartFailed {
        /// The instance.
        instance: InstanceId,
        /// What the worker said.
        reason: String,
    },
    /// An instance ended, by [`Action::EndInstance`] or by itself, and nothing of it is left on its worker.
    InstanceGone {
        /// The instance.
        instance: InstanceId,
    },
    /// A worker has an instance, with no request in it, that a manager before this one started.
    InstanceFound {
        /// The instance.
        instance: InstanceId,
        /// Its worker.
        worker: WorkerId,
        /// What it runs.
        spec: Arc<FunctionSpec>,
        /// Whom it serves, if its function keeps tenants apart.
        tenant: Option<TenantId>,
    },
    /// An instance can be made of a blank.
    BlankReady {
        /// The blank.
        blank: InstanceId,
        /// Its worker.
        worker: WorkerId,
    },
    /// An instance is made of a blank; it is no blank any more.
    BlankTaken {
        /// The blank.
        blank: InstanceId,
    },
    /// A blank could not be made, or ended, and nothing of it is left on its worker.
    BlankGone {
        /// The blank.
        blank: InstanceId,
    },
    /// A worker and all its instances are gone.
    WorkerLost {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker takes no new instances: those without a request end, the others when theirs do.
    WorkerDraining {
        /// The worker.
        worker: WorkerId,
    },
    /// The one who waited gave up.
    WaiterLeft {
        /// Its number.
        wait: WaitId,
    },
    /// A version has a new revision; instances of its older ones take no more requests than already wait for them.
    RevisionReplaced {
        /// The new one.
        revision: RevisionId,
    },
    /// A function and all its versions were deleted.
    FunctionDeleted {
        /// The function.
        function: FunctionId,
        /// The number of its newest revision: a request for this one or an older one is late.
        newest: u64,
    },
    /// A function's reserved concurrency was read or changed. A request's spec says the same, so this is needed
    /// only for functions that have not been called since, whose reservation others of the account must feel.
    ConcurrencyReserved {
        /// The function.
        function: FunctionId,
        /// Its reservation, if it has one.
        reserved: Option<u32>,
    },
    /// Instances for so many requests at once of a revision are to be kept ready, whether or not they come. What was said of it before
    /// is over; zero ends it.
    Provision {
        /// The revision.
        spec: Arc<FunctionSpec>,
        /// How many.
        count: u32,
    },
    /// A worker is short of memory; said again for as long as it is, and each time some of its idle instances go.
    MemoryShort {
        /// The worker.
        worker: WorkerId,
        /// What is to become of them.
        relief: Relief,
    },
    /// An operator wants an instance to hibernate; one that is not idle goes on.
    SuspensionAsked {
        /// The instance.
        instance: InstanceId,
    },
    /// An operator wants an instance that hibernates to be awake, though nobody has a request for it.
    ResumptionAsked {
        /// The instance.
        instance: InstanceId,
    },
    /// An operator wants an instance to end.
    TerminationAsked {
        /// The instance.
        instance: InstanceId,
    },
    /// Placement may have room where it had none: a worker joined, or is pressed less.
    RoomMayHaveCome,
    /// The server stops: nothing new is taken, all instances end as their requests do.
    Stopping,
    /// The moment that [`crate::Manager::next_deadline`] named has come.
    TimePassed,
}

/// What the shell must do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask placement for a worker and have it make the instance. Answer with [`Event::Placed`] or
    /// [`Event::PlacementFailed`], then [`Event::InstanceReady`], [`Event::InstanceStartFailed`] or
    /// [`Event::InstanceGone`].
    StartInstance {
        /// The new instance.
        instance: InstanceId,
        /// What it runs.
        spec: Arc<FunctionSpec>,
        /// Whom it serves and nobody else, if its function keeps tenants apart.
        tenant: Option<TenantId>,
        /// What it is for.
        reason: StartReason,
    },
    /// Ask placement for a worker and have it make a blank. Answer as for an instance, with [`Event::BlankReady`] and
    /// [`Event::BlankGone`], and with [`Event::BlankTaken`] if placement has an instance made of it.
    MakeBlank {
        /// The new blank, from the same numbers as instances.
        blank: InstanceId,
        /// What can be made of it.
        kind: BlankKind,
    },
    /// Have the worker end a blank. Answer with [`Event::BlankGone`], also when the worker never heard of it.
    EndBlank {
        /// The blank.
        blank: InstanceId,
        /// Its worker.
        worker: WorkerId,
    },
    /// Have the worker stop the instance, which has no request, and take its memory back. The worker wakes it when a
    /// request comes; nothing is answered.
    HibernateInstance {
        /// The instance.
        instance: InstanceId,
        /// Its worker.
        worker: WorkerId,
    },
    /// Have the worker wake the instance, which hibernates; nothing is answered.
    WakeInstance {
        /// The instance.
        instance: InstanceId,
        /// Its worker.
        worker: WorkerId,
    },
    /// Have the worker end the instance, whatever it does. Answer with [`Event::InstanceGone`] when nothing is left of
    /// it, also when the worker never heard of it.
    EndInstance {
        /// The instance.
        instance: InstanceId,
        /// Its worker.
        worker: WorkerId,
        /// Why.
        reason: EndReason,
    },
    /// A request that waited has its slot. If it is no longer there, release the lease.
    Grant {
        /// The request.
        wait: WaitId,
        /// Its slot.
        lease: Lease,
    },
    /// A request that waited gets no slot.
    Refuse {
        /// The request.
        wait: WaitId,
        /// Why.
        refusal: Refusal,
    },
}
