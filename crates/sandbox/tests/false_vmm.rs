//! The micro-VM driver with a VMM that is none: programs under Firecracker's names that end, refuse, talk nonsense, or lie. Whoever
//! wanted a machine hears why there is none, and nothing of it is left. Takes no KVM: that it works is noted beforehand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "clippy knows only the tests themselves as such")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hearth_kernel::Kernels;
use hearth_rootfs::Images;
use hearth_sandbox::{
    CloneMemory, CreateError, Driver, MicroVm, MicroVmConfig, Root, SandboxSpec, VmmConfig,
};
use hearth_types::{Egress, InstanceId};

/// Firecracker's jailer, as far as the driver knows. `MODE` says what it does.
const JAILER: &str = r#"#!/usr/bin/env python3
import json, os, socket, sys
if sys.argv[1:] == ["--version"]:
    print("Jailer v1.12.1"); sys.exit()
words = sys.argv[1:]
after = lambda word: words[words.index(word) + 1]
cell = os.path.join(after("--chroot-base-dir"), os.path.basename(after("--exec-file")), after("--id"), "root")
open(os.path.join(DIRECTORY, "started"), "a").close()
if MODE == "ends":
    sys.exit("it cannot do \x1b[1mthat\x1b[0m today")
if MODE == "is elsewhere":
    os.symlink(os.path.join(DIRECTORY, "others"), cell + "/run/api")
    import time; time.sleep(1000)
listener = socket.socket(socket.AF_UNIX)
os.chdir(cell + "/run")
listener.bind("api"); listener.listen()
connection, _ = listener.accept()
def call():
    agent = socket.socket(socket.AF_UNIX); agent.connect("vsock_" + PORT); return agent
def answer(data):
    try:
        while connection.recv(65536):
            connection.sendall(data)
            if MODE == "calls and talks nonsense":
                agent = call(); agent.sendall(b"\xff" * 65536)
    except OSError:
        pass
    # It stays: that it ended is not what is to be heard of.
    if MODE == "calls and talks nonsense":
        import time; time.sleep(1000)
well = b"HTTP/1.1 204 \r\n\r\n"
body = json.dumps({"fault_message": "no such " + "thing " * 2000}).encode()
answer({
    "talks nonsense": b"\x00\xff nonsense\r\n\r\n" * 99,
    "refuses": b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
    "answers without end": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 999999999\r\n\r\n" + b"x" * (1 << 20),
    "hangs up": b"",
    "calls and talks nonsense": well,
}[MODE] or sys.exit("enough"))
"#;

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn spec() -> SandboxSpec {
    SandboxSpec {
        instance: InstanceId::new(u64::from(std::process::id()), 1),
        root: Root::Host,
        mounts: Vec::new(),
        memory_bytes: 64 << 20,
        cpu_millis: 500,
        processes: 64,
        open_files: 256,
        scratch_bytes: 16 << 20,
        egress: Egress::None,
    }
}

/// A driver whose VMM does that; nothing where it cannot be tried.
async fn open(directory: &Path, name: &str, mode: &str) -> Option<MicroVm> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let kernels =
        std::env::var_os("HEARTH_KERNELS").map_or_else(|| root.join(".cache/kernels"), PathBuf::from);
    if !rustix::process::geteuid().is_root() || std::env::var_os("HEARTH_TEST_HOST").is_some() {
        return None;
    }
    let kernel = Kernels::open(kernels).unwrap().newest().unwrap();
    let (firecracker, jailer) = (directory.join("firecracker"), directory.join("jailer"));
    program(&firecracker, "#!/bin/sh\necho Firecracker v1.12.1\n");
    let port = hearth_wire::VSOCK_PORT;
    let head =
        format!("#!/usr/bin/env python3\nMODE, PORT, DIRECTORY = {mode:?}, \"{port}\", {directory:?}\n");
    program(&jailer, &JAILER.replacen("#!/usr/bin/env python3\n", &head, 1));
    // What the driver notes once it has booted a machine.
    let templates = directory.join("templates");
    fs::create_dir(&templates).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let noted = format!("{} boots in 5 s", boot.trim());
    fs::write(templates.join(format!("kvm-firecracker-{}", kernel.id())), noted).unwrap();
    let config = MicroVmConfig {
        name: name.to_owned(),
        directory: directory.join("driver"),
        kernel,
        images: Arc::new(Images::open(root.join("target/test-microvm/images"), 8 << 30).unwrap()),
        snapshots: templates,
        vmm: VmmConfig::Firecracker {
            program: firecracker,
            jailer,
            patience: Duration::from_secs(5),
            memory: CloneMemory::File,
        },
        snapshot_bytes: 8 << 30,
        hibernation_bytes: 400 << 20,
        resolvers: Vec::new(),
    };
    Some(MicroVm::open(config).await.unwrap().0)
}

