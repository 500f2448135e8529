//! The chart of an instance's life, arrow by arrow.

use super::*;

#[test]
fn the_most_recently_used_idle_instance_is_reused() {
    let mut story = Story::new();
    let (a, b) = (story.cold(spec("f", 1)), story.cold(spec("f", 1)));
    story.give_back(&a);
    story.give_back(&b);
    let again = story.leases(spec("f", 1));
    assert_eq!((again.instance, again.cold), (b.instance, false));
    story.give_back(&again);
    assert_eq!(story.leases(spec("f", 1)).instance, b.instance);
    assert_eq!(story.leases(spec("f", 1)).instance, a.instance);
}

#[test]
fn an_instance_serves_its_own_revision_only() {
    let mut story = Story::new();
    story.idle(spec("f", 1));
    story.waits(spec("f", 2));
    story.waits(spec("g", 1));
}

#[test]
fn an_idle_instance_ends_after_its_idle_timeout_counted_from_its_last_use() {
    let mut story = Story::new();
    let instance = story.idle(spec("f", 1));
    story.after(200);
    let lease = story.leases(spec("f", 1));
    story.after(50);
    story.give_back(&lease);
    story.after(299);
    assert_eq!(story.state(instance), Some(InstanceState::Idle));
    story.after(1);
    assert_eq!(story.ended(), [(instance, EndReason::Idle)]);
    story.event(Event::InstanceGone { instance });
    story.assert_nothing_left();
}

#[test]
fn a_busy_instance_does_not_end_for_idleness() {
    let mut story = Story::new();
    let lease = story.cold(spec("f", 1));
    story.after(10_000);
    assert_eq!(story.state(lease.instance), Some(InstanceState::Busy));
    assert_eq!(story.manager.next_deadline(), None);
}

#[test]
fn an_ended_instance_counts_as_draining_until_its_worker_says_it_is_gone() {
    let mut story = Story::new();
    let instance = story.idle(spec("f", 1));
    story.after(300);
    assert_eq!(story.state(instance), Some(InstanceState::Draining));
    story.waits(spec("f", 1));
    story.event(Event::InstanceGone { instance });
    assert_eq!(story.state(instance), None);
}

#[test]
fn a_lost_instance_is_ended_and_not_used_again() {
    let mut story = Story::new();
    let lease = story.cold(spec("f", 1));
    story.release(&lease, LeaseOutcome::InstanceLost);
    assert_eq!(story.ended(), [(lease.instance, EndReason::Failed)]);
    story.waits(spec("f", 1));
}

#[test]
fn a_replaced_revisions_idle_instances_end_at_once_and_busy_ones_when_released() {
    let mut story = Story::new();
    let (busy, idle) = (story.cold(spec("f", 1)), story.cold(spec("f", 1)));
    story.give_back(&idle);
    story.event(Event::RevisionReplaced { revision: revision("f", 2) });
    assert_eq!(story.ended(), [(idle.instance, EndReason::Replaced)]);
    assert_eq!(story.state(busy.instance), Some(InstanceState::Draining));
    story.give_back(&busy);
    assert_eq!(story.ended(), [(busy.instance, EndReason::Replaced)]);
}

#[test]
fn replacing_leaves_newer_revisions_and_other_versions_alone() {
    let mut story = Story::new();
    let newer = story.idle(spec("f", 3));
    let mut published = spec("f", 1);
    published.revision.version.version = Version::Published(1);
    let other = story.idle(published);
    story.take_actions();
    story.event(Event::RevisionReplaced { revision: revision("f", 3) });
    story.event(Event::RevisionReplaced { revision: revision("f", 2) });
    assert_eq!(story.take_actions(), []);
    assert_eq!(story.state(newer), Some(InstanceState::Idle));
    assert_eq!(story.state(other), Some(InstanceState::Idle));
}

#[test]
fn a_late_request_for_a_replaced_revision_leaves_no_idle_instance_behind() {
    let mut story = Story::new();
    story.idle(spec("f", 2));
    story.event(Event::RevisionReplaced { revision: revision("f", 2) });
    let lease = story.cold(spec("f", 1));
    story.give_back(&lease);
    assert_eq!(story.ended(), [(lease.instance, EndReason::Replaced)]);
}

