//! The file as serde sees it: each value checked where it is read, so that each error knows its line and column.

use std::ops::Range;

use hearth_types::Concurrency;
use serde::Deserialize;

use super::Scenario;
use crate::cluster::{Cluster, Failure, MemoryUse, Starts};
use crate::policy::Policy;
use crate::units::{Rate, SECOND, Span};
use crate::workload::Function;
use crate::workload::arrivals::{Arrivals, Gaps};
use crate::workload::durations::Durations;
use crate::workload::lines::{InputError, shown};

/// Coefficient of variation of the gaps of `bursty` arrivals.
const BURSTY: f64 = 4.0;

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
struct Within<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> TryFrom<i64> for Within<LEAST, MOST> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        u32::try_from(number)
            .ok()
            .filter(|number| (LEAST..=MOST).contains(number))
            .map(Self)
            .ok_or_else(|| format!("{number} is not a whole number from {LEAST} to {MOST}"))
    }
}

/// A number from 0 to `MOST`, with decimals if need be.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "f64")]
struct Decimal<const MOST: u32>(f64);

impl<const MOST: u32> TryFrom<f64> for Decimal<MOST> {
    type Error = String;

    fn try_from(number: f64) -> Result<Self, String> {
        let allowed = 0.0..=f64::from(MOST);
        allowed
            .contains(&number)
            .then_some(Self(number))
            .ok_or_else(|| format!("{number} is not a number from 0 to {MOST}"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    hours: Option<Within<1, 744>>,
    seed: Option<u64>,
    policies: Option<Vec<Policy>>,
    #[serde(default)]
    cluster: ClusterTable,
    memory: Option<MemoryTable>,
    #[serde(default)]
    starts: StartsTable,
    #[serde(default)]
    workers_die: Vec<WorkersDie>,
    #[serde(default)]
    slow_starts: Vec<SlowStarts>,
    generate: Option<GenerateTable>,
    #[serde(default)]
    function: Vec<FunctionTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterTable {
    workers: Option<Within<1, 65_536>>,
    memory_mb: Option<Within<128, 100_000_000>>,
    cpus: Option<Within<1, 10_000>>,
    instances: Option<Within<1, 65_536>>,
    memory_percent: Option<Within<1, 1_000>>,
    cpu_percent: Option<Within<1, 10_000>>,
    account_concurrency: Option<Within<1, 10_000_000>>,
    blanks: Option<Within<0, 64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryTable {
    busy_percent: Within<0, 1_000>,
    idle_percent: Within<0, 1_000>,
    hibernating_percent: Within<0, 1_000>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartsTable {
    median: Option<Span>,
    p99: Option<Span>,
    end: Option<Span>,
    failing_percent: Option<Decimal<100>>,
    repeated_percent: Option<Decimal<100>>,
    init_failing_percent: Option<Decimal<100>>,
    of_blank_percent: Option<Decimal<100>>,
    wake: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkersDie {
    at: Span,
    workers: Within<1, 65_536>,
    back_after: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowStarts {
    from: Span,
    until: Span,
    times: Decimal<1_000>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateTable {
    functions: Within<1, 1_000_000>,
    requests: Within<1, 4_000_000_000>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Periodic,
    Poisson,
    Daily,
    Bursty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionTable {
    name: String,
    rate: Rate,
    arrivals: Option<Kind>,
    duration: Span,
    duration_p99: Option<Span>,
    memory_mb: Option<Within<128, 10_240>>,
    copies: Option<Within<1, 1_000_000>>,
    concurrency: Option<Within<1, 1_000>>,
    reserved: Option<Within<0, 10_000_000>>,
    provisioned: Option<Within<0, 100_000>>,
    account: Option<Within<0, 1_000_000>>,
}

pub(super) fn parse(text: &str, name: &str) -> Result<Scenario, InputError> {
    let file: ScenarioFile =
        toml::from_str(text).map_err(|error| located(text, name, error.span(), error.message()))?;
    Ok(file.scenario(name))
}

fn located(text: &str, name: &str, span: Option<Range<usize>>, problem: &str) -> InputError {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    InputError::Place {
        file: name.to_owned(),
        line: before.matches('\n').count() as u64 + 1,
        column: before[line_start..].chars().count() + 1,
        problem: shown(problem, 400),
    }
}

impl ScenarioFile {
    fn scenario(self, name: &str) -> Scenario {
        let defaults = Scenario::default();
        let dying = self.workers_die.iter().map(|failure| Failure::WorkersDie {
            at: failure.at.as_nanos(),
            workers: failure.workers.0,
            back_after: failure.back_after.map(Span::as_nanos),
        });
        let slow = self.slow_starts.iter().map(|failure| Failure::SlowStarts {
            from: failure.from.as_nanos(),
            until: failure.until.as_nanos(),
            times: failure.times.0,
        });
        Scenario {
            seed: self.seed.unwrap_or(defaults.seed),
            hours: self.hours.map_or(defaults.hours, |hours| hours.0),
            policies: self.policies.unwrap_or_default(),
            cluster: Cluster {
                memory_use: self.memory.map(MemoryTable::memory_use),
                ..self.cluster.cluster()
            },
            starts: self.starts.starts(),
            failures: dying.chain(slow).collect(),
            generate: self.generate.map(|table| (table.functions.0, u64::from(table.requests.0))),
            functions: self.function.iter().flat_map(FunctionTable::functions).collect(),
            name: name.to_owned(),
        }
    }
}

impl ClusterTable {
    fn cluster(&self) -> Cluster {
        let defaults = Cluster::default();
        Cluster {
            workers: self.workers.map_or(defaults.workers, |n| n.0),
            memory_mb: self.memory_mb.map_or(defaults.memory_mb, |n| u64::from(n.0)),
            cpu_millis: self.cpus.map_or(defaults.cpu_millis, |n| u64::from(n.0) * 1_000),
            instances: self.instances.map_or(defaults.instances, |n| n.0),
            memory_percent: self.memory_percent.map_or(defaults.memory_percent, |n| n.0),
            cpu_percent: self.cpu_percent.map_or(defaults.cpu_percent, |n| n.0),
            account_concurrency: self.account_concurrency.map_or(defaults.account_concurrency, |n| n.0),
            blanks: self.blanks.map_or(defaults.blanks, |n| n.0),
            memory_use: defaults.memory_use,
        }
    }
}

impl MemoryTable {
    const fn memory_use(self) -> MemoryUse {
        MemoryUse { busy: self.busy_percent.0, idle: self.idle_percent.0, asleep: self.hibernating_percent.0 }
    }
}

impl StartsTable {
    fn starts(&self) -> Starts {
        let defaults = Starts::default();
        let median = self.median.map_or(defaults.median, Span::as_nanos);
        Starts {
            median,
            // Who names a median only means starts of the usual spread: four times the median.
            p99: self.p99.map_or_else(|| median.saturating_mul(4), Span::as_nanos),
            failing: self.failing_percent.map_or(defaults.failing, |percent| percent.0 / 100.0),
            repeated: self.repeated_percent.map_or(defaults.repeated, |percent| percent.0 / 100.0),
            end: self.end.map_or(defaults.end, Span::as_nanos),
            init_failing: self
                .init_failing_percent
                .map_or(defaults.init_failing, |percent| percent.0 / 100.0),
            of_blank: self.of_blank_percent.map_or(defaults.of_blank, |percent| percent.0 / 100.0),
            wake: self.wake.map_or(defaults.wake, Span::as_nanos),
        }
    }
}

impl FunctionTable {
    fn functions(&self) -> impl Iterator<Item = Function> {
        let mean_gap = SECOND as f64 / self.rate.per_second;
        let period = crate::units::whole(mean_gap).max(1);
        let copies = self.copies.map_or(1, |copies| copies.0);
        let concurrency = self.concurrency.map_or(1, |slots| slots.0);
        let duration = self.duration.as_nanos();
        let durations = self.duration_p99.map_or_else(
            || Durations::fixed(duration),
            |p99| Durations::from_median_and_p99(duration, p99.as_nanos()),
        );
        let kind = self.arrivals.unwrap_or(Kind::Poisson);
        (0..copies).map(move |copy| Function {
            name: self.name.chars().take(64).collect::<String>().into(),
            account: self.account.map_or(0, |account| account.0),
            memory_mb: self.memory_mb.map_or(128, |memory| memory.0),
            arrivals: match kind {
                // Copies are spread over the period.
                Kind::Periodic => {
                    let share = u128::from(period) * u128::from(copy) / u128::from(copies);
                    Arrivals::Periodic { period, phase: u64::try_from(share).unwrap_or(0) }
                }
                Kind::Poisson => Arrivals::Renewal { mean_gap, gaps: Gaps::Exponential, daily: false },
                Kind::Daily => Arrivals::Renewal { mean_gap, gaps: Gaps::Exponential, daily: true },
                Kind::Bursty => Arrivals::Renewal { mean_gap, gaps: Gaps::varying(BURSTY), daily: false },
            },
            durations,
            concurrency: Concurrency::new(concurrency, concurrency),
            reserved: self.reserved.map(|reserved| reserved.0),
            provisioned: self.provisioned.map_or(0, |provisioned| provisioned.0),
        })
    }
}
