//! The system calls that safe crates do not offer, or offer only as unsafe.
#![expect(unsafe_code, reason = "clone3, fork, prctl and signal dispositions have no safe form")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The two sides of a clone.
pub(super) enum Cloned {
    /// The process that asked.
    Parent { pid: i32, pidfd: OwnedFd },
    /// The new process.
    Child,
}

/// `IFF_UP | IFF_RUNNING`, linux/if.h.
const UP_AND_RUNNING: libc::c_short = 0x41;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes over a descriptor that was left open for this process.
pub(super) fn adopt_fd(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD only looks the number up; it fails if it is not open.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: open, and by the agreement with the worker nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes a descriptor whose owner in this process never runs again.
pub(super) fn close_fd(fd: RawFd) {
    // SAFETY: closing a number is memory-safe; the owner is never used again.
    unsafe { libc::close(fd) };
}

/// Closes every descriptor from `first` on.
pub(super) fn close_fds_from(first: RawFd) -> io::Result<()> {
    // SAFETY: closing numbers is memory-safe; called before anything above `first` is owned.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) })?;
    Ok(())
}

/// Has the kernel kill this process when the thread that made it ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: sets an attribute of this process.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }.into())?;
    Ok(())
}

/// Ctrl-C in a terminal is for the worker, which then drains.
pub(super) fn ignore_terminal_signals() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTERM] {
        set_disposition(signal, libc::SIG_IGN)?;
    }
    Ok(())
}

/// Children leave no zombies; nobody here waits for them.
pub(super) fn reap_children_automatically() -> io::Result<()> {
    set_disposition(libc::SIGCHLD, libc::SIG_IGN)
}

/// The dispositions and the mask that a program expects to start with.
pub(super) fn default_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // Some numbers cannot be set, which is as well.
        let _ = set_disposition(signal, libc::SIG_DFL);
    }
    set_mask(libc::SIG_SETMASK, &[])
}

fn set_disposition(signal: libc::c_int, disposition: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: SIG_IGN and SIG_DFL run no code.
    if unsafe { libc::signal(signal, disposition) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_mask(how: libc::c_int, signals: &[libc::c_int]) -> io::Result<()> {
    // SAFETY: the set is initialised by sigemptyset before use.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        check(libc::sigprocmask(how, &raw const set, std::ptr::null_mut()).into())?;
    }
    Ok(())
}

/// A descriptor that becomes readable when a child ended.
pub(super) fn child_signals() -> io::Result<OwnedFd> {
    set_disposition(libc::SIGCHLD, libc::SIG_DFL)?;
    set_mask(libc::SIG_BLOCK, &[libc::SIGCHLD])?;
    // SAFETY: the set is initialised by sigemptyset before use; the result is a fresh descriptor.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)))
    }
}

/// Clones this single-threaded process into the namespaces of a sandbox.
pub(super) fn clone_sandbox(with_user: bool) -> io::Result<Cloned> {
    let flags =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    clone_namespaces(if with_user { flags | libc::CLONE_NEWUSER } else { flags })
}

/// Clones this single-threaded process into a user namespace.
pub(super) fn clone_user_namespace() -> io::Result<Cloned> {
    clone_namespaces(libc::CLONE_NEWUSER)
}

fn clone_namespaces(flags: libc::c_int) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let flags = flags | libc::CLONE_PIDFD;
    // SAFETY: all zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: without CLONE_VM this is a fork; the process is single-threaded, so the child may go on in ordinary Rust.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: i32::try_from(pid).unwrap_or(-1), pidfd })
}

/// Forks this single-threaded process: 0 in the child.
pub(super) fn fork() -> io::Result<i32> {
    // SAFETY: single-threaded, so the child may go on in ordinary Rust.
    let pid = check(unsafe { libc::fork() }.into())?;
    Ok(i32::try_from(pid).unwrap_or(-1))
}

