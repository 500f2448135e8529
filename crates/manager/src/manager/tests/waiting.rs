//! Requests without a slot.

use super::*;

#[test]
fn the_first_request_starts_an_instance_and_gets_it_when_it_is_ready() {
    let mut story = Story::new();
    let lease = story.cold(spec("f", 1));
    assert!(lease.cold);
    assert_eq!(lease.worker, local());
    assert_eq!(story.state(lease.instance), Some(InstanceState::Busy));
}

#[test]
fn a_request_that_waits_gets_whatever_is_free_first() {
    let mut story = Story::new();
    let lease = story.cold(spec("f", 1));
    let wait = story.waits(spec("f", 1));
    let [second] = story.started()[..] else { panic!() };
    story.give_back(&lease);
    let [(granted, reused)] = &story.granted()[..] else { panic!() };
    assert_eq!((*granted, reused.instance, reused.cold), (wait, lease.instance, false));
    story.ready(second);
    assert_eq!(story.take_actions(), [], "the surplus instance stays");
    assert_eq!(story.state(second), Some(InstanceState::Idle));
}

#[test]
fn those_who_wait_are_served_in_the_order_of_their_arrival() {
    let mut story = Story::new();
    let waits: Vec<_> = (0..3).map(|_| story.waits(spec("f", 1))).collect();
    let started = story.started();
    for &instance in started.iter().rev() {
        story.ready(instance);
    }
    let granted: Vec<_> = story.granted().into_iter().map(|(wait, lease)| (wait, lease.instance)).collect();
    let expected: Vec<_> = waits.into_iter().zip(started.into_iter().rev()).collect();
    assert_eq!(granted, expected);
}

#[test]
fn no_more_instances_are_started_than_requests_wait() {
    let mut story = Story::new();
    let wait = story.waits(spec("f", 1));
    assert_eq!(story.started().len(), 1);
    story.event(Event::WaiterLeft { wait });
    story.waits(spec("f", 1));
    assert_eq!(story.started(), [], "the start of the one who left serves the next");
}

#[test]
fn a_failed_start_refuses_the_oldest_request_only() {
    let mut story = Story::new();
    let (first, second) = (story.waits(spec("f", 1)), story.waits(spec("f", 1)));
    let [a, b] = story.started()[..] else { panic!() };
    story.placed(b);
    story.event(Event::InstanceStartFailed { instance: b, reason: "broken".into() });
    let refusal = Refusal::StartFailed { reason: "broken".into() };
    assert_eq!(story.take_actions(), [Action::Refuse { wait: first, refusal }]);
    story.ready(a);
    assert_eq!(story.granted()[0].0, second);
}

#[test]
fn a_failed_start_that_nobody_needs_refuses_nobody() {
    let mut story = Story::new();
    let lease = story.cold(spec("f", 1));
    story.waits(spec("f", 1));
    let [second] = story.started()[..] else { panic!() };
    story.give_back(&lease);
    story.take_actions();
    story.event(Event::InstanceGone { instance: second });
    assert_eq!(story.take_actions(), []);
}

#[test]
fn a_start_that_takes_too_long_is_given_up_and_its_instance_ended() {
    let mut story = Story::with(Config { start_deadline: Duration::from_secs(10), ..Config::default() });
    let wait = story.waits(spec("f", 1));
    let [instance] = story.started()[..] else { panic!() };
    story.placed(instance);
    story.after(10);
    let refusal = Refusal::StartFailed { reason: "it was not ready after 10000 ms".into() };
    let end = Action::EndInstance { instance, worker: local(), reason: EndReason::Failed };
    assert_eq!(story.take_actions(), [end, Action::Refuse { wait, refusal }]);
    story.ready(instance);
    story.event(Event::InstanceGone { instance });
    assert_eq!(story.take_actions(), [], "it is too late to be ready");
    story.assert_nothing_left();
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let mut story = Story::with(Config { wait_deadline: Duration::from_secs(2), ..Config::default() });
    let wait = story.waits(spec("f", 1));
    story.take_actions();
    assert_eq!(story.manager.next_deadline(), Some(Time::from_millis(2_000)));
    story.after(2);
    let refusal = Refusal::TimedOut { waited: Duration::from_secs(2) };
    assert_eq!(story.take_actions(), [Action::Refuse { wait, refusal }]);
}

fn queued(name: &str, wait: u64, depth: u32) -> FunctionSpec {
    FunctionSpec { queue: Queue { wait: Duration::from_secs(wait), depth }, ..spec(name, 1) }
}

