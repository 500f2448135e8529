//! The micro-VM driver with real machines of Firecracker, where KVM runs guests: on this machine, or in a test host
//! (`scripts/test-host`). Elsewhere its tests are skipped.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "clippy knows tests by the attribute that this harness does without"
)]

#[path = "common/conformance.rs"]
mod conformance;
#[path = "microvm/machines.rs"]
mod machines;
#[path = "microvm/pages.rs"]
mod pages;
#[path = "common/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hearth_kernel::Kernels;
use hearth_rootfs::Images;
use hearth_sandbox::{
    CloneMemory, Driver, FirecrackerVersion, MicroVm, MicroVmConfig, Recovered, VmmConfig, kvm,
};
use libtest_mimic::{Arguments, Trial};

/// Sandboxes that are made at once.
const MANY: usize = 6;

/// Templates and images are the same for all tests: each driver of a test has them in common.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        root.join("target/test-firecracker")
    })
}

fn program(variable: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    std::env::var_os(variable).map_or_else(|| root.join(".cache/firecracker").join(name), PathBuf::from)
}

/// Why there are no machines of Firecracker here, if so.
fn lacks() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("the micro-VM driver's tests need root".to_owned());
    }
    let pair = FirecrackerVersion::of_pair(
        &program("HEARTH_FIRECRACKER", "firecracker"),
        &program("HEARTH_JAILER", "jailer"),
    );
    if let Err(error) = pair {
        return Some(error.to_string());
    }
    if std::env::var_os("HEARTH_TEST_HOST").is_some() {
        // Emulated hardware is slower than the proof allows, and real to guests.
        return None;
    }
    match kvm::prove() {
        Ok(kvm::KvmProof::Runs { .. }) => None,
        Ok(kvm::KvmProof::Emulated { .. }) => {
            Some("KVM runs no kernel here; `make test` has a test host".to_owned())
        }
        Err(error) => Some(error.to_string()),
    }
}

/// The driver that the tests are of.
async fn open(name: &str, directory: &Path) -> (Arc<dyn Driver>, Recovered) {
    open_with(name, directory, CloneMemory::File).await
}

async fn open_with(name: &str, directory: &Path, memory: CloneMemory) -> (Arc<dyn Driver>, Recovered) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let kernels =
        std::env::var_os("HEARTH_KERNELS").map_or_else(|| root.join(".cache/kernels"), PathBuf::from);
    let config = MicroVmConfig {
        name: name.to_owned(),
        directory: directory.to_owned(),
        kernel: Kernels::open(kernels).unwrap().newest().unwrap(),
        images: Arc::new(Images::open(shared().join("images"), 8 << 30).unwrap()),
        snapshots: shared().join("templates"),
        vmm: VmmConfig::Firecracker {
            program: program("HEARTH_FIRECRACKER", "firecracker"),
            jailer: program("HEARTH_JAILER", "jailer"),
            // In a test host the hardware is emulated.
            patience: Duration::from_secs(120),
            memory,
        },
        snapshot_bytes: 8 << 30,
        hibernation_bytes: 400 << 20,
        resolvers: Vec::new(),
    };
    let (driver, recovered) = MicroVm::open(config).await.unwrap();
    (Arc::new(driver), recovered)
}

fn main() -> ExitCode {
    if conformance::was_inside() {
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Each looks at processes of the whole machine.
    arguments.test_threads = Some(1);
    let mut trials: Vec<Trial> = Vec::new();
    // What all drivers have in common takes minutes where hardware is emulated.
    if std::env::var_os("HEARTH_TEST_HOST").is_none_or(|host| host != "brief") {
        trials.extend(conformance::trials());
    }
    trials.extend(machines::trials());
    trials.extend(pages::trials());
    if let Some(reason) = lacks() {
        println!("skipped: {reason}");
        trials = trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
