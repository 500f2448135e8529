//! What is counted during a run.

use std::collections::BTreeMap;

use hearth_manager::Savings;
use hearth_types::{EndReason, StartReason};

use crate::engine::Progress;
use crate::histogram::Histogram;
use crate::outcome::{Held as HeldMemory, Instances, Outcome, Sample, Spared, Waits};
use crate::policy::Policy;
use crate::units::HOUR;
use crate::workload::Workload;

/// Samples of a run: every ten minutes of a day.
const SAMPLES: u32 = 144;

/// What an instance's memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Starting,
    Idle,
    Busy,
}

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) completed: u64,
    pub(super) lost: u64,
    /// Requests whose init phase failed.
    pub(super) failed: u64,
    pub(super) hibernated: u64,
    pub(super) pressed: u64,
    pub(super) not_placed: u64,
    pub(super) workers_lost: u64,
    requests: u64,
    cold: u64,
    refused: BTreeMap<&'static str, u64>,
    ended: BTreeMap<&'static str, u64>,
    started_for: BTreeMap<&'static str, u64>,
    starts: u64,
    starts_failed: u64,
    instances: u64,
    peak_instances: u64,
    /// Of all served requests, and of those that did not find a free slot; nanoseconds.
    waits: Histogram,
    waited: Histogram,
    /// MiB, by `Held`.
    memory: [u64; 3],
    peak_memory: u64,
    /// MiB times nanoseconds, by `Held`, until `end`.
    held: [u128; 3],
    /// Requests and cold starts by function.
    functions: Vec<(u64, u64)>,
    last: u64,
    end: u64,
    next_sample: u64,
    samples: Vec<Sample>,
}

impl Books {
    pub(super) fn new(workload: &Workload) -> Self {
        Self {
            completed: 0,
            lost: 0,
            failed: 0,
            hibernated: 0,
            pressed: 0,
            not_placed: 0,
            workers_lost: 0,
            requests: 0,
            cold: 0,
            refused: BTreeMap::new(),
            ended: BTreeMap::new(),
            started_for: BTreeMap::new(),
            starts: 0,
            starts_failed: 0,
            instances: 0,
            peak_instances: 0,
            waits: Histogram::new(),
            waited: Histogram::new(),
            memory: [0; 3],
            peak_memory: 0,
            held: [0; 3],
            functions: vec![(0, 0); workload.functions.len()],
            last: 0,
            end: workload.end,
            next_sample: workload.end / u64::from(SAMPLES),
            samples: Vec::with_capacity(SAMPLES as usize),
        }
    }

    /// Lets time pass. Says whether a sample was due.
    pub(super) fn advance(&mut self, now: u64) -> bool {
        let mut sampled = false;
        while self.next_sample <= now && self.samples.len() < SAMPLES as usize {
            self.integrate(self.next_sample);
            self.sample();
            sampled = true;
        }
        self.integrate(now);
        sampled
    }

    /// What came after the last sample belongs to the last one, so that sums over samples are right.
    pub(super) fn finish(&mut self) {
        self.advance(self.end);
        let (requests, cold, refused) = self.totals();
        if let Some(last) = self.samples.last_mut() {
            (last.requests, last.cold_starts, last.refused) = (requests, cold, refused);
        }
        let mut before = (0, 0, 0);
        for sample in &mut self.samples {
            let totals = (sample.requests, sample.cold_starts, sample.refused);
            sample.requests -= before.0;
            sample.cold_starts -= before.1;
            sample.refused -= before.2;
            before = totals;
        }
    }

    fn totals(&self) -> (u64, u64, u64) {
        (self.requests, self.cold, self.refused())
    }

    fn sample(&mut self) {
        let (requests, cold_starts, refused) = self.totals();
        let [starting_mb, idle_mb, busy_mb] = self.memory;
        let instances = self.instances;
        self.samples.push(Sample {
            at_seconds: self.next_sample / crate::units::SECOND,
            requests,
            cold_starts,
            refused,
            instances,
            idle_mb: idle_mb + starting_mb,
            busy_mb,
        });
        let number = u128::from(self.samples.len() as u64 + 1);
        let at = u128::from(self.end) * number / u128::from(SAMPLES);
        self.next_sample = u64::try_from(at).unwrap_or(u64::MAX);
    }

