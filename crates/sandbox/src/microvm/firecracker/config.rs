//! What Firecracker and its jailer are told, as they want to hear it.
//!
//! All paths are those of the jail, and the same in every jail: a saved machine has them in it.

use serde::Serialize;

use hearth_wire::VSOCK_WORD;

use super::super::vmm::Shape;

/// Where the API's socket is.
pub(super) const API: &str = "api";
/// Where connections to the guest begin.
pub(super) const VSOCK: &str = "vsock";
/// The folder of both. It is the VMM's own.
pub(super) const RUN: &str = "run";
/// The folder of what it reads and writes, in which it can make nothing.
pub(super) const FILES: &str = "files";
pub(super) const KERNEL: &str = "kernel";
pub(super) const INITRAMFS: &str = "initramfs";
/// Root, code and scratch.
pub(super) const DISKS: [&str; 3] = ["root", "code", "scratch"];
pub(super) const MEMORY: &str = "memory";
pub(super) const STATE: &str = "state";
/// Where it hands its memory over, if that comes page by page.
pub(super) const PAGES: &str = "pages";
/// Where it writes a machine's memory and state to.
pub(super) const SAVED_MEMORY: &str = "saved-memory";
pub(super) const SAVED_STATE: &str = "saved-state";
/// The guest's address; nobody but its own VMM knows it.
const GUEST_CID: u32 = 3;
/// What a disk may transfer, bytes a second, and at once before that counts.
const DISK_BYTES: Bucket = Bucket { size: 512 << 20, one_time_burst: 1 << 30, refill_time: 1_000 };
/// Transfers of a disk a second.
const DISK_OPERATIONS: Bucket = Bucket { size: 50_000, one_time_burst: 100_000, refill_time: 1_000 };
/// Where its network device is set.
pub(super) const NETWORK_PATH: &str = "/network-interfaces/eth0";
/// The device's address. Machines are not on one network, so all have the same.
const MAC: &str = "02:66:75:6e:63:74";
/// What may come over the network, and go, bytes a second. What is more waits.
const NETWORK_BYTES: Bucket = Bucket { size: 256 << 20, one_time_burst: 512 << 20, refill_time: 1_000 };
/// Frames, each way, a second.
const NETWORK_FRAMES: Bucket = Bucket { size: 200_000, one_time_burst: 200_000, refill_time: 1_000 };
/// `quiet` keeps the boot short, as every character on the serial line is an exit from the guest. `reboot=k` and `panic=-1`: a
/// machine that cannot go on resets, and Firecracker ends at that. The words for i8042 spare half a second of waiting for
/// what is not there.
const COMMAND_LINE: &str = "console=ttyS0 quiet reboot=k panic=-1 oops=panic random.trust_cpu=on pci=off i8042.noaux i8042.nomux \
                            i8042.nopnp i8042.dumbkbd";

/// `/machine-config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct MachineConfig {
    vcpu_count: u32,
    mem_size_mib: u64,
    smt: bool,
    track_dirty_pages: bool,
}

/// `/boot-source`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct BootSource {
    kernel_image_path: String,
    initrd_path: String,
    boot_args: String,
}

/// `/drives/...`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Drive {
    drive_id: &'static str,
    path_on_host: String,
    is_root_device: bool,
    is_read_only: bool,
    rate_limiter: RateLimiter,
}

/// `/network-interfaces/...`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct NetworkInterface {
    iface_id: &'static str,
    guest_mac: &'static str,
    host_dev_name: &'static str,
    rx_rate_limiter: RateLimiter,
    tx_rate_limiter: RateLimiter,
}

/// Two token buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RateLimiter {
    bandwidth: Bucket,
    ops: Bucket,
}

/// `size` tokens each `refill_time` milliseconds, and `one_time_burst` at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Bucket {
    size: u64,
    one_time_burst: u64,
    refill_time: u64,
}

/// `/vsock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Vsock {
    guest_cid: u32,
    uds_path: String,
}