#[test]
fn a_deleted_functions_instances_end_and_its_late_requests_are_refused() {
    let mut story = Story::new();
    let (busy, idle) = (story.cold(spec("f", 1)), story.cold(spec("f", 1)));
    story.give_back(&idle);
    story.take_actions();
    story.event(Event::FunctionDeleted { function: function("f"), newest: 1 });
    story.event(Event::FunctionDeleted { function: function("f"), newest: 1 });
    assert_eq!(story.ended(), [(idle.instance, EndReason::FunctionDeleted)]);
    assert_eq!(story.is_refused(spec("f", 1)), Refusal::FunctionDeleted);
    story.give_back(&busy);
    assert_eq!(story.ended(), [(busy.instance, EndReason::FunctionDeleted)]);
    for lease in [busy, idle] {
        story.event(Event::InstanceGone { instance: lease.instance });
    }
    story.assert_nothing_left();
    assert_eq!(
        story.is_refused(spec("f", 1)),
        Refusal::FunctionDeleted,
        "nor does one start an instance of it"
    );
    story.assert_nothing_left();
    // Another of the same name.
    story.waits(spec("f", 2));
}

#[test]
fn a_lease_outlives_its_instance_and_counts_until_it_is_released() {
    let mut story = Story::with(Config { account_concurrency: 1, ..Config::default() });
    let lease = story.cold(spec("f", 1));
    story.event(Event::InstanceGone { instance: lease.instance });
    story.event(Event::InstanceGone { instance: lease.instance });
    assert_eq!(story.manager.counts().leased, 1);
    assert_eq!(story.is_refused(spec("f", 1)), Refusal::AccountLimit { limit: 1 });
    story.give_back(&lease);
    story.give_back(&lease);
    story.assert_nothing_left();
    story.waits(spec("f", 1));
}

#[test]
fn a_lost_worker_takes_its_instances_along_and_refuses_who_waited_for_them() {
    let mut story = Story::new();
    let lease = story.cold(spec("f", 1));
    let wait = story.waits(spec("f", 1));
    let [starting] = story.started()[..] else { panic!() };
    story.placed(starting);
    story.event(Event::WorkerLost { worker: WorkerId::new("another") });
    assert_eq!(story.take_actions(), []);
    story.event(Event::WorkerLost { worker: local() });
    let refusal = Refusal::StartFailed { reason: "worker local was lost".into() };
    assert_eq!(story.take_actions(), [Action::Refuse { wait, refusal }]);
    assert_eq!(story.manager.counts().instances(), 0);
    story.give_back(&lease);
    story.assert_nothing_left();
}

#[test]
fn an_instance_found_on_a_worker_serves_like_any_other() {
    let mut story = Story::with(Config { epoch: 2, ..Config::default() });
    let instance = InstanceId::new(1, 7);
    let found =
        Event::InstanceFound { instance, worker: local(), spec: Arc::new(spec("f", 1)), tenant: None };
    story.event(found.clone());
    let lease = story.leases(spec("f", 1));
    story.event(found);
    assert_eq!((lease.instance, story.manager.counts().instances()), (instance, 1));
}

#[test]
fn a_late_report_does_not_bring_an_own_instance_back() {
    let mut story = Story::new();
    let instance = story.idle(spec("f", 1));
    story.event(Event::InstanceGone { instance });
    story.event(Event::InstanceFound {
        instance,
        worker: local(),
        spec: Arc::new(spec("f", 1)),
        tenant: None,
    });
    story.assert_nothing_left();
}

#[test]
fn a_stop_refuses_who_waits_and_ends_instances_as_their_requests_do() {
    let mut story = Story::new();
    let (busy, idle) = (story.cold(spec("f", 1)), story.idle(spec("g", 1)));
    let wait = story.waits(spec("f", 1));
    let [starting] = story.started()[..] else { panic!() };
    story.placed(starting);
    story.event(Event::Stopping);
    let actions = story.take_actions();
    assert!(actions.contains(&Action::Refuse { wait, refusal: Refusal::Stopping }));
    let end = |instance| Action::EndInstance { instance, worker: local(), reason: EndReason::Shutdown };
    assert!(actions.contains(&end(idle)) && actions.contains(&end(starting)));
    assert_eq!(actions.len(), 3);
    assert_eq!(story.is_refused(spec("f", 1)), Refusal::Stopping);
    story.give_back(&busy);
    assert_eq!(story.ended(), [(busy.instance, EndReason::Shutdown)]);
    for instance in [busy.instance, idle, starting] {
        assert!(!story.manager.is_empty());
        story.event(Event::InstanceGone { instance });
    }
    story.assert_nothing_left();
}

#[test]
fn a_drained_worker_loses_idle_instances_at_once_and_busy_ones_with_their_request() {
    let mut story = Story::new();
    let idle = story.idle(spec("f", 1));
    let busy = story.cold(spec("g", 1));
    story.event(Event::WorkerDraining { worker: WorkerId::new("other") });
    assert_eq!(story.ended(), []);
    story.event(Event::WorkerDraining { worker: local() });
    assert_eq!(story.ended(), [(idle, EndReason::WorkerDrained)]);
    story.waits(spec("g", 1));
    story.give_back(&busy);
    assert_eq!(story.ended(), [(busy.instance, EndReason::WorkerDrained)]);
}
