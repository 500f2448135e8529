//! Any order of events, stale and repeated ones included, against a plain recount.

use std::collections::BTreeMap;

use hearth_types::BlankKind;
use proptest::prelude::*;

use super::*;
use crate::WorkerView;

#[derive(Clone, Debug)]
enum Step {
    Join { worker: usize, memory_mb: u64, instances: u32, percent: u32, zone: usize },
    Drain { worker: usize },
    Leave { worker: usize },
    Press { worker: usize, level: PressureLevel },
    Image { worker: usize, image: u64, has: bool },
    Place { instance: u64, memory_mb: u32, zone: usize },
    Find { worker: usize, instance: u64, memory_mb: u32 },
    End { instance: u64 },
    Blank { instance: u64, ready: bool },
    PlaceOnBlank { instance: u64, memory_mb: u32 },
}

/// Steps on so many workers and instances.
fn step(workers: usize, instances: u64) -> impl Strategy<Value = Step> {
    let worker = 0..workers;
    let (instance, memory, zone) = (0..instances, 0..600_u32, 0..4_usize);
    let percent = prop_oneof![Just(100), Just(1_000), 0..300_u32];
    let level = prop_oneof![
        2 => Just(PressureLevel::None),
        1 => Just(PressureLevel::StopPlacing),
        1 => Just(PressureLevel::Hibernate),
        1 => Just(PressureLevel::Evict),
    ];
    prop_oneof![
        4 => (worker.clone(), 0..2_000_u64, 0..12_u32, percent, zone.clone()).prop_map(
            |(worker, memory_mb, instances, percent, zone)| Step::Join {
                worker, memory_mb, instances, percent, zone
            }
        ),
        1 => worker.clone().prop_map(|worker| Step::Drain { worker }),
        1 => worker.clone().prop_map(|worker| Step::Leave { worker }),
        1 => (worker.clone(), level).prop_map(|(worker, level)| Step::Press { worker, level }),
        1 => (worker.clone(), 0..6_u64, any::<bool>())
            .prop_map(|(worker, image, has)| Step::Image { worker, image, has }),
        16 => (instance.clone(), memory.clone(), zone)
            .prop_map(|(instance, memory_mb, zone)| Step::Place { instance, memory_mb, zone }),
        1 => (worker, instance.clone(), memory)
            .prop_map(|(worker, instance, memory_mb)| Step::Find { worker, instance, memory_mb }),
        6 => instance.clone().prop_map(|instance| Step::End { instance }),
        4 => (instance.clone(), any::<bool>()).prop_map(|(instance, ready)| Step::Blank { instance, ready }),
        4 => (instance, 0..600_u32).prop_map(|(instance, memory_mb)| Step::PlaceOnBlank { instance, memory_mb }),
    ]
}

fn worker(number: usize) -> WorkerId {
    WorkerId::new(&format!("w{number}"))
}

/// Zone 0 is none.
fn zone(number: usize) -> Labels {
    let name = ["", "a", "b", "c"][number];
    if number == 0 { Labels::new() } else { labels(&[("zone", name)]) }
}

fn kind() -> BlankKind {
    BlankKind { runtime: "python3.13".parse().unwrap(), memory_mb: 128 }
}

/// What should be placed: instance to worker, memory and CPU.
type Book = BTreeMap<InstanceId, (WorkerId, u64, u64)>;

fn event(step: &Step) -> Option<Event> {
    Some(match *step {
        Step::Join { worker: number, memory_mb, instances, percent, zone: labels } => {
            let oversubscription = Oversubscription { memory_percent: percent, cpu_percent: percent };
            let capacity = Capacity { instances, labels: zone(labels), ..capacity(memory_mb) };
            Event::WorkerJoined { worker: worker(number), capacity, oversubscription }
        }
        Step::Drain { worker: number } => Event::WorkerDraining { worker: worker(number) },
        Step::Leave { worker: number } => Event::WorkerLeft { worker: worker(number) },
        Step::Press { worker: number, level } => Event::PressureChanged { worker: worker(number), level },
        Step::Image { worker: number, image, has } => {
            let (worker, code) = (worker(number), some_function(image, 0).code);
            if has { Event::ImageCached { worker, code } } else { Event::ImageDropped { worker, code } }
        }
        Step::Place { .. } | Step::PlaceOnBlank { .. } => return None,
        Step::Blank { instance, ready: false } => {
            Event::BlankWithdrawn { blank: InstanceId::new(0, instance) }
        }
        Step::Blank { instance, ready: true } => {
            Event::BlankReady { blank: InstanceId::new(0, instance), kind: kind() }
        }
        Step::Find { worker: number, instance, memory_mb } => {
            Event::InstanceFound { worker: worker(number), request: some_function(instance, memory_mb) }
        }
        Step::End { instance } => Event::InstanceEnded { instance: InstanceId::new(0, instance) },
    })
}

