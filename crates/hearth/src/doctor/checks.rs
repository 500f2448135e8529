//! The checks themselves, each a finding.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hearth_kernel::Kernels;
use hearth_runtimes::{Catalog, RuntimeState};
use hearth_sandbox::kvm::{self, KvmError, KvmProof};
use hearth_sandbox::{FirecrackerVersion, probe};

use super::{Finding, Verdict};

/// The hidden argument that makes this program run the guest of the KVM check.
pub(crate) const KVM_ARGUMENT: &str = "doctor-kvm-guest";
/// A machine whose KVM has not run a few thousand instructions by then hangs.
const KVM_DEADLINE: Duration = Duration::from_secs(5);
/// Less free disk than this will not hold a function's code, scratch disks and logs for long.
const LOW_DISK_BYTES: u64 = 2 << 30;

pub(super) fn all(listen: SocketAddr, data: &Path, runtimes: PathBuf) -> Vec<Finding> {
    let existing = data.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    let mut findings: Vec<Finding> = probe::run(existing).into_iter().map(from_sandbox).collect();
    findings.push(kvm());
    findings.extend(micro_vms());
    findings.push(network());
    findings.push(memory());
    findings.push(disk(existing));
    findings.push(port(listen));
    findings.extend(runtime_findings(runtimes));
    findings
}

fn finding(what: &str, verdict: Verdict, proof: impl Into<String>, advice: Option<&str>) -> Finding {
    Finding { what: what.to_owned(), verdict, proof: proof.into(), advice: advice.map(str::to_owned) }
}

fn from_sandbox(check: probe::Check) -> Finding {
    let verdict = match check.verdict {
        probe::Verdict::Works => Verdict::Good,
        probe::Verdict::Lacking => Verdict::Lacking,
        probe::Verdict::Missing => Verdict::Missing,
    };
    Finding { what: check.what, verdict, proof: check.proof, advice: check.advice }
}

/// Runs a guest in a process of its own, which can be killed if KVM hangs.
fn kvm() -> Finding {
    let what = "KVM";
    let advice = "instances run in containers; micro-VMs at full speed need a machine whose KVM is real, and run emulated here";
    match run_guest_process() {
        Ok(line) => match line.split_once(' ') {
            Some(("runs", detail)) => {
                finding(what, Verdict::Good, format!("a guest ran on the hardware, {detail}"), None)
            }
            Some(("emulated", detail)) => finding(
                what,
                Verdict::Lacking,
                format!("a guest ran, but emulated, {detail}: a stock kernel would not finish booting"),
                Some(advice),
            ),
            _ => finding(what, Verdict::Lacking, line, Some(advice)),
        },
        Err(error) => {
            finding(what, Verdict::Lacking, format!("no guest could be run: {error}"), Some(advice))
        }
    }
}

/// Whether a guest runs on this machine's hardware.
pub(crate) fn kvm_runs() -> bool {
    run_guest_process().is_ok_and(|line| line.starts_with("runs "))
}

/// The same, without trying again what took long and came to nothing: that its guests are emulated is noted in the file `note`
/// for as long as the machine is up and the device is the same.
pub(crate) fn kvm_runs_as_noted(note: &Path) -> bool {
    let Some(device) = kvm_device() else { return false };
    if std::fs::read_to_string(note).is_ok_and(|noted| noted == device) {
        return false;
    }
    let line = run_guest_process().unwrap_or_default();
    if line.starts_with("emulated ") {
        let folder = note.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = folder.and_then(|()| std::fs::write(note, device)) {
            tracing::debug!(%error, note = %note.display(), "cannot note that guests are emulated");
        }
    }
    line.starts_with("runs ")
}

/// What tells this life of the machine and this `/dev/kvm`, which comes anew with its modules, from others.
fn kvm_device() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let device = std::fs::metadata("/dev/kvm").ok()?;
    Some(format!("{} {} {}.{}\n", boot.trim(), device.rdev(), device.ctime(), device.ctime_nsec()))
}

/// What micro-VMs need besides KVM.
fn micro_vms() -> Vec<Finding> {
    let program = |name: &str, argument: &str, package: &'static str| {
        let path = crate::drivers::find(name);
        let output = Command::new(&path).arg(argument).stdin(Stdio::null()).output();
        let said = output.map(|output| [output.stdout, output.stderr].concat());
        let first =
            said.map(|said| String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned());
        match first {
            Ok(line) => finding(name, Verdict::Good, line, None),
            Err(error) => finding(
                name,
                Verdict::Lacking,
                format!("cannot be run: {error}: no micro-VMs"),
                Some(package),
            ),
        }
    };
    let kernel = match Kernels::open(Kernels::default_home()).and_then(|kernels| kernels.newest()) {
        Ok(kernel) => {
            finding("guest kernel", Verdict::Good, format!("{} {}", kernel.release(), kernel.id()), None)
        }
        Err(error) => finding(
            "guest kernel",
            Verdict::Lacking,
            error.to_string(),
            Some("see `hearth kernel add --help`; without one instances run in containers"),
        ),
    };
    vec![
        firecracker(),
        program(crate::drivers::QEMU, "-version", "install QEMU, as Debian's qemu-system-x86"),
        program("mkfs.erofs", "--help", "install erofs-utils"),
        kernel,
    ]
}

