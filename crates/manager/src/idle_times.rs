//! What a revision's idle times say about how long an instance is worth keeping, and when to have one ready again.
//!
//! The policy is the hybrid histogram of "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020): a histogram of the
//! times between two uses gives two windows, the pre-warm window for which no instance is kept after a use, and the
//! keep-alive window for which one is kept after that; without enough history a fixed time is kept. The paper takes
//! fixed percentiles of the histogram for the windows' ends. Here they are those of the least expected cost, where an
//! idle second costs a second and a cold start as much as the fixed time would have cost: the break-even of the ski
//! rental problem (Karlin et al., SODA 1990), so that the learned windows are never expected to cost more than the fixed
//! time, whatever the shape of the histogram. Bins are parts of octaves, where the paper has minutes.

use std::time::Duration;

use hearth_types::Time;

/// Octaves from one second to 2^14 of them (4.5 hours, the paper has 4), and the bins in each; the first bin is all below.
const OCTAVES: usize = 14;
const PARTS: usize = 16;
const BINS: usize = OCTAVES * PARTS + 1;
/// A second has so many units, as many as an octave has parts, so that the parts are whole numbers.
const UNITS: u64 = PARTS as u64;
/// Times known before the histogram is believed.
const LEAST: u32 = 4;
/// When so many are in it, all are halved, so that old habits fade.
const MOST: u32 = 1_000;
/// Instances that ended idle whose last use is remembered.
const GHOSTS: usize = 16;
/// What one start costs besides the wait, as a part of what a cold start costs: a pre-warmed instance pays that too.
const START_SHARE: u64 = 10;
/// Both windows get this margin, in percent. The paper has 10, with bins that are coarser where times are short.
const MARGIN: u64 = 3;

/// From the end of a use: nothing is kept until `prewarm`, an instance is kept from there until `keep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) prewarm: Duration,
    pub(crate) keep: Duration,
}

/// The histogram, and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct IdleTimes {
    bins: [u16; BINS],
    beyond: u16,
    total: u32,
    /// Computed when the total was this.
    computed_at: u32,
    windows: Option<Windows>,
    /// Last uses of instances that ended idle, oldest first.
    ghosts: Vec<Time>,
}

/// A time in units.
fn units(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(UNITS) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// So many units.
fn time(units: u64) -> Duration {
    Duration::from_nanos(units.saturating_mul(1_000_000_000 / UNITS))
}

/// The bin of a time, if it has one.
fn bin(time: Duration) -> Option<usize> {
    let units = units(time);
    // The octave is where the highest bit is, the part the bits after it.
    let octave = units.checked_ilog2().and_then(|bit| bit.checked_sub(PARTS.ilog2()));
    let Some(octave) = octave else { return Some(0) };
    let part = usize::try_from(units >> octave).unwrap_or(usize::MAX) % PARTS;
    let bin = octave as usize * PARTS + part + 1;
    (bin < BINS).then_some(bin)
}

/// Where a bin begins, in units.
fn begin(bin: usize) -> u64 {
    let Some(place) = bin.checked_sub(1) else { return 0 };
    ((PARTS + place % PARTS) as u64) << (place / PARTS)
}

impl IdleTimes {
    pub(crate) const fn new() -> Self {
        Self { bins: [0; BINS], beyond: 0, total: 0, computed_at: 0, windows: None, ghosts: Vec::new() }
    }

    /// The longest time that a histogram can tell from another.
    pub(crate) fn span() -> Duration {
        time(begin(BINS))
    }

    /// An instance, or one in its stead, was used again after this time. True if the windows are due to be computed anew.
    pub(crate) fn record(&mut self, time: Duration) {
        if self.total >= MOST {
            self.bins.iter_mut().for_each(|count| *count /= 2);
            self.beyond /= 2;
            self.total =
                self.bins.iter().map(|&count| u32::from(count)).sum::<u32>() + u32::from(self.beyond);
            self.computed_at = self.total;
        }
        match bin(time) {
            Some(bin) => self.bins[bin] += 1,
            None => self.beyond += 1,
        }
        self.total += 1;
    }

    /// An instance that was last used then ended for want of use.
    pub(crate) fn ended(&mut self, last_used: Time) {
        if self.ghosts.len() == GHOSTS {
            self.ghosts.remove(0);
        }
        let at = self.ghosts.partition_point(|ghost| *ghost <= last_used);
        self.ghosts.insert(at, last_used);
    }

    /// The last use that a new instance goes on from: had the last one been kept, it would have served.
    pub(crate) fn revive(&mut self) -> Option<Time> {
        self.ghosts.pop()
    }

    /// When the last instance that ended was used.
    pub(crate) fn last_ghost(&self) -> Option<Time> {
        self.ghosts.last().copied()
    }

    /// The windows, once there is enough to tell, when a cold start is worth this much idle time.
    pub(crate) fn windows(&mut self, worth: Duration) -> Option<Windows> {
        if self.total < LEAST {
            return None;
        }
        if self.windows.is_none() || self.total >= self.computed_at + (self.computed_at / 8).max(1) {
            self.windows = Some(self.cheapest(worth));
            self.computed_at = self.total;
        }
        self.windows
    }

    /// The windows of the least expected cost. Every bin has a little weight, so that what never happened may.
    fn cheapest(&self, worth: Duration) -> Windows {
        let worth = units(worth).clamp(1, 1 << 32);
        // Before each bin: the weight of all times, and those times' sum.
        let (mut weights, mut sums) = ([0_u64; BINS + 1], [0_u64; BINS + 1]);
        for bin in 0..BINS {
            let weight = u64::from(self.bins[bin]) * BINS as u64 + 1;
            weights[bin + 1] = weights[bin] + weight;
            sums[bin + 1] = sums[bin] + weight * u64::midpoint(begin(bin), begin(bin + 1));
        }
        let all = weights[BINS] + u64::from(self.beyond) * BINS as u64 + 1;
        let seen = || (0..BINS).filter(|&bin| self.bins[bin] > 0);
        let mut best = (all * worth, 0, 0);
        for first in std::iter::once(0).chain(seen().filter(|&bin| bin > 0)) {
            let from = begin(first) * (100 - MARGIN) / 100;
            let start = if first == 0 { 0 } else { (all - weights[first]) * (worth / START_SHARE) };
            for last in seen().filter(|&bin| bin >= first) {
                let until = begin(last + 1) * (100 + MARGIN) / 100;
                let (inside, later) = (weights[last + 1] - weights[first], all - weights[last + 1]);
                // All times but those before the window wait in it, until they come or it ends.
                let held = sums[last + 1] - sums[first] - inside * from + later * (until - from);
                let cost = (weights[first] + later) * worth + held + start;
                if cost < best.0 {
                    best = (cost, from, until);
                }
            }
        }
        Windows { prewarm: time(best.1), keep: time(best.2) }
    }
}

#[cfg(test)]
mod tests;
