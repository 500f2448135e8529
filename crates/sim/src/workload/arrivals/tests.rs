use hearth_types::Concurrency;

use super::*;
use crate::workload::durations::Durations;

fn function(arrivals: Arrivals) -> Function {
    Function {
        name: "f".into(),
        account: 0,
        memory_mb: 128,
        arrivals,
        durations: Durations::fixed(SECOND),
        concurrency: Concurrency::default(),
        reserved: None,
        provisioned: 0,
    }
}

fn renewal(seconds: f64, variation: f64, daily: bool) -> Arrivals {
    Arrivals::Renewal { mean_gap: seconds * SECOND as f64, gaps: Gaps::varying(variation), daily }
}

fn all(arrivals: Arrivals, end: u64) -> Vec<Arrival> {
    let function = function(arrivals);
    let mut source = Source::new(1, 0);
    std::iter::from_fn(|| source.next(&function, end)).collect()
}

#[test]
fn the_hours_of_a_day_average_to_one() {
    let mean = HOURS.iter().sum::<f64>() / 24.0;
    assert!((mean - 1.0).abs() < 0.001, "{mean}");
}

#[test]
fn every_kind_comes_as_often_as_expected_and_in_order() {
    for (arrivals, tolerance) in [
        (Arrivals::Periodic { period: MINUTE, phase: 5 * SECOND }, 0.0),
        (renewal(0.5, 1.0, false), 0.01),
        (renewal(0.5, 1.0, true), 0.01),
        (renewal(1.0, 0.3, false), 0.01),
        (renewal(1.0, 4.0, true), 0.05),
        (Arrivals::Minutes([(0, 7), (3, 1), (1_000, 50)].into()), 0.0),
        (Arrivals::Recorded([(1, 5), (1, 6), (9, 7)].into()), 0.0),
    ] {
        let expected = arrivals.expected(DAY);
        let drawn = all(arrivals.clone(), DAY);
        assert!(
            (drawn.len() as f64 / expected - 1.0).abs() <= tolerance,
            "{arrivals:?}: {} {expected}",
            drawn.len()
        );
        assert!(drawn.is_sorted_by_key(|arrival| arrival.at), "{arrivals:?}");
    }
}

#[test]
fn gaps_vary_as_much_as_they_should() {
    for variation in [0.1, 0.5, 1.0, 2.0] {
        let arrivals = all(renewal(1.0, variation, false), 10 * DAY);
        let gaps: Vec<_> = arrivals.windows(2).map(|pair| (pair[1].at - pair[0].at) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>() / gaps.len() as f64;
        let found = variance.sqrt() / mean;
        assert!((found / variation - 1.0).abs() < 0.05, "{variation}: {found}");
    }
}

#[test]
fn a_minutes_requests_stay_in_their_minute() {
    let drawn = all(Arrivals::Minutes([(2, 3), (3, 1)].into()), DAY);
    let minutes: Vec<_> = drawn.iter().map(|arrival| arrival.at / MINUTE).collect();
    assert_eq!(minutes, [2, 2, 2, 3]);
}

#[test]
fn recorded_requests_keep_their_own_durations() {
    let drawn = all(Arrivals::Recorded([(1, 5), (9, 7)].into()), DAY);
    assert_eq!(drawn, [Arrival { at: 1_000, runs: 5_000 }, Arrival { at: 9_000, runs: 7_000 }]);
}

#[test]
fn nights_are_quiet() {
    let drawn = all(renewal(0.2, 1.0, true), DAY);
    let in_hour = |hour: u64| drawn.iter().filter(|arrival| arrival.at / HOUR == hour).count();
    assert!(in_hour(13) > in_hour(3) * 3 / 2);
}
