//! A sandbox's file tree and namespaces, made by its own first process before anything of the tenant runs.
//!
//! All mounts are made in the sandbox's own mount namespace, whose mounts go nowhere else; they vanish with it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, move_mount, unmount,
};

use super::overlay::mount_image;
use super::protocol::{Clone, Upper};

/// Where the Runtime API listens, as in Lambda.
pub(super) const RUNTIME_API_PORT: u16 = 9001;
/// Devices that programs expect, and that give nothing away.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// What of the host's own tree is seen, read-only: programs and libraries, no configuration, no data.
const HOST_DIRECTORIES: [&str; 1] = ["usr"];
const HOST_ALIASES: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What of the host's `/etc` programs and libraries need.
///
/// Of `ssl` only what is public: beside it lie the host's private keys, and permission bits alone would guard them.
pub(super) const HOST_ETC: [&str; 8] = [
    "ld.so.cache",
    "ssl/certs",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "ca-certificates",
    "alternatives",
    "localtime",
    "mime.types",
];
/// Hidden in `/proc`, as Docker hides them.
const MASKED: [&str; 9] =
    ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list"];
/// Read-only in `/proc`.
const FROZEN: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// A step of the set-up that failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// Which, as an infinitive.
    pub(super) step: String,
    /// What the kernel said.
    pub(super) error: io::Error,
}

/// Names the step of a result.
pub(super) fn step<T>(step: &str, result: Result<T, impl Into<io::Error>>) -> Result<T, Failed> {
    result.map_err(|error| Failed { step: step.to_owned(), error: error.into() })
}

/// What comes with an order: mounts of disks, and the user namespace that says whose an image's files are.
#[derive(Debug, Default)]
pub(super) struct Handed {
    pub(super) scratch: Option<OwnedFd>,
    pub(super) root: Option<OwnedFd>,
    pub(super) owners: Option<OwnedFd>,
}

impl Handed {
    /// Tells them apart: each comes only if the order says so, in this order.
    pub(super) fn of(order: &Clone, mut fds: impl Iterator<Item = OwnedFd>) -> Self {
        let scratch = if order.memory_scratch_bytes.is_none() { fds.next() } else { None };
        let on_disk = order.image.as_ref().is_some_and(|image| image.upper == Upper::Disk);
        let root = if on_disk { fds.next() } else { None };
        let owned = order.image.as_ref().is_some_and(|image| image.owned);
        Self { scratch, root, owners: if owned { fds.next() } else { None } }
    }
}

/// Makes the root from its skeleton or image and goes there for good.
pub(super) fn file_system(order: &Clone, handed: Handed) -> Result<(), Failed> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step("keep mounts to itself", mount_change("/", private))?;
    match &order.image {
        None => {
            step("bind the root", mount_bind(&order.root, &order.root))?;
            step("enter the root", std::env::set_current_dir(&order.root))?;
            host_tree()?;
        }
        Some(image) => {
            mount_image(&order.root, image, handed.root, handed.owners)?;
            step("enter the root", std::env::set_current_dir(&order.root))?;
        }
    }
    for (source, target) in &order.binds {
        let target = target.trim_start_matches('/');
        step(&format!("bind {source}"), mount_bind_recursive(source, target))?;
        read_only(target)?;
    }
    devices()?;
    processes()?;
    scratch_disk(order, handed.scratch)?;
    step("name the host", rustix::system::sethostname(order.hostname.as_bytes()))?;
    step("change the root", rustix::process::pivot_root(".", "."))?;
    step("leave the old root", unmount(".", UnmountFlags::DETACH))?;
    step("go to the new root", std::env::set_current_dir("/"))?;
    match &order.image {
        Some(image) if image.upper != Upper::None => Ok(()),
        _ => read_only_one("/"),
    }
}

