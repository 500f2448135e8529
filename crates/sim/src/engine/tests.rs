use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::scenario::Scenario;
use crate::units::SECOND;

fn simulate(text: &str, policy: &str) -> Outcome {
    let scenario = Scenario::parse(text, "test").unwrap();
    let setup = Setup {
        workload: scenario.workload(),
        cluster: scenario.cluster,
        starts: scenario.starts,
        failures: scenario.failures,
        seed: scenario.seed,
    };
    run(&setup, policy.parse().unwrap(), &mut |_| ()).unwrap()
}

/// An hour with one worker and starts of exactly 250 ms; a minute between the requests of `f`.
const HOUR_OF_MINUTES: &str = r#"
    hours = 1
    [cluster]
    workers = 1
    [starts]
    median = "250ms"
    p99 = "250ms"
    end = "0s"
    [[function]]
    name = "f"
    rate = "1/m"
    arrivals = "periodic"
    duration = "1s"
    memory_mb = 1024
"#;

fn close(value: f64, expected: f64) -> bool {
    (value - expected).abs() < 1e-6
}

#[test]
fn an_instance_that_is_kept_past_the_next_request_starts_once() {
    let outcome = simulate(HOUR_OF_MINUTES, "fixed:10m");
    assert_eq!((outcome.requests, outcome.completed, outcome.cold_starts), (60, 60, 1));
    assert_eq!(outcome.wait_ms.max, 250.0);
    assert_eq!(outcome.wait_ms.p50, 0.0);
    assert_eq!((outcome.instances.placed, outcome.instances.peak), (1, 1));
    let held = outcome.memory_gib_hours;
    assert!(close(held.starting, 0.25 / 3_600.0), "{held:?}");
    assert!(close(held.busy, 60.0 / 3_600.0), "{held:?}");
    assert!(close(held.idle, (3_600.0 - 60.25) / 3_600.0), "{held:?}");
}

#[test]
fn an_instance_that_ends_before_the_next_request_starts_every_time() {
    let outcome = simulate(HOUR_OF_MINUTES, "fixed:30s");
    assert_eq!((outcome.requests, outcome.completed, outcome.cold_starts), (60, 60, 60));
    assert_eq!(outcome.wait_ms.p50, 250.0);
    assert_eq!(outcome.instances.ended["idle"], 60);
    let held = outcome.memory_gib_hours;
    assert!(close(held.idle, 60.0 * 30.0 / 3_600.0), "{held:?}");
    assert!(close(held.busy, 60.0 / 3_600.0), "{held:?}");
}

#[test]
fn a_dead_worker_loses_its_requests_and_refuses_others_until_it_is_back() {
    let text =
        format!("{HOUR_OF_MINUTES}[[workers_die]]\nat = \"1800.5s\"\nworkers = 1\nback_after = \"10m\"");
    let outcome = simulate(&text, "fixed:10m");
    // The request of minute 30 is lost, those of minutes 31 to 40 find no worker, that of minute 41 a new one.
    assert_eq!((outcome.lost_with_a_worker, outcome.refused["no-room"]), (1, 10));
    assert_eq!((outcome.cold_starts, outcome.completed, outcome.workers_lost), (2, 49, 1));
}

#[test]
fn starts_are_slower_while_they_are_said_to_be() {
    let text = format!("{HOUR_OF_MINUTES}[[slow_starts]]\nfrom = \"0s\"\nuntil = \"1s\"\ntimes = 20");
    assert_eq!(simulate(&text, "fixed:10m").wait_ms.max, 5_000.0);
}

#[test]
fn a_reservation_bounds_what_runs() {
    let outcome = simulate(
        r#"
        hours = 1
        [[function]]
        name = "capped"
        rate = "10/s"
        arrivals = "periodic"
        duration = "1s"
        reserved = 2
        "#,
        "fixed:10m",
    );
    assert_eq!(outcome.completed + outcome.refused["function-limit"], 36_000);
    // Two at once, each a second; a new one begins at the next tenth of a second.
    assert!((6_500..=7_200).contains(&outcome.completed), "{}", outcome.completed);
    assert_eq!(outcome.instances.peak, 2);
}

