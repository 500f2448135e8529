//! The system calls that safe crates do not offer.
#![expect(unsafe_code, reason = "unshare and the ioctls that make a tap have no safe form")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Where links of machines are made.
const DEVICE: &str = "/dev/net/tun";

/// Makes a link of that name in this thread's network namespace, which is there for as long as it is open: what is written to it
/// comes from whoever has the other end, and what is sent there is read from it.
pub(crate) fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let device: File =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte of a name is zero.
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = byte.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: the request is valid and outlives the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(device.into())
}

/// Makes a link of that name in this thread's network namespace for whoever opens it there. It goes with the namespace.
pub(crate) fn make_tap(name: &str) -> io::Result<()> {
    let device = open_tap(name)?;
    // SAFETY: this request takes a number, not a pointer.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETPERSIST as libc::Ioctl, 1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Has this thread be in a new network namespace, for good.
pub(crate) fn leave_network() -> io::Result<()> {
    // SAFETY: a thread's network namespace is its own; sockets that it has open stay in theirs.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.map_err(Into::into)
}
