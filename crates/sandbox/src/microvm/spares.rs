//! VMMs that have started and have no machine yet.
//!
//! Half of the time from the decision to a machine that runs is QEMU's own start. Where an instance was made, the next of the
//! same kind is likely, so its VMM is started ahead: jailed and under its limits, with the memory mapped and the disks open, it
//! waits for the state. It uses no CPU, and goes after a while if nothing comes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_rootfs::Image;
use hearth_types::Egress;
use tokio::net::UnixStream;

use super::Shared;
use super::sandbox::Seat;
use super::template::Template;
use super::vmm::Machine;
use crate::blank_disk::Disk;

/// One that nobody took for so long is ended.
const KEPT: Duration = Duration::from_secs(60);

/// What a VMM was started for.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) template: Arc<Template>,
    pub(super) code: Option<Image>,
    /// Shape of the scratch disk, bytes; that of a function's snapshot is a copy of the snapshot's.
    pub(super) scratch_bytes: u64,
    /// Its share of the CPU, thousandths.
    pub(super) cpu_millis: u32,
    pub(super) egress: Egress,
}

/// A VMM without a machine, and what it has open.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) machine: Machine,
    pub(super) link: UnixStream,
    pub(super) scratch: Disk,
    pub(super) seat: Option<Seat>,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    kind: Kind,
    spare: Spare,
}

/// Those that wait. At most as many as the machine has cores.
#[derive(Debug)]
pub(super) struct Spares {
    kept: Mutex<VecDeque<Kept>>,
    number: AtomicU64,
    most: usize,
}

// === impl Kind ===

impl Kind {
    fn is(&self, other: &Self) -> bool {
        let code = |kind: &Self| kind.code.as_ref().map(|code| code.id().to_owned());
        self.template.name == other.template.name
            && code(self) == code(other)
            && (self.scratch_bytes, self.cpu_millis) == (other.scratch_bytes, other.cpu_millis)
            && self.egress == other.egress
    }
}

// === impl Spares ===

impl Spares {
    pub(super) fn new() -> Self {
        let most = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { kept: Mutex::default(), number: AtomicU64::new(0), most }
    }

    /// A VMM of that kind that is still there.
    pub(super) fn take(&self, kind: &Kind) -> Option<Spare> {
        let mut kept = self.kept();
        let place = kept.iter().position(|kept| kept.kind.is(kind))?;
        let spare = kept.remove(place)?.spare;
        drop(kept);
        // One that ended by itself is as good as none.
        (!spare.machine.process.has_ended()).then_some(spare)
    }

    /// Starts one in the background, unless there is one, or instances are being made that need the CPU more.
    pub(super) fn refill(shared: &Arc<Shared>, kind: Kind) {
        if !shared.vmm.can_wait() || shared.spares.kept().iter().any(|kept| kept.kind.is(&kind)) {
            return;
        }
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let Ok(_turn) = shared.starting.try_acquire() else { return };
            let number = shared.spares.number.fetch_add(1, Ordering::Relaxed);
            match super::sandbox::start_spare(&shared, &kind, number).await {
                Ok(spare) => shared.spares.keep(&shared, Kept { number, kind, spare }),
                Err(error) => tracing::debug!(%error, "no VMM could be started ahead"),
            }
        });
    }

    fn keep(&self, shared: &Arc<Shared>, new: Kept) {
        let number = new.number;
        let surplus = {
            let mut kept = self.kept();
            if shared.closed.load(Ordering::Acquire) {
                Some(new)
            } else {
                kept.push_back(new);
                if kept.len() > self.most { kept.pop_front() } else { None }
            }
        };
        end(surplus);
        let shared = Arc::downgrade(shared);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            let Some(shared) = shared.upgrade() else { return };
            let mut kept = shared.spares.kept();
            let place = kept.iter().position(|kept| kept.number == number);
            let old = place.and_then(|place| kept.remove(place));
            drop(kept);
            end(old);
        });
    }

    /// Ends all of them, for good if the driver is closed. Blocks.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.kept());
        drop(all);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends one. Its end takes a moment, which is not to be had where it was noticed.
fn end(kept: Option<Kept>) {
    if let Some(kept) = kept {
        tokio::task::spawn_blocking(move || drop(kept));
    }
}
