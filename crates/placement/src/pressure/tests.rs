//! The rules of the gauge, and that no input makes it swing or fall over.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000;

fn memory(some: u32) -> PressureSample {
    PressureSample { memory: Stall { some, full: 0 }, ..PressureSample::default() }
}

/// Samples a second apart, from the start of the clock.
fn levels(gauge: &mut PressureGauge, samples: &[PressureSample]) -> Vec<PressureLevel> {
    let times = (0..).map(|second| Time::from_millis(second * SECOND));
    times.zip(samples).map(|(now, sample)| gauge.sample(now, sample)).collect()
}

#[test]
fn levels_are_entered_at_once_and_left_one_by_one_after_a_calm_while() {
    let mut gauge = PressureGauge::default();
    let mut samples = vec![memory(0), memory(4_000)];
    samples.extend([memory(0); 60]);
    let levels = levels(&mut gauge, &samples);
    let (none, stop) = (PressureLevel::None, PressureLevel::StopPlacing);
    let (hibernate, evict) = (PressureLevel::Hibernate, PressureLevel::Evict);
    assert_eq!(levels[..3], [none, evict, evict]);
    assert_eq!(levels[16..18], [evict, hibernate]);
    assert_eq!(levels[31..33], [hibernate, stop]);
    assert_eq!(levels[46..48], [stop, none]);
}

#[test]
fn between_the_thresholds_a_level_stays_for_ever() {
    let mut gauge = PressureGauge::default();
    let mut samples = vec![memory(1_000)];
    samples.extend([memory(999); 100]);
    assert_eq!(levels(&mut gauge, &samples).last(), Some(&PressureLevel::StopPlacing));
    assert_eq!(levels(&mut PressureGauge::default(), &samples[1..]).last(), Some(&PressureLevel::None));
}

#[test]
fn what_idle_instances_cannot_give_back_is_nothing_to_turn_requests_away_for() {
    let stall = Stall { some: 10_000, full: 10_000 };
    for sample in [
        PressureSample { cpu: stall, ..PressureSample::default() },
        PressureSample { io: stall, ..PressureSample::default() },
    ] {
        assert_eq!(PressureGauge::default().sample(Time::ZERO, &sample), PressureLevel::None);
    }
}

#[test]
fn a_kill_by_the_kernel_means_evict() {
    let sample = PressureSample { oom_kills: 1, ..PressureSample::default() };
    assert_eq!(PressureGauge::default().sample(Time::ZERO, &sample), PressureLevel::Evict);
}

#[test]
fn a_group_that_stalls_at_its_own_limit_is_not_the_machines_lack() {
    let stall = Stall { some: 10_000, full: 10_000 };
    let stalled = PressureSample { memory: stall, memory_limit_bytes: 100, ..PressureSample::default() };
    for (memory_used_bytes, level) in [(50, PressureLevel::None), (75, PressureLevel::Evict)] {
        let sample = PressureSample { memory_used_bytes, ..stalled };
        assert_eq!(PressureGauge::default().sample(Time::ZERO, &sample), level);
    }
}

#[test]
fn memory_in_use_counts_only_under_a_limit() {
    let sample = PressureSample { memory_used_bytes: u64::MAX, ..PressureSample::default() };
    assert_eq!(PressureGauge::default().sample(Time::ZERO, &sample), PressureLevel::None);
    let sample = PressureSample { memory_used_bytes: 90, memory_limit_bytes: 100, ..sample };
    assert_eq!(PressureGauge::default().sample(Time::ZERO, &sample), PressureLevel::Hibernate);
}

#[test]
fn swapping_in_is_judged_by_the_second() {
    let sample = |swap_ins| PressureSample { swap_ins, ..PressureSample::default() };
    let mut gauge = PressureGauge::default();
    assert_eq!(gauge.sample(Time::ZERO, &sample(0)), PressureLevel::None);
    assert_eq!(gauge.sample(Time::from_millis(10 * SECOND), &sample(19_999)), PressureLevel::None);
    // No time passes, so nothing can be said yet; then it is counted.
    assert_eq!(gauge.sample(Time::from_millis(10 * SECOND), &sample(1_999)), PressureLevel::None);
    assert_eq!(gauge.sample(Time::from_millis(11 * SECOND), &sample(1)), PressureLevel::StopPlacing);
}

