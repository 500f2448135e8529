//! The system calls that safe crates do not offer, or offer only as unsafe.
#![expect(unsafe_code, reason = "unshare, the steps before exec and pidfd_open have no safe form")]

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio::io::unix::AsyncFd;

use super::jail::Way;

/// The namespaces that a VMM has for itself where the jail has none for all, besides that of its network.
const OWN: UnshareFlags = UnshareFlags::NEWNS.union(UnshareFlags::NEWIPC).union(UnshareFlags::NEWUTS);

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the calling thread namespaces of its own.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: none of the flags used takes away what other code of this thread relies on: it runs only the jail's.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Has a VMM keep its descriptors, go its way, gain no privilege, and die with the thread that starts it.
pub(super) fn before_exec(command: &mut Command, keep: Vec<RawFd>, way: Way) {
    let prepare = move || {
        // SAFETY: system calls on this process, which is about to become a VMM. They allocate nothing.
        unsafe {
            libc::setsid();
            libc::umask(0o077);
            for fd in &keep {
                check(libc::fcntl(*fd, libc::F_SETFD, 0).into())?;
            }
            match &way {
                Way::Directly(None) => {}
                Way::Directly(Some(user)) => {
                    check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()))?;
                    check(libc::syscall(libc::SYS_setresgid, *user, *user, *user))?;
                    check(libc::syscall(libc::SYS_setresuid, *user, *user, *user))?;
                }
                Way::Jailer { mounts, network } => {
                    rustix::thread::unshare_unsafe(OWN)?;
                    match network {
                        Some(network) => {
                            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
                        }
                        None => rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)?,
                    }
                    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
                    for (tree, place) in mounts {
                        let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                        move_mount(tree, c"", CWD, place.as_c_str(), whole)?;
                    }
                }
            }
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            // After the change of user, which clears it.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL).into())?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls alone, which is what may be done between fork and exec.
    unsafe { command.pre_exec(prepare) };
}

/// How fast this machine's time-stamp counter counts, kHz, as the clock says in these few milliseconds. Emulated machines have
/// the same counter.
#[cfg(target_arch = "x86_64")]
pub(super) fn counter_khz() -> Option<u64> {
    // SAFETY: every x86-64 processor has the counter, and no system that runs this forbids it.
    let count = || unsafe { core::arch::x86_64::_rdtsc() };
    // The closest of a few looks at both: this thread may be put aside between the two.
    let look = || {
        let looks = (0..16).map(|_| {
            let (before, now, after) = (count(), Instant::now(), count());
            (after.wrapping_sub(before), before, now)
        });
        looks.min_by_key(|(gap, ..)| *gap)
    };
    let (_, first, began) = look()?;
    std::thread::sleep(Duration::from_millis(20));
    let (_, last, ended) = look()?;
    let microseconds = u64::try_from(ended.duration_since(began).as_micros()).ok()?;
    last.checked_sub(first)?.checked_mul(1_000)?.checked_div(microseconds).filter(|khz| *khz > 0)
}

/// There is none that emulated machines have.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn counter_khz() -> Option<u64> {
    None
}

/// Lets the async runtime wait for the end of a child that nobody has reaped.
pub(super) fn watch_child(pid: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` names the same open file for as long as it lives.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}
