//! The `qemu` and `firecracker` drivers: every instance a machine with a kernel of its own.
//!
//! ```text
//! kernel + agent + root image --boot, once--> template --clone, for each instance--> machine --configure--> instance
//!                                             (memory and device state,              (memory copied        (code and scratch
//!                                              on disk and sealed in memory)          page by page)         disks, limits)
//! ```
//!
//! A template is a machine that has booted on a kernel and a runtime's root and whose agent waits. A clone maps its memory
//! privately and starts where it stood, with other disks behind the same devices, a new clock and new random bytes. What an
//! instance is told, it is told by its agent: the worker's end of that is [`link`], and takes everything as hostile.
//!
//! **Order of trust.** The guest's kernel and agent are the function's as far as the worker is concerned. The VMM is what holds
//! them, and is itself held: own user, own namespaces, its control groups, its seccomp filter, no file but those that it inherits.
//!
//! **Life.** VMMs die with the worker, by the kernel's hand. What they leave is control groups and files in the driver's own folder,
//! which the next start removes; templates stay.
//!
//! | file | what it owns |
//! |---|---|
//! | `link` | the conversation with a machine's agent |
//! | `sandbox` | a machine as an instance's sandbox: made, hibernated, woken, ended |
//! | `spares` | VMMs started ahead |
//! | `template`, `snapshot` | machines saved for cloning, in memory and on disk |
//! | `vmm` | what is asked of a VMM |
//! | `qemu` | QEMU: its command line and its monitor |
//! | `firecracker` | Firecracker: its jailer, its API, its files |
//! | `process`, `jail`, `tail` | a VMM as a process of this machine, where it runs, and what it said last |

mod firecracker;
mod jail;
mod link;
mod process;
mod qemu;
mod sandbox;
mod snapshot;
mod spares;
mod sys;
mod tail;
mod template;
mod vmm;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hearth_kernel::Kernel;
use hearth_network::Network;
use hearth_rootfs::Images;
use hearth_types::Isolation;
use tokio::sync::Semaphore;

use crate::blank_disk::BlankDisks;
use crate::cgroup::{self, Hierarchies};
use crate::driver::{
    BoxFuture, CreateError, Driver, MachineTimes, Recovered, Restored, Root, Sandbox, SandboxSpec,
    Snapshotter,
};
use crate::users::UserRanges;

pub use firecracker::{CloneMemory, FirecrackerVersion, NoFirecracker};

use firecracker::Firecracker;
use jail::{Jail, Kind};
use process::Host;
use qemu::Qemu;
use sandbox::MicroVmSandbox;
use snapshot::Snapshots;
use spares::Spares;
use template::{KVM_DEADLINE, Templates};
use vmm::Vmm;

/// The guest's first process.
static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hearth-agent"));

/// What a driver is made with.
#[derive(Clone, Debug)]
pub struct MicroVmConfig {
    /// A name that is the same for every life of this worker and different from all others on the machine; in cgroup names.
    pub name: String,
    /// The driver's own folder: scratch disks, hibernated machines.
    pub directory: PathBuf,
    /// Where templates are kept; worth keeping from one life to the next.
    pub snapshots: PathBuf,
    /// What the machines boot.
    pub kernel: Kernel,
    /// Makes their root and code disks.
    pub images: Arc<Images>,
    /// What runs them.
    pub vmm: VmmConfig,
    /// Disk that templates and other snapshots may have, bytes.
    pub snapshot_bytes: u64,
    /// Disk that hibernated machines may have, bytes.
    pub hibernation_bytes: u64,
    /// Whom machines with a network ask for names.
    pub resolvers: Vec<Ipv4Addr>,
}

