//! Workloads with the published distributions of Azure Functions, without their data.
//!
//! Source: Shahrad and others, "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large
//! Cloud Provider", USENIX ATC 2020.
//!
//! | what | from the paper | here |
//! |---|---|---|
//! | rates | eight orders of magnitude; 45 % of apps at most once an hour, 81 % at most once a minute (figure 5) | straight lines between those points on a logarithmic scale; only the rates of those above once a minute give way so that the total is as wanted |
//! | triggers | shares of functions and of invocations (figure 3) | drawn by the first; rates weighted by the quotient of both |
//! | gaps | of all apps a fifth is regular (timers, and a tenth of the others), few are Poisson, two fifths vary more (figure 6) | the same: see `Draft::variation`; what varies least and what varies most is log-uniform |
//! | durations | averages log-normal, mu -0.38, sigma 2.36 of seconds (figure 7) | the same as medians; within a function log-normal with sigma 0.5 |
//! | memory | Burr, c 11.652, k 0.221, lambda 107.083 MB (figure 8) | the same, within Lambda's bounds |
//! | functions per app | 54 % of apps have one, 95 % at most ten (figure 1) | the same; every app is an account |
//!
//! One departure: a function keeps at most `BUSIEST` instances busy on average, for rate and duration are drawn
//! independently here and their product is not bounded by what real accounts may run.

#[cfg(test)]
mod tests;

use hearth_types::Concurrency;

use super::arrivals::{Arrivals, Gaps};
use super::durations::Durations;
use super::{Function, MAX_FUNCTIONS, Workload, memory_for};
use crate::chance::{Chance, Stream};
use crate::units::{DAY, HOUR, SECOND, whole, whole_u32};

/// The median of the functions' durations, exp(-0.38) s, nanoseconds.
pub(crate) const MEDIAN_DURATION_NANOS: f64 = 0.684 * SECOND as f64;
/// Sigma of the logarithm of a single function's durations.
pub(crate) const DURATION_SIGMA_WITHIN: f64 = 0.5;
/// Half of the apps need less; the paper's own number for their maximum.
pub(crate) const MEDIAN_MEMORY_MB: u32 = 170;

/// Most instances that one function keeps busy on average.
const BUSIEST: f64 = 100.0;
/// Share of functions and invocations a day: the knots of the distribution of rates.
const RATES: [(f64, f64); 5] = [(0.0, 1.0), (0.45, 24.0), (0.81, 1_440.0), (0.99, 400_000.0), (1.0, 1e8)];
/// Once a minute, a day: above this, rates are moved for the total.
const HOT: f64 = 1_440.0;
/// Periods that people give timers, minutes.
const PERIODS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 360.0, 720.0, 1_440.0];

/// What is wanted of the generator.
#[derive(Clone, Copy, Debug)]
pub struct Generate {
    /// How many functions.
    pub functions: u32,
    /// How many requests, about, over the whole time.
    pub requests: u64,
    /// For how long requests come, hours.
    pub hours: u32,
    /// The seed.
    pub seed: u64,
}

/// What causes a function's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    Http,
    Queue,
    Event,
    Timer,
    /// Orchestration, storage and others.
    Other,
}

/// Each trigger's share of functions and of invocations, percent (figure 3 of the paper).
const TRIGGERS: [(Trigger, f64, f64); 5] = [
    (Trigger::Http, 55.0, 35.9),
    (Trigger::Queue, 15.2, 33.5),
    (Trigger::Event, 2.2, 24.7),
    (Trigger::Timer, 15.6, 2.0),
    (Trigger::Other, 11.9, 4.0),
];

impl Generate {
    /// Makes the workload.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let mut chance = Chance::new(self.seed, Stream::Generator);
        let count = self.functions.clamp(1, MAX_FUNCTIONS);
        let mut drafts: Vec<_> = (0..count).map(|_| Draft::new(&mut chance)).collect();
        let days = f64::from(self.hours.max(1)) / 24.0;
        fit(&mut drafts, self.requests as f64 / days);
        let mut apps = Apps::default();
        let functions = (0..count).zip(&drafts).map(|(index, draft)| {
            let (name, account) = (format!("generated-{index}").into(), apps.next(&mut chance));
            let used = chance.burr(11.652, 0.221, 107.083);
            let median = chance.log_normal(-0.38, 2.36) * SECOND as f64;
            // The mean of a log-normal is exp(sigma squared / 2) times its median.
            let longest = BUSIEST * DAY as f64
                / (draft.per_day * libm::exp(DURATION_SIGMA_WITHIN * DURATION_SIGMA_WITHIN / 2.0));
            Function {
                name,
                account,
                memory_mb: memory_for(used),
                arrivals: draft.arrivals(&mut chance),
                durations: Durations::log_normal(median.min(longest), DURATION_SIGMA_WITHIN),
                concurrency: Concurrency::default(),
                reserved: None,
                provisioned: 0,
            }
        });
        Workload {
            functions: functions.collect(),
            end: u64::from(self.hours.max(1)) * HOUR,
            origin: format!("generated: {count} functions, about {} requests", self.requests),
        }
    }
}

