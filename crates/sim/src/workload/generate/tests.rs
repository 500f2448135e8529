use super::*;

const DAY_OF_MANY: Generate = Generate { functions: 10_000, requests: 50_000_000, hours: 24, seed: 1 };

fn per_day(workload: &Workload) -> Vec<f64> {
    let mut rates: Vec<_> = workload.functions.iter().map(|f| f.arrivals.expected(DAY)).collect();
    rates.sort_by(f64::total_cmp);
    rates
}

#[test]
fn as_many_requests_come_as_were_wanted() {
    for (functions, requests) in [(10_000, 50_000_000), (1_000, 1_000_000), (100, 1_000), (10, 1_000_000)] {
        let workload = Generate { functions, requests, hours: 12, seed: 3 }.workload();
        let expected = workload.expected_requests();
        let quotient = expected / requests as f64;
        assert!((0.8..1.25).contains(&quotient), "{functions} {requests}: {expected}");
    }
}

#[test]
fn rates_span_eight_orders_of_magnitude_and_most_functions_are_rare() {
    let workload = DAY_OF_MANY.workload();
    let rates = per_day(&workload);
    let at_most = |limit: f64| rates.iter().filter(|&&rate| rate <= limit).count();
    assert!((4_000..6_000).contains(&at_most(24.0)), "{}", at_most(24.0));
    assert!((7_700..9_000).contains(&at_most(1_440.5)), "{}", at_most(1_440.5));
    let hot: f64 = rates.iter().filter(|&&rate| rate > 1_440.5).sum();
    assert!(hot / rates.iter().sum::<f64>() > 0.95);
}

#[test]
fn half_of_the_functions_run_for_less_than_a_second_and_memory_is_as_published() {
    let workload = DAY_OF_MANY.workload();
    let mut chance = Chance::new(1, Stream::Starts);
    let quick = workload.functions.iter().filter(|f| f.durations.draw(&mut chance) < SECOND).count();
    assert!((5_000..6_500).contains(&quick), "{quick}");
    let mut memory: Vec<_> = workload.functions.iter().map(|f| f.memory_mb).collect();
    memory.sort_unstable();
    assert!((128..200).contains(&memory[5_000]), "{}", memory[5_000]);
    assert!((250..600).contains(&memory[9_000]), "{}", memory[9_000]);
}

#[test]
fn the_same_seed_makes_the_same_workload_and_another_does_not() {
    let text = |seed| format!("{:?}", Generate { functions: 50, seed, ..DAY_OF_MANY }.workload());
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}