/// Which VMM, and where it is.
#[derive(Clone, Debug)]
pub enum VmmConfig {
    /// QEMU.
    Qemu {
        /// Its program.
        program: PathBuf,
        /// Whether this machine's KVM runs guests ([`crate::kvm::prove`]). Whether it boots the kernel is tried then, once;
        /// if it does not, machines are emulated.
        kvm: bool,
        /// Whether they may be.
        emulate: bool,
    },
    /// Firecracker, which needs KVM.
    Firecracker {
        /// Its program.
        program: PathBuf,
        /// Its jailer, of the same version.
        jailer: PathBuf,
        /// How long a first machine may take to boot: KVM that takes longer is refused.
        patience: Duration,
        /// Where the memory of clones comes from.
        memory: CloneMemory,
    },
}

/// Why the driver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MicroVmError {
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// An infinitive.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// There is no QEMU, or it does not work.
    #[error("cannot run {}: install QEMU (Debian: qemu-system-x86)", program.display())]
    Program {
        /// What was tried.
        program: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No machine came up on KVM, and none may be emulated.
    #[error(
        "KVM did not boot a machine within {seconds} s here; `hearth doctor` says what this machine can do"
    )]
    Kvm {
        /// What it had.
        seconds: u64,
    },
    /// Firecracker or its jailer is not as it has to be.
    #[error(transparent)]
    Firecracker(#[from] NoFirecracker),
    /// The guest's kernel.
    #[error("the guest kernel cannot be used")]
    Kernel(#[source] hearth_kernel::KernelError),
}

/// Makes sandboxes of machines.
#[derive(Debug)]
pub struct MicroVm {
    shared: Arc<Shared>,
}

/// What all machines of a driver share.
#[derive(Debug)]
struct Shared {
    host: Arc<Host>,
    vmm: Vmm,
    images: Arc<Images>,
    templates: Templates,
    scratch: BlankDisks,
    spares: Spares,
    network: Network,
    /// Machines are started a few at a time: on a busy machine all of many would be late.
    starting: Semaphore,
    hibernation: Arc<Hibernation>,
    registry: Mutex<Vec<Weak<sandbox::Inner>>>,
    closed: AtomicBool,
}

/// Where machines sleep.
#[derive(Debug)]
struct Hibernation {
    directory: PathBuf,
    limit_bytes: u64,
    used_bytes: AtomicU64,
    number: AtomicU64,
}

fn step(step: &'static str) -> impl Fn(io::Error) -> MicroVmError {
    move |source| MicroVmError::Step { step, source }
}

// === impl MicroVm ===

impl MicroVm {
    /// Starts the driver, after removing what a predecessor of the same name left.
    ///
    /// # Errors
    /// When QEMU, the kernel, its folder or the user ids cannot be had.
    pub async fn open(config: MicroVmConfig) -> Result<(Self, Recovered), MicroVmError> {
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(config)).await;
        let (driver, recovered) =
            opened.unwrap_or_else(|error| Err(step("start the driver")(io::Error::other(error))))?;
        let shared = &driver.shared;
        let (on_kvm, patience, emulate) = match &shared.vmm {
            Vmm::Qemu(qemu) => (qemu.kvm.load(Ordering::Acquire), KVM_DEADLINE, qemu.emulate),
            Vmm::Firecracker(firecracker) => (true, firecracker.patience, false),
        };
        let boots = if on_kvm { shared.templates.kvm_boots(shared, patience).await } else { Ok(false) };
        let refused = match boots {
            Ok(boots) if boots || emulate => {
                shared.vmm.use_kvm(boots);
                None
            }
            Ok(_) => Some(MicroVmError::Kvm { seconds: patience.as_secs() }),
            Err(error) => Some(step("try KVM")(io::Error::other(error))),
        };
        if let Some(refused) = refused {
            driver.close().await;
            return Err(refused);
        }
        tracing::info!(vmm = %shared.vmm.identity(), "micro-VMs are ready");
        Ok((driver, recovered))
    }

    fn check_open(&self) -> Result<(), CreateError> {
        if self.shared.closed.load(Ordering::Acquire) { Err(CreateError::Closed) } else { Ok(()) }
    }

    fn open_blocking(config: MicroVmConfig) -> Result<(Self, Recovered), MicroVmError> {
        let vmm = find_vmm(&config)?;
        fs::create_dir_all(&config.directory).map_err(step("make the driver's folder"))?;
        let hierarchies = Hierarchies::open(&group_name(&config.name)).map_err(step("find cgroups"))?;
        let recovered = Recovered { sandboxes: cgroup::remove_left_groups(&hierarchies) };
        let confined = rustix::process::geteuid().is_root();
        let users = UserRanges::claim(!confined).map_err(step("claim user ids"))?;
        let (vmm, jail) = match vmm {
            Vmm::Firecracker(mut firecracker) => {
                firecracker.cells(config.directory.join("cells")).map_err(step("make a folder for VMMs"))?;
                (Vmm::Firecracker(firecracker), Kind::Jailer)
            }
            qemu @ Vmm::Qemu(_) => (qemu, Kind::Root(config.directory.join("jail"))),
        };
        let jail = Jail::open(jail).map_err(step("make a jail for VMMs"))?;
        let scratch =
            BlankDisks::open(&config.directory.join("scratch")).map_err(step("make a folder for disks"))?;
        let hibernation = Hibernation::open(config.directory.join("hibernated"), config.hibernation_bytes)
            .map_err(step("make a folder for hibernated machines"))?;
        let snapshots = Snapshots::open(config.snapshots.clone(), config.snapshot_bytes, vmm.medium())
            .map_err(step("open the templates"))?;
        let templates = Templates::new(&config, &vmm, snapshots)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shared = Shared {
            host: Arc::new(Host { jail, hierarchies, users, confined }),
            vmm,
            images: config.images,
            templates,
            scratch,
            spares: Spares::new(),
            network: Network::new(config.resolvers),
            starting: Semaphore::new(2 * cores),
            hibernation: Arc::new(hibernation),
            registry: Mutex::default(),
            closed: AtomicBool::new(false),
        };
        Ok((Self { shared: Arc::new(shared) }, recovered))
    }
}

