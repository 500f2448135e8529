//! The one place that calls the real manager and the real placement, as `hearth dev`'s shell does.
//!
//! Instances, workers and functions have small numbers in the simulator; their names are made and resolved here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_manager::{Acquired, Action, Config, Event, Manager, Relief, Savings, WaitId};
use hearth_placement::pressure::PressureLevel;
use hearth_placement::{
    self as placement, Capacity, NoRoom, Oversubscription, Packing, PlaceRequest, Placement,
};
use hearth_types::{
    AccountId, BlankKind, CodeDigest, EndReason, FunctionId, FunctionSpec, InstanceId, Isolation, Lease,
    LeaseId, LeaseOutcome, LeaseRequest, Queue, Refusal, RevisionId, Runtime, StartReason, Time, Version,
    VersionId, WorkerId,
};

use crate::cluster::Cluster;
use crate::policy::Policy;
use crate::workload::{Function, Workload};

/// The lower half of a lease's number; the upper one is the manager's epoch, the same for all. Half the size of what is
/// in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseNumber(u64);

impl From<LeaseId> for LeaseNumber {
    fn from(LeaseId(number): LeaseId) -> Self {
        Self(u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0))
    }
}

/// What the manager wants done, in the simulator's words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// An instance of the function is to be made on the worker, if there is room on one.
    Start {
        instance: InstanceId,
        function: u32,
        worker: Option<u32>,
        reason: StartReason,
        of_blank: Option<InstanceId>,
    },
    /// A blank is to be made on the worker, if there is room to spare on one.
    MakeBlank { blank: InstanceId, worker: Option<u32> },
    /// The blank is to be ended.
    EndBlank { blank: InstanceId },
    /// The instance is to be stopped, its memory taken back until it is needed.
    Hibernate { instance: InstanceId },
    /// The instance is to be ended.
    End { instance: InstanceId, reason: EndReason },
    /// A request that waited has a slot.
    Grant { wait: WaitId, lease: LeaseNumber, instance: InstanceId, cold: bool },
    /// A request that waited gets none.
    Refuse { wait: WaitId, reason: &'static str },
}

/// What came of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Leased { lease: LeaseNumber, instance: InstanceId, cold: bool },
    Waits(WaitId),
    Refused(&'static str),
}

/// What came of an instance, as a worker reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    Ready,
    /// Ready, but its init phase failed.
    ReadyWithoutInit,
    StartFailed,
    Gone,
}

/// The real state machines.
#[derive(Debug)]
pub(crate) struct Control {
    manager: Manager,
    epoch: u64,
    placement: Placement,
    functions: Vec<LeaseRequest>,
    workers: Vec<WorkerId>,
    worker_numbers: HashMap<WorkerId, u32>,
    cluster: Cluster,
    /// Of blanks that are being made.
    kinds: HashMap<InstanceId, BlankKind>,
    actions: Vec<Action>,
}

/// The word that the report uses for a refusal.
const fn word(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::AccountLimit { .. } => "account-limit",
        Refusal::FunctionLimit { .. } => "function-limit",
        Refusal::TenantLimit { .. } => "tenant-limit",
        Refusal::QueueFull { .. } => "queue-full",
        Refusal::NoRoom { .. } => "no-room",
        Refusal::StartFailed { .. } => "start-failed",
        Refusal::InitFailing { .. } => "init-failing",
        Refusal::TimedOut { .. } => "timed-out",
        Refusal::FunctionDeleted => "function-deleted",
        Refusal::Stopping => "stopping",
    }
}

/// A text that is known to be right as an id of its kind; `None` cannot happen and needs no panic either.
fn spec(index: u32, function: &Function, policy: Policy) -> Option<FunctionSpec> {
    let account: AccountId = format!("{:012}", function.account).parse().ok()?;
    let runtime: Runtime = "provided.al2023".parse().ok()?;
    // Names repeat in traces; the number makes them unique.
    let name: Arc<str> = format!("{index}-{}", function.name).into();
    let function_id = FunctionId { account, name };
    let mut code = CodeDigest([0; 32]);
    code.0[..4].copy_from_slice(&index.to_be_bytes());
    Some(FunctionSpec {
        revision: RevisionId {
            version: VersionId { function: function_id, version: Version::Latest },
            number: u64::from(index),
        },
        arn: String::new(),
        region: String::new(),
        runtime,
        handler: String::new(),
        code,
        image: None,
        memory_mb: function.memory_mb,
        timeout: Duration::from_nanos(crate::workload::LONGEST_RUN_NANOS),
        ephemeral_mb: 512,
        environment: std::collections::BTreeMap::new(),
        isolation: Some(Isolation::Container),
        egress: hearth_types::Egress::None,
        concurrency: function.concurrency,
        layers: Vec::new(),
        snap_start: false,
        per_tenant: false,
        logging: hearth_types::Logging::default(),
        idle_timeout: policy.idle_timeout,
        keep_alive: policy.keep_alive,
        http: None,
        queue: Queue::default(),
        reserved_concurrency: function.reserved,
    })
}

