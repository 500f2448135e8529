//! Instances that are there before their request.

use super::*;

fn learned(name: &str) -> FunctionSpec {
    FunctionSpec { keep_alive: KeepAlive::Learned, ..spec(name, 1) }
}

fn provision(story: &mut Story, spec: FunctionSpec, count: u32) {
    story.event(Event::Provision { spec: Arc::new(spec), count });
}

fn reasons(story: &mut Story) -> Vec<StartReason> {
    let starts = story.take_actions().into_iter().filter_map(|action| match action {
        Action::StartInstance { reason, .. } => Some(reason),
        Action::EndInstance { .. }
        | Action::HibernateInstance { .. }
        | Action::WakeInstance { .. }
        | Action::MakeBlank { .. }
        | Action::EndBlank { .. }
        | Action::Grant { .. }
        | Action::Refuse { .. } => None,
    });
    starts.collect()
}

#[test]
fn provisioned_instances_are_started_kept_and_replaced() {
    let mut story = Story::new();
    provision(&mut story, spec("f", 1), 2);
    let [a, b] = story.started()[..] else { panic!() };
    let state = |story: &Story| story.manager.provisioned(&revision("f", 1));
    assert_eq!(state(&story), Provisioned { requested: 2, ..Provisioned::default() });
    story.ready(a);
    story.ready(b);
    let lease = story.leases(spec("f", 1));
    assert!(!lease.cold);
    assert_eq!(state(&story), Provisioned { requested: 2, allocated: 2, available: 1, failure: None });
    story.give_back(&lease);
    story.after(10_000);
    assert_eq!(story.ended(), [], "however long they are idle");
    story.event(Event::InstanceGone { instance: a });
    let [c] = story.started()[..] else { panic!("what is gone is replaced") };
    story.ready(c);
    provision(&mut story, spec("f", 1), 0);
    story.after(1_000);
    assert_eq!(story.ended().len(), 2);
    for instance in [b, c] {
        story.event(Event::InstanceGone { instance });
    }
    story.assert_nothing_left();
    assert_eq!(story.manager.savings().provisioned, 1);
}

#[test]
fn provisioned_concurrency_that_cannot_be_had_says_why_and_is_tried_again() {
    let mut story = Story::new();
    provision(&mut story, spec("f", 1), 1);
    let [denied] = story.started()[..] else { panic!() };
    story.event(Event::PlacementFailed { instance: denied, reason: "full".into(), room_may_come: true });
    assert_eq!(story.manager.provisioned(&revision("f", 1)).failure.as_deref(), Some("full"));
    assert_eq!(story.started(), []);
    story.after(1);
    let [second] = story.started()[..] else { panic!() };
    story.ready(second);
    assert_eq!(story.manager.provisioned(&revision("f", 1)).failure, None);
}

#[test]
fn provisioned_instances_count_against_the_account_and_serve_when_it_is_full() {
    let mut story = Story::with(Config { account_concurrency: 3, ..Config::default() });
    provision(&mut story, spec("f", 1), 2);
    story.waits(spec("g", 1));
    assert_eq!(story.is_refused(spec("g", 1)), Refusal::AccountLimit { limit: 3 });
    story.waits(spec("f", 1));
    story.waits(spec("f", 1));
    assert_eq!(story.is_refused(spec("f", 1)), Refusal::AccountLimit { limit: 3 });
}

#[test]
fn nobody_evicts_what_is_provisioned() {
    let mut story = Story::new();
    provision(&mut story, spec("f", 1), 1);
    let [a] = story.started()[..] else { panic!() };
    story.ready(a);
    story.waits(spec("g", 1));
    let [denied] = story.started()[..] else { panic!() };
    story.event(Event::PlacementFailed { instance: denied, reason: "full".into(), room_may_come: true });
    story.event(Event::MemoryShort { worker: local(), relief: Relief::Evict });
    assert_eq!(story.ended(), []);
}

