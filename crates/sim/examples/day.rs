//! A generated day, timed: `cargo run --release -p hearth-sim --example day -- [requests] [functions] [workers] [hours]
//! [policy...]`.

use std::error::Error;
use std::time::Instant;

use hearth_sim::{Cluster, Generate, Policy, Setup, Starts, run};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (requests, functions, workers, hours) =
        (number(50_000_000)?, number(10_000)?, number(1_000)?, number(24)?);
    let mut policies = arguments.map(|text| text.parse()).collect::<Result<Vec<Policy>, _>>()?;
    if policies.is_empty() {
        policies.push("fixed:10m".parse()?);
    }
    let generate =
        Generate { functions: u32::try_from(functions)?, requests, hours: u32::try_from(hours)?, seed: 1 };
    let setup = Setup {
        workload: generate.workload(),
        cluster: Cluster { workers: u32::try_from(workers)?, ..Cluster::default() },
        starts: Starts::default(),
        failures: Vec::new(),
        seed: 1,
    };
    for policy in policies {
        let started = Instant::now();
        let mut outcome = run(&setup, policy, &mut |_| ())?;
        let seconds = started.elapsed().as_secs_f64();
        outcome.samples.clear();
        println!("{outcome:#?}");
        eprintln!("{policy}: {seconds:.1} s, {:.0} ns a request", seconds * 1e9 / outcome.requests as f64);
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| eprintln!("{line}"));
    }
    Ok(())
}
