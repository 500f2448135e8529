//! When requests of one function come: kinds of arrival, and the source that draws the next one.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::chance::{Chance, Stream};
use crate::units::{DAY, HOUR, SECOND, whole};
use crate::workload::Function;

/// Nanoseconds in a minute.
const MINUTE: u64 = 60 * SECOND;

/// How often requests come at each hour of the day against the day's mean: quiet nights, busy afternoons. The shape and
/// the swing of about two to one are those of the whole platform in "Serverless in the Wild" (ATC'20), figure 4.
const HOURS: [f64; 24] = [
    0.74, 0.70, 0.68, 0.67, 0.68, 0.72, 0.79, 0.90, 1.03, 1.15, 1.24, 1.30, 1.33, 1.34, 1.33, 1.30, 1.25,
    1.18, 1.10, 1.02, 0.95, 0.88, 0.83, 0.89,
];

/// When requests of a function come.
#[derive(Clone, Debug)]
pub(crate) enum Arrivals {
    /// One every `period`, the first at `phase`; nanoseconds.
    Periodic { period: u64, phase: u64 },
    /// Independent gaps with the given mean, nanoseconds. `daily` makes nights quiet.
    Renewal { mean_gap: f64, gaps: Gaps, daily: bool },
    /// How many come in which minute, from a trace; minutes without any are left out.
    Minutes(Arc<[(u32, u32)]>),
    /// Each request of a trace: start and duration, microseconds.
    Recorded(Arc<[(u64, u64)]>),
}

/// How gaps of mean 1 are distributed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gaps {
    /// Those of a Poisson process.
    Exponential,
    /// With mu and sigma of the logarithm.
    LogNormal(f64, f64),
}

impl Gaps {
    /// Gaps with this coefficient of variation: those of a Poisson process for 1, else log-normal ones, nearly regular
    /// when it is small and in clumps at every scale when it is large.
    pub(crate) fn varying(variation: f64) -> Self {
        if variation == 1.0 {
            return Self::Exponential;
        }
        let variance = libm::log1p(variation * variation);
        Self::LogNormal(-variance / 2.0, libm::sqrt(variance))
    }

    fn draw(self, chance: &mut Chance) -> f64 {
        match self {
            Self::Exponential => chance.exponential(),
            Self::LogNormal(mu, sigma) => chance.log_normal(mu, sigma),
        }
    }
}

impl Arrivals {
    /// How many requests are to be expected before `end`.
    pub(crate) fn expected(&self, end: u64) -> f64 {
        let count = match self {
            Self::Periodic { period, phase } if *phase < end => 1 + (end - 1 - phase) / (*period).max(1),
            Self::Periodic { .. } => 0,
            Self::Renewal { mean_gap, .. } => return end as f64 / mean_gap,
            Self::Minutes(minutes) => {
                let before = minutes.iter().take_while(|(minute, _)| u64::from(*minute) * MINUTE < end);
                before.map(|(_, count)| u64::from(*count)).sum()
            }
            Self::Recorded(requests) => requests.partition_point(|(at, _)| at * 1_000 < end) as u64,
        };
        count as f64
    }
}

/// A request to come: when, and how long it runs; nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: u64,
    pub(crate) runs: u64,
}

/// Draws the requests of one function one after the other.
#[derive(Debug)]
pub(crate) struct Source {
    chance: Chance,
    /// When the last one came.
    at: u64,
    /// How many came of the current minute, and which entry of a trace is next.
    done: u32,
    cursor: usize,
    started: bool,
}

impl Source {
    pub(crate) fn new(seed: u64, index: u32) -> Self {
        Self { chance: Chance::new(seed, Stream::Function(index)), at: 0, done: 0, cursor: 0, started: false }
    }

    /// The next request before `end`; never one earlier than that before it.
    pub(crate) fn next(&mut self, function: &Function, end: u64) -> Option<Arrival> {
        let mut recorded = None;
        let at = match &function.arrivals {
            Arrivals::Periodic { period, phase } => self.periodic(*period, *phase),
            Arrivals::Renewal { mean_gap, gaps, daily } => self.renewal(*mean_gap, *gaps, *daily, end),
            Arrivals::Minutes(minutes) => self.in_minute(minutes),
            Arrivals::Recorded(requests) => requests.get(self.cursor).map(|&(at, runs)| {
                self.cursor += 1;
                recorded = Some(runs.saturating_mul(1_000));
                at.saturating_mul(1_000)
            }),
        }?;
        if at >= end {
            return None;
        }
        self.at = at;
        let runs = recorded.unwrap_or_else(|| function.durations.draw(&mut self.chance));
        Some(Arrival { at, runs: runs.min(crate::workload::LONGEST_RUN_NANOS) })
    }

    fn periodic(&mut self, period: u64, phase: u64) -> Option<u64> {
        if self.started {
            return self.at.checked_add(period.max(1));
        }
        self.started = true;
        Some(phase)
    }

    fn renewal(&mut self, mean_gap: f64, gaps: Gaps, daily: bool, end: u64) -> Option<u64> {
        let mut gap = gaps.draw(&mut self.chance) * mean_gap;
        if !self.started {
            // The first gap began at some moment before the start.
            self.started = true;
            gap *= self.chance.unit();
        }
        if !daily {
            return self.at.checked_add(whole(gap));
        }
        // Time runs faster in busy hours: the gap is used up hour by hour.
        let mut at = self.at;
        while at < end {
            let hour = usize::try_from(at % DAY / HOUR).unwrap_or(0);
            let left = HOUR - at % HOUR;
            let held = left as f64 * HOURS[hour];
            if gap < held {
                return Some(at + whole(gap / HOURS[hour]));
            }
            gap -= held;
            at += left;
        }
        None
    }

    /// A minute's requests share it evenly, each at a random moment of its part.
    fn in_minute(&mut self, minutes: &[(u32, u32)]) -> Option<u64> {
        let &(minute, count) = minutes.get(self.cursor)?;
        let part = MINUTE as f64 / f64::from(count.max(1));
        let within = whole((f64::from(self.done) + self.chance.unit()) * part).min(MINUTE - 1);
        self.done += 1;
        if self.done >= count {
            (self.done, self.cursor) = (0, self.cursor + 1);
        }
        Some((u64::from(minute) * MINUTE + within).max(self.at))
    }
}