/// Firecracker and its jailer, where they are looked for.
fn firecracker() -> Finding {
    let place = |variable: &str, name: &str| {
        std::env::var_os(variable).map_or_else(|| crate::drivers::find(name), PathBuf::from)
    };
    let program = place("HEARTH_FIRECRACKER", crate::drivers::FIRECRACKER);
    let jailer = place("HEARTH_JAILER", crate::drivers::JAILER);
    match FirecrackerVersion::of_pair(&program, &jailer) {
        Ok(version) => {
            let proof = format!("{version}, {} with {}", program.display(), jailer.display());
            finding("firecracker", Verdict::Good, proof, None)
        }
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            let advice = "install a release of Firecracker, both programs, or set HEARTH_FIRECRACKER and HEARTH_JAILER; \
                          without it micro-VMs are QEMU's";
            finding("firecracker", Verdict::Lacking, format!("{error}{cause}"), Some(advice))
        }
    }
}

fn run_guest_process() -> io::Result<String> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(KVM_ARGUMENT)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + KVM_DEADLINE;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(format!("a guest did not finish within {} s", KVM_DEADLINE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What the process of its own does: one line, `runs ...`, `emulated ...`, or why neither.
pub(crate) fn kvm_guest() -> String {
    let millions = |per_second: u64| format!("{:.1} million instructions/s", per_second as f64 / 1e6);
    match kvm::prove() {
        Ok(KvmProof::Runs { per_second }) => format!("runs {}", millions(per_second)),
        Ok(KvmProof::Emulated { per_second }) => format!("emulated {}", millions(per_second)),
        Err(KvmError::Open(error)) if error.kind() == io::ErrorKind::NotFound => {
            "there is no /dev/kvm".to_owned()
        }
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        }
    }
}

/// Whether instances can have networks.
fn network() -> Finding {
    let advice = "install nftables and run as root; without it every function's hearth:egress must be none";
    if !rustix::process::geteuid().is_root() {
        return finding(
            "network",
            Verdict::Lacking,
            "links between network namespaces take root",
            Some(advice),
        );
    }
    match hearth_network::probe() {
        Ok(()) => finding("network", Verdict::Good, "nft answers: instances can have hearth:egress", None),
        Err(error) => finding("network", Verdict::Lacking, error.to_string(), Some(advice)),
    }
}

fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let read = |key: &str| {
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib / 1024)
    };
    match (read("MemAvailable:"), read("MemTotal:")) {
        (Some(available), Some(total)) if available < 512 => finding(
            "memory",
            Verdict::Lacking,
            format!("{available} of {total} MiB available"),
            Some("free some memory, or bound instances with --memory"),
        ),
        (Some(available), Some(total)) => {
            finding("memory", Verdict::Good, format!("{available} of {total} MiB available"), None)
        }
        _ => finding(
            "memory",
            Verdict::Lacking,
            "/proc/meminfo cannot be read",
            Some("say --memory MB to the server"),
        ),
    }
}

fn disk(existing: &Path) -> Finding {
    let what = "disk";
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let proof =
                format!("{:.1} GiB free at {}", free as f64 / (1u64 << 30) as f64, existing.display());
            if free < LOW_DISK_BYTES {
                finding(
                    what,
                    Verdict::Lacking,
                    proof,
                    Some("free some, or keep the data elsewhere with --data"),
                )
            } else {
                finding(what, Verdict::Good, proof, None)
            }
        }
        Err(error) => finding(
            what,
            Verdict::Missing,
            format!("cannot look at {}: {error}", existing.display()),
            Some("name another data folder with --data"),
        ),
    }
}

fn port(listen: SocketAddr) -> Finding {
    let what = "port";
    match TcpListener::bind(listen) {
        Ok(_) => finding(what, Verdict::Good, format!("{listen} is free"), None),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => finding(
            what,
            Verdict::Lacking,
            format!("{listen} is in use, perhaps by a hearth that runs"),
            Some("choose another with --listen, or stop what is there"),
        ),
        Err(error) => finding(
            what,
            Verdict::Lacking,
            format!("cannot listen on {listen}: {error}"),
            Some("choose another with --listen"),
        ),
    }
}

fn runtime_findings(home: PathBuf) -> Vec<Finding> {
    let mut absent = Vec::new();
    let mut findings = Vec::new();
    for runtime in Catalog::open(home).list() {
        let what = format!("runtime {}", runtime.name);
        match runtime.state {
            RuntimeState::Ready { interpreter, .. } => {
                let proof = interpreter
                    .map_or_else(|| "needs no interpreter".to_owned(), |path| path.display().to_string());
                findings.push(finding(&what, Verdict::Good, proof, None));
            }
            RuntimeState::NeedsClient { interpreter, fix } => {
                findings.push(finding(
                    &what,
                    Verdict::Lacking,
                    interpreter.display().to_string(),
                    Some(&fix),
                ));
            }
            RuntimeState::NoInterpreter { .. } => absent.push(runtime.name.to_string()),
        }
    }
    if !absent.is_empty() {
        findings.push(finding(
            "other runtimes",
            Verdict::Lacking,
            format!("no interpreter for {}", absent.join(", ")),
            Some("`hearth runtime list` says what to install"),
        ));
    }
    findings
}