#[test]
fn a_function_that_comes_like_a_clock_is_ready_when_it_comes_and_costs_nothing_between() {
    let mut story = Story::new();
    let minutes = |n: u64| n * 60;
    let mut cold = 0;
    for round in 0..20 {
        let lease = match story.acquire(learned("f")) {
            Acquired::Leased(lease) => lease,
            Acquired::Waiting(_) => {
                cold += 1;
                let [instance] = story.started()[..] else { panic!() };
                story.ready(instance);
                story.granted().remove(0).1
            }
            Acquired::Refused(refusal) => panic!("{refusal}"),
        };
        story.give_back(&lease);
        let asleep_at = story.ended();
        assert!(round < 6 || asleep_at.len() == 1, "not kept after a use: round {round}");
        let mut passed = 0;
        while passed < minutes(60) {
            for (instance, _) in asleep_at.iter().copied().chain(story.ended()) {
                story.event(Event::InstanceGone { instance });
            }
            let starting = story.manager.instances().find(|view| view.state == InstanceState::Starting);
            if let Some(instance) = starting.map(|view| view.id) {
                assert!(passed > minutes(45), "too early: {passed}");
                story.ready(instance);
            }
            story.after(minutes(1));
            passed += minutes(1);
        }
    }
    assert!(cold <= 6, "{cold} of 20 cold");
    assert!(story.manager.savings().prewarmed >= 14);
}

#[test]
fn what_is_learned_outlives_a_deploy_also_when_there_is_no_instance_then() {
    let mut story = Story::new();
    let mut newer = learned("f");
    newer.revision.number += 1;
    // Two uses half an hour apart, twenty times: kept or not, the next is foreseen.
    let mut windows = Vec::new();
    for round in 0..20 {
        let spec = if round < 10 { learned("f") } else { newer.clone() };
        let lease = match story.acquire(spec) {
            Acquired::Leased(lease) => lease,
            Acquired::Waiting(_) => {
                let [instance] = story.started()[..] else { panic!() };
                story.ready(instance);
                story.granted().remove(0).1
            }
            Acquired::Refused(refusal) => panic!("{refusal}"),
        };
        story.give_back(&lease);
        let left = story.ended();
        windows.push(left.len());
        for (instance, _) in left {
            story.event(Event::InstanceGone { instance });
        }
        if round == 9 {
            assert!(story.manager.instances().next().is_none(), "nothing runs at the deploy");
            story.event(Event::RevisionReplaced { revision: newer.revision.clone() });
            story.after(1_800);
            continue;
        }
        for _ in 0..30 {
            for (instance, _) in story.ended() {
                story.event(Event::InstanceGone { instance });
            }
            let starting = story.manager.instances().find(|view| view.state == InstanceState::Starting);
            if let Some(instance) = starting.map(|view| view.id) {
                story.ready(instance);
            }
            story.after(60);
        }
    }
    assert_eq!(windows[9..], [1; 11], "not kept after a use, before the deploy and after: {windows:?}");
    story.event(Event::RevisionReplaced { revision: revision("f", 9) });
    for instance in story.manager.instances().map(|view| view.id).collect::<Vec<_>>() {
        story.event(Event::Placed { instance, worker: local() });
        story.event(Event::InstanceGone { instance });
    }
    story.after(20_000);
    story.assert_nothing_left();
}

#[test]
fn provisioned_concurrency_is_in_requests_at_once_not_in_instances() {
    let mut story = Story::new();
    let mut spec = spec("f", 1);
    spec.concurrency = Concurrency::new(4, 4);
    spec.concurrency.adaptive = false;
    provision(&mut story, spec.clone(), 6);
    let [a, b] = story.started()[..] else { panic!("two with four slots each") };
    let state = |story: &Story| story.manager.provisioned(&revision("f", 1));
    story.ready(a);
    assert_eq!((state(&story).allocated, state(&story).available), (4, 4));
    story.ready(b);
    assert_eq!((state(&story).allocated, state(&story).available), (6, 6));
    let leases: Vec<_> = (0..5).map(|_| story.leases(spec.clone())).collect();
    assert_eq!((state(&story).allocated, state(&story).available), (6, 3));
    leases.iter().for_each(|lease| story.give_back(lease));
    story.after(10_000);
    assert_eq!(story.ended(), [], "both are needed for six");
}

