//! Ranges of user ids, one for each sandbox, shared with no other on the machine.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// First id of all ranges, above what distributions give to users and to other container tools (systemd.io/UIDS-GIDS).
const FIRST: u32 = 0x7000_0000;
/// Ids in a range: root's, the function's, those of an image's system, and room for some that are greater.
pub(crate) const RANGE: u32 = 1_024;
/// Of these, so many are the same inside, counted from the range's first. The rest stands for ids that an image has besides.
const PLAIN: u32 = 1_000;
/// The kernel's names for nobody, which no map may have.
const NOBODY_AT_ALL: u32 = u32::MAX - 1;
/// See [`PLAIN`].
const ROOM: usize = (RANGE - PLAIN) as usize;
/// Ranges in a block; a block belongs to one hearth.
const RANGES: u32 = 2_048;
/// Blocks up to 0x7fff_ffff.
const BLOCKS: u32 = 128;
/// The first of them, taken before the others: there are addresses for the networks of their instances.
const ADDRESSED: u32 = 32;
/// Where the machine's hearths say which blocks they have, as root alone can.
const CLAIMS: &str = "/run/hearth";

/// The ranges of this hearth that are free.
#[derive(Debug)]
pub(crate) struct UserRanges {
    free: Mutex<Vec<u32>>,
    rootless: bool,
    block: Mutex<Option<Claim>>,
}

/// A file whose lock stands for a block; the kernel releases it however this process ends.
#[derive(Debug)]
struct Claim {
    path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Takes the file's lock, unless another has it.
    fn take(path: PathBuf) -> io::Result<Option<Self>> {
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Who had it before may have removed it between the two steps above: then this lock is of no file.
        let there = fs::metadata(&path).ok().map(|meta| (meta.dev(), meta.ino()));
        let mine = lock.metadata().map(|meta| (meta.dev(), meta.ino()))?;
        Ok((there == Some(mine)).then_some(Self { path, _lock: lock }))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Still locked: nobody else can have taken it. The folder goes with the last one's.
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = self.path.parent() {
            let _ = fs::remove_dir(folder);
        }
    }
}

// === impl UserRanges ===

impl UserRanges {
    /// Claims a block that no other hearth has. One that is not root has only its own id to give.
    pub(crate) fn claim(rootless: bool) -> io::Result<Self> {
        if rootless {
            return Ok(Self { free: Mutex::new(Vec::new()), rootless, block: Mutex::default() });
        }
        Self::claim_in(Path::new(CLAIMS), first_block())
    }

    /// Claims the first block that is free, of those with addresses from `begin` on.
    fn claim_in(claims: &Path, begin: u32) -> io::Result<Self> {
        let addressed = (0..ADDRESSED).map(|step| (begin + step) % ADDRESSED);
        for block in addressed.chain(ADDRESSED..BLOCKS) {
            // The last hearth that stops removes the folder, at any moment.
            DirBuilder::new().recursive(true).mode(0o700).create(claims)?;
            let claim = match Claim::take(claims.join(format!("user-ids-{block}"))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                claim => claim?,
            };
            if let Some(claim) = claim {
                let first = FIRST + block * RANGES * RANGE;
                let free = (0..RANGES).rev().map(|range| first + range * RANGE).collect();
                return Ok(Self { free: Mutex::new(free), rootless: false, block: Mutex::new(Some(claim)) });
            }
        }
        let text = format!("all blocks of user ids are taken by other hearths, as {} says", claims.display());
        Err(io::Error::new(io::ErrorKind::AddrInUse, text))
    }

    /// A free range's first id.
    pub(crate) fn take(&self) -> io::Result<u32> {
        if self.rootless {
            return Ok(rustix::process::geteuid().as_raw());
        }
        let range = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        range.ok_or_else(|| io::Error::new(io::ErrorKind::QuotaExceeded, "all ranges of user ids are in use"))
    }

    /// Which of the machine's ranges one is, whoever has it.
    pub(crate) fn number(first: u32) -> u32 {
        first.saturating_sub(FIRST) / RANGE
    }

