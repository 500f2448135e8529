//! Who is chosen and who is passed over, in small and in large fleets.

use super::*;
use crate::images::IMAGES_PER_WORKER;

/// The names of the workers that requests went to, one after the other.
fn chosen(placement: &mut Placement, requests: impl IntoIterator<Item = PlaceRequest>) -> Vec<String> {
    let place = |request| placement.place(NOW, &request).unwrap().as_str().to_owned();
    requests.into_iter().map(place).collect()
}

fn fleet(seed: u64, packing: Packing, workers: usize, each: &Capacity) -> Placement {
    let mut placement = Placement::with_seed(seed, packing);
    for number in 0..workers {
        join(&mut placement, &format!("w{number:05}"), each.clone());
    }
    placement
}

#[test]
fn an_instance_goes_where_its_image_is() {
    let mut placement = fleet(0, Packing::Even, 3, &capacity(10_000));
    let (worker, code) = (WorkerId::new("w00002"), CodeDigest([0; 32]));
    placement.handle(NOW, Event::ImageCached { worker: worker.clone(), code });
    assert_eq!(chosen(&mut placement, [request(1, 128)]), ["w00002"]);
    end(&mut placement, 1);
    placement.handle(NOW, Event::ImageDropped { worker: worker.clone(), code });
    placement.handle(NOW, Event::ImageDropped { worker: worker.clone(), code });
    assert_eq!(placement.worker(&worker).unwrap().images, 0);
}

#[test]
fn of_ten_thousand_workers_the_one_with_the_image_is_found() {
    let mut placement = fleet(3, Packing::Even, 10_000, &capacity(10_000));
    let code = CodeDigest([0; 32]);
    placement.handle(NOW, Event::ImageCached { worker: WorkerId::new("w07777"), code });
    assert_eq!(chosen(&mut placement, [request(1, 128)]), ["w07777"]);
}

#[test]
fn a_function_spreads_over_workers() {
    let mut placement = fleet(0, Packing::Even, 4, &capacity(100_000));
    let mut on = chosen(&mut placement, (0..8).map(|i| request(i, 128)));
    assert_eq!(on[0], on[1], "the second goes where the image is");
    on.sort();
    on.dedup();
    assert_eq!(on.len(), 4);
}

#[test]
fn tight_packing_fills_one_worker_before_the_next() {
    let mut placement = fleet(1, Packing::Tight, 1_000, &capacity(1_000));
    let mut on = chosen(&mut placement, (0..50).map(|i| stranger(i, 100)));
    on.dedup();
    assert!(on.len() <= 6, "{on:?}");
}

#[test]
fn a_large_fleet_is_loaded_evenly() {
    let mut placement = fleet(1, Packing::Even, 1_000, &capacity(4_000));
    chosen(&mut placement, (0..10_000).map(|i| stranger(i, 100)));
    let most = placement.workers().map(|view| view.instances).max();
    assert!(most <= Some(13), "{most:?} where 10 would be even");
}

#[test]
fn the_only_free_worker_of_a_large_fleet_is_found() {
    let mut placement = fleet(9, Packing::Even, 2_000, &capacity(128));
    for i in 0..2_000 {
        placement.place(NOW, &stranger(i, 128)).unwrap();
    }
    let refusal = placement.place(NOW, &stranger(2_000, 128)).unwrap_err();
    assert!(refusal.room_may_come);
    assert_eq!(
        refusal.to_string().split(": ").next(),
        Some("none of 2000 workers has room; of 64 looked at"),
    );
    for i in (0..2_000).step_by(97) {
        let freed = placement.worker_of(InstanceId::new(0, i)).unwrap().clone();
        end(&mut placement, i);
        assert_eq!(placement.place(NOW, &stranger(2_000 + i, 128)), Ok(freed));
    }
}

#[test]
fn labels_lead_to_the_workers_that_have_them() {
    let mut placement = fleet(2, Packing::Even, 500, &capacity(1_000));
    join(
        &mut placement,
        "gpu",
        Capacity { labels: labels(&[("gpu", "yes"), ("zone", "a")]), ..capacity(256) },
    );
    let needs = |i, pairs: &[_]| PlaceRequest { labels: labels(pairs), ..stranger(i, 128) };
    assert_eq!(chosen(&mut placement, [needs(1, &[("gpu", "yes")])]), ["gpu"]);
    assert_eq!(chosen(&mut placement, [needs(2, &[("gpu", "yes"), ("zone", "a")])]), ["gpu"]);
    let full = placement.place(NOW, &needs(3, &[("gpu", "yes")])).unwrap_err();
    assert!(full.room_may_come);
    let nobody = placement.place(NOW, &needs(4, &[("gpu", "no")])).unwrap_err();
    assert!(!nobody.room_may_come && nobody.held_back.iter().all(|held| held.lack == Lack::Labels));
}