fn entries(directory: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The groups that VMMs of that driver have.
fn groups(name: &str) -> BTreeSet<String> {
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let places = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    let groups = places.map(|place| place.join("hearth").join(format!("{name}-vm")));
    let below = groups.flat_map(|group| fs::read_dir(group).into_iter().flatten().flatten());
    below
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Processes whose words have that folder in them.
fn processes(directory: &Path) -> usize {
    let lines =
        entries(Path::new("/proc")).into_iter().map(|pid| Path::new("/proc").join(pid).join("cmdline"));
    let ours = directory.to_string_lossy().into_owned();
    lines
        .filter(|line| fs::read(line).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&ours)))
        .count()
}

/// Wants a machine of a VMM that does that: what is said of it.
async fn refused(mode: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("false-{}-{}", std::process::id(), mode.replace(' ', "-"));
    let driver = open(directory.path(), &name, mode).await?;
    let wanted = tokio::time::timeout(Duration::from_secs(60), driver.create(spec())).await;
    let Err(error) = wanted.unwrap() else { panic!("{mode}: there is a machine") };
    assert!(directory.path().join("started").exists(), "{mode}: {error:?}");
    assert_eq!(processes(directory.path()), 0, "{mode}");
    assert_eq!(entries(&directory.path().join("driver/cells/firecracker")), BTreeSet::new(), "{mode}");
    assert_eq!(groups(&name), BTreeSet::new(), "{mode}");
    driver.close().await;
    let CreateError::SetUp { reason } = error else { panic!("{mode}: {error:?}") };
    Some(reason)
}

#[tokio::test]
async fn a_vmm_that_ends_says_why_there_is_no_machine() {
    let Some(reason) = refused("ends").await else { return };
    assert!(reason.contains("it cannot do [1mthat[0m today"), "{reason}");
    let Some(reason) = refused("hangs up").await else { return };
    assert!(reason.contains("enough"), "{reason}");
}

#[tokio::test]
async fn a_vmm_that_talks_nonsense_or_without_end_is_given_up() {
    for mode in ["talks nonsense", "answers without end"] {
        let Some(reason) = refused(mode).await else { return };
        assert!(reason.contains("firecracker's API broke off at /machine-config"), "{mode}: {reason}");
    }
}

#[tokio::test]
async fn a_vmm_that_refuses_is_quoted_in_bounds() {
    let Some(reason) = refused("refuses").await else { return };
    assert!(
        reason.contains("firecracker refused /machine-config: 400 Bad Request: no such thing"),
        "{reason}"
    );
    assert!(reason.len() < 1_000, "{reason}");
}

#[tokio::test]
async fn a_vmm_whose_machine_talks_nonsense_is_given_up() {
    let Some(reason) = refused("calls and talks nonsense").await else { return };
    assert!(reason.contains("the machine is gone: its agent sent"), "{reason}");
}

#[tokio::test]
async fn what_a_vmm_puts_in_the_place_of_its_socket_is_not_spoken_to() {
    let Some(reason) = refused("is elsewhere").await else { return };
    assert!(reason.contains("it is no socket"), "{reason}");
}
