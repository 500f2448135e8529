//! Ranges of user ids, one for each sandbox, shared with no other on the machine.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};

/// First id of all ranges, above what distributions give to users and to other container tools (systemd.io/UIDS-GIDS).
const FIRST: u32 = 0x7000_0000;
/// Ids in a range: root's, the function's, and room.
pub(super) const RANGE: u32 = 1_024;
/// Ranges in a block; a block belongs to one hearth.
const RANGES: u32 = 2_048;
/// Blocks up to 0x7fff_ffff.
const BLOCKS: u32 = 128;

/// The ranges of this hearth that are free.
#[derive(Debug)]
pub(super) struct UserRanges {
    free: Mutex<Vec<u32>>,
    rootless: bool,
    // A bound abstract address stands for the block; the kernel frees it with the process.
    _block: Option<UnixDatagram>,
}

// === impl UserRanges ===

impl UserRanges {
    /// Claims a block that no other hearth has. One that is not root has only its own id to give.
    pub(super) fn claim(rootless: bool) -> io::Result<Self> {
        if rootless {
            return Ok(Self { free: Mutex::new(Vec::new()), rootless, _block: None });
        }
        for block in 0..BLOCKS {
            let address = SocketAddr::from_abstract_name(format!("hearth/user-ids/{block}"))?;
            match UnixDatagram::bind_addr(&address) {
                Ok(socket) => {
                    let first = FIRST + block * RANGES * RANGE;
                    let free = (0..RANGES).rev().map(|range| first + range * RANGE).collect();
                    return Ok(Self { free: Mutex::new(free), rootless, _block: Some(socket) });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "all blocks of user ids are taken by other hearths"))
    }

    /// A free range's first id.
    pub(super) fn take(&self) -> io::Result<u32> {
        if self.rootless {
            return Ok(rustix::process::geteuid().as_raw());
        }
        let range = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        range.ok_or_else(|| io::Error::new(io::ErrorKind::QuotaExceeded, "all ranges of user ids are in use"))
    }

    /// Gives a range back.
    pub(super) fn give_back(&self, first: u32) {
        if !self.rootless {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(first);
        }
    }
}

/// Writes the maps of a user namespace: a range for one that root made, the own id for any other.
pub(super) fn write_maps(pid: i32, first: u32, rootless: bool) -> io::Result<()> {
    let write = |file: &str, text: String| std::fs::write(format!("/proc/{pid}/{file}"), text);
    if !rootless {
        write("uid_map", format!("0 {first} {RANGE}\n"))?;
        return write("gid_map", format!("0 {first} {RANGE}\n"));
    }
    write("uid_map", format!("0 {first} 1\n"))?;
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("0 {} 1\n", rustix::process::getegid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hearths_share_no_range() {
        let (first, second) = (UserRanges::claim(false).unwrap(), UserRanges::claim(false).unwrap());
        let (a, b) = (first.take().unwrap(), second.take().unwrap());
        assert!(a.abs_diff(b) >= RANGE);
        let c = first.take().unwrap();
        assert!(a.abs_diff(c) >= RANGE);
        first.give_back(a);
        assert_eq!(first.take().unwrap(), a);
    }
}