    fn integrate(&mut self, now: u64) {
        let now = now.min(self.end);
        if now > self.last {
            let time = now - self.last;
            for (held, memory) in self.held.iter_mut().zip(self.memory) {
                *held += u128::from(memory) * u128::from(time);
            }
            self.last = now;
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let done = u32::try_from(self.samples.len()).unwrap_or(SAMPLES);
        Progress { done, of: SAMPLES, requests: self.requests }
    }

    pub(super) const fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    pub(super) fn request(&mut self, function: u32) {
        self.requests += 1;
        self.functions[function as usize].0 += 1;
    }

    pub(super) fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// A request got its slot after so many nanoseconds.
    pub(super) fn serve(&mut self, function: u32, waited: u64, cold: bool) {
        self.waits.record(waited);
        if waited > 0 {
            self.waited.record(waited);
        }
        if cold {
            self.cold += 1;
            self.functions[function as usize].1 += 1;
        }
    }

    pub(super) fn start(&mut self, reason: StartReason) {
        *self.started_for.entry(reason.as_str()).or_default() += 1;
    }

    pub(super) fn started(&mut self, memory_mb: u32) {
        self.starts += 1;
        self.instances += 1;
        self.peak_instances = self.peak_instances.max(self.instances);
        self.memory[Held::Starting as usize] += u64::from(memory_mb);
        self.peak_memory = self.peak_memory.max(self.memory.iter().sum());
    }

    pub(super) fn moved(&mut self, memory_mb: u32, from: Held, to: Held) {
        self.memory[from as usize] -= u64::from(memory_mb);
        self.memory[to as usize] += u64::from(memory_mb);
    }

    pub(super) fn ended(&mut self, reason: EndReason) {
        *self.ended.entry(reason.as_str()).or_default() += 1;
    }

    pub(super) fn gone(&mut self, memory_mb: u32, held: Held, failed: bool) {
        self.memory[held as usize] -= u64::from(memory_mb);
        self.instances -= 1;
        self.starts_failed += u64::from(failed);
    }

    /// Shares of cold starts among each function's requests, in order.
    fn cold_shares(&self) -> Vec<f64> {
        let called = self.functions.iter().filter(|(requests, _)| *requests > 0);
        let mut shares: Vec<_> = called.map(|&(requests, cold)| cold as f64 / requests as f64).collect();
        shares.sort_by(f64::total_cmp);
        shares
    }

    pub(super) fn outcome(self, policy: Policy, savings: Savings) -> Outcome {
        let shares = self.cold_shares();
        let quantile = |percent: usize| shares.get(shares.len() * percent / 100).copied().unwrap_or(0.0);
        let gib_hours = |held: Held| self.held[held as usize] as f64 / 1_024.0 / HOUR as f64;
        let served = self.waits.total();
        Outcome {
            policy: policy.to_string(),
            requests: self.requests,
            completed: self.completed,
            lost_with_a_worker: self.lost,
            failed_to_initialize: self.failed,
            refused_total: self.refused(),
            cold_starts: self.cold,
            cold_share: if served == 0 { 0.0 } else { self.cold as f64 / served as f64 },
            cold_share_of_median_function: quantile(50),
            cold_share_of_third_quartile_function: quantile(75),
            wait_ms: Waits::of(&self.waits),
            wait_ms_without_free_slot: Waits::of(&self.waited),
            memory_gib_hours: HeldMemory {
                busy: gib_hours(Held::Busy),
                idle: gib_hours(Held::Idle),
                starting: gib_hours(Held::Starting),
            },
            instances: Instances {
                placed: self.starts,
                not_placed: self.not_placed,
                failed_to_start: self.starts_failed,
                hibernated: self.hibernated,
                peak: self.peak_instances,
                peak_memory_gib: self.peak_memory as f64 / 1_024.0,
                started_for: self.started_for,
                ended: self.ended,
            },
            spared: Spared {
                provisioned: savings.provisioned,
                kept_longer: savings.kept,
                prewarmed: savings.prewarmed,
                ahead: savings.ahead,
                made_by_keeping_shorter: savings.given_up,
                shortened_by_blanks: savings.blanks,
            },
            workers_lost: self.workers_lost,
            workers_pressed: self.pressed,
            refused: self.refused,
            samples: self.samples,
        }
    }
}
