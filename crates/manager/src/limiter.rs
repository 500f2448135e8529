//! How many requests at once one instance can really bear: a limit that follows what the instance's latency says.
//!
//! Overloading one instance is the classic failure of giving it more than one request: past some point its latency
//! explodes, and every request in it fails together. The controller is the gradient kind that Envoy's adaptive
//! concurrency filter made common (envoyproxy.io, "Adaptive Concurrency"): the limit moves by the ratio of the latency
//! without load to the latency under load, and the former is measured again now and then by giving the instance little.
//! As in TCP (RFC 5681) growth is fast until the first trouble and by one after that; fast here means by a quarter, for a
//! service that is overrun twofold may take minutes to recover.
//!
//! What differs from Envoy, and why: any request that ran nearly alone counts towards the latency without load, so an
//! instance that is not always full is never throttled in order to measure; that latency belongs to the revision, so a
//! new instance begins where its siblings are; the limit is of one instance, not of a cluster; and what is less than the noise of
//! the kernel's scheduler is no trouble.

use std::time::Duration;

use hearth_types::Time;

use crate::instance::InstanceKey;

/// Where the first instance of a revision begins; growth finds the rest.
const FIRST_LIMIT: u32 = 8;
/// Latency under load may be so many times that without before the limit falls.
const TOLERANCE: u64 = 2;
/// And it may always be so much longer: less than a turn of the kernel's scheduler on a busy core (`base_slice_ns`, 0.7 to 3 ms) says
/// nothing of the function. Without this, one that answers in a tenth of that is throttled for having neighbours.
const NOISE_NS: u64 = 1_000_000;
/// Latencies that make a window, at least; and one window's worth is as many as the limit.
const WINDOW: u32 = 10;
/// Windows of trouble in a row before the limit falls: one alone is often chance.
const STRIKES: u8 = 2;
/// What an instance is given while its latency without load is measured, at most, and how many answers that takes.
const MEASURING_LIMIT: u32 = 3;
const MEASURING_ANSWERS: u32 = 6;
/// A latency without load that is older than this is measured again.
const STALE: Duration = Duration::from_secs(60);

/// What a revision's instances have learned together.
#[derive(Debug)]
pub(crate) struct Learned {
    /// Mean latency of requests that ran nearly alone, nanoseconds; 0 while unknown.
    alone_ns: u64,
    /// Requests in that mean, up to the weight of the past in it.
    answers: u64,
    /// When the last of them ended.
    measured: Time,
    /// The instance that is given little in order to measure.
    measuring: Option<InstanceKey>,
    /// The limit that an instance last settled on.
    limit: u32,
}

/// One instance's limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limiter {
    limit: u32,
    /// Answers in the window, the sum of their latencies in nanoseconds, and the highest load that any was given at.
    answers: u32,
    sum_ns: u64,
    peak: u32,
    strikes: u8,
    /// Whether it has seen no trouble yet, and grows fast.
    untroubled: bool,
    /// Requests given out before this tell of the limit before.
    changed: Time,
    /// While measuring: answers to come, and the limit to go back to.
    measuring: Option<(u32, u32)>,
}

/// A request that ended well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    /// When its slot was given out.
    pub(crate) since: Time,
    /// When it ended.
    pub(crate) until: Time,
    /// Requests in the instance when it came, itself included.
    pub(crate) load: u32,
}

impl Learned {
    pub(crate) const fn new() -> Self {
        Self { alone_ns: 0, answers: 0, measured: Time::ZERO, measuring: None, limit: FIRST_LIMIT }
    }

    /// Where an instance of a revision with this hard limit begins.
    pub(crate) fn begin(&self, now: Time, hard: u32) -> Limiter {
        let limit = self.limit.clamp(1, hard.max(1));
        Limiter {
            limit,
            answers: 0,
            sum_ns: 0,
            peak: 0,
            strikes: 0,
            untroubled: true,
            changed: now,
            measuring: None,
        }
    }

    /// An instance is gone, and with it a measurement that it made.
    pub(crate) fn gone(&mut self, key: InstanceKey) {
        if self.measuring == Some(key) {
            self.measuring = None;
        }
    }