impl Control {
    /// State machines for a workload; the workers have not joined yet.
    pub(crate) fn new(workload: &Workload, cluster: &Cluster, policy: Policy, seed: u64) -> Self {
        let functions = (0..).zip(&workload.functions).filter_map(|(index, function)| {
            spec(index, function, policy).map(|spec| LeaseRequest { spec: Arc::new(spec), tenant: None })
        });
        let workers: Vec<_> =
            (0..cluster.workers).map(|number| WorkerId::new(&format!("worker-{number:05}"))).collect();
        // Whatever the seed is, an epoch like any other.
        let epoch = seed.wrapping_add(1);
        Self {
            manager: Manager::new(Config {
                epoch,
                account_concurrency: cluster.account_concurrency,
                cold_start_worth: policy.cold_start_worth,
                blanks: cluster.blanks,
                ..Config::default()
            }),
            epoch,
            placement: Placement::with_seed(epoch, Packing::Even),
            functions: functions.collect(),
            worker_numbers: workers.iter().cloned().zip(0..).collect(),
            workers,
            cluster: cluster.clone(),
            kinds: HashMap::new(),
            actions: Vec::new(),
        }
    }

    pub(crate) fn acquire(&mut self, now: Time, function: u32) -> Asked {
        match self.manager.acquire(now, &self.functions[function as usize], &mut self.actions) {
            Acquired::Leased(Lease { id, instance, cold, .. }) => {
                Asked::Leased { lease: id.into(), instance, cold }
            }
            Acquired::Waiting(wait) => Asked::Waits(wait),
            Acquired::Refused(refusal) => Asked::Refused(word(&refusal)),
        }
    }

    pub(crate) fn release(&mut self, now: Time, lease: LeaseNumber, lost: bool) {
        let outcome = if lost { LeaseOutcome::InstanceLost } else { LeaseOutcome::Reusable };
        let lease = LeaseId(u128::from(self.epoch) << 64 | u128::from(lease.0));
        self.manager.release(now, lease, outcome, &mut self.actions);
    }

    /// A worker reports on one of its instances.
    pub(crate) fn report(&mut self, now: Time, worker: u32, instance: InstanceId, report: Report) {
        let event = match report {
            Report::Ready | Report::ReadyWithoutInit => Event::InstanceReady {
                instance,
                worker: self.workers[worker as usize].clone(),
                initialized: matches!(report, Report::Ready),
            },
            Report::StartFailed => {
                Event::InstanceStartFailed { instance, reason: "it was simulated to".to_owned() }
            }
            Report::Gone => Event::InstanceGone { instance },
        };
        if !matches!(report, Report::Ready | Report::ReadyWithoutInit) {
            self.placement.handle(now, placement::Event::InstanceEnded { instance });
        }
        self.manager.handle(now, event, &mut self.actions);
    }

    pub(crate) fn worker_joined(&mut self, now: Time, worker: u32) {
        let Cluster { memory_mb, cpu_millis, instances, memory_percent, cpu_percent, .. } = self.cluster;
        let joined = placement::Event::WorkerJoined {
            worker: self.workers[worker as usize].clone(),
            capacity: Capacity {
                memory_mb,
                cpu_millis,
                instances,
                isolations: vec![Isolation::Container],
                ..Capacity::default()
            },
            oversubscription: Oversubscription { memory_percent, cpu_percent },
        };
        self.placement.handle(now, joined);
    }

    pub(crate) fn worker_lost(&mut self, now: Time, worker: u32) {
        let worker = self.workers[worker as usize].clone();
        self.placement.handle(now, placement::Event::WorkerLeft { worker: worker.clone() });
        self.manager.handle(now, Event::WorkerLost { worker }, &mut self.actions);
    }

    /// The function is to have so many instances ready at all times.
    pub(crate) fn provision(&mut self, now: Time, function: u32, count: u32) {
        let spec = Arc::clone(&self.functions[function as usize].spec);
        self.manager.handle(now, Event::Provision { spec, count }, &mut self.actions);
    }

    pub(crate) fn stop(&mut self, now: Time) {
        self.manager.handle(now, Event::Stopping, &mut self.actions);
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.manager.next_deadline()
    }

    pub(crate) fn time_passed(&mut self, now: Time) {
        self.manager.handle(now, Event::TimePassed, &mut self.actions);
    }