/// The name of the driver's control groups: the container driver of the same worker has others.
pub(crate) fn group_name(name: &str) -> String {
    format!("{name}-vm")
}

/// The VMM that is asked for, if it is there.
fn find_vmm(config: &MicroVmConfig) -> Result<Vmm, MicroVmError> {
    match &config.vmm {
        VmmConfig::Qemu { program, kvm, emulate } => {
            let version = version(program)
                .map_err(|source| MicroVmError::Program { program: program.clone(), source })?;
            let kvm = AtomicBool::new(*kvm);
            let counter_khz = sys::counter_khz();
            Ok(Vmm::Qemu(Qemu { program: program.clone(), version, kvm, emulate: *emulate, counter_khz }))
        }
        VmmConfig::Firecracker { program, jailer, patience, memory } => {
            Ok(Vmm::Firecracker(Firecracker::find((program, jailer), *patience, *memory)?))
        }
    }
}

/// The first line of what QEMU says of itself: it decides which snapshots fit.
fn version(program: &std::path::Path) -> io::Result<String> {
    let output = std::process::Command::new(program).arg("-version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned).ok_or_else(|| io::Error::other("it says no version"))
}

impl Driver for MicroVm {
    fn isolation(&self) -> Isolation {
        self.shared.vmm.isolation()
    }

    fn create(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Box<dyn Sandbox>, CreateError>> {
        Box::pin(async move {
            self.check_open()?;
            let sandbox = MicroVmSandbox::create(&self.shared, spec, false).await?;
            Ok(Box::new(sandbox) as Box<dyn Sandbox>)
        })
    }

    fn prepare_root<'a>(&'a self, root: &'a Root) -> BoxFuture<'a, Result<(), CreateError>> {
        Box::pin(sandbox::prepare_root(&self.shared, root))
    }

    fn rests(&self) -> bool {
        true
    }

    fn snapshotter(&self) -> Option<&dyn Snapshotter> {
        Some(self)
    }

    fn time_machine(&self, spec: SandboxSpec) -> BoxFuture<'_, Option<Result<MachineTimes, CreateError>>> {
        Box::pin(async move { Some(sandbox::time_machine(&self.shared, &spec).await) })
    }

    fn memory_bytes(&self) -> u64 {
        self.shared.host.hierarchies.get("memory").map_or(0, cgroup::memory_bytes)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared.closed.store(true, Ordering::Release);
            let all: Vec<_> = self.shared.registered().iter().filter_map(Weak::upgrade).collect();
            for sandbox in all {
                sandbox.destroy().await;
            }
            let shared = Arc::clone(&self.shared);
            let _ = tokio::task::spawn_blocking(move || shared.spares.clear()).await;
            self.shared.host.jail.close();
            self.shared.network.close().await;
            let shared = Arc::clone(&self.shared);
            let closed = tokio::task::spawn_blocking(move || {
                cgroup::remove_groups(&shared.host.hierarchies);
                shared.host.users.release();
            });
            if let Err(error) = closed.await {
                tracing::warn!(%error, "closing the driver broke off");
            }
        })
    }
}

