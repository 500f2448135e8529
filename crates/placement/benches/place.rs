//! What a place costs, by how many workers there are and how full: `cargo bench -p hearth-placement`.

// Criterion's macros make functions without words.
#![allow(missing_docs, reason = "nobody calls a benchmark")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail loudly")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hearth_placement::{
    Capacity, Event, Labels, Oversubscription, Packing, PlaceRequest, Placement, PressureLevel,
};
use hearth_types::{CodeDigest, FunctionId, InstanceId, Isolation, Time, WorkerId};

const FUNCTIONS: usize = 1_000;
/// Room for so many instances in all, so that only the number of workers differs.
const ROOM: u64 = 200_000;
const WORKERS: [u64; 3] = [100, 1_000, 10_000];

/// A request of each function; which instance it is for is filled in later.
fn requests() -> Vec<PlaceRequest> {
    (0..FUNCTIONS)
        .map(|number| PlaceRequest {
            instance: InstanceId::new(0, 0),
            function: FunctionId {
                account: "123456789012".parse().unwrap(),
                name: Arc::from(format!("function-{number}")),
            },
            memory_mb: 128,
            cpu_millis: 72,
            isolation: Some(Isolation::Container),
            code: CodeDigest(std::array::from_fn(|i| number.to_le_bytes()[i % 8])),
            labels: Labels::new(),
        })
        .collect()
}

struct Load {
    placement: Placement,
    requests: Vec<PlaceRequest>,
    next: u64,
}

impl Load {
    /// Workers with room for [`ROOM`] instances, of which so many are there.
    fn new(workers: u64, instances: u64) -> Self {
        let each = ROOM / workers;
        let mut placement = Placement::with_seed(1, Packing::Even);
        for number in 0..workers {
            let capacity = Capacity {
                memory_mb: 128 * each,
                cpu_millis: 72 * each,
                instances: 10_000,
                isolations: vec![Isolation::Container],
                labels: [("zone".to_owned(), format!("z{}", number % 3))].into(),
            };
            let oversubscription = Oversubscription { memory_percent: 100, cpu_percent: 100 };
            let worker = WorkerId::new(&format!("worker-{number:05}"));
            placement.handle(Time::ZERO, Event::WorkerJoined { worker, capacity, oversubscription });
        }
        let mut load = Self { placement, requests: requests(), next: 0 };
        for _ in 0..instances {
            assert!(load.place());
        }
        load
    }

    fn place(&mut self) -> bool {
        self.next += 1;
        // Functions in an order without a pattern.
        let function = self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let request = &mut self.requests[usize::try_from(function).unwrap() % FUNCTIONS];
        request.instance = InstanceId::new(0, self.next);
        black_box(self.placement.place(Time::from_nanos(self.next), request)).is_ok()
    }

    fn end(&mut self, sequence: u64) {
        let instance = InstanceId::new(0, sequence);
        self.placement.handle(Time::ZERO, Event::InstanceEnded { instance });
    }
}

fn place_and_end(c: &mut Criterion) {
    for (fill, instances) in [("half full", ROOM / 2), ("nearly full", ROOM - ROOM / 50)] {
        let mut group = c.benchmark_group(format!("place and end, {fill}"));
        for workers in WORKERS {
            let mut load = Load::new(workers, instances);
            // Each place ends the oldest instance, so that workers change all the time.
            let live = load.next;
            group.bench_function(BenchmarkId::from_parameter(workers), |b| {
                b.iter(|| {
                    assert!(load.place());
                    load.end(load.next - live);
                });
            });
        }
        group.finish();
    }
}

fn refuse(c: &mut Criterion) {
    let mut group = c.benchmark_group("refuse, full");
    for workers in WORKERS {
        let mut load = Load::new(workers, ROOM);
        group.bench_function(BenchmarkId::from_parameter(workers), |b| b.iter(|| assert!(!load.place())));
    }
    group.finish();
    // The worst case of the search: room everywhere, but not where the labels are.
    let mut group = c.benchmark_group("refuse, room under other labels");
    for workers in WORKERS {
        let mut load = Load::new(workers, 0);
        for number in (0..workers).step_by(3) {
            let worker = WorkerId::new(&format!("worker-{number:05}"));
            let level = PressureLevel::StopPlacing;
            load.placement.handle(Time::ZERO, Event::PressureChanged { worker, level });
        }
        for request in &mut load.requests {
            request.labels = [("zone".to_owned(), "z0".to_owned())].into();
        }
        group.bench_function(BenchmarkId::from_parameter(workers), |b| b.iter(|| assert!(!load.place())));
    }
    group.finish();
}

criterion_group!(benches, place_and_end, refuse);
criterion_main!(benches);
