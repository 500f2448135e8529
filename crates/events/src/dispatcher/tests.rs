use std::collections::BTreeMap;

use hearth_types::FunctionId;
use proptest::prelude::*;

use super::*;

const CONFIG: Config = Config {
    lane_depth: 100,
    depth: 1_000,
    bytes: 10_000,
    running: 16,
    lane_running: 8,
    expiring: 4,
    retry: Duration::from_secs(60),
    refused: (Duration::from_secs(1), Duration::from_secs(300)),
};
const AGE: Duration = Duration::from_secs(21_600);

fn lane(name: &str) -> Lane {
    Lane::Function(FunctionId { account: "123456789012".parse().unwrap(), name: name.into() })
}

fn pending(id: u64, name: &str, now: Time) -> Pending {
    Pending { id, lane: lane(name), bytes: 1, accepted: now, expires: now + AGE, due: now, failures: 0 }
}

fn started(dispatcher: &mut Dispatcher, now: Time) -> Vec<u64> {
    std::iter::from_fn(|| dispatcher.next(now))
        .map(|step| match step {
            Step::Run { id, .. } | Step::Expire { id, .. } => id,
        })
        .collect()
}

#[test]
fn an_event_that_fails_is_run_again_after_one_minute_and_after_two_more() {
    let mut dispatcher = Dispatcher::new(CONFIG);
    let mut now = Time::from_millis(1_000);
    dispatcher.admit(now, &pending(1, "f", now));
    for (failures, wait) in [(1, 60), (2, 120)] {
        assert_eq!(dispatcher.next(now), Some(Step::Run { id: 1, failures: failures - 1 }));
        let verdict = dispatcher.finished(now, 1, Outcome::Failed { retries: 2 });
        let due = now + Duration::from_secs(wait);
        assert_eq!(verdict, Verdict::Waits { due, failures });
        assert_eq!(dispatcher.next(now), None);
        assert_eq!(dispatcher.next_deadline(), Some(due));
        now = due;
    }
    assert_eq!(dispatcher.next(now), Some(Step::Run { id: 1, failures: 2 }));
    let verdict = dispatcher.finished(now, 1, Outcome::Failed { retries: 2 });
    assert_eq!(verdict, Verdict::Exhausted { failures: 3 });
    assert_eq!(dispatcher.totals(), Totals::default());
}

#[test]
fn an_event_without_a_slot_waits_longer_each_time_and_has_not_failed() {
    let mut dispatcher = Dispatcher::new(CONFIG);
    let mut now = Time::ZERO;
    dispatcher.admit(now, &pending(1, "f", now));
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        assert_eq!(dispatcher.next(now), Some(Step::Run { id: 1, failures: 0 }));
        dispatcher.finished(now, 1, Outcome::Refused);
        assert_eq!(dispatcher.next(now), None);
        let due = now + Duration::from_secs(wait);
        assert_eq!(dispatcher.next_deadline(), Some(due), "{wait}");
        now = due;
    }
}

#[test]
fn an_event_that_waits_by_itself_holds_up_none_of_its_lane() {
    let mut dispatcher = Dispatcher::new(CONFIG);
    let mut now = Time::ZERO;
    for id in 0..50 {
        dispatcher.admit(now, &pending(id, "f", now));
    }
    let (mut others, mut tries) = (0, 0);
    for _ in 0..20 {
        for id in started(&mut dispatcher, now) {
            let outcome = if id == 0 { Outcome::Lost } else { Outcome::Done };
            others += u32::from(id != 0);
            tries += u32::from(id == 0);
            dispatcher.finished(now, id, outcome);
        }
        now = now + Duration::from_millis(500);
    }
    // After 0, 1, 3 and 7 seconds.
    assert_eq!((others, tries), (49, 4));
    assert_eq!(dispatcher.totals().waiting, 1);
}

#[test]
fn what_can_never_run_is_dropped_which_is_no_success() {
    let mut dispatcher = Dispatcher::new(CONFIG);
    let now = Time::ZERO;
    dispatcher.admit(now, &pending(1, "f", now));
    assert_eq!(dispatcher.next(now), Some(Step::Run { id: 1, failures: 0 }));
    assert_eq!(dispatcher.finished(now, 1, Outcome::Never), Verdict::Dropped);
    assert_eq!(dispatcher.totals(), Totals::default());
}

