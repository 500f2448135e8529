//! The `container` driver: namespaces, cgroups, seccomp, one shared kernel.
//!
//! ```text
//! worker                        zygote                     PID 1 of the sandbox
//!   | take user ids, /tmp disk     |
//!   |-- Clone(root, binds) ------->|-- clone3(new namespaces) -->| mounts, /dev, /proc, /tmp
//!   |<- pid, pidfd ----------------|                             | pivot_root, loopback, listen on 9001
//!   | make cgroups, attach                                       |
//!   |-- Attached ----------------------------------------------->| cgroup namespace, user namespace
//!   |<- NeedsMap ------------------------------------------------|
//!   | write uid_map, gid_map                                     |
//!   |-- Mapped ------------------------------------------------->| give up capabilities
//!   |<- Ready(listening socket) ---------------------------------|
//!   |-- Spawn(argv, environment, pipe) ------------------------->| fork, become the user, seccomp, exec
//!   |<- Exited(status) ------------------------------------------|
//! ```
//!
//! **Order.** As root, everything but the user namespace is made by the host's root, and the user namespace is entered last:
//! it then owns none of the others, so no capability in it has any power over them. Without root it has to be the first.
//!
//! **Life.** Every process of a sandbox dies with its PID 1, that with the zygote or with its control socket, and the zygote
//! with the worker. Mounts and loop devices go with the processes that hold them. So a killed worker leaves nothing but cgroup
//! directories and files in its own folder, and the next start removes those.
//!
//! **Cost.** Made, a static program run and its end seen: `examples/start_time.rs`. When this was written the kernel calls took
//! 6 ms at the median where libcontainer 0.7 took 13 ms and `runc run` 33 ms, in one noisy, shared machine of two cores.
//!
//! | file | what it owns |
//! |---|---|
//! | `zygote`, `zygote_link` | the process that sandboxes are cloned from, and the worker's side of it |
//! | `init`, `setup`, `seccomp` | what a sandbox's first process does |
//! | `sandbox` | a sandbox as the worker holds it |
//! | `adapt` | a sandbox that was made ahead gets what its function asks for |
//! | `scratch`, `root`, `overlay`, `owners` | disks for `/tmp`, the root's skeleton, an image as the root, and whose its files are |
//! | `protocol`, `channel` | what these processes say to each other |

mod adapt;
mod channel;
mod init;
mod overlay;
mod owners;
mod protocol;
mod root;
mod sandbox;
mod scratch;
mod seccomp;
mod setup;
mod sys;
mod zygote;
mod zygote_link;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hearth_network::Network;
use hearth_types::Isolation;

use crate::cgroup::{self, Hierarchies};
use crate::driver::{BoxFuture, CreateError, Driver, Recovered, Sandbox, SandboxSpec};
use crate::users::UserRanges;

use owners::Owners;
pub(crate) use owners::try_to_map as try_to_map_owners;
use sandbox::{ContainerSandbox, Registry};
use scratch::ScratchDisks;
use zygote_link::ZygoteLink;

pub use zygote::{ZYGOTE_ARGUMENT, zygote_main};

/// What a driver is made with.
#[derive(Clone, Debug)]
pub struct ContainerConfig {
    /// A name that is the same for every life of this worker and different from all others on the machine; in cgroup names.
    pub name: String,
    /// The driver's own folder: the root's skeleton and scratch disks.
    pub directory: PathBuf,
    /// The program that becomes the zygote when it is called with [`ZYGOTE_ARGUMENT`].
    pub program: PathBuf,
    /// Whom sandboxes with a network ask for names.
    pub resolvers: Vec<Ipv4Addr>,
}

/// Why the driver cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct OpenError {
    step: &'static str,
    #[source]
    source: io::Error,
}

/// Makes sandboxes of namespaces.
#[derive(Debug)]
pub struct Container {
    shared: Arc<Shared>,
}

