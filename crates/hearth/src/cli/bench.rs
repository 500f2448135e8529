//! `hearth bench`: what this machine does, beside what is published.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use hearth_sandbox::{Driver, ProcessSpec, Root, Sandbox, SandboxSpec};
use hearth_types::InstanceId;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::data_dir::DataDir;
use crate::drivers::DriverArgs;
use crate::table::render;
use crate::terminal;

/// What Firecracker's authors publish of it: to the guest's first program, and how many a second on one machine
/// (Agache et al., NSDI 2020, and Firecracker's SPECIFICATION.md).
const PUBLISHED_BOOT: Duration = Duration::from_millis(125);
const PUBLISHED_RATE: f64 = 150.0;
/// A sandbox from which nothing has come by then is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Says one word to where the Runtime API is.
const FIRST_WORD: &str = "exec 3<>/dev/tcp/127.0.0.1/9001; echo first >&3";

/// What `hearth bench` can be told.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time how instances come about: booted, restored, and until the first answer
    #[command(after_help = "\
boot, restore  from the decision to the first word of the machine's agent, from power-on and from a template
instance       a restored machine that has its disks and limits
first answer   a program was started in it and said something

Example:
  hearth bench boot --isolation firecracker --runs 50")]
    Boot(BootArgs),
}

/// What `hearth bench boot` can be told.
#[derive(Args, Debug)]
pub(crate) struct BootArgs {
    /// How many of each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    drivers: DriverArgs,
}

/// The times of the runs, by what was timed.
#[derive(Debug, Default)]
struct Times {
    boots: Vec<Duration>,
    restores: Vec<Duration>,
    instances: Vec<Duration>,
    answers: Vec<Duration>,
    /// Instances a second, as many at once as the machine has CPUs.
    rate: f64,
}

pub(crate) fn run(command: &BenchCommand) -> anyhow::Result<ExitCode> {
    let BenchCommand::Boot(args) = command;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(boot(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn boot(args: &BootArgs) -> anyhow::Result<()> {
    let data = DataDir::throw_away()?;
    let measured = async {
        let (driver, _) = args.drivers.open(&data).await?;
        let times = measure(&driver, args.runs).await;
        driver.close().await;
        Ok::<_, anyhow::Error>((driver.isolation(), times?))
    };
    let measured = measured.await;
    data.finish()?;
    let (isolation, times) = measured?;
    if args.json {
        let list = |times: &[Duration]| json!({"p50_ms": at(times, 50), "p90_ms": at(times, 90), "p99_ms": at(times, 99)});
        let report = json!({
            "isolation": isolation.as_str(),
            "runs": args.runs,
            "boot": list(&times.boots),
            "restore": list(&times.restores),
            "instance": list(&times.instances),
            "first_answer": list(&times.answers),
            "instances_per_second": times.rate,
            "published": {"boot_ms": PUBLISHED_BOOT.as_millis(), "per_second": PUBLISHED_RATE},
        });
        terminal::line(format_args!("{report:#}"))?;
    } else {
        terminal::line(format_args!("isolation {isolation}, {} runs, a function of 128 MB", args.runs))?;
        terminal::bytes(table(&times).as_bytes())?;
    }
    Ok(())
}

fn table(times: &Times) -> String {
    let published = format!("{} ms", PUBLISHED_BOOT.as_millis());
    let row = |what: &str, times: &[Duration], published: &str| {
        let number = |percent| at(times, percent).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        vec![what.to_owned(), number(50), number(90), number(99), published.to_owned()]
    };
    let rate = format!("{:.1} a second", times.rate);
    render(
        &["WHAT", "P50", "P90", "P99", "PUBLISHED"],
        &[
            row("boot", &times.boots, &published),
            row("restore", &times.restores, ""),
            row("instance", &times.instances, ""),
            row("first answer", &times.answers, ""),
            vec![
                "instances".to_owned(),
                rate,
                String::new(),
                String::new(),
                format!("{PUBLISHED_RATE:.0} a second"),
            ],
        ],
    )
}

/// That percentile of sorted times, milliseconds.
fn at(times: &[Duration], percent: usize) -> Option<f64> {
    let place = (times.len() * percent / 100).min(times.len().checked_sub(1)?);
    times.get(place).map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0)
}

async fn measure(driver: &Arc<dyn Driver>, runs: u32) -> anyhow::Result<Times> {
    let mut times = Times::default();
    // What is made once for all instances is not what is timed.
    driver.create(spec(0)).await.context("cannot make a first instance")?.destroy().await;
    for number in 1..=runs {
        if let Some(machine) = driver.time_machine(spec(number)).await {
            let machine = machine.context("cannot boot a machine")?;
            times.boots.push(machine.boot);
            times.restores.push(machine.restore);
        }
        let began = Instant::now();
        let sandbox = driver.create(spec(number)).await.context("cannot make an instance")?;
        times.instances.push(began.elapsed());
        first_answer(&*sandbox).await?;
        times.answers.push(began.elapsed());
        sandbox.destroy().await;
    }
    times.rate = rate(driver, runs).await?;
    for list in [&mut times.boots, &mut times.restores, &mut times.instances, &mut times.answers] {
        list.sort_unstable();
    }
    Ok(times)
}

/// Waits for the first word of a program that is started in it.
async fn first_answer(sandbox: &dyn Sandbox) -> anyhow::Result<()> {
    let program = ProcessSpec {
        argv: ["/bin/bash", "-c", FIRST_WORD].map(str::to_owned).into(),
        environment: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        working_directory: "/tmp".into(),
    };
    let answered = async {
        let process = sandbox.spawn(program).await.context("cannot start a program")?;
        let mut word = [0; 6];
        sandbox.accept().await?.read_exact(&mut word).await?;
        drop(process);
        Ok::<_, anyhow::Error>(word)
    };
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(word)) if &word == b"first\n" => Ok(()),
        Ok(Ok(_)) => bail!("an instance's first word is another"),
        Ok(Err(error)) => Err(error.context("an instance did not answer")),
        Err(_late) => bail!("an instance did not answer within {} s", PATIENCE.as_secs()),
    }
}