    /// Whether the manager asked for anything since [`Control::carry_out`].
    pub(crate) const fn asks(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Takes what the manager asked for, having placed what is to be started; what the manager asks for in answer to
    /// that is taken next time.
    pub(crate) fn carry_out(&mut self, now: Time, wanted: &mut Vec<Wanted>) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            wanted.push(match action {
                Action::StartInstance { instance, spec, reason, .. } => {
                    self.place(now, instance, &spec, reason)
                }
                Action::MakeBlank { blank, kind } => self.place_blank(now, blank, &kind),
                Action::EndBlank { blank, .. } => {
                    self.placement.handle(now, placement::Event::BlankWithdrawn { blank });
                    Wanted::EndBlank { blank }
                }
                // No operator is simulated.
                Action::WakeInstance { .. } => continue,
                Action::HibernateInstance { instance, .. } => Wanted::Hibernate { instance },
                Action::EndInstance { instance, reason, .. } => Wanted::End { instance, reason },
                Action::Grant { wait, lease: Lease { id, instance, cold, .. } } => {
                    Wanted::Grant { wait, lease: id.into(), instance, cold }
                }
                Action::Refuse { wait, refusal } => Wanted::Refuse { wait, reason: word(&refusal) },
            });
        }
        if self.actions.is_empty() {
            // Keeps the capacity.
            self.actions = actions;
        }
    }

    fn place(&mut self, now: Time, instance: InstanceId, spec: &FunctionSpec, reason: StartReason) -> Wanted {
        let request = PlaceRequest::new(instance, spec);
        let placed = self.placement.place_on_blank(now, &request, &spec.blank_kind());
        let of_blank = placed.as_ref().ok().and_then(|(_, blank)| *blank);
        let worker = self.answer(now, instance, placed.map(|(worker, _)| worker));
        if let Some(blank) = of_blank {
            self.manager.handle(now, Event::BlankTaken { blank }, &mut self.actions);
        }
        let function = u32::try_from(spec.revision.number).unwrap_or(u32::MAX);
        Wanted::Start { instance, function, worker, reason, of_blank }
    }

    fn place_blank(&mut self, now: Time, blank: InstanceId, kind: &BlankKind) -> Wanted {
        let placed = self.placement.place_blank(now, blank, kind);
        let worker = self.answer(now, blank, placed);
        self.kinds.insert(blank, kind.clone());
        Wanted::MakeBlank { blank, worker }
    }

    /// Tells the manager what placement said of an instance or a blank: its worker's number, if it has one.
    fn answer(&mut self, now: Time, id: InstanceId, placed: Result<WorkerId, NoRoom>) -> Option<u32> {
        let (event, worker) = match placed {
            Ok(worker) => {
                let number = self.worker_numbers.get(&worker).copied();
                (Event::Placed { instance: id, worker }, number)
            }
            Err(no_room) => {
                let (room_may_come, reason) = (no_room.room_may_come, String::new());
                (Event::PlacementFailed { instance: id, reason, room_may_come }, None)
            }
        };
        self.manager.handle(now, event, &mut self.actions);
        worker
    }

    /// A blank is ready, or nothing is left of it.
    pub(crate) fn report_blank(&mut self, now: Time, worker: u32, blank: InstanceId, gone: bool) {
        if gone {
            self.kinds.remove(&blank);
            self.placement.handle(now, placement::Event::InstanceEnded { instance: blank });
            self.manager.handle(now, Event::BlankGone { blank }, &mut self.actions);
            return;
        }
        let worker = self.workers[worker as usize].clone();
        self.manager.handle(now, Event::BlankReady { blank, worker }, &mut self.actions);
        if self.manager.offers(blank)
            && let Some(kind) = self.kinds.remove(&blank)
        {
            self.placement.handle(now, placement::Event::BlankReady { blank, kind });
        }
    }

    /// A worker is pressed harder or less.
    pub(crate) fn pressed(&mut self, now: Time, worker: u32, level: PressureLevel, falls: bool) {
        let worker = self.workers[worker as usize].clone();
        self.placement.handle(now, placement::Event::PressureChanged { worker, level });
        if falls {
            self.manager.handle(now, Event::RoomMayHaveCome, &mut self.actions);
        }
    }

    /// A worker is short of memory.
    pub(crate) fn memory_short(&mut self, now: Time, worker: u32, relief: Relief) {
        let worker = self.workers[worker as usize].clone();
        self.manager.handle(now, Event::MemoryShort { worker, relief }, &mut self.actions);
    }

    /// Whether nothing is left in either machine.
    pub(crate) fn is_empty(&self) -> bool {
        self.manager.is_empty() && self.placement.workers().all(|worker| worker.instances == 0)
    }

    /// Cold starts that the manager says it made and spared.
    pub(crate) const fn savings(&self) -> Savings {
        self.manager.savings()
    }

    /// What the machines themselves count. Walks over everything.
    pub(crate) fn counts(&self) -> Counts {
        let counts = self.manager.counts();
        Counts {
            leased: counts.leased,
            waiting: counts.waiting,
            instances: counts.instances(),
            placed: self.placement.workers().map(|worker| worker.instances as usize).sum(),
            overfull_workers: self
                .placement
                .workers()
                .filter(|worker| worker.memory_promised_mb > worker.memory_limit_mb)
                .count(),
            starved: self
                .manager
                .counts_by_function()
                .values()
                .filter(|counts| counts.waiting > 0 && counts.idle > 0)
                .count(),
        }
    }
}

/// What the machines count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) leased: usize,
    pub(crate) waiting: usize,
    /// By the manager, and by placement.
    pub(crate) instances: usize,
    pub(crate) placed: usize,
    /// Workers that promised more than they may.
    pub(crate) overfull_workers: usize,
    /// Functions of which a request waits and an instance is idle.
    pub(crate) starved: usize,
}