/// One of six functions with an image each.
fn some_function(instance: u64, memory_mb: u32) -> PlaceRequest {
    PlaceRequest { instance: InstanceId::new(0, instance), ..stranger(instance % 6, memory_mb) }
}

fn wanted(instance: u64, memory_mb: u32, labels: usize) -> PlaceRequest {
    PlaceRequest { labels: zone(labels), ..some_function(instance, memory_mb) }
}

fn apply(placement: &mut Placement, book: &mut Book, now: Time, step: &Step) {
    if let Some(event) = event(step) {
        if let Event::WorkerLeft { worker } = &event {
            book.retain(|_, (on, ..)| on != worker);
        }
        if let Event::InstanceFound { worker, request } = &event
            && placement.worker(worker).is_some()
        {
            let (memory, cpu) = (u64::from(request.memory_mb), u64::from(request.cpu_millis));
            book.entry(request.instance).or_insert_with(|| (worker.clone(), memory, cpu));
        }
        if let Event::InstanceEnded { instance } = &event {
            book.remove(instance);
        }
        placement.handle(now, event);
    }
    if let Step::Place { instance, memory_mb, zone } = *step {
        place(placement, book, now, &wanted(instance, memory_mb, zone));
    }
    if let Step::PlaceOnBlank { instance, memory_mb } = *step {
        place_on_blank(placement, book, now, &wanted(instance, memory_mb, 0));
    }
}

/// Every third instance may be a blank.
fn place_on_blank(placement: &mut Placement, book: &mut Book, now: Time, request: &PlaceRequest) {
    let before = book.get(&request.instance).cloned();
    match placement.place_on_blank(now, request, &kind()) {
        Ok((worker, None)) => {
            let (memory, cpu) = (u64::from(request.memory_mb), u64::from(request.cpu_millis));
            let promised = book.entry(request.instance).or_insert_with(|| (worker.clone(), memory, cpu));
            assert_eq!(promised.0, worker);
        }
        Ok((worker, Some(blank))) => {
            assert_eq!(before, None, "placed before");
            let (on, ..) = book.remove(&blank).expect("a blank that is not there");
            assert_eq!(on, worker, "a blank of another worker");
            let (memory, cpu) = (u64::from(request.memory_mb), u64::from(request.cpu_millis));
            book.insert(request.instance, (worker.clone(), memory, cpu));
            let view = placement.worker(&worker).unwrap();
            assert!(!view.draining && view.instances <= view.capacity.instances);
            assert!(view.memory_promised_mb <= view.memory_limit_mb, "{view:?}");
        }
        Err(_) => {
            assert!(placement.workers().all(|view| !fits(&view, request)), "had room");
        }
    }
}

/// What the filters say, in other words.
fn fits(view: &WorkerView<'_>, request: &PlaceRequest) -> bool {
    !view.draining
        && match view.pressure {
            PressureLevel::None => true,
            PressureLevel::StopPlacing | PressureLevel::Hibernate => {
                u64::from(request.memory_mb) <= view.replaceable_mb
            }
            PressureLevel::Evict => false,
        }
        && request.labels.iter().all(|label| view.capacity.labels.iter().any(|has| has == label))
        && view.instances < view.capacity.instances
        && view.memory_promised_mb + u64::from(request.memory_mb) <= view.memory_limit_mb
        && view.cpu_promised_millis + u64::from(request.cpu_millis) <= view.cpu_limit_millis
}