impl Snapshotter for MicroVm {
    fn create_to_save(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Box<dyn Sandbox>, CreateError>> {
        Box::pin(async move {
            self.check_open()?;
            let sandbox = MicroVmSandbox::create(&self.shared, spec, true).await?;
            Ok(Box::new(sandbox) as Box<dyn Sandbox>)
        })
    }

    fn has_snapshot<'a>(
        &'a self,
        spec: SandboxSpec,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, CreateError>> {
        Box::pin(async move {
            self.check_open()?;
            Ok(sandbox::saved(&self.shared, &spec, key).await?.is_some())
        })
    }

    fn restore<'a>(
        &'a self,
        spec: SandboxSpec,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Restored>, CreateError>> {
        Box::pin(async move {
            self.check_open()?;
            MicroVmSandbox::restore(&self.shared, spec, key).await
        })
    }
}

// === impl Shared ===

impl Shared {
    fn registered(&self) -> std::sync::MutexGuard<'_, Vec<Weak<sandbox::Inner>>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, sandbox: &Arc<sandbox::Inner>) {
        let mut registry = self.registered();
        registry.retain(|sandbox| sandbox.strong_count() > 0);
        registry.push(Arc::downgrade(sandbox));
    }
}

// === impl Hibernation ===

impl Hibernation {
    fn open(directory: PathBuf, limit_bytes: u64) -> io::Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        Ok(Self { directory, limit_bytes, used_bytes: AtomicU64::new(0), number: AtomicU64::new(0) })
    }

    /// A file for a machine that may need up to `bytes`.
    fn take(self: &Arc<Self>, bytes: u64) -> io::Result<Berth> {
        let grown = |used: u64| used.checked_add(bytes).filter(|grown| *grown <= self.limit_bytes);
        let taken = self.used_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, grown);
        if let Err(used) = taken {
            let text = format!("hibernated machines have {used} of {} bytes", self.limit_bytes);
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        let path = self.directory.join(self.number.fetch_add(1, Ordering::Relaxed).to_string());
        let opened = fs::File::options().read(true).write(true).create_new(true).open(&path);
        match opened {
            Ok(file) => Ok(Berth { file, path, bytes, hibernation: Arc::clone(self) }),
            Err(error) => {
                self.used_bytes.fetch_sub(bytes, Ordering::AcqRel);
                Err(error)
            }
        }
    }
}

/// Where a machine sleeps: a file, and its part of the room that all have.
#[derive(Debug)]
struct Berth {
    file: fs::File,
    /// Its name goes with it: a VMM may have to find it.
    path: PathBuf,
    bytes: u64,
    hibernation: Arc<Hibernation>,
}

impl Berth {
    /// Gives back what was not needed.
    fn settle(&mut self) {
        let size = self.file.metadata();
        let needed = size.map_or(self.bytes, |file| std::os::unix::fs::MetadataExt::blocks(&file) * 512);
        let spare = self.bytes.saturating_sub(needed);
        self.bytes -= spare;
        self.hibernation.used_bytes.fetch_sub(spare, Ordering::AcqRel);
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a hibernated machine");
        }
        self.hibernation.used_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