#[test]
fn what_no_worker_had_room_for_finds_it_when_it_comes() {
    let mut placement = fleet(2, Packing::Even, 0, &capacity(0));
    for number in 0..200 {
        let zone = if number % 2 == 0 { "a" } else { "b" };
        let memory = if number % 2 == 0 { 128 } else { 4_096 };
        let capacity = Capacity { labels: labels(&[("zone", zone)]), ..capacity(memory) };
        join(&mut placement, &format!("w{number}"), capacity);
    }
    let needs = |i, memory| PlaceRequest { labels: labels(&[("zone", "a")]), ..stranger(i, memory) };
    for i in 0..3 {
        assert!(placement.place(NOW, &needs(i, 256)).is_err());
    }
    let labels = labels(&[("zone", "a")]);
    join(&mut placement, "w0", Capacity { labels, ..capacity(512) });
    assert_eq!(chosen(&mut placement, [needs(3, 256)]), ["w0"]);
}

#[test]
fn a_pressed_worker_gets_nothing_until_the_pressure_is_gone() {
    let mut placement = fleet(0, Packing::Even, 1, &capacity(1_000));
    let worker = WorkerId::new("w00000");
    let press = |level| Event::PressureChanged { worker: worker.clone(), level };
    for level in [PressureLevel::StopPlacing, PressureLevel::Hibernate, PressureLevel::Evict] {
        placement.handle(NOW, press(level));
        let refusal = placement.place(NOW, &request(1, 128)).unwrap_err();
        assert_eq!(refusal.held_back[0].lack, Lack::Pressure { level });
        assert!(refusal.room_may_come);
    }
    placement.handle(NOW, press(PressureLevel::None));
    assert!(placement.place(NOW, &request(1, 128)).is_ok());
}

#[test]
fn a_worker_is_drained_when_its_last_instance_has_ended() {
    let mut placement = fleet(0, Packing::Even, 1, &capacity(1_000));
    let worker = WorkerId::new("w00000");
    placement.place(NOW, &request(1, 128)).unwrap();
    placement.handle(NOW, Event::WorkerDraining { worker: worker.clone() });
    assert!(!placement.is_drained(&worker));
    end(&mut placement, 1);
    assert!(placement.is_drained(&worker) && placement.workers().next().unwrap().drained);
    join(&mut placement, "w00000", capacity(1_000));
    assert!(!placement.is_drained(&worker));
}

#[test]
fn garbage_is_bounded() {
    let mut placement = Placement::new();
    let isolations = vec![Isolation::Container; 1_000];
    let labels = (0..1_000).map(|i| (format!("label{i:04}"), String::new())).collect();
    let (memory_mb, cpu_millis, instances) = (u64::MAX, u64::MAX, u32::MAX);
    let capacity = Capacity { memory_mb, cpu_millis, instances, isolations, labels };
    let oversubscription = Oversubscription { memory_percent: u32::MAX, cpu_percent: u32::MAX };
    let worker = WorkerId::new("liar");
    let joined = Event::WorkerJoined { worker: worker.clone(), capacity, oversubscription };
    placement.handle(NOW, joined);
    for i in 0..2 * IMAGES_PER_WORKER as u64 {
        let code = stranger(i, 0).code;
        placement.handle(NOW, Event::ImageCached { worker: worker.clone(), code });
        placement.handle(NOW, Event::ImageCached { worker: worker.clone(), code });
    }
    let huge = PlaceRequest { cpu_millis: u32::MAX, ..request(1, u32::MAX) };
    assert!(placement.place(NOW, &huge).is_ok());
    let view = placement.worker(&worker).unwrap();
    assert_eq!((view.capacity.isolations.len(), view.capacity.labels.len()), (1, crate::MAX_LABELS));
    assert_eq!((view.memory_limit_mb, view.images), (u64::MAX, IMAGES_PER_WORKER));
    for event in [
        Event::WorkerDraining { worker: WorkerId::new("nobody") },
        Event::WorkerLeft { worker: WorkerId::new("nobody") },
        Event::ImageCached { worker: WorkerId::new("nobody"), code: CodeDigest([0; 32]) },
        Event::InstanceFound { worker: WorkerId::new("nobody"), request: request(9, 1) },
    ] {
        placement.handle(NOW, event);
    }
    assert_eq!((placement.workers().count(), placement.worker_of(InstanceId::new(0, 9))), (1, None));
}

#[test]
fn memory_is_promised_ten_times_at_most() {
    let mut placement = Placement::new();
    let oversubscription = Oversubscription { memory_percent: 2_000, cpu_percent: 5_000 };
    let worker = WorkerId::new("local");
    placement.handle(NOW, Event::WorkerJoined { worker, capacity: capacity(1_000), oversubscription });
    let view = placement.workers().next().unwrap();
    assert_eq!((view.memory_limit_mb, view.cpu_limit_millis), (10_000, 100_000));
}