fn place(placement: &mut Placement, book: &mut Book, now: Time, request: &PlaceRequest) {
    let fitting: Vec<_> =
        placement.workers().filter(|view| fits(view, request)).map(|view| view.id.clone()).collect();
    let before = book.get(&request.instance).cloned();
    match (before, placement.place(now, request)) {
        (Some((on, ..)), answer) => assert_eq!(answer, Ok(on), "placed before"),
        (None, Ok(worker)) => {
            assert!(fitting.contains(&worker), "{worker} had no room");
            let (memory, cpu) = (u64::from(request.memory_mb), u64::from(request.cpu_millis));
            book.insert(request.instance, (worker, memory, cpu));
        }
        (None, Err(no_room)) => {
            assert_eq!(fitting, [], "had room, yet: {no_room}");
            let held_back: usize = no_room.held_back.iter().map(|held| held.workers).sum();
            assert_eq!(held_back, placement.workers().count().min(64), "each worker is counted once");
            let may_come = placement.workers().any(|view| {
                let (instances, pressure) = (0, PressureLevel::None);
                let (memory_promised_mb, cpu_promised_millis) = (0, 0);
                fits(
                    &WorkerView { instances, pressure, memory_promised_mb, cpu_promised_millis, ..view },
                    request,
                )
            });
            assert_eq!(no_room.room_may_come, may_come);
        }
    }
}

fn recount(placement: &Placement, book: &Book) {
    let mut sums = BTreeMap::<_, (u32, u64, u64)>::new();
    for (on, memory, cpu) in book.values() {
        let sum = sums.entry(on).or_default();
        *sum = (sum.0 + 1, sum.1 + memory, sum.2 + cpu);
    }
    for view in placement.workers() {
        let sum = sums.get(view.id).copied().unwrap_or_default();
        assert_eq!((view.instances, view.memory_promised_mb, view.cpu_promised_millis), sum, "{}", view.id);
        assert_eq!(view.drained, view.draining && sum.0 == 0);
    }
    assert_eq!(placement.placed.len(), book.len());
    let together: u32 = book.keys().filter_map(|id| placement.placed.get(id)).map(|_| 1).sum();
    assert_eq!(placement.together.values().sum::<u32>(), together);
    for (&instance, (on, ..)) in book {
        assert_eq!(placement.worker_of(instance), Some(on));
    }
}

/// Runs the steps with a recount after each, then ends everything one way or the other.
fn run(placement: &mut Placement, workers: usize, steps: &[Step]) {
    let mut book = Book::new();
    for (i, step) in (1..).zip(steps) {
        apply(placement, &mut book, Time::from_millis(i), step);
        recount(placement, &book);
    }
    for (i, instance) in book.clone().keys().enumerate() {
        if i % 2 == 0 {
            placement.handle(Time::MAX, Event::InstanceEnded { instance: *instance });
            book.remove(instance);
        }
    }
    recount(placement, &book);
    for number in 0..workers {
        apply(placement, &mut book, Time::MAX, &Step::Leave { worker: number });
    }
    assert!(
        placement.blanks.is_empty()
            && placement.placed.is_empty()
            && placement.together.is_empty()
            && placement.fleet.is_empty()
    );
}

/// The answers to a run's requests, in words.
fn answers(seed: u64, steps: &[Step]) -> Vec<String> {
    let mut placement = Placement::with_seed(seed, Packing::Even);
    let mut answers = Vec::new();
    for (i, step) in (1..).zip(steps) {
        let now = Time::from_millis(i);
        if let Some(event) = event(step) {
            placement.handle(now, event);
        }
        if let Step::Place { instance, memory_mb, zone } = *step {
            answers.push(match placement.place(now, &wanted(instance, memory_mb, zone)) {
                Ok(worker) => worker.to_string(),
                Err(no_room) => no_room.to_string(),
            });
        }
    }
    answers
}

proptest! {
    #[test]
    fn a_small_fleet_keeps_the_book_and_finds_all_room(
        steps in prop::collection::vec(step(4, 40), 1..200),
        tight: bool,
    ) {
        let packing = if tight { Packing::Tight } else { Packing::Even };
        run(&mut Placement::with_seed(7, packing), 4, &steps);
    }

    #[test]
    fn a_fleet_that_is_drawn_from_keeps_the_book_and_finds_all_room(
        seed: u64,
        steps in prop::collection::vec(step(90, 300), 1..400),
        tight: bool,
        begin in 20..90_usize,
    ) {
        let join = |worker| Step::Join { worker, memory_mb: 300, instances: 2, percent: 100, zone: worker % 4 };
        let steps: Vec<_> = (0..begin).map(join).chain(steps).collect();
        let packing = if tight { Packing::Tight } else { Packing::Even };
        run(&mut Placement::with_seed(seed, packing), 90, &steps);
    }

    #[test]
    fn the_same_seed_and_events_give_the_same_answers(
        seed: u64,
        steps in prop::collection::vec(step(60, 300), 1..300),
    ) {
        prop_assert_eq!(answers(seed, &steps), answers(seed, &steps));
    }
}
