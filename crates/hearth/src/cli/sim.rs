//! `hearth sim`: the real manager and placement in virtual time, from a trace, a generator or a scenario file.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, value_parser};
use hearth_sim::workload::{trace_2019, trace_2021};
use hearth_sim::{Outcome, Policy, Progress, Report, Scenario, Setup, Workload};

use crate::terminal;

/// Functions and requests when nothing says what is asked.
const DEFAULT_FUNCTIONS: u32 = 1_000;
const DEFAULT_REQUESTS: u64 = 1_000_000;

/// What `hearth sim` can be told.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  hearth sim                                        a generated day, instances kept 10 minutes or as learned
  hearth sim --functions 10000 --requests 50000000 --workers 1000
  hearth sim --policy fixed:1m,fixed:10m,learned --report policies.svg
  hearth sim --scenario crates/sim/scenarios/workers-die.toml --json
  hearth sim --trace-2021 AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt --workers 20
  hearth sim --trace-2019 azurefunctions-dataset2019/day-1 --oversubscription 300

Policies: fixed:TIME keeps an idle instance that long; learned:TIME as long as the function's own idle times
say, and for TIME until they say anything; learned:TIME:WORTH weighs a cold start like so much idle time,
more for fewer cold starts. TIME and WORTH are 30s, 10m, 2h and the like.

