//! Why no worker takes an instance: for each filter, how many workers it held back and the numbers of the best of them.

use std::fmt;

use hearth_types::{Isolation, WorkerId};

use crate::pressure::PressureLevel;

/// What one worker lacks for an instance. Later variants are closer to success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It takes no new instances.
    Draining,
    /// It does not have the driver.
    Isolation {
        /// The driver.
        needed: Option<Isolation>,
    },
    /// It does not have the labels.
    Labels,
    /// Its machine is pressed; that passes.
    Pressure {
        /// How hard.
        level: PressureLevel,
    },
    /// It has as many instances as it may.
    Instances {
        /// So many.
        placed: u32,
        /// The most.
        limit: u32,
    },
    /// Its memory is promised away.
    Memory {
        /// Promised, MiB.
        promised_mb: u64,
        /// The most it promises, MiB.
        limit_mb: u64,
        /// What the instance needs, MiB.
        needed_mb: u64,
    },
    /// Its CPU is promised away.
    Cpu {
        /// Promised, thousandths of a vCPU.
        promised_millis: u64,
        /// The most it promises, thousandths of a vCPU.
        limit_millis: u64,
        /// What the instance needs, thousandths of a vCPU.
        needed_millis: u64,
    },
}

impl Lack {
    /// Which filter it is, and how much was missing there.
    pub(crate) const fn rank(self) -> (usize, u64) {
        match self {
            Self::Draining => (0, 0),
            Self::Isolation { .. } => (1, 0),
            Self::Labels => (2, 0),
            Self::Pressure { level } => (3, level as u64),
            Self::Instances { .. } => (4, 1),
            Self::Memory { promised_mb, limit_mb, needed_mb } => {
                (5, promised_mb.saturating_add(needed_mb).saturating_sub(limit_mb))
            }
            Self::Cpu { promised_millis, limit_millis, needed_millis } => {
                (6, promised_millis.saturating_add(needed_millis).saturating_sub(limit_millis))
            }
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("drains and takes no new instances"),
            Self::Isolation { needed: Some(needed) } => write!(f, "does not have the driver {needed}"),
            Self::Isolation { needed: None } => f.write_str("has no driver"),
            Self::Labels => f.write_str("does not have the labels that are asked for"),
            Self::Pressure { level } => {
                write!(f, "is under memory pressure ({level}) and takes no more instances")
            }
            Self::Instances { placed, limit } => write!(f, "{placed} of {limit} instances placed"),
            Self::Memory { promised_mb, limit_mb, needed_mb } => {
                write!(f, "{promised_mb} of {limit_mb} MB promised, {needed_mb} MB needed")
            }
            Self::Cpu { promised_millis, limit_millis, needed_millis } => {
                write!(f, "{promised_millis} of {limit_millis} CPU millis promised, {needed_millis} needed")
            }
        }
    }
}

/// The workers that one filter held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// How many.
    pub workers: usize,
    /// The one of them that lacks least.
    pub best: WorkerId,
    /// What that one lacks.
    pub lack: Lack,
}

/// Why no worker takes an instance. That none does is certain; the reasons are a sample when there are many workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoRoom {
    /// By filter, those nearest to success first. Empty when there is no worker at all.
    pub held_back: Vec<HeldBack>,
    /// Whether a worker would take the instance if others on it made way, or if its machine were pressed less.
    pub room_may_come: bool,
    /// How many workers there are; `held_back` counts all of them, or the few dozen that were looked at for it, always
    /// with the one that has the most memory left.
    pub workers: usize,
}

impl std::error::Error for NoRoom {}

impl NoRoom {
    /// Counts one more worker that cannot take the instance.
    pub(crate) fn add(&mut self, worker: &WorkerId, lack: Lack) {
        let (filter, missing) = lack.rank();
        let at = self.held_back.binary_search_by(|held| filter.cmp(&held.lack.rank().0));
        match at.map(|at| &mut self.held_back[at]) {
            Ok(held) => {
                held.workers += 1;
                if missing < held.lack.rank().1 {
                    held.best = worker.clone();
                    held.lack = lack;
                }
            }
            Err(at) => self.held_back.insert(at, HeldBack { workers: 1, best: worker.clone(), lack }),
        }
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.held_back.is_empty() {
            return f.write_str("no worker has joined");
        }
        let looked_at: usize = self.held_back.iter().map(|held| held.workers).sum();
        if looked_at < self.workers {
            write!(f, "none of {} workers has room; of {looked_at} looked at: ", self.workers)?;
        }
        for (i, HeldBack { workers, best, lack }) in self.held_back.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            match workers {
                1 => write!(f, "{separator}worker {best}: {lack}")?,
                _ => write!(f, "{separator}{workers} workers, the best of them {best}: {lack}")?,
            }
        }
        Ok(())
    }
}
