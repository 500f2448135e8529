//! What a warm request costs the manager: `cargo bench -p hearth-manager`.
//!
//! Every function has its instances found on a worker, all idle. Requests go over the functions in a scattered but fixed
//! order, so that caches help as little as they would a real server. After criterion's mean, the spread: one line with
//! the percentiles of single acquires and releases, each timed by itself.

// Criterion's macros make functions without words.
#![allow(missing_docs, reason = "nobody calls a benchmark")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark may fail loudly, reads the clock, and prints"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hearth_manager::{Acquired, Action, Config, Event, Manager};
use hearth_types::{
    CodeDigest, Concurrency, FunctionId, FunctionSpec, InstanceId, Isolation, KeepAlive, LeaseId,
    LeaseOutcome, LeaseRequest, Queue, RevisionId, Time, Version, VersionId, WorkerId,
};

/// Requests in flight at once.
const IN_FLIGHT: usize = 8;
/// Functions, and instances of each.
const FLEETS: [(usize, u64); 2] = [(1_000, 10), (10_000, 10)];
/// Pairs whose single times make the percentiles.
const TIMED: usize = 2_000_000;

struct Load {
    manager: Manager,
    requests: Vec<LeaseRequest>,
    held: [Option<LeaseId>; IN_FLIGHT],
    actions: Vec<Action>,
    count: usize,
}

impl Load {
    /// A manager with all its instances idle.
    fn new(functions: usize, instances: u64) -> Self {
        let mut manager = Manager::new(Config { epoch: 2, ..Config::default() });
        let (mut requests, mut actions) = (Vec::new(), Vec::new());
        for number in 0..functions {
            let spec = spec(number);
            for copy in 0..instances {
                let instance = InstanceId::new(1, number as u64 * instances + copy);
                let worker = WorkerId::new("local");
                let event = Event::InstanceFound { instance, worker, spec: Arc::clone(&spec), tenant: None };
                manager.handle(Time::ZERO, event, &mut actions);
            }
            requests.push(LeaseRequest { spec, tenant: None });
        }
        Self { manager, requests, held: [None; IN_FLIGHT], actions, count: 0 }
    }

    /// The release of the request that has been in flight longest, and the acquire of a new one.
    fn pair(&mut self) {
        let slot = self.count % IN_FLIGHT;
        // A large odd factor scatters the order; the same every time.
        let request = &self.requests[self.count.wrapping_mul(2_654_435_761) % self.requests.len()];
        let now = Time::from_nanos(self.count as u64 * 1_000);
        if let Some(lease) = self.held[slot].take() {
            self.manager.release(now, lease, LeaseOutcome::Reusable, &mut self.actions);
        }
        match self.manager.acquire(now, request, &mut self.actions) {
            Acquired::Leased(lease) => self.held[slot] = Some(lease.id),
            other @ (Acquired::Waiting(_) | Acquired::Refused(_)) => panic!("not warm: {other:?}"),
        }
        assert!(self.actions.is_empty(), "a warm request asks for nothing");
        self.count += 1;
    }
}

fn spec(number: usize) -> Arc<FunctionSpec> {
    let name = format!("service-{number:05}-handler").into();
    let function = FunctionId { account: "123456789012".parse().unwrap(), name };
    Arc::new(FunctionSpec {
        revision: RevisionId { version: VersionId { function, version: Version::Latest }, number: 1 },
        arn: String::new(),
        region: String::new(),
        runtime: "provided.al2023".parse().unwrap(),
        handler: String::new(),
        code: CodeDigest([0; 32]),
        image: None,
        memory_mb: 128,
        timeout: Duration::from_secs(3),
        ephemeral_mb: 512,
        environment: BTreeMap::new(),
        isolation: Some(Isolation::Container),
        egress: hearth_types::Egress::None,
        concurrency: Concurrency::default(),
        layers: Vec::new(),
        snap_start: false,
        per_tenant: false,
        logging: hearth_types::Logging::default(),
        idle_timeout: Duration::from_secs(300),
        keep_alive: KeepAlive::Learned,
        http: None,
        queue: Queue::default(),
        reserved_concurrency: None,
    })
}

fn acquire_and_release(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acquire and release");
    for (functions, instances) in FLEETS {
        let total = functions as u64 * instances;
        let mut load = Load::new(functions, instances);
        group.bench_function(BenchmarkId::new("instances", total), |bencher| bencher.iter(|| load.pair()));
        println!("percentiles with {total} instances: {}", percentiles(&mut load));
    }
    group.finish();
}

fn percentiles(load: &mut Load) -> String {
    let mut times: Vec<u64> = (0..TIMED)
        .map(|_| {
            let began = Instant::now();
            load.pair();
            u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
        })
        .collect();
    times.sort_unstable();
    let at = |share: f64| {
        let index = share * times.len() as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of the list")]
        let index = index as usize;
        times[index.min(times.len() - 1)]
    };
    format!("p50 {} ns, p99 {} ns, p99.9 {} ns", at(0.5), at(0.99), at(0.999))
}

criterion_group!(benches, acquire_and_release);
criterion_main!(benches);