/// A function whose rate is not final.
struct Draft {
    trigger: Trigger,
    /// Invocations a day.
    per_day: f64,
}

impl Draft {
    fn new(chance: &mut Chance) -> Self {
        let total: f64 = TRIGGERS.iter().map(|(_, share, _)| share).sum();
        let mut at = chance.unit() * total;
        let mut drawn = TRIGGERS[0];
        for candidate in TRIGGERS {
            drawn = candidate;
            at -= candidate.1;
            if at < 0.0 {
                break;
            }
        }
        let (trigger, of_functions, of_invocations) = drawn;
        let rate = rate(chance.unit());
        if trigger == Trigger::Timer {
            let minutes = snap(1_440.0 / rate);
            return Self { trigger, per_day: 1_440.0 / minutes };
        }
        Self { trigger, per_day: rate * of_invocations / of_functions }
    }

    fn arrivals(&self, chance: &mut Chance) -> Arrivals {
        let mean_gap = DAY as f64 / self.per_day;
        if self.trigger == Trigger::Timer {
            let phase = whole(chance.unit() * mean_gap);
            return Arrivals::Periodic { period: whole(mean_gap).max(1), phase };
        }
        let variation = self.variation(chance);
        // People cause HTTP requests, and sleep; what is regular does not.
        let daily = self.trigger == Trigger::Http && variation >= 0.1;
        Arrivals::Renewal { mean_gap, gaps: Gaps::varying(variation), daily }
    }

    /// The coefficient of variation of the gaps. Queues and events come in bursts; that leaves a third of the others to vary
    /// more than a Poisson process, for the paper's two fifths of all.
    fn variation(&self, chance: &mut Chance) -> f64 {
        if matches!(self.trigger, Trigger::Queue | Trigger::Event) {
            return chance.log_uniform(1.0, 10.0);
        }
        match chance.unit() {
            share if share < 0.12 => 0.01,
            share if share < 0.61 => chance.log_uniform(0.1, 1.0),
            share if share < 0.66 => 1.0,
            _ => chance.log_uniform(1.0, 10.0),
        }
    }
}

/// The rate, a day, that this share of functions does not exceed.
fn rate(share: f64) -> f64 {
    let upper = RATES.iter().position(|&(at, _)| at > share).unwrap_or(RATES.len() - 1).max(1);
    let ((from, low), (to, high)) = (RATES[upper - 1], RATES[upper]);
    low * libm::pow(high / low, (share - from) / (to - from))
}

/// The usual period nearest to the given one, minutes.
fn snap(minutes: f64) -> f64 {
    let distance = |period: f64| libm::fabs(libm::log(period / minutes));
    PERIODS.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(1.0)
}

/// Moves the rates of hot functions so that all together come as often as wanted; if even those of the others are too
/// many, moves all. Timers keep their periods in the first case.
fn fit(drafts: &mut [Draft], wanted_per_day: f64) {
    let is_fixed = |draft: &Draft| draft.trigger == Trigger::Timer || draft.per_day <= HOT;
    let moved = |draft: &Draft, exponent: f64| HOT * libm::pow(draft.per_day / HOT, exponent);
    let total = |drafts: &[Draft], exponent: f64| -> f64 {
        let rates = drafts.iter().map(|d| if is_fixed(d) { d.per_day } else { moved(d, exponent) });
        rates.sum()
    };
    if total(drafts, 0.0) >= wanted_per_day || drafts.iter().all(is_fixed) {
        let factor = wanted_per_day.max(1.0) / total(drafts, 1.0).min(total(drafts, 0.0)).max(1.0);
        for draft in drafts {
            let per_day = if is_fixed(draft) { draft.per_day } else { moved(draft, 0.0) };
            draft.per_day = per_day * factor;
        }
        return;
    }
    let (mut low, mut high) = (0.0, 4.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if total(drafts, middle) < wanted_per_day { low = middle } else { high = middle }
    }
    for draft in drafts {
        if !is_fixed(draft) {
            draft.per_day = moved(draft, low);
        }
    }
}

/// Gives functions to apps.
#[derive(Default)]
struct Apps {
    current: u32,
    left: u32,
}

impl Apps {
    fn next(&mut self, chance: &mut Chance) -> u32 {
        if self.left == 0 {
            self.current += 1;
            self.left = match chance.unit() {
                share if share < 0.54 => 1,
                share if share < 0.95 => 2 + chance.below(9),
                _ => whole_u32(chance.log_uniform(11.0, 100.0)),
            };
        }
        self.left -= 1;
        self.current - 1
    }
}
