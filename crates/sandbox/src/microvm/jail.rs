//! Where VMMs run: out of reach of the machine's files, networks and processes.
//!
//! One thread goes into mount, network, IPC and host-name namespaces of its own, onto a root that has little more than the
//! VMM's program and libraries, and starts all VMMs from there; they inherit that for nothing. Each gets a user of its own
//! and the open files that it needs: it opens none by a path of the machine's. A VMM dies when that
//! thread ends, and so with the worker, however that ends.
//!
//! Firecracker has a jailer of its own that does most of this. It changes users on its way, and what is to die with its
//! parent is forgotten by the kernel then: so those VMMs are in a process namespace whose first process, which does nothing
//! else, dies with that thread, and they with it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::thread::UnshareFlags;

use tokio::sync::mpsc;

use super::sys;

/// Directories of the machine that programs and their libraries are in, where they are there.
const PROGRAMS: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib32", "lib64"];
/// What VMMs read of a machine's settings: where libraries are.
const LINKER_CACHE: &str = "etc/ld.so.cache";
/// Devices: name, major, minor.
const DEVICES: [(&str, u32, u32); 3] = [("null", 1, 3), ("urandom", 1, 9), ("kvm", 10, 232)];
/// Starts that wait for the thread, which each takes about a millisecond; more wait to be let in.
const QUEUE: usize = 64;
/// Where the program that a process namespace begins with is.
const WAITERS: &str = "/usr/bin:/bin";
/// A user without rights.
const NOBODY: u32 = 65_534;

/// How to start a VMM.
#[derive(Debug)]
pub(super) struct Start {
    /// The program's path, the same inside and outside of the jail.
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Left open for it, under the numbers that they have here.
    pub(super) fds: Vec<OwnedFd>,
    /// What it does before it becomes the VMM.
    pub(super) way: Way,
    /// Where it writes its machine's console to, if that is its standard output.
    pub(super) console: Option<OwnedFd>,
}

/// How a process becomes a VMM.
#[derive(Debug)]
pub(super) enum Way {
    /// As this user and group; `None` where this process is not root, and the VMM runs as it does.
    Directly(Option<u32>),
    /// Through Firecracker's jailer, in mount, network, IPC and host-name namespaces of its own.
    Jailer {
        /// What is mounted there, and where.
        mounts: Vec<(OwnedFd, CString)>,
        /// The network namespace; an empty one if there is none.
        network: Option<OwnedFd>,
    },
}

/// Which jail.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// All VMMs in one root, an empty directory that is the driver's own.
    Root(PathBuf),
    /// Each VMM is put into one of its own by Firecracker's jailer.
    Jailer,
}

struct Order {
    start: Start,
    started: tokio::sync::oneshot::Sender<io::Result<Child>>,
}

/// Starts VMMs.
#[derive(Debug)]
pub(super) struct Jail {
    orders: std::sync::Mutex<Option<mpsc::Sender<Order>>>,
}

// === impl Jail ===

impl Jail {
    /// Makes the jail. Without root there is none: VMMs run as this process does.
    pub(super) fn open(kind: Kind) -> io::Result<Self> {
        let (orders, mut received) = mpsc::channel::<Order>(QUEUE);
        let (made, is_made) = std::sync::mpsc::channel();
        let confined = rustix::process::geteuid().is_root();
        std::thread::Builder::new().name("vmm-jail".to_owned()).spawn(move || {
            let entered = match kind {
                Kind::Root(root) if confined => enter(&root).map(|()| None),
                Kind::Root(_) => Ok(None),
                Kind::Jailer => first_process().map(Some),
            };
            let is_in = entered.is_ok();
            let (first, entered) = match entered {
                Ok(first) => (first, Ok(())),
                Err(error) => (None, Err(error)),
            };
            let _ = made.send(entered);
            if is_in {
                while let Some(Order { start, started }) = received.blocking_recv() {
                    if let Err(Ok(mut unwanted)) = started.send(self::start(start)) {
                        let _ = unwanted.kill().and_then(|()| unwanted.wait());
                    }
                }
            }
            if let Some(mut first) = first {
                let _ = first.kill().and_then(|()| first.wait());
            }
        })?;
        is_made.recv().map_err(io::Error::other)??;
        Ok(Self { orders: std::sync::Mutex::new(Some(orders)) })
    }

    /// Starts a VMM.
    pub(super) async fn start(&self, start: Start) -> io::Result<Child> {
        let (started, is_started) = tokio::sync::oneshot::channel();
        let orders = self.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let orders = orders.ok_or_else(|| io::Error::other("the driver is shutting down"))?;
        orders.send(Order { start, started }).await.map_err(io::Error::other)?;
        is_started.await.map_err(io::Error::other)?
    }

    /// Starts no more, and has those that run die.
    pub(super) fn close(&self) {
        self.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }
}

fn start(start: Start) -> io::Result<Child> {
    let mut command = Command::new(&start.program);
    command.args(&start.arguments).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(start.console.map_or_else(Stdio::null, Stdio::from));
    command.stderr(Stdio::piped());
    let keep: Vec<RawFd> = start.fds.iter().map(AsRawFd::as_raw_fd).collect();
    sys::before_exec(&mut command, keep, start.way);
    command.spawn()
}

/// Has what the calling thread starts from now on be in a process namespace of its own, whose first process this is. It reads
/// what never comes, and ends with the thread and with its other end, whichever is first.
fn first_process() -> io::Result<Child> {
    sys::unshare(UnshareFlags::NEWPID)?;
    let mut command = Command::new("cat");
    command.env_clear().env("PATH", WAITERS).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    sys::before_exec(&mut command, Vec::new(), Way::Directly(Some(NOBODY)));
    command.spawn()
}

/// Goes into the jail with the calling thread, for good.
fn enter(root: &Path) -> io::Result<()> {
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    sys::unshare(flags)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    fs::create_dir_all(root)?;
    let still = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("tmpfs", root, "tmpfs", still, Some(c"mode=755,size=64k"))?;
    for name in PROGRAMS {
        let (from, to) = (Path::new("/").join(name), root.join(name));
        match fs::symlink_metadata(&from) {
            Ok(kind) if kind.is_symlink() => symlink(fs::read_link(&from)?, to)?,
            Ok(_) => {
                fs::create_dir(&to)?;
                mount_bind_recursive(&from, &to)?;
                mount_remount(
                    &to,
                    MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
                    c"",
                )?;
            }
            Err(_) => {}
        }
    }
    fs::create_dir(root.join("etc"))?;
    let cache = Path::new("/").join(LINKER_CACHE);
    if cache.exists() {
        fs::write(root.join(LINKER_CACHE), "")?;
        rustix::mount::mount_bind(&cache, root.join(LINKER_CACHE))?;
    }
    fs::create_dir(root.join("dev"))?;
    mount(
        "tmpfs",
        root.join("dev"),
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        Some(c"mode=755,size=64k"),
    )?;
    rustix::process::umask(Mode::empty());
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let path = root.join("dev").join(name);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from(0o666), device)?;
    }
    fs::create_dir(root.join("proc"))?;
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    // A VMM finds its own open files there, and nothing of other users.
    mount("proc", root.join("proc"), "proc", quiet, Some(c"hidepid=2,subset=pid"))?;
    std::env::set_current_dir(root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(())
}
