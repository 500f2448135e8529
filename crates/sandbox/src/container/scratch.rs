//! Disks for `/tmp`: sized, private, and not charged as the function's memory.
//!
//! A tmpfs would count what a function writes against its memory limit. So `/tmp` is a small file system in a sparse image on
//! the worker's disk, mounted through a loop device. Image and mount exist only as open descriptors: the image is unlinked as
//! soon as it is attached, the mount is never attached to a visible place, and both vanish when the last holder does.

mod sys;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use crate::blank_disk::BlankDisks;

/// Prepared disks of each size that are kept, so that a start need not wait for one.
const PREPARED: usize = 2;
/// Prepared disks of all sizes together: past it those of the size that was wanted longest ago go.
const MAX_PREPARED: usize = 16;

/// Makes scratch disks.
#[derive(Debug)]
pub(super) struct ScratchDisks {
    blank: BlankDisks,
    number: AtomicU64,
    /// By size; `None` once the driver closes.
    prepared: Mutex<Option<HashMap<u64, Stock>>>,
    /// Finding a free loop device and taking it are two steps: many at once would take each other's without end.
    attaching: Mutex<()>,
}

/// The prepared disks of one size.
#[derive(Debug, Default)]
struct Stock {
    ready: Vec<OwnedFd>,
    making: usize,
    /// Greater is later.
    wanted: u64,
}

// === impl ScratchDisks ===

impl ScratchDisks {
    /// Uses `directory`, removing what was there, and proves that disks can be made.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let disks = Self {
            blank: BlankDisks::open(directory)?,
            number: AtomicU64::new(0),
            prepared: Mutex::new(Some(HashMap::new())),
            attaching: Mutex::new(()),
        };
        disks.make(512 << 20)?;
        Ok(disks)
    }

    /// A disk of `bytes`, as a mount that is attached nowhere. Blocks.
    pub(super) fn take(&self, bytes: u64) -> io::Result<OwnedFd> {
        let ready = self.lock().as_mut().and_then(|stocks| stocks.get_mut(&bytes)?.ready.pop());
        match ready {
            Some(disk) => Ok(disk),
            None => self.make(bytes),
        }
    }

    /// Makes disks of `bytes` until enough are prepared or being so. Blocks.
    pub(super) fn prepare(&self, bytes: u64) -> io::Result<()> {
        while self.reserve(bytes) {
            let made = self.make(bytes);
            if let Some(stock) = self.lock().as_mut().and_then(|stocks| stocks.get_mut(&bytes)) {
                stock.making -= 1;
                stock.ready.push(made?);
            } else {
                made?;
            }
        }
        Ok(())
    }

    /// Whether another disk of `bytes` is to be made; if so it counts from here on.
    fn reserve(&self, bytes: u64) -> bool {
        let mut prepared = self.lock();
        let Some(stocks) = prepared.as_mut() else { return false };
        let stock = stocks.entry(bytes).or_default();
        stock.wanted = self.number.fetch_add(1, Ordering::Relaxed);
        if stock.ready.len() + stock.making >= PREPARED {
            return false;
        }
        stock.making += 1;
        let spare = spare(stocks);
        drop(prepared);
        // Letting go of a disk unmounts it, which is not to be waited for under the lock.
        drop(spare);
        true
    }

    /// Lets go of the prepared ones, and prepares no more.
    pub(super) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u64, Stock>>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, bytes: u64) -> io::Result<OwnedFd> {
        // The image lives as long as its loop device.
        let image = self.blank.take(bytes)?;
        let device = {
            let _one_at_a_time = self.attaching.lock().unwrap_or_else(PoisonError::into_inner);
            sys::attach_loop(&image)?
        };
        mount(&device.path)
    }
}

/// Takes out the stock that was wanted longest ago, if there is more than is kept.
fn spare(stocks: &mut HashMap<u64, Stock>) -> Option<Stock> {
    if stocks.values().map(|stock| stock.ready.len() + stock.making).sum::<usize>() <= MAX_PREPARED {
        return None;
    }
    let settled = stocks.iter().filter(|(_, stock)| stock.making == 0);
    let oldest = settled.min_by_key(|(_, stock)| stock.wanted).map(|(bytes, _)| *bytes)?;
    stocks.remove(&oldest)
}

fn mount(device: &Path) -> io::Result<OwnedFd> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", device)?;
    // What a function deletes goes back to the worker's disk.
    rustix::mount::fsconfig_set_flag(&context, "discard")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let root = rustix::fs::openat(&mount, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // What ext4's own tools make, and Lambda's /tmp does not have.
    match rustix::fs::unlinkat(&root, "lost+found", AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    rustix::fs::fchmod(root, Mode::from(0o1777))?;
    Ok(mount)
}
