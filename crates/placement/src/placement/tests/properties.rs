//! Any order of events, stale and repeated ones included, against a plain recount.

use std::collections::BTreeMap;

use hearth_types::{InstanceId, Time, WorkerId};
use proptest::prelude::*;

use super::{capacity, request};
use crate::{Capacity, Event, Oversubscription, Placement};

#[derive(Clone, Debug)]
enum Step {
    Join { worker: usize, memory_mb: u64, instances: u32, percent: u32 },
    Drain { worker: usize },
    Leave { worker: usize },
    Place { instance: u64, memory_mb: u32 },
    Find { worker: usize, instance: u64, memory_mb: u32 },
    End { instance: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, instance, memory) = (0..4_usize, 0..40_u64, 0..600_u32);
    prop_oneof![
        2 => (worker.clone(), 0..2_000_u64, 0..12_u32, prop_oneof![Just(100), Just(1_000), 0..300_u32])
            .prop_map(|(worker, memory_mb, instances, percent)| Step::Join { worker, memory_mb, instances, percent }),
        1 => worker.clone().prop_map(|worker| Step::Drain { worker }),
        1 => worker.clone().prop_map(|worker| Step::Leave { worker }),
        12 => (instance.clone(), memory.clone()).prop_map(|(instance, memory_mb)| Step::Place { instance, memory_mb }),
        1 => (worker, instance.clone(), memory)
            .prop_map(|(worker, instance, memory_mb)| Step::Find { worker, instance, memory_mb }),
        6 => instance.prop_map(|instance| Step::End { instance }),
    ]
}

fn worker(number: usize) -> WorkerId {
    WorkerId::new(&format!("w{number}"))
}

/// What should be placed: instance to worker and memory.
type Book = BTreeMap<InstanceId, (WorkerId, u64)>;

fn apply(placement: &mut Placement, book: &mut Book, now: Time, step: &Step) {
    match *step {
        Step::Join { worker: number, memory_mb, instances, percent } => {
            let oversubscription = Oversubscription { memory_percent: percent, cpu_percent: 1_000 };
            let capacity = Capacity { instances, ..capacity(memory_mb) };
            placement.handle(now, Event::WorkerJoined { worker: worker(number), capacity, oversubscription });
        }
        Step::Drain { worker: number } => {
            placement.handle(now, Event::WorkerDraining { worker: worker(number) });
        }
        Step::Leave { worker: number } => {
            placement.handle(now, Event::WorkerLeft { worker: worker(number) });
            book.retain(|_, (on, _)| *on != worker(number));
        }
        Step::Place { instance, memory_mb } => place(placement, book, now, instance, memory_mb),
        Step::Find { worker: number, instance, memory_mb } => {
            let request = request(instance, memory_mb);
            let known = placement.workers().any(|view| *view.id == worker(number));
            placement.handle(now, Event::InstanceFound { worker: worker(number), request: request.clone() });
            if known {
                book.entry(request.instance).or_insert_with(|| (worker(number), u64::from(memory_mb)));
            }
        }
        Step::End { instance } => {
            let instance = InstanceId::new(0, instance);
            placement.handle(now, Event::InstanceEnded { instance });
            book.remove(&instance);
        }
    }
}

fn place(placement: &mut Placement, book: &mut Book, now: Time, instance: u64, memory_mb: u32) {
    let request = request(instance, memory_mb);
    let fits = placement.workers().any(|view| {
        !view.draining
            && view.instances < view.capacity.instances
            && view.memory_promised_mb + u64::from(memory_mb) <= view.memory_limit_mb
            && view.cpu_promised_millis + u64::from(request.cpu_millis) <= view.cpu_limit_millis
    });
    let before = book.get(&request.instance).cloned();
    match (before, placement.place(now, &request)) {
        (Some((on, _)), answer) => assert_eq!(answer, Ok(on), "placed before"),
        (None, Ok(worker)) => {
            assert!(fits, "no worker had room");
            let view = placement.workers().find(|view| *view.id == worker).unwrap();
            assert!(!view.draining);
            assert!(view.memory_promised_mb <= view.memory_limit_mb);
            assert!(view.cpu_promised_millis <= view.cpu_limit_millis);
            assert!(view.instances <= view.capacity.instances);
            book.insert(request.instance, (worker, u64::from(memory_mb)));
        }
        (None, Err(no_room)) => {
            assert!(!fits, "a worker had room, yet: {no_room}");
            let held_back: usize = no_room.held_back.iter().map(|held| held.workers).sum();
            assert_eq!(held_back, placement.workers().count(), "each worker is counted once");
            let nobody_has_any = placement.workers().all(|view| view.instances == 0);
            assert!(!(no_room.room_may_come && nobody_has_any), "nobody is there to make way");
        }
    }
}

fn recount(placement: &Placement, book: &Book) {
    for view in placement.workers() {
        let mine = book.values().filter(|(on, _)| on == view.id);
        let (count, memory) = mine.fold((0, 0), |(n, sum), (_, memory)| (n + 1, sum + memory));
        assert_eq!((view.instances, view.memory_promised_mb), (count, memory), "{}", view.id);
    }
    assert_eq!(placement.placed.len(), book.len());
    for (&instance, (on, _)) in book {
        assert_eq!(placement.worker_of(instance), Some(on));
    }
}

proptest! {
    #[test]
    fn promises_are_the_sum_of_what_is_placed_and_never_above_the_limit(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let (mut placement, mut book) = (Placement::new(), Book::new());
        for (i, step) in (1..).zip(&steps) {
            apply(&mut placement, &mut book, Time::from_millis(i), step);
            recount(&placement, &book);
        }
        for number in 0..4 {
            apply(&mut placement, &mut book, Time::MAX, &Step::Leave { worker: number });
        }
        prop_assert!(placement.placed.is_empty() && placement.together.is_empty() && placement.fleet.is_empty());
    }
}
