//! What makes a machine an instance: its disks and its name. Limits are `process`'s.

use std::fs;
use std::path::Path;

use hearth_wire::Disk;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::{Failed, image, step, sys};

/// A place for mounts that nobody but this process looks into, below a tmpfs.
const CORNER: &str = "/run/hearth";

/// Mounts the disks and names the host.
pub(crate) fn apply(hostname: &str, disks: &[Disk]) -> Result<(), Failed> {
    step("name the host", rustix::system::sethostname(hostname.as_bytes()))?;
    let devices = format!("{CORNER}/dev");
    step("make a place for mounts", fs::create_dir_all(&devices))?;
    step("mount devices", mount("devtmpfs", &*devices, "devtmpfs", MountFlags::NOEXEC, None))?;
    let mounted = disks.iter().try_for_each(|disk| attach(&devices, disk));
    step("hide devices", unmount(&*devices, UnmountFlags::DETACH))?;
    mounted?;
    step("clear up", fs::remove_dir_all(CORNER))
}

fn attach(devices: &str, disk: &Disk) -> Result<(), Failed> {
    match disk {
        Disk::Code { device, targets } => {
            let (path, place) = (source(devices, device)?, format!("{CORNER}/{device}"));
            step("make a place for code", fs::create_dir(&place))?;
            let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
            step("mount the code", mount(&*path, &*place, "erofs", flags, None))?;
            for target in targets {
                step(&format!("mount {target}"), mount_bind(format!("{place}{target}"), target))?;
                let again = flags | MountFlags::BIND;
                step(&format!("freeze {target}"), mount_remount(target, again, c""))?;
            }
            step("hide the code's mount", unmount(&*place, UnmountFlags::DETACH))
        }
        Disk::Root { device, scratch, writable } => {
            image::assemble(&source(devices, device)?, &source(devices, scratch)?, *writable)
        }
        Disk::Scratch { device } => {
            let path = source(devices, device)?;
            let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
            // What a function deletes goes back to the worker's disk.
            step("mount /tmp", mount(&*path, "/tmp", "ext4", flags, Some(c"discard")))?;
            // What ext4's own tools make, and Lambda's /tmp does not have.
            match fs::remove_dir("/tmp/lost+found") {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return step("clear /tmp", Err(error));
                }
                Ok(()) | Err(_) => {}
            }
            let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
            step("open /tmp to all", fs::set_permissions("/tmp", everybody))
        }
    }
}

/// A disk's device; what the kernel still has of it is from before this machine was cloned.
fn source(devices: &str, device: &str) -> Result<String, Failed> {
    let path = format!("{devices}/{device}");
    step(&format!("find disk {device}"), fs::metadata(&path))?;
    step(&format!("forget what {device} was"), sys::drop_device_cache(Path::new(&path)))?;
    Ok(path)
}