#[test]
fn a_request_waits_longer_than_its_queue_allows_only_while_its_instance_starts() {
    let mut story = Story::new();
    let (first, second) = (story.waits(queued("f", 2, 9)), story.waits(queued("f", 2, 9)));
    let [a, b] = story.started()[..] else { panic!() };
    story.after(2);
    assert_eq!(story.take_actions(), [], "both have an instance on its way");
    story.placed(b);
    story.event(Event::PlacementFailed { instance: a, reason: "full".into(), room_may_come: true });
    assert_eq!(story.take_actions(), []);
    story.after(2);
    let refusal = Refusal::NoRoom { reason: "full".into() };
    assert_eq!(story.take_actions(), [Action::Refuse { wait: second, refusal }]);
    story.after(20);
    story.ready(b);
    assert_eq!(story.granted()[0].0, first);
}

#[test]
fn only_so_many_requests_queue_for_which_no_instance_can_be_had() {
    let mut story = Story::new();
    for _ in 0..2 {
        story.waits(queued("f", 2, 2));
        let [denied] = story.started()[..] else { panic!() };
        story.event(Event::PlacementFailed { instance: denied, reason: "full".into(), room_may_come: true });
    }
    assert_eq!(story.is_refused(queued("f", 2, 2)), Refusal::QueueFull { limit: 2 });
    story.waits(queued("g", 2, 2));
}

#[test]
fn a_function_without_a_queue_is_refused_when_there_is_no_room() {
    let mut story = Story::new();
    story.cold(spec("g", 1));
    let wait = story.waits(queued("f", 2, 0));
    let [denied] = story.started()[..] else { panic!() };
    story.event(Event::PlacementFailed { instance: denied, reason: "full".into(), room_may_come: true });
    let refusal = Refusal::NoRoom { reason: "full".into() };
    assert_eq!(story.take_actions(), [Action::Refuse { wait, refusal }]);
}

#[test]
fn a_flood_gives_an_instance_up_for_a_function_with_less() {
    let mut story = Story::new();
    let flood: Vec<_> = (0..3).map(|_| story.cold(spec("flood", 1))).collect();
    let more: Vec<_> = (0..2).map(|_| story.waits(spec("flood", 1))).collect();
    for instance in story.started() {
        story.event(Event::PlacementFailed { instance, reason: "full".into(), room_may_come: true });
    }
    let wait = story.waits(spec("f", 1));
    let [denied] = story.started()[..] else { panic!() };
    story.event(Event::PlacementFailed { instance: denied, reason: "full".into(), room_may_come: true });
    // The flood's own starts have waited longer, but it holds more.
    story.give_back(&flood[0]);
    assert_eq!(story.ended(), [(flood[0].instance, EndReason::Evicted)]);
    story.event(Event::InstanceGone { instance: flood[0].instance });
    let [second_try] = story.started()[..] else { panic!() };
    story.ready(second_try);
    assert_eq!(story.granted()[0].0, wait);
    // One was enough.
    story.give_back(&flood[1]);
    let [(granted, ref lease)] = story.granted()[..] else { panic!() };
    assert_eq!((granted, lease.instance), (more[0], flood[1].instance));
}

#[test]
fn a_function_that_fails_to_initialize_again_and_again_is_left_in_peace_for_a_while() {
    let mut story = Story::new();
    for failures in 1..=3 {
        story.waits(spec("f", 1));
        let [instance] = story.started()[..] else { panic!() };
        story.placed(instance);
        story.event(Event::InstanceReady { instance, worker: local(), initialized: failures == 0 });
        let [(_, ref lease)] = story.granted()[..] else { panic!() };
        story.event(Event::InstanceGone { instance: lease.instance });
        story.give_back(lease);
    }
    let Refusal::InitFailing { failures: 3, retry_after } = story.is_refused(spec("f", 1)) else { panic!() };
    assert_eq!(retry_after, Duration::from_secs(1));
    assert_eq!(story.started(), []);
    story.waits(spec("f", 2));
    story.after(1);
    story.started();
    story.waits(spec("f", 1));
    assert_eq!(story.started().len(), 1, "tried again");
}

