//! Room that comes is used by those who wait for it, and what is provisioned is had and kept, however much it is.

use super::*;

fn no_room(story: &mut Story) {
    for instance in story.started() {
        story.event(Event::PlacementFailed { instance, reason: "full".into(), room_may_come: true });
    }
}

#[test]
fn room_goes_to_one_who_still_waits_when_another_of_its_function_has_left() {
    let mut story = Story::new();
    let other = story.cold(spec("g", 1));
    let left = story.waits(spec("f", 1));
    no_room(&mut story);
    let stays = story.waits(spec("f", 1));
    no_room(&mut story);
    story.event(Event::WaiterLeft { wait: left });
    story.event(Event::InstanceGone { instance: other.instance });
    let [started] = story.started()[..] else { panic!("the room is not used") };
    story.ready(started);
    assert_eq!(story.granted()[0].0, stays);
}

#[test]
fn room_for_several_that_one_instance_leaves_is_used_by_several() {
    let mut story = Story::new();
    let big = story.cold(FunctionSpec { memory_mb: 1024, ..spec("big", 1) });
    for name in ["f", "g", "h"] {
        story.waits(spec(name, 1));
        no_room(&mut story);
    }
    story.event(Event::InstanceGone { instance: big.instance });
    for _ in 0..3 {
        let [started] = story.started()[..] else { panic!("the room is not used up") };
        story.placed(started);
    }
    assert_eq!(story.started(), []);
}

#[test]
fn one_that_no_worker_takes_any_more_does_not_keep_the_next_from_room() {
    let mut story = Story::new();
    let other = story.cold(spec("other", 1));
    for name in ["f", "g"] {
        story.waits(spec(name, 1));
        no_room(&mut story);
    }
    story.event(Event::InstanceGone { instance: other.instance });
    let [hopeless] = story.started()[..] else { panic!() };
    story.event(Event::PlacementFailed { instance: hopeless, reason: "labels".into(), room_may_come: false });
    assert_eq!(story.started().len(), 1, "the next is tried");
}

#[test]
fn relief_that_takes_several_at_once_leaves_what_is_provisioned() {
    let mut story = Story::new();
    let leases: Vec<_> = (0..16).map(|_| story.cold(spec("f", 1))).collect();
    leases.iter().for_each(|lease| story.give_back(lease));
    story.event(Event::Provision { spec: Arc::new(spec("f", 1)), count: 15 });
    story.take_actions();
    story.event(Event::MemoryShort { worker: local(), relief: Relief::Evict });
    assert_eq!(story.ended().len(), 1);
}

#[test]
fn provisioned_instances_beyond_all_reason_are_started_a_few_at_a_time() {
    let mut story = Story::new();
    for name in ["f", "g"] {
        story.event(Event::Provision { spec: Arc::new(spec(name, 1)), count: 300_000 });
        let started = story.started();
        assert!(started.len() <= 100, "{}", started.len());
        story.ready(started[0]);
        assert_eq!(story.started().len(), 1, "the next follows");
    }
}

#[test]
fn any_number_of_provisioned_instances_can_be_counted() {
    let mut ledger = crate::ledger::Ledger::new(1000);
    let keys = ["f", "g"].map(|name| ledger.open(&function(name)));
    for key in keys {
        ledger.provision(key, 0, u32::MAX);
        ledger.provision(key, 0, u32::MAX);
    }
    for key in keys {
        ledger.provision(key, u32::MAX, 0);
        ledger.begin(key);
        assert!(ledger.admit(key).is_ok(), "what is provisioned may be used");
    }
    keys.into_iter().for_each(|key| ledger.reserve(key, Some(1)));
    assert_eq!(ledger.accounts().next().map(|account| account.unreserved_in_use), Some(0));
}

#[test]
fn a_provisioned_instance_that_is_never_ready_says_so() {
    let mut story = Story::new();
    story.event(Event::Provision { spec: Arc::new(spec("f", 1)), count: 1 });
    let [started] = story.started()[..] else { panic!() };
    story.placed(started);
    story.after(60);
    story.event(Event::InstanceGone { instance: started });
    assert!(story.manager.provisioned(&revision("f", 1)).failure.is_some());
}

#[test]
fn one_who_waits_behind_an_instance_that_is_lost_gets_another() {
    let mut story = Story::new();
    let wide = |hard| FunctionSpec { concurrency: Concurrency::new(hard, hard), ..spec("f", 1) };
    let first = story.waits(wide(2));
    let second = story.waits(wide(2));
    let [instance] = story.started()[..] else { panic!("one for both") };
    // The function's concurrency is lowered while the instance starts.
    story.event(Event::Provision { spec: Arc::new(wide(1)), count: 0 });
    story.ready(instance);
    let granted = story.granted();
    assert_eq!(granted[0].0, first);
    story.take_actions();
    story.release(&granted[0].1, LeaseOutcome::InstanceLost);
    story.event(Event::InstanceGone { instance });
    let next: Vec<_> = story.manager.instances().map(|view| view.id).collect();
    let [next] = next[..] else { panic!("nobody will ever serve it") };
    story.ready(next);
    assert_eq!(story.granted()[0].0, second);
}

#[test]
fn instances_that_take_several_are_not_started_ahead_for_each_request() {
    let mut story = Story::new();
    let wide = FunctionSpec { concurrency: Concurrency::new(10, 10), ..spec("f", 1) };
    let mut starts = 0;
    for requests in [10, 20, 40] {
        for _ in 0..requests {
            story.waits(wide.clone());
        }
        starts += story.started().len();
        story.now = story.now + Duration::from_millis(200);
    }
    assert!((7..=14).contains(&starts), "{starts} for 70 requests, ten in each");
}

#[test]
fn a_late_request_for_a_deleted_function_brings_no_reservation_back() {
    let mut story = Story::new();
    let lease = story.cold(spec("f", 1));
    story.event(Event::FunctionDeleted { function: function("f"), newest: 1 });
    let late = FunctionSpec { reserved_concurrency: Some(5), ..spec("f", 1) };
    assert_eq!(story.is_refused(late), Refusal::FunctionDeleted);
    story.give_back(&lease);
    story.event(Event::InstanceGone { instance: lease.instance });
    story.assert_nothing_left();
}

#[test]
fn room_that_comes_without_an_end_is_used() {
    let mut story = Story::new();
    for name in ["f", "g"] {
        story.waits(spec(name, 1));
        no_room(&mut story);
    }
    story.event(Event::RoomMayHaveCome);
    let [first] = story.started()[..] else { panic!() };
    story.placed(first);
    assert_eq!(story.started().len(), 1, "and by the next, as long as there is some");
}
