use proptest::prelude::*;

use super::*;

const WORTH: Duration = Duration::from_secs(600);

fn learned(times: impl IntoIterator<Item = u64>) -> Windows {
    let mut idle = IdleTimes::new();
    times.into_iter().for_each(|seconds| idle.record(Duration::from_secs(seconds)));
    idle.windows(WORTH).unwrap()
}

#[test]
fn bins_begin_where_times_fall_into_them() {
    for number in 1..BINS {
        assert_eq!(bin(time(begin(number))), Some(number));
        assert_eq!(bin(time(begin(number)) - Duration::from_millis(1)), Some(number - 1));
    }
    assert_eq!(bin(Duration::ZERO), Some(0));
    assert_eq!(bin(IdleTimes::span()), None);
    assert_eq!(bin(Duration::MAX), None);
    assert_eq!(IdleTimes::span(), Duration::from_secs(16_384));
}

#[test]
fn nothing_is_said_before_a_time_is_known() {
    let mut idle = IdleTimes::new();
    assert_eq!(idle.windows(WORTH), None);
    idle.record(Duration::from_secs(5));
    assert!(idle.windows(WORTH).is_some());
}

#[test]
fn one_time_stands_for_others_like_it() {
    let soon = learned([60]);
    assert!(soon.prewarm.is_zero() && soon.keep > Duration::from_secs(120), "{soon:?}");
    let late = learned([12_000]);
    assert!(late.keep - late.prewarm < Duration::from_secs(60), "{late:?}");
}

#[test]
fn a_few_times_that_agree_make_a_timer() {
    let Windows { prewarm, keep } = learned([1_800; 4]);
    assert!(Duration::from_secs(1_200) < prewarm && prewarm < Duration::from_secs(1_800), "{prewarm:?}");
    assert!(Duration::from_secs(1_800) < keep, "{keep:?}");
}

#[test]
fn a_timer_is_prewarmed_for_shortly_before_it_comes() {
    for period in [900, 1_800, 3_600, 7_200] {
        let Windows { prewarm, keep } = learned([period; 20]);
        assert!(
            prewarm < Duration::from_secs(period) && Duration::from_secs(period) < keep,
            "{prewarm:?} {keep:?}"
        );
        assert!(keep - prewarm < Duration::from_secs(period / 2), "{prewarm:?} {keep:?}");
    }
}

#[test]
fn a_busy_function_is_kept_and_not_for_long() {
    let Windows { prewarm, keep } = learned([1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5, 6]);
    assert_eq!(prewarm, Duration::ZERO);
    assert!(Duration::from_secs(6) < keep && keep < Duration::from_secs(300), "{keep:?}");
}

#[test]
fn a_function_that_comes_back_too_late_is_not_kept() {
    let mut times: Vec<u64> = (1..=20).map(|i| 3_000 + i * 600).collect();
    times.extend([20_000; 10]);
    let Windows { prewarm, keep } = learned(times);
    assert_eq!((prewarm, keep), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn habits_that_end_are_forgotten() {
    let mut idle = IdleTimes::new();
    (0..5_000).for_each(|_| idle.record(Duration::from_secs(5)));
    (0..20_000).for_each(|_| idle.record(Duration::from_secs(100)));
    assert!(idle.total <= MOST + 1);
    assert!(idle.windows(WORTH).unwrap().keep > Duration::from_secs(100));
}

#[test]
fn few_ghosts_are_remembered_and_the_last_use_comes_first() {
    let mut idle = IdleTimes::new();
    for second in [5, 3, 9].into_iter().chain(100..200) {
        idle.ended(Time::from_millis(second * 1_000));
    }
    assert_eq!(idle.ghosts.len(), GHOSTS);
    assert_eq!(idle.revive(), Some(Time::from_millis(199_000)));
    assert_eq!(idle.last_ghost(), Some(Time::from_millis(198_000)));
}

/// What windows cost for times that really come, in milliseconds of idle time.
fn cost(windows: Windows, times: &[u64]) -> u64 {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let one = |seconds: &u64| {
        let time = Duration::from_secs(*seconds);
        let cold = time < windows.prewarm || time > windows.keep;
        let idle = time.min(windows.keep).saturating_sub(windows.prewarm);
        ms(idle) + if cold { ms(WORTH) } else { 0 }
    };
    times.iter().map(one).sum()
}

proptest! {
    #[test]
    fn windows_cost_hardly_more_than_the_fixed_time(
        times in prop::collection::vec(prop_oneof![0_u64..10, 0_u64..1_000, 0_u64..20_000], 40..200),
    ) {
        let windows = learned(times.iter().copied());
        prop_assert!(windows.prewarm <= windows.keep);
        let fixed = Windows { prewarm: Duration::ZERO, keep: WORTH };
        let (mine, theirs) = (cost(windows, &times), cost(fixed, &times));
        // Bins, margins, and the weight of what has not happened cost something.
        prop_assert!(mine <= theirs + theirs / 4 + ms_of(WORTH), "{mine} against {theirs}: {windows:?}");
    }
}

fn ms_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}
