//! Prints the time of a warm acquire and release:
//! `cargo run --release -p hearth-manager --example warm_path [FUNCTIONS] [INSTANCES]`.
//!
//! Every function has its instances found on a worker, all idle. Requests go over the functions in a scattered but
//! fixed order, so that caches help as little as they would a real server. The median and the spread of the rounds
//! are printed, since the machine is rarely alone.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark reads the clock and its arguments, and prints"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_manager::{Acquired, Config, Event, Manager};
use hearth_types::{
    CodeDigest, Concurrency, FunctionId, FunctionSpec, InstanceId, Isolation, KeepAlive, LeaseOutcome,
    LeaseRequest, Queue, RevisionId, Time, Version, VersionId, WorkerId,
};

const ROUNDS: usize = 21;
const REQUESTS: usize = 200_000;
/// Requests in flight at once.
const IN_FLIGHT: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let functions: usize = arguments.next().map_or(Ok(1_000), |text| text.parse())?;
    let instances: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let (mut manager, requests) = warm(functions, instances)?;

    let mut rounds: Vec<f64> = Vec::new();
    for round in 0..ROUNDS {
        let begin = Instant::now();
        run(&mut manager, &requests, Time::from_millis(round as u64))?;
        rounds.push(begin.elapsed().as_secs_f64() * 1e9 / REQUESTS as f64);
    }
    rounds.sort_by(f64::total_cmp);
    let (least, median, most) = (rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1]);
    println!("{functions} functions x {instances} instances, {IN_FLIGHT} requests in flight");
    println!("acquire + release: {median:.0} ns (rounds: {least:.0} to {most:.0} ns)");
    println!("on one core: {:.2} million a second", 1e3 / median);
    Ok(())
}

/// A manager with all its instances idle, and a request for each function.
fn warm(functions: usize, instances: u64) -> Result<(Manager, Vec<LeaseRequest>), Box<dyn Error>> {
    let mut manager = Manager::new(Config { epoch: 2, ..Config::default() });
    let (mut requests, mut actions) = (Vec::new(), Vec::new());
    for number in 0..functions {
        let spec = spec(number)?;
        for copy in 0..instances {
            let instance = InstanceId::new(1, number as u64 * instances + copy);
            let event =
                Event::InstanceFound { instance, worker: WorkerId::new("local"), spec: Arc::clone(&spec) };
            manager.handle(Time::ZERO, event, &mut actions);
        }
        requests.push(LeaseRequest { spec });
    }
    Ok((manager, requests))
}

fn run(manager: &mut Manager, requests: &[LeaseRequest], now: Time) -> Result<(), Box<dyn Error>> {
    let mut actions = Vec::new();
    let mut held = [None; IN_FLIGHT];
    for i in 0..REQUESTS {
        // A large odd factor scatters the order; the same every time.
        let request = &requests[i.wrapping_mul(2_654_435_761) % requests.len()];
        if let Some(lease) = held[i % IN_FLIGHT].take() {
            manager.release(now, lease, LeaseOutcome::Reusable, &mut actions);
        }
        match manager.acquire(now, request, &mut actions) {
            Acquired::Leased(lease) => held[i % IN_FLIGHT] = Some(lease.id),
            other @ (Acquired::Waiting(_) | Acquired::Refused(_)) => {
                return Err(format!("not warm: {other:?}").into());
            }
        }
    }
    for lease in held.into_iter().flatten() {
        manager.release(now, lease, LeaseOutcome::Reusable, &mut actions);
    }
    Ok(())
}

fn spec(number: usize) -> Result<Arc<FunctionSpec>, Box<dyn Error>> {
    let function =
        FunctionId { account: "123456789012".parse()?, name: format!("service-{number:05}-handler").into() };
    Ok(Arc::new(FunctionSpec {
        revision: RevisionId { version: VersionId { function, version: Version::Latest }, number: 1 },
        arn: String::new(),
        region: String::new(),
        runtime: "provided.al2023".parse()?,
        handler: String::new(),
        code: CodeDigest([0; 32]),
        memory_mb: 128,
        timeout: Duration::from_secs(3),
        ephemeral_mb: 512,
        environment: BTreeMap::new(),
        isolation: Isolation::Container,
        concurrency: Concurrency::default(),
        idle_timeout: Duration::from_secs(300),
        keep_alive: KeepAlive::Fixed,
        queue: Queue::default(),
        reserved_concurrency: None,
    }))
}
