//! The micro-VM driver with real machines: QEMU, emulated where there is no KVM.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "clippy knows tests by the attribute that this harness does without"
)]

#[path = "common/conformance.rs"]
mod conformance;
#[path = "microvm/hostile.rs"]
mod hostile;
#[path = "common/image.rs"]
mod image;
#[path = "common/image_users.rs"]
mod image_users;
#[path = "microvm/machines.rs"]
mod machines;
#[path = "common/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use hearth_kernel::Kernels;
use hearth_rootfs::Images;
use hearth_sandbox::{Driver, MicroVm, MicroVmConfig, Recovered, VmmConfig};
use libtest_mimic::{Arguments, Trial};

/// Whether a sandbox has a kernel of its own, which bounds what its programs can do to others.
const OWN_KERNEL: bool = true;
/// Sandboxes that are made at once.
const MANY: usize = 20;

/// Templates and images are the same for all tests: each driver of a test has them in common.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        root.join("target/test-microvm")
    })
}

/// The driver that the tests are of.
async fn open(name: &str, directory: &Path) -> (Arc<dyn Driver>, Recovered) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let kernels =
        std::env::var_os("HEARTH_KERNELS").map_or_else(|| root.join(".cache/kernels"), PathBuf::from);
    let config = MicroVmConfig {
        name: name.to_owned(),
        directory: directory.to_owned(),
        kernel: Kernels::open(kernels).unwrap().newest().unwrap(),
        images: Arc::new(Images::open(shared().join("images"), 8 << 30).unwrap()),
        snapshots: shared().join("templates"),
        vmm: VmmConfig::Qemu {
            program: "/usr/bin/qemu-system-x86_64".into(),
            kvm: matches!(hearth_sandbox::kvm::prove(), Ok(hearth_sandbox::kvm::KvmProof::Runs { .. })),
            emulate: true,
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
    trials.extend(conformance::trials());
    trials.extend(image::trials());
    trials.extend(image_users::trials());
    trials.extend(machines::trials());
    trials.extend(hostile::trials());
    if !rustix::process::geteuid().is_root() {
        println!("skipped: the micro-VM driver's tests need root");
        trials = trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
