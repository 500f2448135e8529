//! Limits of functions and accounts, and more than one request an instance.

use super::*;

fn reserved(name: &str, limit: u32) -> FunctionSpec {
    FunctionSpec { reserved_concurrency: Some(limit), ..spec(name, 1) }
}

fn shared(name: &str, soft: u32, hard: u32) -> FunctionSpec {
    FunctionSpec { concurrency: Concurrency::new(soft, hard), ..spec(name, 1) }
}

fn account_of(limit: u32) -> Story {
    Story::with(Config { account_concurrency: limit, ..Config::default() })
}

#[test]
fn a_function_is_refused_above_its_reserved_concurrency_cold_starts_included() {
    let mut story = Story::new();
    let lease = story.cold(reserved("f", 2));
    story.waits(reserved("f", 2));
    assert_eq!(story.is_refused(reserved("f", 2)), Refusal::FunctionLimit { limit: 2 });
    story.give_back(&lease);
    story.waits(reserved("f", 2));
}

#[test]
fn a_reservation_of_zero_switches_a_function_off() {
    let mut story = Story::new();
    assert_eq!(story.is_refused(reserved("f", 0)), Refusal::FunctionLimit { limit: 0 });
    assert_eq!(story.take_actions(), []);
}

#[test]
fn functions_without_a_reservation_share_what_the_others_leave() {
    let mut story = account_of(10);
    let function = function("vip");
    story.event(Event::ConcurrencyReserved { function, reserved: Some(8) });
    story.waits(spec("f", 1));
    story.waits(spec("g", 1));
    assert_eq!(story.is_refused(spec("h", 1)), Refusal::AccountLimit { limit: 2 });
    for _ in 0..8 {
        story.waits(reserved("vip", 8));
    }
    assert_eq!(story.is_refused(reserved("vip", 8)), Refusal::FunctionLimit { limit: 8 });
}

#[test]
fn a_changed_reservation_moves_the_requests_in_flight() {
    let mut story = account_of(10);
    for _ in 0..6 {
        story.waits(spec("f", 1));
    }
    story.event(Event::ConcurrencyReserved { function: function("f"), reserved: Some(6) });
    let view = story.manager.accounts().next().unwrap();
    assert_eq!((view.in_flight, view.unreserved_in_use, view.unreserved_limit), (6, 0, 4));
    for _ in 0..4 {
        story.waits(spec("g", 1));
    }
    story.event(Event::ConcurrencyReserved { function: function("f"), reserved: None });
    let view = story.manager.accounts().next().unwrap();
    assert_eq!((view.in_flight, view.unreserved_in_use, view.unreserved_limit), (10, 10, 10));
}

#[test]
fn an_account_never_passes_its_limit_even_when_more_than_that_is_reserved() {
    let mut story = account_of(3);
    story.waits(reserved("f", 2));
    story.waits(reserved("f", 2));
    story.waits(reserved("g", 2));
    assert_eq!(story.is_refused(reserved("g", 2)), Refusal::AccountLimit { limit: 3 });
    assert_eq!(story.is_refused(spec("h", 1)), Refusal::AccountLimit { limit: 0 });
}

#[test]
fn accounts_do_not_share_their_limits() {
    let mut story = account_of(1);
    story.waits(spec("f", 1));
    let mut theirs = spec("f", 1);
    theirs.revision.version.function.account = "111111111111".parse().unwrap();
    story.waits(theirs);
}

#[test]
fn the_least_loaded_instance_under_the_soft_limit_is_chosen() {
    let mut story = Story::new();
    let busier = story.cold(shared("f", 4, 4));
    story.leases(shared("f", 4, 4));
    let other = InstanceId::new(9, 9);
    let spec = Arc::new(shared("f", 4, 4));
    story.event(Event::InstanceFound { instance: other, worker: local(), spec, tenant: None });
    assert_eq!(story.leases(shared("f", 4, 4)).instance, other);
    assert_eq!(story.leases(shared("f", 4, 4)).instance, other);
    // Both have two now: the one used last is first among equals.
    assert_eq!(story.leases(shared("f", 4, 4)).instance, other);
    assert_eq!(story.leases(shared("f", 4, 4)).instance, busier.instance);
}

#[test]
fn above_the_soft_limit_one_more_instance_is_started_while_slots_are_still_given() {
    let mut story = Story::new();
    story.cold(shared("f", 1, 3));
    story.leases(shared("f", 1, 3));
    let [extra] = story.started()[..] else { panic!("one start ahead of need") };
    story.leases(shared("f", 1, 3));
    assert_eq!(story.started(), [], "one at a time");
    story.ready(extra);
    assert_eq!(story.leases(shared("f", 1, 3)).instance, extra);
}

#[test]
fn a_start_ahead_of_need_that_fails_evicts_nobody_and_is_not_repeated_at_once() {
    let mut story = Story::new();
    story.idle(spec("g", 1));
    story.cold(shared("f", 1, 5));
    story.leases(shared("f", 1, 5));
    let [extra] = story.started()[..] else { panic!() };
    story.event(Event::PlacementFailed { instance: extra, reason: "full".into(), room_may_come: true });
    story.leases(shared("f", 1, 5));
    assert_eq!(story.take_actions(), []);
    story.after(1);
    story.leases(shared("f", 1, 5));
    assert_eq!(story.started().len(), 1);
}

#[test]
fn the_hard_limit_is_never_passed() {
    let mut story = Story::new();
    let first = story.cold(shared("f", 2, 2));
    assert_eq!(story.leases(shared("f", 2, 2)).instance, first.instance);
    let waits: Vec<_> = (0..3).map(|_| story.waits(shared("f", 2, 2))).collect();
    let [a, b] = story.started()[..] else { panic!("two instances have room for three requests") };
    story.ready(a);
    story.ready(b);
    let granted = story.granted();
    assert_eq!(granted.iter().map(|(wait, _)| *wait).collect::<Vec<_>>(), waits);
    assert_eq!(granted.iter().map(|(_, lease)| lease.instance).collect::<Vec<_>>(), [a, a, b]);
}

#[test]
fn an_instance_with_several_requests_ends_with_the_last_of_them() {
    let mut story = Story::new();
    let first = story.cold(shared("f", 2, 2));
    let second = story.leases(shared("f", 2, 2));
    story.release(&first, LeaseOutcome::InstanceLost);
    assert_eq!(story.ended(), []);
    story.give_back(&second);
    assert_eq!(story.ended(), [(first.instance, EndReason::Failed)]);
}

#[test]
fn a_spec_without_slots_counts_as_one_slot() {
    let mut story = Story::new();
    story.cold(shared("f", 0, 0));
    story.waits(shared("f", 0, 0));
}