fn host_tree() -> Result<(), Failed> {
    for name in HOST_DIRECTORIES.iter().chain(&HOST_ALIASES) {
        let host = Path::new("/").join(name);
        // An alias that is a link is a link in the skeleton too.
        if host.is_dir() && !host.is_symlink() {
            step(&format!("bind /{name}"), mount_bind(&host, *name))?;
            read_only_one(name)?;
        }
    }
    for name in HOST_ETC {
        let (host, target) = (Path::new("/etc").join(name), Path::new("etc").join(name));
        if host.exists() && target.exists() {
            step(&format!("bind /etc/{name}"), mount_bind(&host, &target))?;
            read_only_one(&target.to_string_lossy())?;
        }
    }
    Ok(())
}

fn devices() -> Result<(), Failed> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    step("mount /dev", mount("tmpfs", "dev", "tmpfs", flags, Some(c"mode=755,size=64k,nr_inodes=64")))?;
    for name in DEVICES {
        let target = format!("dev/{name}");
        let made = rustix::fs::open(&*target, OFlags::CREATE | OFlags::CLOEXEC, Mode::from(0o666));
        step(&format!("make /{target}"), made)?;
        step(&format!("bind /{target}"), mount_bind(format!("/{target}"), &*target))?;
    }
    for (link, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        step("link /dev/fd", std::os::unix::fs::symlink(to, format!("dev/{link}")))?;
    }
    step("make /dev/shm", std::fs::create_dir("dev/shm"))?;
    let flags = flags | MountFlags::NODEV;
    step("mount /dev/shm", mount("tmpfs", "dev/shm", "tmpfs", flags, Some(c"mode=1777,size=64m")))?;
    let remount = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
    step("freeze /dev", mount_remount("dev", remount, c""))
}

fn processes() -> Result<(), Failed> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    step("mount /proc", mount("proc", "proc", "proc", flags, Some(c"hidepid=2")))?;
    for name in MASKED {
        let target = format!("proc/{name}");
        let Ok(metadata) = std::fs::metadata(&target) else { continue };
        if metadata.is_dir() {
            let flags = flags | MountFlags::RDONLY;
            step(
                &format!("mask /{target}"),
                mount("tmpfs", &*target, "tmpfs", flags, Some(c"size=0,nr_inodes=1")),
            )?;
        } else {
            step(&format!("mask /{target}"), mount_bind("dev/null", &*target))?;
        }
    }
    for name in FROZEN {
        let target = format!("proc/{name}");
        if Path::new(&target).exists() {
            step(&format!("bind /{target}"), mount_bind(&*target, &*target))?;
            step(
                &format!("freeze /{target}"),
                mount_remount(&*target, flags | MountFlags::RDONLY | MountFlags::BIND, c""),
            )?;
        }
    }
    Ok(())
}

fn scratch_disk(order: &Clone, scratch: Option<OwnedFd>) -> Result<(), Failed> {
    if let Some(scratch) = scratch {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        return step("attach /tmp", move_mount(&scratch, "", CWD, "tmp", flags));
    }
    let size = order.memory_scratch_bytes.unwrap_or(512 << 20);
    let options = std::ffi::CString::new(format!("mode=1777,size={size}")).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    step("mount /tmp", mount("tmpfs", "tmp", "tmpfs", flags, Some(options.as_c_str())))
}

/// Makes a mount and all below it read-only, without devices and set-user-id programs.
fn read_only(target: &str) -> Result<(), Failed> {
    step(&format!("freeze /{target}"), super::sys::set_mount_attributes(target, true))
}

fn read_only_one(target: &str) -> Result<(), Failed> {
    step(&format!("freeze /{target}"), super::sys::set_mount_attributes(target, false))
}

/// The cgroup that this process is in becomes the root that it sees.
pub(super) fn enter_cgroup_namespace() -> io::Result<()> {
    super::sys::unshare(libc::CLONE_NEWCGROUP)
}

/// A user namespace that owns none of the others.
pub(super) fn enter_user_namespace() -> io::Result<()> {
    super::sys::unshare(libc::CLONE_NEWUSER)
}