#[test]
fn without_room_the_instance_idle_longest_makes_way_and_the_request_waits_for_that() {
    let mut story = Story::new();
    let oldest = story.idle(spec("f", 1));
    story.after(1);
    story.idle(spec("g", 1));
    let wait = story.waits(spec("h", 1));
    let [denied] = story.started()[..] else { panic!() };
    story.event(Event::PlacementFailed { instance: denied, reason: "full".into(), room_may_come: true });
    assert_eq!(story.ended(), [(oldest, EndReason::Evicted)]);
    story.event(Event::InstanceGone { instance: oldest });
    let [second_try] = story.started()[..] else { panic!("a new start when there is room") };
    assert_ne!(second_try, denied);
    story.ready(second_try);
    assert_eq!(story.granted()[0].0, wait);
}

#[test]
fn without_room_and_with_nothing_idle_the_request_waits_and_is_refused_in_the_end() {
    let mut story = Story::new();
    story.cold(spec("f", 1));
    let wait = story.waits(spec("g", 1));
    let [denied] = story.started()[..] else { panic!() };
    story.event(Event::PlacementFailed { instance: denied, reason: "full".into(), room_may_come: true });
    assert_eq!(story.take_actions(), []);
    story.after(2);
    let refusal = Refusal::NoRoom { reason: "full".into() };
    assert_eq!(story.take_actions(), [Action::Refuse { wait, refusal }]);
}

#[test]
fn nobody_makes_way_for_an_instance_that_would_not_fit_even_then() {
    let mut story = Story::new();
    story.idle(spec("f", 1));
    let wait = story.waits(spec("g", 1));
    let [denied] = story.started()[..] else { panic!() };
    let reason = "too large".to_owned();
    story.event(Event::PlacementFailed { instance: denied, reason: reason.clone(), room_may_come: false });
    assert_eq!(story.take_actions(), [Action::Refuse { wait, refusal: Refusal::NoRoom { reason } }]);
}

#[test]
fn an_instance_that_ends_anyway_makes_room_without_an_eviction() {
    let mut story = Story::new();
    let replaced = story.idle(spec("f", 1));
    let bystander = story.idle(spec("g", 1));
    story.event(Event::RevisionReplaced { revision: revision("f", 2) });
    assert_eq!(story.ended(), [(replaced, EndReason::Replaced)]);
    story.waits(spec("f", 2));
    let [denied] = story.started()[..] else { panic!() };
    story.event(Event::PlacementFailed { instance: denied, reason: "full".into(), room_may_come: true });
    assert_eq!(story.take_actions(), []);
    assert_eq!(story.state(bystander), Some(InstanceState::Idle));
    story.event(Event::InstanceGone { instance: replaced });
    assert_eq!(story.started().len(), 1);
}

#[test]
fn a_deleted_functions_requests_are_refused_and_its_starting_instances_ended() {
    let mut story = Story::new();
    let wait = story.waits(spec("f", 1));
    let [instance] = story.started()[..] else { panic!() };
    story.event(Event::FunctionDeleted { function: function("f"), newest: 1 });
    assert_eq!(story.take_actions(), [Action::Refuse { wait, refusal: Refusal::FunctionDeleted }]);
    assert_eq!(story.state(instance), Some(InstanceState::Draining));
    story.placed(instance);
    assert_eq!(story.ended(), [(instance, EndReason::FunctionDeleted)], "once somebody can be told");
    story.event(Event::InstanceGone { instance });
    story.assert_nothing_left();
}

#[test]
fn requests_for_a_replaced_revision_still_get_what_was_started_for_them() {
    let mut story = Story::new();
    let wait = story.waits(spec("f", 1));
    let [instance] = story.started()[..] else { panic!() };
    story.event(Event::RevisionReplaced { revision: revision("f", 2) });
    story.ready(instance);
    let granted = story.granted();
    assert_eq!(granted[0].0, wait);
    assert_eq!(story.state(instance), Some(InstanceState::Draining));
    story.give_back(&granted[0].1);
    assert_eq!(story.ended(), [(instance, EndReason::Replaced)]);
}

#[test]
fn one_who_left_gets_nothing_and_counts_no_longer() {
    let mut story = Story::with(Config { account_concurrency: 1, ..Config::default() });
    let wait = story.waits(spec("f", 1));
    story.event(Event::WaiterLeft { wait });
    story.event(Event::WaiterLeft { wait });
    story.event(Event::WaiterLeft { wait: WaitId(99) });
    let [instance] = story.started()[..] else { panic!() };
    story.ready(instance);
    assert_eq!(story.take_actions(), []);
    story.leases(spec("f", 1));
}