    /// Lets other hearths have the block. No range of it is in use any more.
    pub(crate) fn release(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.block.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Gives a range back.
    pub(crate) fn give_back(&self, first: u32) {
        if !self.rootless {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(first);
        }
    }
}

/// Where this hearth begins to look for a block. Those that see the same claims share none in any case; those with a `/run` each,
/// as containers have, see none of each other's claims, and begin at blocks as different as the numbers of these folders.
fn first_block() -> u32 {
    let run = Path::new(CLAIMS).parent().and_then(|run| fs::metadata(run).ok());
    run.map_or(0, |run| spread(run.dev(), run.ino()))
}

/// File systems made one after the other get blocks that are not neighbours: each hearth may take some.
fn spread(device: u64, inode: u64) -> u32 {
    u32::try_from(device.wrapping_mul(5).wrapping_add(inode) % u64::from(ADDRESSED)).unwrap_or(0)
}

/// Which ids a sandbox has, and what they are on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    first: u32,
    /// Those from [`PLAIN`] on, in order.
    more: Vec<u32>,
}

// === impl IdMap ===

impl IdMap {
    /// Maps a range, with as many of `more` as there is room for.
    pub(crate) fn new(first: u32, more: &[u32]) -> Self {
        let fits = |id: &u32| (PLAIN..NOBODY_AT_ALL).contains(id);
        let more: BTreeSet<u32> = more.iter().copied().filter(fits).take(ROOM).collect();
        Self { first, more: more.into_iter().collect() }
    }

    /// What an id of the sandbox is on the machine, if it is one.
    pub(crate) fn outside(&self, inside: u32) -> Option<u32> {
        if inside < PLAIN {
            return Some(self.first + inside);
        }
        let place = self.more.binary_search(&inside).ok()?;
        Some(self.first + PLAIN + u32::try_from(place).ok()?)
    }

    fn lines(&self) -> String {
        let mut lines = format!("0 {} {PLAIN}\n", self.first);
        for (place, id) in (self.first + PLAIN..).zip(&self.more) {
            lines.push_str(&format!("{id} {place} 1\n"));
        }
        lines
    }
}

/// Writes the maps of a user namespace: a range for one that root made, the own id for any other.
pub(crate) fn write_maps(pid: i32, map: &IdMap, rootless: bool) -> io::Result<()> {
    let write = |file: &str, text: String| fs::write(format!("/proc/{pid}/{file}"), text);
    if !rootless {
        write("uid_map", map.lines())?;
        return write("gid_map", map.lines());
    }
    write("uid_map", format!("0 {} 1\n", map.first))?;
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("0 {} 1\n", rustix::process::getegid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_the_ids_of_a_system_and_some_greater_ones_and_no_others() {
        let map = IdMap::new(FIRST, &[65_534, 1_000, 993, 1_000, u32::MAX, NOBODY_AT_ALL]);
        assert_eq!(
            map.lines(),
            format!("0 {FIRST} 1000\n1000 {} 1\n65534 {} 1\n", FIRST + 1_000, FIRST + 1_001)
        );
        assert_eq!(map.outside(993), Some(FIRST + 993));
        assert_eq!(map.outside(65_534), Some(FIRST + 1_001));
        assert_eq!([1_001, u32::MAX].map(|id| map.outside(id)), [None; 2]);
        let many: Vec<u32> = (2_000..3_000).collect();
        let map = IdMap::new(FIRST, &many);
        assert_eq!(map.outside(2_023), Some(FIRST + RANGE - 1));
        assert_eq!(map.outside(2_024), None);
    }

    #[test]
    fn two_hearths_share_no_range() {
        let claims = tempfile::tempdir().unwrap();
        let claim = || UserRanges::claim_in(&claims.path().join("hearth"), ADDRESSED - 1).unwrap();
        let (first, second) = (claim(), claim());
        let (a, b) = (first.take().unwrap(), second.take().unwrap());
        assert!(a.abs_diff(b) >= RANGE);
        let c = first.take().unwrap();
        assert!(a.abs_diff(c) >= RANGE);
        first.give_back(a);
        assert_eq!(first.take().unwrap(), a);
    }

    #[test]
    fn hearths_with_a_run_folder_each_begin_at_different_blocks() {
        let blocks: BTreeSet<u32> = (0..u64::from(ADDRESSED)).map(|next| spread(60 + next, 1)).collect();
        assert_eq!(blocks.len(), usize::try_from(ADDRESSED).unwrap());
        assert!(first_block() < ADDRESSED);
    }

    #[test]
    fn a_block_is_free_again_when_its_hearth_is_gone_and_nothing_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let claims = parent.path().join("hearth");
        let first = UserRanges::claim_in(&claims, 0).unwrap().take().unwrap();
        assert!(!claims.exists());
        // What a killed one leaves is a file without a lock.
        fs::create_dir(&claims).unwrap();
        fs::write(claims.join("user-ids-0"), "").unwrap();
        assert_eq!(UserRanges::claim_in(&claims, 0).unwrap().take().unwrap(), first);
    }
}
