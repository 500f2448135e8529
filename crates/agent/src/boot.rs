//! From the first instruction to a root with /proc, /sys and /dev.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::mount::{MountFlags, mount, mount_move, mount_remount};

use crate::{Failed, step, sys};

/// Where the new root is put together.
const ROOT: &str = "/root";
/// The disk that the root is on.
const ROOT_DISK: &str = "/dev/vda";
/// A disk that has not appeared by then will not.
const PATIENCE: Duration = Duration::from_secs(10);
/// Devices that programs expect: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const HARMLESS: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

/// What drivers need: /proc, /sys, /dev and the kernel's modules.
pub(crate) fn early() -> Result<(), Failed> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        let _ = fs::create_dir(target);
        step(&format!("mount {target}"), mount(kind, target, kind, MountFlags::empty(), None))?;
    }
    overcommit()?;
    modules()
}

/// Whoever asks for memory gets it, and is ended by the limit of its group when it uses more than that: so it is in Lambda. By
/// itself the kernel refuses what is more than the whole machine has.
fn overcommit() -> Result<(), Failed> {
    step("let memory be promised", fs::write("/proc/sys/vm/overcommit_memory", "1"))
}

/// Loads the initramfs's modules in the order of their names, and gives their memory back.
fn modules() -> Result<(), Failed> {
    let Ok(entries) = fs::read_dir("/modules") else { return Ok(()) };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let file = step("open a module", fs::File::open(&path))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return step(&format!("load {}", path.display()), Err(error)),
        }
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

/// Goes to the root disk for good.
pub(crate) fn root() -> Result<(), Failed> {
    step("find the root disk", wait_for(ROOT_DISK))?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    step("mount the root disk", mount(ROOT_DISK, ROOT, "erofs", flags, None))?;
    step("enter the root", std::env::set_current_dir(ROOT))?;
    for target in ["proc", "sys"] {
        step(&format!("move /{target}"), mount_move(format!("/{target}"), target))?;
    }
    step("hide processes", mount_remount("proc", HARMLESS, c"hidepid=2"))?;
    step("mount cgroups", mount("cgroup2", "sys/fs/cgroup", "cgroup2", HARMLESS, None))?;
    step("freeze /sys", mount_remount("sys", HARMLESS | MountFlags::RDONLY, c""))?;
    devices()?;
    for (target, options) in [("run", c"mode=755,size=1m"), ("tmp", c"mode=1777,size=1m")] {
        step(&format!("mount /{target}"), mount("tmpfs", target, "tmpfs", HARMLESS, Some(options)))?;
    }
    step("change the root", mount_move(".", "/"))?;
    step("change the root", rustix::process::chroot("."))?;
    step("go to the root", std::env::set_current_dir("/"))?;
    step("bring the loopback interface up", sys::loopback_up())
}

fn devices() -> Result<(), Failed> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    step("mount /dev", mount("tmpfs", "dev", "tmpfs", flags, Some(c"mode=755,size=64k,nr_inodes=64")))?;
    rustix::process::umask(Mode::empty());
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let made = mknodat(CWD, format!("dev/{name}"), FileType::CharacterDevice, Mode::from(0o666), device);
        step(&format!("make /dev/{name}"), made)?;
    }
    rustix::process::umask(Mode::from(0o022));
    for (link, to) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        step("link /dev/fd", symlink(format!("/proc/self/{to}"), format!("dev/{link}")))?;
    }
    step("make /dev/shm", fs::create_dir("dev/shm"))?;
    step("mount /dev/shm", mount("tmpfs", "dev/shm", "tmpfs", HARMLESS, Some(c"mode=1777,size=64m")))
}

/// Disks come up on their own time after their driver.
fn wait_for(path: &str) -> Result<(), std::io::Error> {
    let until = Instant::now() + PATIENCE;
    while !Path::new(path).exists() {
        if Instant::now() > until {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(drop).map_err(Into::into)
}