#[test]
fn starts_that_fail_are_counted_and_their_requests_refused() {
    let text = HOUR_OF_MINUTES.replace("[starts]", "[starts]\nfailing_percent = 100");
    let outcome = simulate(&text, "fixed:10m");
    assert_eq!((outcome.completed, outcome.refused_total), (0, 60));
    assert!(outcome.instances.failed_to_start > 0);
}

#[test]
fn init_phases_that_fail_fail_their_requests_and_make_the_next_ones_wait_or_go() {
    let text = HOUR_OF_MINUTES.replace("[starts]", "[starts]\ninit_failing_percent = 100");
    let text = text.replace("1/m", "1/s").replace("duration = \"1s\"", "duration = \"100ms\"");
    let outcome = simulate(&text, "fixed:10m");
    assert_eq!(outcome.completed, 0);
    assert_eq!(outcome.failed_to_initialize + outcome.refused["init-failing"], 3_600);
    assert!(outcome.failed_to_initialize < 600, "it is left in peace for a while: {outcome:?}");
}

#[test]
fn a_start_of_a_blank_takes_the_part_that_is_left() {
    let text = HOUR_OF_MINUTES.replace("[starts]", "blanks = 1\n[starts]\nof_blank_percent = 20");
    let outcome = simulate(&text, "fixed:30s");
    assert_eq!((outcome.cold_starts, outcome.spared.shortened_by_blanks), (60, 59));
    assert_eq!(outcome.wait_ms.max, 250.0);
    assert!((50.0..50.5).contains(&outcome.wait_ms.p50), "{:?}", outcome.wait_ms);
}

#[test]
fn workers_that_promise_more_than_they_have_hibernate_and_evict_before_they_are_full() {
    let function =
        "rate = \"1/m\"\narrivals = \"periodic\"\nduration = \"1s\"\nmemory_mb = 1024\ncopies = 40";
    let text = |used: &str| {
        format!(
            "hours = 1\n[cluster]\nworkers = 1\nmemory_mb = 8192\nmemory_percent = 1000\n{used}[[function]]\n\
             name = \"f\"\n{function}"
        )
    };
    let unpressed = simulate(&text(""), "fixed:10m");
    assert_eq!((unpressed.cold_starts, unpressed.workers_pressed), (40, 0));
    let memory = "[memory]\nbusy_percent = 84\nidle_percent = 84\nhibernating_percent = 1\n";
    let pressed = simulate(&text(memory), "fixed:10m");
    assert_eq!(pressed.completed, pressed.requests, "all are served");
    let (pressed_for, hibernated) = (pressed.workers_pressed, pressed.instances.hibernated);
    assert!(pressed_for >= 1 && hibernated >= 30, "{pressed_for} {hibernated}");
    let no_use = memory.replace("hibernating_percent = 1", "hibernating_percent = 84");
    let evicted = simulate(&text(&no_use), "fixed:10m");
    let gone = evicted.instances.ended["evicted"];
    assert!(gone >= 10, "what hibernation does not give, eviction does: {gone}");
    assert!(evicted.cold_starts > unpressed.cold_starts && evicted.completed == evicted.requests);
}

#[test]
fn provisioned_instances_are_there_before_the_first_request() {
    let text = HOUR_OF_MINUTES.replace("rate = \"1/m\"", "rate = \"1/m\"\nprovisioned = 2");
    let text = text.replace("arrivals = \"periodic\"", "arrivals = \"poisson\"");
    let outcome = simulate(&text, "fixed:0s");
    assert_eq!(outcome.instances.started_for["provisioned"], 2);
    assert!(outcome.cold_starts <= 2, "{outcome:?}");
}