/// Any number, those near the thresholds and the extremes more often.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..12_000_u64, any::<u64>(), Just(u64::MAX)]
}

fn percent() -> impl Strategy<Value = u32> {
    prop_oneof![0..11_000_u32, 0..1_500_u32, any::<u32>()]
}

fn sample() -> impl Strategy<Value = PressureSample> {
    let stall = || (percent(), percent()).prop_map(|(some, full)| Stall { some, full });
    (stall(), stall(), stall(), number(), number(), number(), 0..10_u64).prop_map(
        |(memory, cpu, io, memory_used_bytes, memory_limit_bytes, swap_ins, oom)| PressureSample {
            memory,
            cpu,
            io,
            memory_used_bytes,
            memory_limit_bytes,
            swap_ins,
            oom_kills: oom.saturating_sub(8),
        },
    )
}

/// A sample that is nowhere lower.
fn with_more(low: &PressureSample, more: &PressureSample) -> PressureSample {
    let stall = |a: Stall, b: Stall| Stall {
        some: a.some.saturating_add(b.some),
        full: a.full.saturating_add(b.full),
    };
    PressureSample {
        memory: stall(low.memory, more.memory),
        cpu: stall(low.cpu, more.cpu),
        io: stall(low.io, more.io),
        memory_used_bytes: low.memory_used_bytes.saturating_add(more.memory_used_bytes),
        memory_limit_bytes: low.memory_limit_bytes,
        swap_ins: low.swap_ins.saturating_add(more.swap_ins),
        oom_kills: low.oom_kills + more.oom_kills,
    }
}

proptest! {
    #[test]
    fn a_constant_input_turns_the_level_at_most_once_and_to_rest(
        before in prop::collection::vec((number(), sample()), 0..20),
        constant in sample(),
    ) {
        let mut gauge = PressureGauge::default();
        for (now, sample) in &before {
            gauge.sample(Time::from_nanos(*now), sample);
        }
        let start = before.last().map_or(0, |(now, _)| *now);
        // The first two samples still have pages to count from before.
        let mut levels = (0..200)
            .map(|second| gauge.sample(Time::from_nanos(start) + Duration::from_secs(second), &constant))
            .collect::<Vec<_>>()
            .split_off(2);
        let rising = levels.is_sorted();
        let falling = levels.iter().rev().is_sorted();
        prop_assert!(rising || falling, "{levels:?}");
        if start < u64::MAX / 2 {
            levels.drain(..100);
            levels.dedup();
            prop_assert_eq!(levels.len(), 1, "comes to rest");
        }
    }

    #[test]
    fn more_of_anything_never_means_a_lower_level(
        steps in prop::collection::vec((0..8_000_u64, sample(), sample(), any::<bool>()), 1..100)
    ) {
        let (mut low, mut high) = (PressureGauge::default(), PressureGauge::default());
        let mut now = Time::ZERO;
        for (wait, sample, more, calm) in steps {
            now = now + Duration::from_millis(wait);
            let sample = if calm { PressureSample::default() } else { sample };
            let more = if calm { PressureSample::default() } else { more };
            let lower = low.sample(now, &sample);
            let higher = high.sample(now, &with_more(&sample, &more));
            prop_assert!(lower <= higher, "{lower} against {higher}");
        }
    }

    #[test]
    fn garbage_and_clocks_that_jump_are_survived_and_forgotten(
        garbage in prop::collection::vec((any::<u64>(), sample()), 0..50),
        start in 0..u64::MAX / 2,
    ) {
        let mut gauge = PressureGauge::default();
        for (now, sample) in garbage {
            gauge.sample(Time::from_nanos(now), &sample);
        }
        let calm = (0..60).map(|s| Time::from_nanos(start) + Duration::from_secs(s));
        let last = calm.map(|now| gauge.sample(now, &PressureSample::default())).last();
        prop_assert_eq!(last, Some(PressureLevel::None));
    }
}