/// How many come about a second when as many are made at once as there are CPUs.
async fn rate(driver: &Arc<dyn Driver>, runs: u32) -> anyhow::Result<f64> {
    let lanes = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let lanes = u32::try_from(lanes).unwrap_or(1).min(runs);
    let mut all: JoinSet<anyhow::Result<u32>> = JoinSet::new();
    let began = Instant::now();
    for lane in 0..lanes {
        let driver = Arc::clone(driver);
        all.spawn(async move {
            let own: Vec<u32> = (lane..runs).step_by(lanes as usize).collect();
            for number in &own {
                driver.create(spec(runs + 1 + number)).await?.destroy().await;
            }
            Ok(u32::try_from(own.len())?)
        });
    }
    let mut made = 0;
    while let Some(lane) = all.join_next().await {
        made += lane.context("a run broke off")??;
    }
    Ok((f64::from(made) / began.elapsed().as_secs_f64() * 10.0).round() / 10.0)
}

fn spec(number: u32) -> SandboxSpec {
    SandboxSpec {
        instance: InstanceId::new(u64::from(std::process::id()), u64::from(number)),
        root: Root::Host,
        mounts: Vec::new(),
        memory_bytes: 128 << 20,
        cpu_millis: 1_000,
        processes: 256,
        open_files: 1_024,
        scratch_bytes: 512 << 20,
        egress: hearth_types::Egress::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_sorted_times_and_none_is_none() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!((at(&times, 50), at(&times, 99)), (Some(51.0), Some(100.0)));
        assert_eq!(at(&times[..1], 99), Some(1.0));
        assert_eq!(at(&[], 50), None);
    }

    #[test]
    fn the_published_figures_stand_beside_what_was_measured() {
        let times = Times { restores: vec![Duration::from_millis(8)], rate: 40.0, ..Times::default() };
        let table = table(&times);
        assert!(table.contains("125 ms") && table.contains("150 a second"), "{table}");
        assert!(table.contains("8.0 ms") && table.contains("40.0 a second"), "{table}");
    }
}