/// `/balloon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Balloon {
    amount_mib: u64,
    deflate_on_oom: bool,
    stats_polling_interval_s: u64,
}

/// `/actions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Action {
    action_type: &'static str,
}

/// `/vm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct VmState {
    state: &'static str,
}

/// `/snapshot/create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CreateSnapshot {
    snapshot_type: &'static str,
    snapshot_path: String,
    mem_file_path: String,
}

/// `/snapshot/load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LoadSnapshot {
    snapshot_path: String,
    mem_backend: MemoryBackend,
    resume_vm: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct MemoryBackend {
    backend_type: &'static str,
    backend_path: String,
}

pub(super) const START: Action = Action { action_type: "InstanceStart" };
pub(super) const PAUSED: VmState = VmState { state: "Paused" };
pub(super) const RESUMED: VmState = VmState { state: "Resumed" };
/// It gives nothing back until it is asked to, and gives in before the guest's kernel kills.
pub(super) const BALLOON: Balloon =
    Balloon { amount_mib: 0, deflate_on_oom: true, stats_polling_interval_s: 0 };

fn file(name: &str) -> String {
    format!("/{FILES}/{name}")
}

pub(super) fn machine(shape: Shape) -> MachineConfig {
    MachineConfig {
        vcpu_count: shape.vcpus,
        mem_size_mib: shape.memory_mb,
        smt: false,
        track_dirty_pages: false,
    }
}

pub(super) fn boot_source() -> BootSource {
    BootSource {
        kernel_image_path: file(KERNEL),
        initrd_path: file(INITRAMFS),
        boot_args: format!("{COMMAND_LINE} {VSOCK_WORD}"),
    }
}

/// The disks, each with the path of the API that it is set at. Only the last is written.
pub(super) fn drives() -> [(&'static str, Drive); 3] {
    let drive = |drive_id: &'static str, is_read_only| Drive {
        drive_id,
        path_on_host: file(drive_id),
        is_root_device: false,
        is_read_only,
        rate_limiter: RateLimiter { bandwidth: DISK_BYTES, ops: DISK_OPERATIONS },
    };
    let [root, code, scratch] = DISKS;
    [
        ("/drives/root", drive(root, true)),
        ("/drives/code", drive(code, true)),
        ("/drives/scratch", drive(scratch, false)),
    ]
}

pub(super) fn vsock() -> Vsock {
    Vsock { guest_cid: GUEST_CID, uds_path: format!("/{RUN}/{VSOCK}") }
}

/// The network device. A saved machine has its link's name in it, so all have the same, each in a network namespace of its own.
pub(super) fn network() -> NetworkInterface {
    let limits = RateLimiter { bandwidth: NETWORK_BYTES, ops: NETWORK_FRAMES };
    NetworkInterface {
        iface_id: "eth0",
        guest_mac: MAC,
        host_dev_name: hearth_network::TAP,
        rx_rate_limiter: limits,
        tx_rate_limiter: limits,
    }
}

pub(super) fn create_snapshot() -> CreateSnapshot {
    CreateSnapshot {
        snapshot_type: "Full",
        snapshot_path: file(SAVED_STATE),
        mem_file_path: file(SAVED_MEMORY),
    }
}

/// Loads what is saved and goes on at once.
pub(super) fn load_snapshot(by_page: bool) -> LoadSnapshot {
    let (backend_type, name) = if by_page { ("Uffd", PAGES) } else { ("File", MEMORY) };
    LoadSnapshot {
        snapshot_path: file(STATE),
        mem_backend: MemoryBackend { backend_type, backend_path: file(name) },
        resume_vm: true,
    }
}

/// The jailer's command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jailing<'a> {
    pub(super) id: &'a str,
    pub(super) program: &'a str,
    pub(super) user: u32,
    pub(super) base: &'a str,
    /// The largest file that it may write, bytes.
    pub(super) largest_file: u64,
}

