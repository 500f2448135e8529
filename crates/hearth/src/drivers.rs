//! Which driver isolates instances here, and what it is opened with.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hearth_rootfs::Images;
use hearth_sandbox::{
    CloneMemory, Container, ContainerConfig, Driver, MicroVm, MicroVmConfig, Recovered, VmmConfig,
};
use hearth_types::Isolation;

use crate::cli::kernel::KernelHome;
use crate::data_dir::DataDir;
use crate::doctor;

/// QEMU's name on this architecture.
pub(crate) const QEMU: &str =
    if cfg!(target_arch = "aarch64") { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
/// Firecracker's name, and its jailer's.
pub(crate) const FIRECRACKER: &str = "firecracker";
pub(crate) const JAILER: &str = "jailer";
/// How long a first machine of Firecracker's may take where nothing else is to be had: hardware may be emulated, as in a test host.
const FIRST_MACHINE: Duration = Duration::from_secs(90);
/// The same where there is something else: real hardware takes some hundred milliseconds.
const FIRST_MACHINE_OF_AUTO: Duration = Duration::from_secs(2);
/// Where programs are looked for when PATH does not say.
const PLACES: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/// Disk that images and templates may have each, bytes.
const CACHE_BYTES: u64 = 16 << 30;
/// Disk that hibernated machines may have, bytes.
const HIBERNATION_BYTES: u64 = 16 << 30;

/// How the operator wants instances isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsolationChoice {
    /// What is strongest here: machines where the hardware runs them, else containers.
    Auto,
    /// This one or none.
    Only(Isolation),
}

impl FromStr for IsolationChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse()
            .map(Self::Only)
            .map_err(|_| "it is not one of: auto, container, qemu, firecracker".to_owned())
    }
}

/// What drivers can be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct DriverArgs {
    /// How instances are set apart: auto, container, qemu or firecracker
    #[arg(long, env = "HEARTH_ISOLATION", default_value = "auto")]
    pub(crate) isolation: IsolationChoice,
    #[command(flatten)]
    kernels: KernelHome,
    /// The folder of micro-VMs' disk images and templates [default: per machine for root, else per user]
    #[arg(long, env = "HEARTH_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    /// The QEMU to run micro-VMs with [default: found on PATH]
    #[arg(long, env = "HEARTH_QEMU", value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// The Firecracker to run micro-VMs with, 1.7 or newer [default: found on PATH]
    #[arg(long, env = "HEARTH_FIRECRACKER", value_name = "PROGRAM")]
    firecracker: Option<PathBuf>,
    /// Its jailer, of the same version [default: found on PATH]
    #[arg(long, env = "HEARTH_JAILER", value_name = "PROGRAM")]
    jailer: Option<PathBuf>,
    /// How Firecracker's clones get their memory: mapped from the template's file, or page by page with those
    /// first that an earlier clone asked for (userfaultfd)
    #[arg(long, env = "HEARTH_CLONE_MEMORY", value_enum, default_value_t)]
    clone_memory: CloneMemoryChoice,
    /// Whom instances with `hearth:egress` ask for names, at most three [default: the machine's own resolvers]
    #[arg(long, env = "HEARTH_DNS", value_name = "ADDR", value_delimiter = ',', num_args = 1..=3)]
    dns: Vec<Ipv4Addr>,
}

/// See [`CloneMemory`].
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum CloneMemoryChoice {
    #[default]
    File,
    Pages,
}

impl DriverArgs {
    /// Opens the driver for the worker of a data folder.
    pub(crate) async fn open(&self, data: &DataDir) -> anyhow::Result<(Arc<dyn Driver>, Recovered)> {
        match self.isolation {
            IsolationChoice::Auto => self.open_strongest(data).await,
            IsolationChoice::Only(Isolation::Container) => open_container(data, self.resolvers()).await,
            IsolationChoice::Only(Isolation::Qemu) => {
                let kvm = tokio::task::spawn_blocking(doctor::kvm_runs).await.unwrap_or(false);
                self.open_machines(data, self.qemu(kvm, true)).await
            }
            IsolationChoice::Only(Isolation::Firecracker) => {
                // Who wants it gets it on slow hardware, too.
                self.open_machines(data, self.firecracker(FIRST_MACHINE)).await
            }
        }
    }

