//! Which driver isolates instances here, and what it is opened with.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use hearth_rootfs::Images;
use hearth_sandbox::{Container, ContainerConfig, Driver, MicroVm, MicroVmConfig, Recovered};
use hearth_types::Isolation;

use crate::cli::kernel::KernelHome;
use crate::data_dir::DataDir;
use crate::doctor;

/// QEMU's name on this architecture.
pub(crate) const QEMU: &str =
    if cfg!(target_arch = "aarch64") { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
/// Where programs are looked for when PATH does not say.
const PLACES: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/// Disk that images and templates may have each, bytes.
const CACHE_BYTES: u64 = 16 << 30;
/// Disk that hibernated machines may have, bytes.
const HIBERNATION_BYTES: u64 = 16 << 30;

/// How the operator wants instances isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsolationChoice {
    /// What is best here: machines where the hardware runs them, else containers.
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
        text.parse().map(Self::Only).map_err(|_| "it is not one of: auto, container, qemu".to_owned())
    }
}

/// What drivers can be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct DriverArgs {
    /// How instances are set apart: auto, container or qemu
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
}

impl DriverArgs {
    /// Opens the driver for the worker of a data folder.
    pub(crate) async fn open(&self, data: &DataDir) -> anyhow::Result<(Arc<dyn Driver>, Recovered)> {
        match self.isolation {
            // Emulated machines are ten times slower than containers: who wants them says so.
            IsolationChoice::Auto | IsolationChoice::Only(Isolation::Container) => {
                let config = ContainerConfig {
                    name: data.worker_name(),
                    directory: data.sandbox(),
                    program: std::env::current_exe().context("cannot find hearth's own program")?,
                };
                let (driver, recovered) = Container::open(config).await.context(
                    "cannot start the container driver; `hearth doctor` says what this machine lacks",
                )?;
                Ok((Arc::new(driver), recovered))
            }
            IsolationChoice::Only(Isolation::Qemu) => {
                let cache = self.cache.clone().unwrap_or_else(default_cache);
                let images =
                    Images::open(cache.join("images"), CACHE_BYTES).context("cannot open the disk images")?;
                let config = MicroVmConfig {
                    name: data.worker_name(),
                    directory: data.sandbox(),
                    snapshots: cache.join("templates"),
                    kernel: self.kernels.open()?.newest()?,
                    images: Arc::new(images),
                    program: self.qemu.clone().unwrap_or_else(|| find(QEMU)),
                    kvm: tokio::task::spawn_blocking(doctor::kvm_runs).await.unwrap_or(false),
                    snapshot_bytes: CACHE_BYTES,
                    hibernation_bytes: HIBERNATION_BYTES,
                };
                let (driver, recovered) = MicroVm::open(config)
                    .await
                    .context("cannot start the qemu driver; `hearth doctor` says what this machine lacks")?;
                Ok((Arc::new(driver), recovered))
            }
        }
    }
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