#[test]
fn a_lane_with_two_slots_soon_asks_for_two_only() {
    let mut dispatcher = Dispatcher::new(CONFIG);
    let now = Time::ZERO;
    for id in 0..50 {
        dispatcher.admit(now, &pending(id, "f", now));
    }
    let (mut running, mut refused, mut done) = (Vec::new(), 0, 0);
    while done < 40 {
        for id in started(&mut dispatcher, now) {
            if running.len() < 2 {
                running.push(id);
            } else {
                refused += 1;
                dispatcher.finished(now, id, Outcome::Refused);
            }
        }
        dispatcher.finished(now, running.remove(0), Outcome::Done);
        done += 1;
    }
    assert!(refused < 30, "{refused}");
}

#[test]
fn what_is_too_old_is_given_out_however_long_its_queue_is() {
    let mut dispatcher = Dispatcher::new(CONFIG);
    let now = Time::ZERO;
    for id in 0..20 {
        dispatcher.admit(now, &pending(id, "f", now));
    }
    let ids = started(&mut dispatcher, now);
    for id in ids {
        dispatcher.finished(now, id, Outcome::Refused);
    }
    let old = now + AGE;
    let mut told = Vec::new();
    while told.len() < 20 {
        assert_eq!(
            dispatcher.next_deadline(),
            Some(if told.is_empty() { now + Duration::from_secs(1) } else { Time::ZERO })
        );
        let ids = started(&mut dispatcher, old);
        assert_eq!(ids.len(), 4, "so many at once");
        assert!(started(&mut dispatcher, old).is_empty());
        ids.iter().for_each(|id| dispatcher.expired(old, *id, true));
        told.extend(ids);
    }
    assert_eq!(told, (0..20).collect::<Vec<_>>());
    assert_eq!(dispatcher.totals(), Totals::default());
    assert!(dispatcher.lanes().is_empty());
}

#[test]
fn an_end_that_cannot_be_told_is_told_later_and_the_event_does_not_run() {
    let mut dispatcher = Dispatcher::new(CONFIG);
    let accepted = Time::ZERO;
    dispatcher.admit(accepted, &pending(1, "f", accepted));
    let mut now = accepted + AGE;
    for wait in [1, 2, 4] {
        assert_eq!(dispatcher.next(now), Some(Step::Expire { id: 1, failures: 0 }));
        assert_eq!(dispatcher.lanes()[0].waiting, 1);
        dispatcher.expired(now, 1, false);
        assert_eq!(dispatcher.next(now), None);
        now = now + Duration::from_secs(wait);
        assert_eq!(dispatcher.next_deadline(), Some(now));
    }
    assert_eq!(dispatcher.next(now), Some(Step::Expire { id: 1, failures: 0 }));
    dispatcher.forget(now, &lane("f"));
    dispatcher.expired(now, 1, false);
    assert_eq!((dispatcher.totals(), dispatcher.next_deadline()), (Totals::default(), None));
}

#[test]
fn every_function_gets_its_turn_before_any_gets_a_second() {
    let mut dispatcher = Dispatcher::new(Config { running: 2, ..CONFIG });
    let now = Time::ZERO;
    for id in 0..90 {
        dispatcher.admit(now, &pending(id, "many", now));
    }
    dispatcher.admit(now, &pending(100, "one", now));
    dispatcher.admit(now, &pending(101, "other", now));
    let mut order = Vec::new();
    for _ in 0..3 {
        for id in started(&mut dispatcher, now) {
            order.push(id);
            dispatcher.finished(now, id, Outcome::Done);
        }
    }
    let place = |id: u64| order.iter().position(|one| *one == id).unwrap();
    assert!(place(100) < 4 && place(101) < 4, "{order:?}");
}

#[test]
fn what_is_full_says_what_is() {
    let mut dispatcher = Dispatcher::new(Config { lane_depth: 2, depth: 3, bytes: 10, ..CONFIG });
    assert_eq!(dispatcher.reserve(&lane("a"), 11), Err(Full::Bytes { limit: 10 }));
    assert_eq!(dispatcher.totals(), Totals::default());
    dispatcher.reserve(&lane("a"), 1).unwrap();
    dispatcher.reserve(&lane("a"), 1).unwrap();
    assert_eq!(dispatcher.reserve(&lane("a"), 1), Err(Full::Lane { limit: 2 }));
    dispatcher.reserve(&lane("b"), 1).unwrap();
    assert_eq!(dispatcher.reserve(&lane("c"), 1), Err(Full::Depth { limit: 3 }));
    dispatcher.unreserve(&lane("a"), 1);
    dispatcher.reserve(&lane("c"), 1).unwrap();
}

