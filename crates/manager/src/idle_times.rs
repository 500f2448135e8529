//! What a revision's idle times say about how long an instance is worth keeping, and when to have one ready again.
//!
//! The policy is the hybrid histogram of "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020): a histogram of the
//! times between two uses gives two windows, the pre-warm window for which no instance is kept after a use, and the
//! keep-alive window for which one is kept after that; without enough history a fixed time is kept. The paper takes
//! fixed percentiles of the histogram for the windows' ends. Here they are those of the least expected cost, where an
//! idle second costs a second and a cold start as much as the fixed time would have cost: the break-even of the ski
//! rental problem (Karlin et al., SODA 1990), so that the learned windows are never expected to cost more than the fixed
//! time, whatever the shape of the histogram. Bins are parts of octaves, where the paper has minutes.
//!
//! Where the paper waits until a histogram is representative, here every time stands for others like it: the fewer there
//! are and the more they differ, the wider it is spread over its neighbours (a kernel density estimate with Silverman's
//! width, in the logarithm of time). So the first few times of a function that is rarely called already tell something,
//! and two that agree make a timer.

use std::time::Duration;

use hearth_types::Time;

/// Octaves from one second to 2^14 of them (4.5 hours, the paper has 4), and the bins in each; the first bin is all below.
const OCTAVES: usize = 14;
const PARTS: usize = 16;
const BINS: usize = OCTAVES * PARTS + 1;
/// A second has so many units, as many as an octave has parts, so that the parts are whole numbers.
const UNITS: u64 = PARTS as u64;
/// From so many times on each stands for itself alone.
const ENOUGH: u32 = 64;
/// How far the first time may be from the next, as a standard deviation in bins: one and a half octaves.
const FIRST_DEVIATION: u64 = 24;
/// Where times are spread widely, windows are tried that begin and end at every so many bins.
const COARSE: usize = 4;
/// When so many are in it, all are halved, so that old habits fade.
const MOST: u32 = 1_000;
/// Instances that ended idle whose last use is remembered.
const GHOSTS: usize = 16;
/// What one start costs besides the wait, as a part of what a cold start costs: a pre-warmed instance pays that too.
const START_SHARE: u64 = 10;
/// The weight of one time; what never happened has one a bin.
const TIME_WEIGHT: u64 = 1 << 14;
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

    /// The windows, once a time is known, when a cold start is worth this much idle time.
    pub(crate) fn windows(&mut self, worth: Duration) -> Option<Windows> {
        if self.total == 0 {
            return None;
        }
        if self.windows.is_none() || self.total >= self.computed_at + (self.computed_at / 8).max(1) {
            self.windows = Some(self.cheapest(worth));
            self.computed_at = self.total;
        }
        self.windows
    }

    /// How many bins to each side a time is spread over.
    fn spread(&self) -> usize {
        if self.total >= ENOUGH {
            return 0;
        }
        let n = u64::from(self.total.max(1));
        let seen = |bin: usize| u64::from(if bin == BINS { self.beyond } else { self.bins[bin] });
        let sum: u64 = (0..=BINS).map(|bin| seen(bin) * bin as u64).sum();
        let squares: u64 = (0..=BINS).map(|bin| seen(bin) * (bin * bin) as u64).sum();
        // The sum of squared deviations, and with it the variance; what is believed before counts as a tenth of a time,
        // and ever less of one.
        let deviations = squares.saturating_sub(sum * sum / n);
        let variance = (FIRST_DEVIATION * FIRST_DEVIATION / (n * n) + 10 * deviations) / (10 * n - 9);
        // A triangle of the same variance is sqrt(6) to each side; Silverman's rule narrows it by n^(-1/5).
        let narrower = match n {
            0..4 => 4,
            4..16 => 3,
            _ => 2,
        };
        usize::try_from((6 * variance).isqrt() * narrower / 4).unwrap_or(BINS).min(BINS)
    }

    /// The weight of each bin, and of all beyond: every time has the same, spread over its neighbourhood; and every bin
    /// has a little, so that what never happened may.
    fn weights(&self, spread: usize) -> [u64; BINS + 1] {
        let mut weights = [1; BINS + 1];
        let whole = ((spread + 1) * (spread + 1)) as u64;
        for bin in 0..=BINS {
            let times = u64::from(if bin == BINS { self.beyond } else { self.bins[bin] });
            if times == 0 {
                continue;
            }
            let one = times * TIME_WEIGHT / whole;
            for distance in 0..=spread {
                let weight = one * (spread + 1 - distance) as u64;
                weights[bin.saturating_sub(distance)] += weight;
                if distance > 0 {
                    weights[(bin + distance).min(BINS)] += weight;
                }
            }
        }
        weights
    }

    /// The windows of the least expected cost.
    fn cheapest(&self, worth: Duration) -> Windows {
        let worth = units(worth).clamp(1, 1 << 28);
        let spread = self.spread();
        let weights = self.weights(spread);
        // Before each bin: the weight of all times, and those times' sum.
        let (mut before, mut sums) = ([0_u64; BINS + 1], [0_u64; BINS + 1]);
        for bin in 0..BINS {
            before[bin + 1] = before[bin] + weights[bin];
            sums[bin + 1] = sums[bin] + weights[bin] * u64::midpoint(begin(bin), begin(bin + 1));
        }
        let all = before[BINS] + weights[BINS];
        let worth_trying =
            |bin: usize| weights[bin] > 1 && (spread < 2 * COARSE || bin.is_multiple_of(COARSE));
        let mut best = (all * worth, 0, 0);
        for first in std::iter::once(0).chain((1..BINS).filter(|&bin| worth_trying(bin))) {
            let from = begin(first) * (100 - MARGIN) / 100;
            let start = if first == 0 { 0 } else { (all - before[first]) * (worth / START_SHARE) };
            for last in (first..BINS).filter(|&bin| worth_trying(bin)) {
                let until = begin(last + 1) * (100 + MARGIN) / 100;
                let (inside, later) = (before[last + 1] - before[first], all - before[last + 1]);
                // All times but those before the window wait in it, until they come or it ends.
                let held = sums[last + 1] - sums[first] - inside * from + later * (until - from);
                let cost = (before[first] + later) * worth + held + start;
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