#[test]
fn a_policy_that_learns_is_ready_when_a_regular_request_comes() {
    let text = HOUR_OF_MINUTES.replace("hours = 1", "hours = 24").replace("rate = \"1/m\"", "rate = \"1/h\"");
    let (fixed, learned) = (simulate(&text, "fixed:10m"), simulate(&text, "learned:10m"));
    assert_eq!(fixed.cold_starts, 24);
    assert!(learned.cold_starts < 12, "{learned:?}");
    assert!(learned.memory_gib_hours.idle < fixed.memory_gib_hours.idle, "{learned:?}");
}

/// A random hour: functions, cluster, what goes wrong.
fn any_setup() -> impl Strategy<Value = String> {
    let function = (
        prop_oneof!["periodic", "poisson", "bursty", "daily"],
        0.01_f64..3.0,
        1_u64..20_000,
        1_u32..10,
        prop::option::of(0_u32..5),
        128_u32..2_048,
        0_u32..3,
    )
        .prop_map(|(kind, rate, duration, slots, reserved, memory, provisioned)| {
            let reserved = reserved.map_or_else(String::new, |reserved| format!("reserved = {reserved}\n"));
            format!(
                "[[function]]\nname = \"f\"\nrate = \"{rate}/s\"\narrivals = \"{kind}\"\nduration = \"{duration}ms\"\n\
                 concurrency = {slots}\nmemory_mb = {memory}\n{reserved}\
                 provisioned = {provisioned}\n"
            )
        });
    let death = (0_u64..3_600, 1_u32..3, 0_u64..1_200).prop_map(|(at, workers, back)| {
        format!("[[workers_die]]\nat = \"{at}s\"\nworkers = {workers}\nback_after = \"{back}s\"\n")
    });
    (
        any::<u32>(),
        1_u32..4,
        512_u32..8_192,
        1_u32..60,
        0_u32..30,
        1_u64..200_000,
        (prop::collection::vec(death, 0..4), prop::option::of(0_u32..130), 0_u32..4),
        prop::collection::vec(function, 1..5),
    )
        .prop_map(|(seed, workers, memory, account, failing, median, more, functions)| {
            let (deaths, busy, blanks) = more;
            let used = busy.map_or_else(String::new, |busy| {
                format!(
                    "[memory]\nbusy_percent = {busy}\nidle_percent = {}\nhibernating_percent = 5\n",
                    busy / 2
                )
            });
            format!(
                "hours = 1\nseed = {seed}\n[cluster]\nworkers = {workers}\nmemory_mb = {memory}\n\
                 memory_percent = {}\naccount_concurrency = {account}\nblanks = {blanks}\n[starts]\n\
                 median = \"{median}ms\"\nfailing_percent = {failing}\ninit_failing_percent = {failing}\n\
                 repeated_percent = {failing}\n{used}{}{}",
                if busy.is_some() { 1_000 } else { 100 },
                deaths.concat(),
                functions.concat()
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // The engine itself ends with an error when a promise is broken; a failing text is printed and replays.
    #[test]
    fn everything_drains_and_no_limit_is_passed(text in any_setup(), learned in any::<bool>(), keep in 0_u64..2_000) {
        let policy = format!("{}:{keep}s", if learned { "learned" } else { "fixed" });
        let outcome = simulate(&text, &policy);
        prop_assert_eq!(
            outcome.requests,
            outcome.completed
                + outcome.failed_to_initialize
                + outcome.lost_with_a_worker
                + outcome.refused_total
        );
        prop_assert_eq!(format!("{outcome:?}"), format!("{:?}", simulate(&text, &policy)));
    }
}

#[test]
fn what_a_policy_does_is_not_in_what_is_asked() {
    let scenario = Scenario::parse(HOUR_OF_MINUTES, "test").unwrap();
    let workload = scenario.workload();
    let mut source = Source::new(1, 0);
    let first = source.next(&workload.functions[0], workload.end).unwrap();
    assert_eq!((first.at, first.runs), (0, SECOND));
    assert_eq!("fixed:1m".parse::<Policy>().unwrap().idle_timeout, Duration::from_mins(1));
}