#[test]
fn relief_looks_at_no_more_than_some_instances_at_a_time_and_at_all_in_the_end() {
    let mut story = Story::new();
    let all: Vec<_> = (0..5_000).map(|n| story.idle(spec(&format!("f{n}"), 1))).collect();
    story.take_actions();
    let mut asleep = 0;
    for look in 0..200 {
        story.event(Event::MemoryShort { worker: local(), relief: Relief::Hibernate });
        let now = story.take_actions().len();
        assert!(now <= 256, "{now} at once");
        assert!(look > 0 || now == 256);
        asleep += now;
    }
    assert_eq!(asleep, all.len());
}

#[test]
fn what_is_learned_is_forgotten_in_time() {
    let mut story = Story::new();
    let instance = story.idle(learned("f"));
    story.after(300);
    assert_eq!(story.ended(), [(instance, EndReason::Idle)]);
    story.event(Event::InstanceGone { instance });
    assert!(story.manager.is_empty());
    story.after(20_000);
    story.assert_nothing_left();
}

#[test]
fn a_rising_burst_is_met_ahead_and_a_single_one_is_not() {
    let mut story = Story::new();
    for _ in 0..100 {
        story.waits(spec("once", 1));
    }
    assert_eq!(reasons(&mut story), [StartReason::Request; 100]);
    for waiting in [5, 10, 20] {
        story.now = story.now + Duration::from_millis(200);
        for _ in 0..waiting {
            story.waits(spec("rising", 1));
        }
    }
    let starts = reasons(&mut story);
    let ahead = starts.iter().filter(|reason| **reason == StartReason::Ahead).count();
    assert!((5..=30).contains(&ahead), "{ahead}");
    assert!(starts.len() <= 60, "two for each that waits at most");
}

#[test]
fn a_worker_short_of_memory_has_those_hibernate_that_were_used_longest_ago_and_a_request_wakes_them() {
    let mut story = Story::new();
    let (oldest, newest) = (story.idle(spec("f", 1)), {
        story.after(1);
        story.idle(spec("g", 1))
    });
    story.take_actions();
    story.event(Event::MemoryShort { worker: local(), relief: Relief::Hibernate });
    let hibernate = |instance| Action::HibernateInstance { instance, worker: local() };
    assert_eq!(story.take_actions(), [hibernate(oldest)]);
    assert_eq!(story.state(oldest), Some(InstanceState::Hibernating));
    story.event(Event::MemoryShort { worker: local(), relief: Relief::Hibernate });
    story.event(Event::MemoryShort { worker: local(), relief: Relief::Hibernate });
    assert_eq!(story.take_actions(), [hibernate(newest)]);
    story.after(1);
    let lease = story.leases(spec("f", 1));
    assert_eq!((lease.instance, lease.cold), (oldest, false));
    story.give_back(&lease);
    story.event(Event::MemoryShort { worker: local(), relief: Relief::Evict });
    assert_eq!(story.ended(), [(newest, EndReason::Evicted)]);
    story.event(Event::MemoryShort { worker: WorkerId::new("other"), relief: Relief::Evict });
    assert_eq!(story.ended(), []);
}

#[test]
fn an_instance_is_suspended_resumed_and_terminated_when_asked_for_and_only_when_it_can_be() {
    let mut story = Story::new();
    let one = story.idle(spec("f", 1));
    story.take_actions();
    story.event(Event::ResumptionAsked { instance: one });
    assert_eq!(story.take_actions(), [], "it is awake");
    story.event(Event::SuspensionAsked { instance: one });
    assert_eq!(story.take_actions(), [Action::HibernateInstance { instance: one, worker: local() }]);
    assert_eq!(story.state(one), Some(InstanceState::Hibernating));
    story.event(Event::SuspensionAsked { instance: one });
    assert_eq!(story.take_actions(), [], "it sleeps");
    story.event(Event::ResumptionAsked { instance: one });
    assert_eq!(story.take_actions(), [Action::WakeInstance { instance: one, worker: local() }]);
    assert_eq!(story.state(one), Some(InstanceState::Idle));
    let lease = story.leases(spec("f", 1));
    story.event(Event::SuspensionAsked { instance: one });
    assert_eq!((story.take_actions(), story.state(one)), (vec![], Some(InstanceState::Busy)));
    story.event(Event::TerminationAsked { instance: one });
    assert_eq!(story.ended(), [], "its request is answered first");
    story.give_back(&lease);
    assert_eq!(story.ended(), [(one, EndReason::Terminated)]);
}
