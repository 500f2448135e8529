use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;
use slotmap::SlotMap;

use super::*;

/// An instance that always has as many requests as its limit allows; a request's latency follows from how many there
/// are when it comes. Returns good answers (those under a second) in ten virtual seconds, and the last limit.
fn ten_seconds(hard: u32, adaptive: bool, latency_us: impl Fn(u32) -> u64) -> (u32, u32) {
    let mut keys = SlotMap::<InstanceKey, ()>::with_key();
    let key = keys.insert(());
    let mut learned = Learned::new();
    let mut limiter = learned.begin(Time::ZERO, hard);
    let (mut now, mut load, mut good) = (Time::ZERO, 0, 0);
    let mut running = BinaryHeap::new();
    let end = Time::ZERO + Duration::from_secs(10);
    while now < end {
        while load < if adaptive { limiter.limit() } else { hard } {
            load += 1;
            let until = now + Duration::from_micros(latency_us(load));
            running.push(Reverse((until, now, load)));
        }
        let Some(Reverse((until, since, at_load))) = running.pop() else { break };
        now = until;
        load -= 1;
        good += u32::from(now - since < Duration::from_secs(1) && now < end);
        limiter.served(key, Served { since, until, load: at_load }, &mut learned, hard);
        assert!((1..=hard).contains(&limiter.limit()));
    }
    (good, limiter.limit())
}

#[test]
fn a_latency_that_explodes_past_eight_is_kept_below() {
    let explodes = |load: u32| if load <= 8 { 20_000 } else { 20_000 * 2_u64.pow((load - 8).min(20)) };
    let (with, limit) = ten_seconds(64, true, explodes);
    let (without, _) = ten_seconds(64, false, explodes);
    assert!((4..=10).contains(&limit), "{limit}");
    assert!(with > 2 * without, "{with} with, {without} without");
    assert!(with > 2_000, "{with} of at most 4000");
}

#[test]
fn a_latency_that_stays_lets_the_limit_grow_to_the_hard_one() {
    let (good, limit) = ten_seconds(100, true, |_| 10_000);
    assert_eq!(limit, 100);
    assert!(good > 80_000, "{good} of 100000");
}

#[test]
fn a_latency_that_grows_with_the_load_settles_where_it_has_doubled() {
    let (_, limit) = ten_seconds(100, true, |load| 1_000 * u64::from(load));
    assert!(limit <= 8, "{limit}");
}

#[test]
fn less_than_a_turn_of_the_scheduler_is_no_trouble() {
    let (good, limit) = ten_seconds(8, true, |load| 60 * u64::from(load) + 40);
    assert_eq!(limit, 8);
    assert!(good > 100_000, "{good}");
}

#[test]
fn a_new_instance_begins_where_its_sibling_is() {
    let mut keys = SlotMap::<InstanceKey, ()>::with_key();
    let key = keys.insert(());
    let mut learned = Learned::new();
    let mut limiter = learned.begin(Time::ZERO, 64);
    assert_eq!(limiter.limit(), FIRST_LIMIT);
    let mut now = Time::ZERO;
    for load in (1..=8).cycle().take(2_000) {
        let until = now + Duration::from_millis(10);
        let load = if load == 8 { limiter.limit() } else { load };
        limiter.served(key, Served { since: now, until, load }, &mut learned, 64);
        now = until;
    }
    assert_eq!(learned.begin(now, 64).limit(), 64);
    assert_eq!(learned.begin(now, 5).limit(), 5);
}

proptest! {
    #[test]
    fn no_latency_moves_the_limit_out_of_its_bounds(
        hard in 1_u32..200,
        answers in prop::collection::vec((0_u64..10_000_000_000, 0_u32..250, 0_u64..100_000_000_000), 0..500),
    ) {
        let mut keys = SlotMap::<InstanceKey, ()>::with_key();
        let key = keys.insert(());
        let mut learned = Learned::new();
        let mut limiter = learned.begin(Time::ZERO, hard);
        for (latency, load, at) in answers {
            let since = Time::from_nanos(at);
            let until = since + Duration::from_nanos(latency);
            limiter.served(key, Served { since, until, load }, &mut learned, hard);
            prop_assert!((1..=hard).contains(&limiter.limit()));
        }
    }
}