/// What all sandboxes of a driver share.
#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// The uppermost layer of every image.
    image_points: PathBuf,
    rootless: bool,
    hierarchies: Hierarchies,
    scratch: Option<ScratchDisks>,
    users: UserRanges,
    network: Network,
    /// What sandboxes with a network have as `/etc/resolv.conf`.
    resolv_conf: PathBuf,
    zygote: ZygoteLink,
    owners: Owners,
    registry: Registry,
    closed: AtomicBool,
}

// === impl Container ===

impl Container {
    /// Starts the driver, after removing what a predecessor of the same name left.
    ///
    /// # Errors
    /// When its folder, the zygote or the user ids cannot be had.
    pub async fn open(config: ContainerConfig) -> Result<(Self, Recovered), OpenError> {
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(&config)).await;
        opened.unwrap_or_else(|error| {
            Err(OpenError { step: "start the driver", source: io::Error::other(error) })
        })
    }

    fn open_blocking(config: &ContainerConfig) -> Result<(Self, Recovered), OpenError> {
        let step = |step| move |source| OpenError { step, source };
        let rootless = !rustix::process::geteuid().is_root();
        crate::probe::require_root_mount().map_err(step("make sandboxes here"))?;
        fs::create_dir_all(&config.directory).map_err(step("make the driver's folder"))?;
        let hierarchies = Hierarchies::open(&config.name).map_err(step("find cgroups"))?;
        let recovered = Recovered { sandboxes: cgroup::remove_left_groups(&hierarchies) };
        let root = root::make(&config.directory).map_err(step("make the root's skeleton"))?;
        let image_points =
            root::make_image_points(&config.directory).map_err(step("make the mount points of images"))?;
        let scratch = match ScratchDisks::open(&config.directory.join("scratch")) {
            Ok(scratch) => Some(scratch),
            Err(error) => {
                tracing::warn!(%error, "no scratch disks: /tmp is memory, and counts as the function's");
                None
            }
        };
        let users = UserRanges::claim(rootless).map_err(step("claim user ids"))?;
        let network = Network::new(config.resolvers.clone());
        let resolv_conf = config.directory.join("resolv.conf");
        fs::write(&resolv_conf, network.resolv_conf()).map_err(step("write resolv.conf"))?;
        let zygote = ZygoteLink::start(&config.program).map_err(step("start the zygote"))?;
        let shared = Shared {
            root,
            image_points,
            rootless,
            hierarchies,
            scratch,
            users,
            network,
            resolv_conf,
            zygote,
            owners: Owners::default(),
            registry: Registry::default(),
            closed: AtomicBool::new(false),
        };
        Ok((Self { shared: Arc::new(shared) }, recovered))
    }
}

/// Makes a scratch disk and lets go of it.
pub(crate) fn scratch_disks_work() -> io::Result<()> {
    let directory = std::env::temp_dir().join(format!("hearth-doctor-{}", std::process::id()));
    let made = ScratchDisks::open(&directory).map(drop);
    fs::remove_dir_all(&directory)?;
    made
}

impl Driver for Container {
    fn isolation(&self) -> Isolation {
        Isolation::Container
    }

    fn create(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Box<dyn Sandbox>, CreateError>> {
        Box::pin(async move {
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(CreateError::Closed);
            }
            let sandbox = ContainerSandbox::create(&self.shared, spec).await?;
            Ok(Box::new(sandbox) as Box<dyn Sandbox>)
        })
    }

    /// Without root there is no way into a sandbox's mounts, once it stands.
    fn adapts(&self) -> bool {
        !self.shared.rootless
    }

    fn memory_bytes(&self) -> u64 {
        self.shared.hierarchies.get("memory").map_or(0, cgroup::memory_bytes)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared.closed.store(true, Ordering::Release);
            for sandbox in self.shared.registry.all() {
                sandbox.destroy().await;
            }
            self.shared.network.close().await;
            let shared = Arc::clone(&self.shared);
            let closed = tokio::task::spawn_blocking(move || {
                shared.zygote.stop();
                if let Some(scratch) = &shared.scratch {
                    scratch.close();
                }
                cgroup::remove_groups(&shared.hierarchies);
                shared.users.release();
            });
            if let Err(error) = closed.await {
                tracing::warn!(%error, "closing the container driver broke off");
            }
        })
    }
}
