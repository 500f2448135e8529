//! userfaultfd as the kernel has it (linux/userfaultfd.h).
#![expect(unsafe_code, reason = "ioctls that take addresses have no safe form")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// `UFFDIO_COPY` and `UFFDIO_ZEROPAGE`.
const COPY: libc::Ioctl = 0xc028_aa03_u32 as libc::Ioctl;
const ZERO_PAGE: libc::Ioctl = 0xc020_aa04_u32 as libc::Ioctl;
/// `UFFD_EVENT_PAGEFAULT`, `UFFD_EVENT_REMOVE`.
const PAGE_FAULT: u8 = 0x12;
const REMOVE: u8 = 0x15;
/// A message of the kernel's, bytes, and how many are read at once.
const MESSAGE: usize = 32;
const MESSAGES: usize = 16;

/// What the kernel tells of a VMM's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A page is asked for.
    At(u64),
    /// Pages were given back.
    GivenBack { start: u64, end: u64 },
    /// Something that changes nothing here.
    Other,
}

/// What became of a page that was to be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    Done,
    /// There is one.
    WasThere,
    /// The kernel is changing the mapping, and has a message about that.
    Later,
    /// The VMM is gone.
    Gone,
}

/// `struct uffdio_copy`.
#[repr(C)]
struct Copy {
    to: u64,
    from: u64,
    length: u64,
    mode: u64,
    copied: i64,
}

/// `struct uffdio_zeropage`.
#[repr(C)]
struct ZeroPage {
    start: u64,
    length: u64,
    mode: u64,
    zeroed: i64,
}

/// Lets the async runtime wait for faults.
pub(super) fn watch(faults: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open file for as long as it lives.
    unsafe { AsyncFd::register(faults) }.map_err(Into::into)
}

/// What happened; nothing when the VMM is gone.
pub(super) fn read(faults: BorrowedFd<'_>) -> io::Result<Vec<Fault>> {
    let mut bytes = [0; MESSAGE * MESSAGES];
    let count = rustix::io::read(faults, &mut bytes)?;
    let said = bytes.get(..count).unwrap_or_default();
    Ok(said.as_chunks::<MESSAGE>().0.iter().map(message).collect())
}

fn message(bytes: &[u8; MESSAGE]) -> Fault {
    let word = |at: usize| {
        let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
        word.map_or(0, u64::from_ne_bytes)
    };
    match bytes[0] {
        PAGE_FAULT => Fault::At(word(16)),
        REMOVE => Fault::GivenBack { start: word(8), end: word(16) },
        _ => Fault::Other,
    }
}

/// Puts a page with these bytes at an address of the VMM's.
pub(super) fn copy(faults: BorrowedFd<'_>, to: u64, bytes: &[u8]) -> io::Result<Copied> {
    let mut order = Copy { to, from: bytes.as_ptr() as u64, length: bytes.len() as u64, mode: 0, copied: 0 };
    // SAFETY: the kernel reads `bytes`, which live until it is back, and writes the order's last field; all that it writes
    // else is memory of another process.
    outcome(unsafe { libc::ioctl(faults.as_raw_fd(), COPY, &raw mut order) })
}

/// Puts zeros there.
pub(super) fn zero(faults: BorrowedFd<'_>, start: u64, length: u64) -> io::Result<Copied> {
    let mut order = ZeroPage { start, length, mode: 0, zeroed: 0 };
    // SAFETY: the kernel writes the order's last field, and memory of another process.
    outcome(unsafe { libc::ioctl(faults.as_raw_fd(), ZERO_PAGE, &raw mut order) })
}

fn outcome(result: libc::c_int) -> io::Result<Copied> {
    if result == 0 {
        return Ok(Copied::Done);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EEXIST) => Ok(Copied::WasThere),
        Some(libc::EAGAIN) => Ok(Copied::Later),
        Some(libc::ESRCH) => Ok(Copied::Gone),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_the_kernel_writes_them() {
        let mut bytes = [0; MESSAGE];
        bytes[0] = PAGE_FAULT;
        bytes[16..24].copy_from_slice(&0x7000_u64.to_ne_bytes());
        assert_eq!(message(&bytes), Fault::At(0x7000));
        bytes[0] = REMOVE;
        bytes[8..16].copy_from_slice(&0x1000_u64.to_ne_bytes());
        assert_eq!(message(&bytes), Fault::GivenBack { start: 0x1000, end: 0x7000 });
        bytes[0] = 0x13;
        assert_eq!(message(&bytes), Fault::Other);
    }
}
