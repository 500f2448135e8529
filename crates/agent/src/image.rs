//! An image as the root of the function's processes. The machine's own root stays this process's.
//!
//! The image has the places of mounts, and an `/etc` that names the instance: whoever made the disk saw to it. What is written
//! over it goes to the scratch disk, beside what `/tmp` is.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};

use crate::{Failed, step};

/// Where it is put together, in the machine's root; the function's processes have it as `/`.
pub(crate) const ROOT: &str = "/mnt";
/// What it is made of, below a tmpfs that those processes do not see.
const LOWER: &str = "/run/image/lower";
const SCRATCH: &str = "/run/image/scratch";
/// What is in `/proc` that the root user could change, of this machine or its limits.
const FROZEN: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// From which port on anybody may listen.
const FIRST_OPEN_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

const TAME: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID);
const READ_ONLY: MountFlags = TAME.union(MountFlags::RDONLY);

/// Puts the root together from two disks.
pub(crate) fn assemble(image: &str, scratch: &str, writable: bool) -> Result<(), Failed> {
    let lower = if writable { LOWER } else { ROOT };
    for place in [LOWER, SCRATCH] {
        step("make a place for the image", fs::create_dir_all(place))?;
    }
    step("mount the image", mount(image, lower, "erofs", READ_ONLY, None))?;
    let flags = TAME | MountFlags::NOATIME;
    step("mount the scratch disk", mount(scratch, SCRATCH, "ext4", flags, Some(c"discard")))?;
    for (name, mode) in [("tmp", 0o1777), ("upper", 0o755), ("work", 0o755)] {
        let path = format!("{SCRATCH}/{name}");
        let made =
            fs::create_dir(&path).and_then(|()| fs::set_permissions(&path, PermissionsExt::from_mode(mode)));
        step("make room for what is written", made)?;
    }
    if writable {
        let options =
            c"lowerdir=/run/image/lower,upperdir=/run/image/scratch/upper,workdir=/run/image/scratch/work";
        let mounted = mount("image", ROOT, "overlay", TAME, Some(options));
        step("mount the image's root, which takes a kernel with overlayfs: add the kernel again", mounted)?;
    }
    step("mount /tmp", mount_bind(format!("{SCRATCH}/tmp"), format!("{ROOT}/tmp")))?;
    kernels_own()?;
    let names = format!("{ROOT}/etc/resolv.conf");
    step("mount resolv.conf", mount_bind("/etc/resolv.conf", &*names))?;
    step(
        "freeze resolv.conf",
        mount_remount(&*names, READ_ONLY | MountFlags::BIND | MountFlags::NOEXEC, c""),
    )?;
    // A kernel before Linux 4.11 keeps the lowest ports for itself.
    let _ = fs::write(FIRST_OPEN_PORT, "0");
    Ok(())
}

/// `/dev`, `/proc` and `/sys`, with nothing in them that is the machine's to say.
fn kernels_own() -> Result<(), Failed> {
    let harmless = TAME | MountFlags::NOEXEC;
    let (dev, proc, sys) = (format!("{ROOT}/dev"), format!("{ROOT}/proc"), format!("{ROOT}/sys"));
    step("bind /dev", mount_bind_recursive("/dev", &*dev))?;
    let frozen = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
    step("freeze /dev", mount_remount(&*dev, frozen, c""))?;
    step("bind /proc", mount_bind("/proc", &*proc))?;
    for name in FROZEN {
        let path = format!("{proc}/{name}");
        if fs::metadata(&path).is_ok() {
            step(&format!("bind /proc/{name}"), mount_bind(&*path, &*path))?;
            let flags = harmless | MountFlags::RDONLY | MountFlags::BIND;
            step(&format!("freeze /proc/{name}"), mount_remount(&*path, flags, c""))?;
        }
    }
    // Not what is mounted below it: control groups.
    step("bind /sys", mount_bind("/sys", &*sys))?;
    step("freeze /sys", mount_remount(&*sys, harmless | MountFlags::RDONLY | MountFlags::BIND, c""))
}