#[test]
fn a_forgotten_lane_is_gone_and_what_ran_is_not_run_again() {
    let mut dispatcher = Dispatcher::new(CONFIG);
    let now = Time::ZERO;
    for id in 0..20 {
        dispatcher.admit(now, &pending(id, if id % 2 == 0 { "f" } else { "g" }, now));
    }
    let running = started(&mut dispatcher, now);
    dispatcher.forget(now, &lane("f"));
    for id in running {
        let verdict = dispatcher.finished(now, id, Outcome::Lost);
        assert_eq!(verdict == Verdict::Forgotten, id % 2 == 0);
    }
    assert_eq!(dispatcher.lanes().len(), 1);
    assert_eq!(dispatcher.totals().waiting, 10);
}

/// What happens to an event that runs.
fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Done),
        2 => (0_u32..=2).prop_map(|retries| Outcome::Failed { retries }),
        3 => Just(Outcome::Refused),
        1 => Just(Outcome::Lost),
        1 => Just(Outcome::Never),
    ]
}

proptest! {
    #[test]
    fn every_event_ends_once_and_no_bound_is_passed(
        arrivals in prop::collection::vec((0_u64..600, 0_usize..4), 1..120),
        outcomes in prop::collection::vec(outcome(), 1..400),
    ) {
        let config = Config { running: 5, lane_running: 3, expiring: 2, ..CONFIG };
        let mut dispatcher = Dispatcher::new(config);
        let names = ["a", "b", "c", "d"];
        let mut arrivals: Vec<(u64, usize)> = arrivals;
        arrivals.sort_unstable();
        let mut arriving = arrivals.iter().enumerate().peekable();
        let mut outcomes = outcomes.iter().copied().cycle();
        let mut now = Time::ZERO;
        let (mut running, mut telling): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        let (mut ended, mut tells): (BTreeMap<u64, u32>, BTreeMap<u64, u32>) = Default::default();
        for _ in 0..50_000 {
            while let Some((id, (at, name))) = arriving.next_if(|(_, (at, _))| Time::from_millis(at * 1_000) <= now) {
                let accepted = Time::from_millis(at * 1_000);
                dispatcher.admit(now, &Pending { accepted, ..pending(id as u64, names[*name], accepted) });
            }
            while let Some(step) = dispatcher.next(now) {
                match step {
                    Step::Run { id, failures } => {
                        prop_assert!(!running.contains(&id) && failures <= 2);
                        running.push(id);
                    }
                    Step::Expire { id, .. } => telling.push(id),
                }
            }
            prop_assert!(running.len() <= 5 && telling.len() <= 2);
            prop_assert!(dispatcher.lanes().iter().all(|lane| lane.running <= 3));
            if let Some(id) = telling.pop() {
                // A disk that is full is so for some time, not for ever.
                let tries = tells.entry(id).or_default();
                *tries += 1;
                let is_told = *tries == 4 || outcomes.next().unwrap() == Outcome::Done;
                dispatcher.expired(now, id, is_told);
                *ended.entry(id).or_default() += u32::from(is_told);
                continue;
            }
            if let Some(id) = running.pop() {
                let outcome = outcomes.next().unwrap();
                match dispatcher.finished(now, id, outcome) {
                    Verdict::Finished | Verdict::Dropped | Verdict::Exhausted { .. } => *ended.entry(id).or_default() += 1,
                    Verdict::Waits { due, .. } => {
                        prop_assert!(due >= now || outcome == Outcome::Refused);
                    }
                    Verdict::Forgotten => prop_assert!(false, "nobody forgot {id}"),
                }
                continue;
            }
            let arrival = arriving.peek().map(|(_, (at, _))| Time::from_millis(at * 1_000));
            match dispatcher.next_deadline().into_iter().chain(arrival).min() {
                Some(next) => {
                    prop_assert!(next > now || next == Time::ZERO, "time stands still");
                    now = now.max(next);
                }
                None => break,
            }
        }
        ended.retain(|_, times| *times > 0);
        prop_assert_eq!(ended.len(), arrivals.len());
        prop_assert!(ended.values().all(|times| *times == 1));
        prop_assert_eq!(dispatcher.totals(), Totals::default());
        prop_assert!(dispatcher.lanes().is_empty());
    }
}