The same input and seed print the same bytes; how fast it went is said on stderr.")]
pub(crate) struct SimArgs {
    /// Describe the run in a TOML file; flags beside it win
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Take the requests from a directory with CSV files in the shape of the Azure Functions trace of 2019
    #[arg(long, value_name = "DIR", conflicts_with_all = ["trace_2021", "generate"])]
    trace_2019: Option<PathBuf>,
    /// Take the requests from a CSV file in the shape of the Azure Functions trace of 2021
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    trace_2021: Option<PathBuf>,
    /// Generate the requests, with the distributions published of Azure Functions; the default
    #[arg(long)]
    generate: bool,
    /// How many functions to generate [default: 1000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000), conflicts_with_all = ["trace_2019", "trace_2021"])]
    functions: Option<u32>,
    /// How many requests to generate, about [default: 1000000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=100_000_000_000), conflicts_with_all = ["trace_2019", "trace_2021"])]
    requests: Option<u64>,
    /// For how long requests come [default: 24, or as long as the trace]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=744))]
    hours: Option<u32>,
    /// How many workers serve them [default: 1000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=65_536))]
    workers: Option<u32>,
    /// Memory of each worker, MiB [default: 65536]
    #[arg(long, value_name = "MIB", value_parser = value_parser!(u64).range(128..=100_000_000))]
    worker_memory: Option<u64>,
    /// How much of its memory a worker promises, percent [default: 100]
    #[arg(long, value_name = "PERCENT", value_parser = value_parser!(u32).range(1..=1_000))]
    oversubscription: Option<u32>,
    /// Requests at once that an account may have [default: 1000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000_000))]
    account_concurrency: Option<u32>,
    /// What to compare, separated by commas [default: fixed:10m,learned:10m]
    #[arg(long = "policy", value_name = "POLICY", value_delimiter = ',')]
    policies: Vec<Policy>,
    /// What chance begins with: the same gives the same bytes [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Draw the comparison into an SVG file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &SimArgs) -> anyhow::Result<ExitCode> {
    let (setup, policies) = args.setup()?;
    // Before the simulation, which may take long.
    let drawing = args.report.as_ref().map(|path| {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok((file, path))
    });
    let drawing = drawing.transpose()?;
    let mut report = Report::new(&setup);
    for &policy in &policies {
        report.outcomes.push(simulate(&setup, policy)?);
    }
    let text = if args.json { report.json() } else { report.text() };
    terminal::bytes(text.as_bytes())?;
    if let Some((mut file, path)) = drawing {
        file.write_all(report.svg().as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl SimArgs {
    /// The scenario file, if there is one, with what the flags say instead.
    fn setup(&self) -> anyhow::Result<(Setup, Vec<Policy>)> {
        let mut scenario = self.scenario.as_deref().map(Scenario::read).transpose()?.unwrap_or_default();
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        scenario.hours = self.hours.unwrap_or(scenario.hours);
        let cluster = &mut scenario.cluster;
        cluster.workers = self.workers.unwrap_or(cluster.workers);
        cluster.memory_mb = self.worker_memory.unwrap_or(cluster.memory_mb);
        cluster.memory_percent = self.oversubscription.unwrap_or(cluster.memory_percent);
        cluster.account_concurrency = self.account_concurrency.unwrap_or(cluster.account_concurrency);
        if !self.policies.is_empty() {
            scenario.policies.clone_from(&self.policies);
        } else if scenario.policies.is_empty() {
            scenario.policies =
                ["fixed:10m", "learned:10m"].map(str::parse).into_iter().collect::<Result<_, _>>()?;
        }
        let workload = self.workload(&mut scenario)?;
        let Scenario { cluster, starts, failures, policies, seed, .. } = scenario;
        Ok((Setup { workload, cluster, starts, failures, seed }, policies))
    }

    fn workload(&self, scenario: &mut Scenario) -> anyhow::Result<Workload> {
        let trace = match (&self.trace_2019, &self.trace_2021) {
            (Some(directory), _) => trace_2019::read(directory)?,
            (None, Some(file)) => trace_2021::read(file)?,
            (None, None) => {
                let wanted = self.generate || self.functions.is_some() || self.requests.is_some();
                if wanted || !scenario.asks_anything() {
                    let (functions, requests) =
                        scenario.generate.unwrap_or((DEFAULT_FUNCTIONS, DEFAULT_REQUESTS));
                    scenario.generate =
                        Some((self.functions.unwrap_or(functions), self.requests.unwrap_or(requests)));
                }
                return Ok(scenario.workload());
            }
        };
        if scenario.asks_anything() {
            bail!(
                "the scenario has functions of its own; leave out the trace, or the functions of the scenario"
            );
        }
        if trace.functions() == 0 {
            bail!("the trace has no requests");
        }
        Ok(self.hours.map_or_else(|| trace.clone(), |hours| trace.clone().within(hours)))
    }
}

fn simulate(setup: &Setup, policy: Policy) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let on_terminal = io::stderr().is_terminal();
    let mut show = |progress: Progress| {
        if on_terminal {
            let Progress { done, of, requests } = progress;
            terminal::show(format_args!(
                "\r{policy}: {} %, {requests} requests \u{1b}[K",
                done * 100 / of.max(1)
            ));
        }
    };
    let outcome = hearth_sim::run(setup, policy, &mut show);
    if on_terminal {
        terminal::show("\r\u{1b}[K");
    }
    let outcome = outcome?;
    let seconds = started.elapsed().as_secs_f64().max(1e-6);
    terminal::tell(format_args!(
        "hearth: {policy}: {seconds:.1} s; {:.0} requests and {:.0} placements a second",
        outcome.requests as f64 / seconds,
        outcome.instances.placed as f64 / seconds
    ));
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        sim: SimArgs,
    }

    fn parse(arguments: &[&str]) -> Result<SimArgs, clap::Error> {
        Command::try_parse_from([&["sim"], arguments].concat()).map(|command| command.sim)
    }

    #[test]
    fn flags_win_over_the_scenario() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "seed = 3\nhours = 2\npolicies = [\"learned\"]\n[cluster]\nworkers = 7\n[generate]\nfunctions = 5\nrequests = 100";
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        let (setup, policies) = parse(&["--scenario", path]).unwrap().setup().unwrap();
        assert_eq!((setup.seed, setup.cluster.workers, policies.len()), (3, 7, 1));
        assert_eq!(setup.workload.functions(), 5);
        let flags = [
            "--scenario",
            path,
            "--seed",
            "4",
            "--workers",
            "8",
            "--policy",
            "fixed:1m,fixed:2m",
            "--functions",
            "6",
        ];
        let (setup, policies) = parse(&flags).unwrap().setup().unwrap();
        assert_eq!((setup.seed, setup.cluster.workers, policies.len()), (4, 8, 2));
        assert_eq!(setup.workload.functions(), 6);
    }

    #[test]
    fn requests_come_from_one_place_only() {
        assert!(parse(&["--trace-2019", "d", "--trace-2021", "f"]).is_err());
        assert!(parse(&["--trace-2019", "d", "--functions", "5"]).is_err());
        assert!(parse(&["--workers", "0"]).is_err());
        assert!(parse(&["--policy", "best"]).is_err());
        let (setup, policies) = parse(&[]).unwrap().setup().unwrap();
        assert_eq!((setup.workload.functions(), policies.len()), (1_000, 2));
    }
}
