//! The rules of placement, one test each, and its invariants under every order of events.

mod blanks;
mod policy;
mod properties;

use std::sync::Arc;

use hearth_types::{CodeDigest, FunctionId, InstanceId, Isolation, Time, WorkerId};

use crate::{
    Capacity, Event, Labels, Lack, Oversubscription, Packing, PlaceRequest, Placement, PressureLevel,
};

const NOW: Time = Time::ZERO;

fn request(instance: u64, memory_mb: u32) -> PlaceRequest {
    PlaceRequest {
        instance: InstanceId::new(0, instance),
        function: FunctionId { account: "000000000000".parse().unwrap(), name: Arc::from("f") },
        memory_mb,
        cpu_millis: memory_mb / 2,
        isolation: Some(Isolation::Container),
        code: CodeDigest([0; 32]),
        labels: Labels::new(),
    }
}

/// A function and an image of its own for each instance, so that only load counts.
fn stranger(instance: u64, memory_mb: u32) -> PlaceRequest {
    let mut code = [1; 32];
    code[..8].copy_from_slice(&instance.to_le_bytes());
    let mut request = request(instance, memory_mb);
    request.function.name = Arc::from(format!("f{instance}"));
    request.code = CodeDigest(code);
    request
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn capacity(memory_mb: u64) -> Capacity {
    let isolations = vec![Isolation::Container];
    Capacity { memory_mb, cpu_millis: 2_000, instances: 100, isolations, labels: Labels::new() }
}

fn join(placement: &mut Placement, name: &str, capacity: Capacity) {
    let (worker, oversubscription) = (WorkerId::new(name), Oversubscription::default());
    placement.handle(NOW, Event::WorkerJoined { worker, capacity, oversubscription });
}

fn end(placement: &mut Placement, instance: u64) {
    placement.handle(NOW, Event::InstanceEnded { instance: InstanceId::new(0, instance) });
}

#[test]
fn a_promise_is_recorded_until_its_instance_ends() {
    let mut placement = Placement::new();
    join(&mut placement, "local", capacity(256));
    assert_eq!(placement.place(NOW, &request(1, 256)).unwrap().as_str(), "local");
    assert!(placement.place(NOW, &request(2, 1)).is_err());
    end(&mut placement, 1);
    end(&mut placement, 1);
    assert_eq!(placement.workers().next().unwrap().memory_promised_mb, 0);
    assert!(placement.place(NOW, &request(2, 256)).is_ok());
}

#[test]
fn an_instance_asked_for_twice_is_promised_once() {
    let mut placement = Placement::new();
    join(&mut placement, "local", capacity(256));
    assert!(placement.place(NOW, &request(1, 256)).is_ok());
    assert!(placement.place(NOW, &request(1, 256)).is_ok());
    assert_eq!(placement.workers().next().unwrap().memory_promised_mb, 256);
}

#[test]
fn the_worker_with_the_smallest_share_promised_is_chosen() {
    let mut placement = Placement::new();
    join(&mut placement, "large", capacity(4096));
    join(&mut placement, "small", capacity(1024));
    let mut on = |instance| placement.place(NOW, &stranger(instance, 512)).unwrap().as_str().to_owned();
    let order: Vec<_> = (0..5).map(&mut on).collect();
    assert_eq!(order, ["large", "small", "large", "large", "large"]);
}

#[test]
fn among_equal_workers_the_one_used_longest_ago_is_chosen() {
    let mut placement = Placement::new();
    for name in ["a", "b", "c"] {
        join(&mut placement, name, capacity(1024));
    }
    let mut seen = Vec::new();
    for i in 1..=6 {
        let worker = placement.place(Time::from_millis(i), &stranger(i, 128)).unwrap();
        seen.push(worker.as_str().to_owned());
        end(&mut placement, i);
    }
    assert_eq!(seen, ["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn memory_is_promised_up_to_the_oversubscription_and_no_further() {
    let mut placement = Placement::new();
    let oversubscription = Oversubscription { memory_percent: 250, cpu_percent: 1_000 };
    let worker = WorkerId::new("local");
    placement.handle(NOW, Event::WorkerJoined { worker, capacity: capacity(1000), oversubscription });
    let placed = (0..100).filter(|&i| placement.place(NOW, &request(i, 100)).is_ok()).count();
    assert_eq!(placed, 25);
}

#[test]
fn a_draining_worker_gets_nothing_new_and_keeps_what_it_has() {
    let mut placement = Placement::new();
    join(&mut placement, "local", capacity(1024));
    placement.place(NOW, &request(1, 128)).unwrap();
    placement.handle(NOW, Event::WorkerDraining { worker: WorkerId::new("local") });
    let refusal = placement.place(NOW, &request(2, 128)).unwrap_err();
    assert_eq!(refusal.to_string(), "worker local: drains and takes no new instances");
    assert_eq!(placement.workers().next().unwrap().instances, 1);
    join(&mut placement, "local", capacity(1024));
    assert!(placement.place(NOW, &request(2, 128)).is_ok());
    assert_eq!(placement.workers().next().unwrap().instances, 2);
}

#[test]
fn a_worker_that_left_takes_its_promises_along() {
    let mut placement = Placement::new();
    join(&mut placement, "local", capacity(128));
    placement.place(NOW, &request(1, 128)).unwrap();
    placement.handle(NOW, Event::WorkerLeft { worker: WorkerId::new("local") });
    assert_eq!(placement.worker_of(InstanceId::new(0, 1)), None);
    assert_eq!(placement.place(NOW, &request(2, 1)).unwrap_err().to_string(), "no worker has joined");
    join(&mut placement, "local", capacity(128));
    end(&mut placement, 1);
    assert!(placement.place(NOW, &request(2, 128)).is_ok());
}

#[test]
fn an_instance_found_on_a_worker_counts_even_above_the_limit() {
    let mut placement = Placement::new();
    join(&mut placement, "local", capacity(128));
    let found = Event::InstanceFound { worker: WorkerId::new("local"), request: request(1, 512) };
    placement.handle(NOW, found.clone());
    placement.handle(NOW, found);
    assert_eq!(placement.workers().next().unwrap().memory_promised_mb, 512);
    assert!(placement.place(NOW, &request(2, 1)).is_err());
}

#[test]
fn no_room_says_what_is_full_in_numbers() {
    let mut placement = Placement::new();
    join(&mut placement, "local", capacity(24_576));
    placement.place(NOW, &request(1, 24_576)).unwrap();
    let refusal = placement.place(NOW, &request(2, 128)).unwrap_err();
    assert_eq!(refusal.to_string(), "worker local: 24576 of 24576 MB promised, 128 MB needed");
}

#[test]
fn no_room_says_whether_it_would_help_if_others_made_way() {
    let mut placement = Placement::new();
    assert!(!placement.place(NOW, &request(1, 1)).unwrap_err().room_may_come);
    join(&mut placement, "local", capacity(256));
    placement.place(NOW, &request(1, 200)).unwrap();
    assert!(placement.place(NOW, &request(2, 256)).unwrap_err().room_may_come);
    assert!(!placement.place(NOW, &request(2, 257)).unwrap_err().room_may_come);
    placement.handle(NOW, Event::WorkerDraining { worker: WorkerId::new("local") });
    assert!(!placement.place(NOW, &request(2, 128)).unwrap_err().room_may_come);
}

#[test]
fn no_room_counts_the_workers_by_filter_and_names_the_best_of_each() {
    let mut placement = Placement::new();
    for (name, memory) in [("a", 100), ("b", 120), ("c", 110)] {
        join(&mut placement, name, capacity(memory));
    }
    join(&mut placement, "full", Capacity { instances: 0, ..capacity(4096) });
    join(&mut placement, "other", Capacity { isolations: Vec::new(), ..capacity(4096) });
    join(&mut placement, "slow", Capacity { cpu_millis: 6, ..capacity(4096) });
    let refusal = placement.place(NOW, &request(1, 128)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "worker slow: 0 of 60 CPU millis promised, 64 needed; \
         3 workers, the best of them b: 0 of 120 MB promised, 128 MB needed; \
         worker full: 0 of 0 instances placed; \
         worker other: does not have the driver container"
    );
    assert_eq!(refusal.held_back[3].lack, Lack::Isolation { needed: Some(Isolation::Container) });
}