/// Replaces this process's program; comes back only to say why not.
pub(super) fn exec(argv: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv, environment) = (pointers(argv), pointers(environment));
    let Some(program) = argv.first().filter(|program| !program.is_null()) else {
        return io::ErrorKind::InvalidInput.into();
    };
    // SAFETY: null-terminated arrays of C strings that outlive the call.
    unsafe { libc::execve(*program, argv.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// A child that ended: its pid, and its status or signal.
pub(super) fn reap() -> Option<(i32, i32, bool)> {
    let mut status = 0;
    // SAFETY: `status` is ours to write.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    if libc::WIFSIGNALED(status) {
        Some((pid, libc::WTERMSIG(status), true))
    } else {
        Some((pid, libc::WEXITSTATUS(status), false))
    }
}

/// Sends a signal to everything in this pid namespace but its first process.
pub(super) fn signal_all(signal: libc::c_int) {
    // SAFETY: sends a signal; -1 spares the caller.
    unsafe { libc::kill(-1, signal) };
}

/// Takes every capability not in `keep` out of the bounding set, so that no program ever gains it. Needs `CAP_SETPCAP`.
pub(super) fn limit_bounding_set(keep: &[u8]) -> io::Result<()> {
    for capability in (0..64u8).filter(|capability| !keep.contains(capability)) {
        // SAFETY: sets an attribute of this process.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        if dropped != 0 {
            let error = io::Error::last_os_error();
            // The first number that this kernel does not know ends the list.
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Has this process keep the capabilities in `keep`, inherit none, and no others.
pub(super) fn set_capabilities(keep: &[u8]) -> io::Result<()> {
    let [low, high] = keep.iter().fold([0u32; 2], |mut halves, capability| {
        halves[usize::from(capability / 32)] |= 1 << (capability % 32);
        halves
    });
    let header: [u32; 2] = [0x2008_0522, 0];
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: version 3 of the interface takes this header and two times three words.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })?;
    Ok(())
}

/// Becomes another user for good; with `groups` for its further groups, or those that it had.
pub(super) fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    // SAFETY: system calls that change this process's identity; raw, as it is single-threaded.
    unsafe {
        if let Some(groups) = groups {
            check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        }
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// No program that is started from here on gains a privilege.
pub(super) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: sets an attribute of this process.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    Ok(())
}

/// Sets both limits of a resource.
pub(super) fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: reads a valid structure.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }.into())?;
    Ok(())
}

/// Makes `to` a copy of `from`, inherited by programs.
pub(super) fn duplicate_to(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: the numbers 0 to 2 of a process that is about to start a program belong to nobody else.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }.into())?;
    Ok(())
}

/// Makes the loopback interface of this network namespace work.
pub(super) fn loopback_up() -> io::Result<()> {
    // SAFETY: a fresh datagram socket, and an ifreq that is zero but for the name and flags.
    unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).into())?;
        let socket = OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1));
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request).into())?;
    }
    Ok(())
}

/// Enters new namespaces.
pub(super) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the process is single-threaded and shares no memory.
    check(unsafe { libc::unshare(flags) }.into())?;
    Ok(())
}

/// Makes a mount read-only, without devices and set-user-id programs; with `recursive`, all below it too.
pub(super) fn set_mount_attributes(target: &str, recursive: bool) -> io::Result<()> {
    let path = CString::new(target)?;
    // SAFETY: all zero is a valid mount_attr.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: a C string and a structure that outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// The same for a mount that is attached nowhere, and all below it; nothing that is mounted elsewhere comes to it.
pub(super) fn set_detached_attributes(mount: BorrowedFd<'_>) -> io::Result<()> {
    set_detached(mount, None)
}

/// The same, and files belong to whom a user namespace says that their owners are.
pub(super) fn set_owners(mount: BorrowedFd<'_>, owners: BorrowedFd<'_>) -> io::Result<()> {
    set_detached(mount, Some(owners))
}

fn set_detached(mount: BorrowedFd<'_>, owners: Option<BorrowedFd<'_>>) -> io::Result<()> {
    // SAFETY: all zero is a valid mount_attr.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    attributes.propagation = libc::MS_PRIVATE;
    if let Some(owners) = owners {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = u64::from(owners.as_raw_fd().cast_unsigned());
    }
    // SAFETY: an open descriptor, an empty C string and a structure that outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Has this thread, and no other, see the mounts that a process sees, with its root for one's own. For good.
pub(super) fn enter_mounts_of(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the thread gets a root and a working directory of its own, which share no memory.
    check(unsafe { libc::unshare(libc::CLONE_FS) }.into())?;
    // SAFETY: changes which mounts this thread's paths lead to.
    check(unsafe { libc::setns(pidfd.as_raw_fd(), libc::CLONE_NEWNS) }.into())?;
    Ok(())
}

/// Lets the async runtime wait for a descriptor.
pub(super) fn watch(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open file for as long as it lives.
    unsafe { tokio::io::unix::AsyncFd::register(fd) }.map_err(Into::into)
}