    /// The past weighs 15 to 1 at most, so the mean follows a function that changes.
    fn alone(&mut self, now: Time, latency_ns: u64) {
        let weight = self.answers.min(15);
        let sum = u128::from(self.alone_ns) * u128::from(weight) + u128::from(latency_ns);
        self.alone_ns = u64::try_from(sum / u128::from(weight + 1)).unwrap_or(u64::MAX);
        self.answers = weight + 1;
        self.measured = now;
    }

    /// The longest mean latency under load that is no trouble.
    fn bearable_ns(&self) -> u64 {
        self.alone_ns.saturating_mul(TOLERANCE).max(self.alone_ns.saturating_add(NOISE_NS))
    }

    fn is_stale(&self, now: Time) -> bool {
        self.answers < u64::from(MEASURING_ANSWERS) || now - self.measured > STALE
    }
}

impl Limiter {
    /// Requests at once that the instance is given now; at least 1.
    pub(crate) const fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes note of an answer. The limit may be another afterwards.
    pub(crate) fn served(&mut self, key: InstanceKey, served: Served, learned: &mut Learned, hard: u32) {
        let now = served.until;
        if served.since < self.changed {
            return;
        }
        let latency_ns = u64::try_from((now - served.since).as_nanos()).unwrap_or(u64::MAX);
        if let Some((left, back)) = self.measuring {
            learned.alone(now, latency_ns);
            self.measuring = Some((left.saturating_sub(1), back));
            if left <= 1 {
                self.measuring = None;
                learned.measuring = None;
                self.set(now, back, learned);
            }
            return;
        }
        if served.load <= (self.limit / 4).max(1) {
            learned.alone(now, latency_ns);
        }
        self.answers += 1;
        self.sum_ns = self.sum_ns.saturating_add(latency_ns);
        self.peak = self.peak.max(served.load);
        let window = self.limit.max(WINDOW);
        // So slow already that the rest of the window cannot make it bearable: not waited for.
        let hopeless = learned.bearable_ns().saturating_mul(2).saturating_mul(u64::from(window));
        if self.answers >= window || learned.alone_ns > 0 && self.sum_ns > hopeless {
            self.close_window(key, now, learned, hard);
        }
    }

    fn close_window(&mut self, key: InstanceKey, now: Time, learned: &mut Learned, hard: u32) {
        let mean_ns = self.sum_ns / u64::from(self.answers.max(1));
        let (full, loaded) = (self.peak >= self.limit, self.peak > self.limit / 2);
        (self.answers, self.sum_ns, self.peak) = (0, 0, 0);
        if !loaded || self.limit == 1 && !full {
            return;
        }
        if learned.is_stale(now) && self.limit > 1 {
            if learned.measuring.is_none() {
                learned.measuring = Some(key);
                self.measuring = Some((MEASURING_ANSWERS, self.limit));
                self.limit = MEASURING_LIMIT.min(self.limit / 4).max(1);
                self.changed = now;
            }
            return;
        }
        let bearable_ns = learned.bearable_ns();
        if mean_ns <= bearable_ns {
            self.strikes = 0;
            if full && self.limit < hard {
                let more = if self.untroubled { (self.limit / 4).max(1) } else { 1 };
                self.set(now, self.limit.saturating_add(more).min(hard), learned);
            }
            return;
        }
        self.strikes += 1;
        // Far beyond what can be chance, nothing is waited for.
        if self.strikes >= STRIKES || mean_ns > bearable_ns.saturating_mul(2) {
            let gradient = u128::from(self.limit) * u128::from(bearable_ns) / u128::from(mean_ns.max(1));
            let fallen = u32::try_from(gradient).unwrap_or(self.limit);
            self.untroubled = false;
            self.set(now, fallen.max(self.limit / 2).clamp(1, hard), learned);
        }
    }

    fn set(&mut self, now: Time, limit: u32, learned: &mut Learned) {
        self.limit = limit;
        self.strikes = 0;
        self.changed = now;
        learned.limit = limit;
    }
}

#[cfg(test)]
mod tests;