pub(super) fn jailer(jailing: Jailing<'_>) -> Vec<String> {
    let Jailing { id, program, user, base, largest_file } = jailing;
    let words = [
        ("--id", id.to_owned()),
        ("--exec-file", program.to_owned()),
        ("--uid", user.to_string()),
        ("--gid", user.to_string()),
        ("--chroot-base-dir", base.to_owned()),
        ("--resource-limit", format!("fsize={largest_file}")),
        ("--resource-limit", "no-file=256".to_owned()),
    ];
    let mut all: Vec<String> = words.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    all.extend(["--", "--api-sock"].map(str::to_owned));
    all.push(format!("/{RUN}/{API}"));
    all.extend(["--level", "Warn"].map(str::to_owned));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_machine_is_what_was_asked_for() {
        let said = serde_json::to_value(machine(Shape { memory_mb: 192, vcpus: 2, network: false })).unwrap();
        let wanted = json!({"vcpu_count": 2, "mem_size_mib": 192, "smt": false, "track_dirty_pages": false});
        assert_eq!(said, wanted);
        let boot = serde_json::to_value(boot_source()).unwrap();
        assert_eq!(boot["kernel_image_path"], "/files/kernel");
        let words: Vec<&str> = boot["boot_args"].as_str().unwrap().split(' ').collect();
        assert!(words.contains(&"hearth.link=vsock") && words.contains(&"reboot=k"), "{words:?}");
        assert!(words.iter().all(|word| !word.is_empty()), "{words:?}");
    }

    #[test]
    fn only_the_scratch_disk_is_written_and_all_have_limits() {
        let drives = drives().map(|(path, drive)| (path, serde_json::to_value(drive).unwrap()));
        for (path, drive) in &drives {
            assert_eq!(*path, format!("/drives/{}", drive["drive_id"].as_str().unwrap()));
            assert_eq!(drive["is_read_only"], json!(*path != "/drives/scratch"));
            assert!(drive["rate_limiter"]["bandwidth"]["size"].as_u64().unwrap() > 0);
            assert!(drive["rate_limiter"]["ops"]["size"].as_u64().unwrap() > 0);
        }
    }

    #[test]
    fn a_network_device_has_limits_both_ways_and_is_set_where_its_name_says() {
        let said = serde_json::to_value(network()).unwrap();
        assert_eq!(NETWORK_PATH, format!("/network-interfaces/{}", said["iface_id"].as_str().unwrap()));
        assert_eq!(said["host_dev_name"], hearth_network::TAP);
        for way in ["rx_rate_limiter", "tx_rate_limiter"] {
            assert!(said[way]["bandwidth"]["size"].as_u64().unwrap() > 0, "{said}");
            assert!(said[way]["ops"]["size"].as_u64().unwrap() > 0, "{said}");
        }
    }

    #[test]
    fn a_clone_loads_from_where_every_jail_has_it_and_goes_on() {
        let said = serde_json::to_value(load_snapshot(false)).unwrap();
        let wanted = json!({
            "snapshot_path": "/files/state",
            "mem_backend": {"backend_type": "File", "backend_path": "/files/memory"},
            "resume_vm": true,
        });
        assert_eq!(said, wanted);
        let by_page = serde_json::to_value(load_snapshot(true)).unwrap();
        let wanted = json!({"backend_type": "Uffd", "backend_path": "/files/pages"});
        assert_eq!(by_page["mem_backend"], wanted);
    }

    #[test]
    fn the_jailer_confines_and_seccomp_stays_on() {
        let jailing =
            Jailing { id: "a", program: "/usr/bin/firecracker", user: 7, base: "/cells", largest_file: 9 };
        let all = jailer(jailing);
        let line = all.join(" ");
        assert!(line.contains("--uid 7 --gid 7") && line.contains("--resource-limit fsize=9"), "{line}");
        let own = all.iter().position(|word| word == "--").unwrap();
        assert_eq!(all[own + 1..][..2], ["--api-sock", "/run/api"]);
        assert!(!line.contains("no-seccomp") && !line.contains("seccomp-filter"), "{line}");
    }
}