    /// Machines where the hardware runs them, Firecracker's first; else containers: emulated machines are ten times slower, and
    /// who wants them says so.
    async fn open_strongest(&self, data: &DataDir) -> anyhow::Result<(Arc<dyn Driver>, Recovered)> {
        if !self.has_machines() {
            tracing::info!("micro-VMs not chosen: there is no kernel for them, or no VMM");
            return open_container(data, self.resolvers()).await;
        }
        let note = self.cache().join("emulated-kvm");
        let proof = tokio::task::spawn_blocking(move || doctor::kvm_runs_as_noted(&note)).await;
        let kvm = proof.unwrap_or(false);
        let choices = [self.firecracker(FIRST_MACHINE_OF_AUTO), self.qemu(true, false)];
        for vmm in choices.into_iter().filter(|_| kvm) {
            match self.open_machines(data, vmm).await {
                Ok(opened) => {
                    tracing::info!(isolation = %opened.0.isolation(), "chosen: the strongest that works here");
                    return Ok(opened);
                }
                Err(error) => tracing::info!(reason = %format!("{error:#}"), "not chosen"),
            }
        }
        if !kvm {
            tracing::info!("micro-VMs not chosen: KVM runs no guests here");
        }
        open_container(data, self.resolvers()).await
    }

    /// Whether there is what machines are made with, which costs less to find out than whether they would run.
    fn has_machines(&self) -> bool {
        let (firecracker, jailer) = self.firecracker_pair();
        let qemu = self.qemu.clone().unwrap_or_else(|| find(QEMU));
        let vmm = qemu.is_file() || firecracker.is_file() && jailer.is_file();
        vmm && self.kernels.open().and_then(|kernels| Ok(kernels.newest()?)).is_ok()
    }

    fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(default_cache)
    }

    fn resolvers(&self) -> Vec<Ipv4Addr> {
        if self.dns.is_empty() { hearth_network::machine_resolvers() } else { self.dns.clone() }
    }

    fn qemu(&self, kvm: bool, emulate: bool) -> VmmConfig {
        VmmConfig::Qemu { program: self.qemu.clone().unwrap_or_else(|| find(QEMU)), kvm, emulate }
    }

    fn firecracker(&self, patience: Duration) -> VmmConfig {
        let (program, jailer) = self.firecracker_pair();
        let memory = match self.clone_memory {
            CloneMemoryChoice::File => CloneMemory::File,
            CloneMemoryChoice::Pages => CloneMemory::Pages,
        };
        VmmConfig::Firecracker { program, jailer, patience, memory }
    }

    /// Where Firecracker and its jailer are, or would be.
    fn firecracker_pair(&self) -> (PathBuf, PathBuf) {
        let path = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| find(name));
        (path(&self.firecracker, FIRECRACKER), path(&self.jailer, JAILER))
    }

    async fn open_machines(
        &self,
        data: &DataDir,
        vmm: VmmConfig,
    ) -> anyhow::Result<(Arc<dyn Driver>, Recovered)> {
        let cache = self.cache();
        let images =
            Images::open(cache.join("images"), CACHE_BYTES).context("cannot open the disk images")?;
        let name = match &vmm {
            VmmConfig::Qemu { .. } => Isolation::Qemu,
            VmmConfig::Firecracker { .. } => Isolation::Firecracker,
        };
        let config = MicroVmConfig {
            name: data.worker_name(),
            directory: data.sandbox(),
            snapshots: cache.join("templates"),
            kernel: self.kernels.open()?.newest()?,
            images: Arc::new(images),
            vmm,
            snapshot_bytes: CACHE_BYTES,
            hibernation_bytes: HIBERNATION_BYTES,
            resolvers: self.resolvers(),
        };
        let opened = MicroVm::open(config).await;
        let (driver, recovered) = opened.with_context(|| {
            format!("cannot start the {name} driver; `hearth doctor` says what this machine lacks")
        })?;
        Ok((Arc::new(driver), recovered))
    }
}

async fn open_container(
    data: &DataDir,
    resolvers: Vec<Ipv4Addr>,
) -> anyhow::Result<(Arc<dyn Driver>, Recovered)> {
    let config = ContainerConfig {
        name: data.worker_name(),
        directory: data.sandbox(),
        program: std::env::current_exe().context("cannot find hearth's own program")?,
        resolvers,
    };
    let (driver, recovered) = Container::open(config)
        .await
        .context("cannot start the container driver; `hearth doctor` says what this machine lacks")?;
    Ok((Arc::new(driver), recovered))
}

/// The path of a program, as a shell would find it.
pub(crate) fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(PLACES.split(':').map(PathBuf::from));
    let found = places.map(|place| place.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| Path::new(program).to_owned())
}

fn default_cache() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache/hearth");
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("hearth")
}
