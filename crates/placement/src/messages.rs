//! What goes into placement and what comes out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_types::{
    AccountId, BlankKind, CodeDigest, FunctionId, FunctionSpec, InstanceId, Isolation, Time, WorkerId, limits,
};

use crate::pressure::PressureLevel;

/// Most instances that one worker may have, whatever it claims.
pub const MAX_INSTANCES_PER_WORKER: u32 = 65_536;

/// Most workers at once; one that joins above it is not heard.
pub const MAX_WORKERS: usize = 65_536;

/// Most labels of one worker; of more, the first by name count.
pub const MAX_LABELS: usize = 64;

/// What a worker is, in its operator's words: by name, such as `zone` to `a`.
pub type Labels = BTreeMap<String, String>;

/// What a worker really has for instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Memory, MiB.
    pub memory_mb: u64,
    /// CPU, thousandths of a vCPU.
    pub cpu_millis: u64,
    /// Most instances at once, whatever their size; above [`MAX_INSTANCES_PER_WORKER`] it means that.
    pub instances: u32,
    /// Drivers that work on it.
    pub isolations: Vec<Isolation>,
    /// What its operator calls it, at most [`MAX_LABELS`].
    pub labels: Labels,
}

/// How much more than it has a worker promises, in percent of what it has: 100 promises exactly that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversubscription {
    /// Of memory; above [`Oversubscription::MAX_MEMORY_PERCENT`] it means that.
    pub memory_percent: u32,
    /// Of CPU; above [`Oversubscription::MAX_CPU_PERCENT`] it means that.
    pub cpu_percent: u32,
}

impl Oversubscription {
    /// Ten times: beyond it, the memory that idle instances really hold fills a worker before its promises do.
    pub const MAX_MEMORY_PERCENT: u32 = 1_000;
    /// A hundred times: an idle instance takes no CPU at all, so this only keeps the numbers sane.
    pub const MAX_CPU_PERCENT: u32 = 10_000;
}

impl Default for Oversubscription {
    /// Memory as it is; CPU ten times, since a share counts only while the worker is busy and most instances wait.
    fn default() -> Self {
        Self { memory_percent: 100, cpu_percent: 1_000 }
    }
}

/// An instance that needs a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceRequest {
    /// Its id.
    pub instance: InstanceId,
    /// What it belongs to.
    pub function: FunctionId,
    /// Memory it may use, MiB.
    pub memory_mb: u32,
    /// Its CPU share, thousandths of a vCPU.
    pub cpu_millis: u32,
    /// Driver it must run on; `None` for whichever its worker has.
    pub isolation: Option<Isolation>,
    /// The image it starts from.
    pub code: CodeDigest,
    /// Labels that its worker must have, with these values.
    pub labels: Labels,
}

impl PlaceRequest {
    /// What `instance` of `spec` needs. The CPU share follows from the memory, as in Lambda: one vCPU for every
    /// [`limits::MEMORY_MB_PER_VCPU`].
    #[must_use]
    pub fn new(instance: InstanceId, spec: &FunctionSpec) -> Self {
        let cpu_millis = u64::from(spec.memory_mb) * 1_000 / u64::from(limits::MEMORY_MB_PER_VCPU);
        Self {
            instance,
            function: spec.revision.version.function.clone(),
            memory_mb: spec.memory_mb,
            cpu_millis: u32::try_from(cpu_millis).unwrap_or(u32::MAX).max(1),
            isolation: spec.isolation,
            code: spec.code,
            labels: Labels::new(),
        }
    }
}

impl PlaceRequest {
    /// What a blank of that kind needs. Those of one runtime are spread as instances of one function are.
    #[must_use]
    pub fn for_blank(blank: InstanceId, kind: &BlankKind) -> Self {
        let cpu_millis = u64::from(kind.memory_mb) * 1_000 / u64::from(limits::MEMORY_MB_PER_VCPU);
        let name = Arc::from(format!("blank {}", kind.runtime));
        Self {
            instance: blank,
            function: FunctionId { account: AccountId::nobody(), name },
            memory_mb: kind.memory_mb,
            cpu_millis: u32::try_from(cpu_millis).unwrap_or(u32::MAX).max(1),
            isolation: Some(Isolation::Container),
            code: CodeDigest([0; 32]),
            labels: Labels::new(),
        }
    }
}

/// What happened. Late, repeated and unknown ones are ignored.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker takes instances, or says anew what it has; if it drained or was under pressure, that is over. What it
    /// was promised before stays promised.
    WorkerJoined {
        /// The worker.
        worker: WorkerId,
        /// What it has.
        capacity: Capacity,
        /// How much more it promises.
        oversubscription: Oversubscription,
    },
    /// A worker takes no new instances; those it has stay until they end.
    WorkerDraining {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker and all its instances are gone.
    WorkerLeft {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker's machine is pressed harder or less. From [`PressureLevel::StopPlacing`] on it gets no new instances.
    PressureChanged {
        /// The worker.
        worker: WorkerId,
        /// How hard.
        level: PressureLevel,
    },
    /// A worker has an image, so that instances start from it there without a fetch.
    ImageCached {
        /// The worker.
        worker: WorkerId,
        /// The image.
        code: CodeDigest,
    },
    /// A worker has an image no more.
    ImageDropped {
        /// The worker.
        worker: WorkerId,
        /// The image.
        code: CodeDigest,
    },
    /// A worker has an instance that was placed before this life of placement.
    InstanceFound {
        /// The worker.
        worker: WorkerId,
        /// The instance and its needs.
        request: PlaceRequest,
    },
    /// Nothing is left of an instance, or a blank.
    InstanceEnded {
        /// The instance.
        instance: InstanceId,
    },
    /// Instances can be made of a blank, which was placed as one.
    BlankReady {
        /// The blank.
        blank: InstanceId,
        /// What can be made of it.
        kind: BlankKind,
    },
    /// No more instances are made of a blank, which stays placed until it has ended.
    BlankWithdrawn {
        /// The blank.
        blank: InstanceId,
    },
}

/// One worker, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView<'a> {
    /// Its name.
    pub id: &'a WorkerId,
    /// What it has.
    pub capacity: &'a Capacity,
    /// Instances placed on it.
    pub instances: u32,
    /// Memory promised to them, MiB.
    pub memory_promised_mb: u64,
    /// Most memory that may be promised, MiB.
    pub memory_limit_mb: u64,
    /// CPU promised to them, thousandths of a vCPU.
    pub cpu_promised_millis: u64,
    /// Most CPU that may be promised, thousandths of a vCPU.
    pub cpu_limit_millis: u64,
    /// Whether it takes no new instances because it is to go.
    pub draining: bool,
    /// Whether it is to go and has nothing left.
    pub drained: bool,
    /// How hard its machine is pressed.
    pub pressure: PressureLevel,
    /// Memory of instances that ended since it was pressed, MiB: as much is still placed on it, unless it evicts.
    pub replaceable_mb: u64,
    /// Images it is known to have.
    pub images: usize,
    /// When it joined.
    pub since: Time,
}
