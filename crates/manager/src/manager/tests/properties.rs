//! Any order of events, late, repeated and senseless ones included, against a world that keeps books of its own.

mod world;

use std::time::Duration;

use hearth_types::{InstanceId, LeaseId, LeaseOutcome, RevisionId, Time, WorkerId};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{revision, spec};
use crate::{Event, Relief, WaitId};
use world::{FUNCTIONS, Life, TENANTS, WORKERS, World, kind, whose};

/// What may happen. A number picks one of what there is at that moment, so that every step means something.
#[derive(Clone, Debug)]
enum Step {
    Acquire { function: usize, age: u64, tenant: usize },
    Release { pick: usize, lost: bool },
    Leave { pick: usize },
    Place { pick: usize, worker: usize },
    NoRoom { pick: usize, room_may_come: bool },
    Ready { pick: usize },
    FailStart { pick: usize },
    Die { pick: usize },
    Confirm { pick: usize },
    LoseWorker { worker: usize },
    Find { function: usize, worker: usize, tenant: usize },
    Replace { function: usize },
    Delete { function: usize },
    Reserve { function: usize, limit: Option<u32> },
    Provision { function: usize, count: u32 },
    Press { worker: usize, evict: bool },
    DrainWorker { worker: usize },
    Blank { pick: usize, what: usize, worker: usize },
    Ask { pick: usize, what: usize },
    Room,
    Pass { millis: u64 },
    Jump { seconds: u64, back: bool },
    Sleep,
    Repeat { pick: usize },
    Nonsense { pick: usize, kind: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (function, worker, pick, tenant) = (0..FUNCTIONS, 0..WORKERS, any::<usize>(), 0..TENANTS);
    prop_oneof![
        24 => (function.clone(), 0..10_u64, tenant.clone())
            .prop_map(|(function, age, tenant)| Step::Acquire { function, age: age / 9, tenant }),
        14 => (pick, prop::bool::weighted(0.1)).prop_map(|(pick, lost)| Step::Release { pick, lost }),
        2 => pick.prop_map(|pick| Step::Leave { pick }),
        10 => (pick, worker.clone()).prop_map(|(pick, worker)| Step::Place { pick, worker }),
        3 => (pick, prop::bool::weighted(0.8)).prop_map(|(pick, room_may_come)| Step::NoRoom { pick, room_may_come }),
        10 => pick.prop_map(|pick| Step::Ready { pick }),
        2 => pick.prop_map(|pick| Step::FailStart { pick }),
        2 => pick.prop_map(|pick| Step::Die { pick }),
        6 => pick.prop_map(|pick| Step::Confirm { pick }),
        1 => worker.clone().prop_map(|worker| Step::LoseWorker { worker }),
        1 => (function.clone(), worker.clone(), tenant)
            .prop_map(|(function, worker, tenant)| Step::Find { function, worker, tenant }),
        1 => function.clone().prop_map(|function| Step::Replace { function }),
        1 => function.clone().prop_map(|function| Step::Delete { function }),
        2 => (function.clone(), 0..4_u32).prop_map(|(function, count)| Step::Provision { function, count }),
        1 => worker.clone().prop_map(|worker| Step::DrainWorker { worker }),
        8 => (pick, 0..6_usize, worker.clone()).prop_map(|(pick, what, worker)| Step::Blank { pick, what, worker }),
        3 => (pick, 0..3_usize).prop_map(|(pick, what)| Step::Ask { pick, what }),
        2 => Just(Step::Room),
        2 => (worker.clone(), any::<bool>()).prop_map(|(worker, evict)| Step::Press { worker, evict }),
        1 => (function, prop::option::of(0..5_u32)).prop_map(|(function, limit)| Step::Reserve { function, limit }),
        4 => (0..4_000_u64).prop_map(|millis| Step::Pass { millis }),
        1 => (0..100_000_u64, any::<bool>()).prop_map(|(seconds, back)| Step::Jump { seconds: seconds / if back { 10_000 } else { 1 }, back }),
        2 => Just(Step::Sleep),
        3 => pick.prop_map(|pick| Step::Repeat { pick }),
        2 => (pick, 0..7_usize).prop_map(|(pick, kind)| Step::Nonsense { pick, kind }),
    ]
}

fn worker(number: usize) -> WorkerId {
    WorkerId::new(&format!("w{number}"))
}

fn current(world: &World, function: usize) -> RevisionId {
    revision(&format!("f{function}"), world.revisions[function])
}

fn apply(world: &mut World, step: &Step) {
    match *step {
        Step::Acquire { function, age, tenant } => {
            let number = world.revisions[function].saturating_sub(age).max(1);
            world.acquire(&kind(function, number), whose(function, tenant));
        }
        Step::Release { pick, lost } => {
            let outcome = if lost { LeaseOutcome::InstanceLost } else { LeaseOutcome::Reusable };
            world.release(pick, outcome);
        }
        Step::Leave { pick } => {
            if let Some(wait) = world.pick_wait(pick) {
                world.event(Event::WaiterLeft { wait });
            }
        }
        Step::LoseWorker { worker: number } => world.event(Event::WorkerLost { worker: worker(number) }),
        Step::Replace { function } => {
            world.revisions[function] += 1;
            let revision = current(world, function);
            world.event(Event::RevisionReplaced { revision });
        }
        Step::Delete { function } => {
            let RevisionId { version, number: newest } = current(world, function);
            world.revisions[function] += 1;
            world.event(Event::FunctionDeleted { function: version.function, newest });
        }
        Step::Reserve { function, limit } => {
            let function = current(world, function).version.function;
            world.event(Event::ConcurrencyReserved { function, reserved: limit });
        }
        Step::Provision { function, count } => {
            world.event(Event::Provision { spec: kind(function, world.revisions[function]), count });
        }
        Step::Blank { pick, what, worker: number } => world.blank(pick, what, &worker(number)),
        Step::Ask { pick, what } => world.ask(pick, what),
        Step::Room => world.event(Event::RoomMayHaveCome),
        Step::DrainWorker { worker: number } => {
            world.event(Event::WorkerDraining { worker: worker(number) });
        }
        Step::Press { worker: number, evict } => {
            let relief = if evict { Relief::Evict } else { Relief::Hibernate };
            world.event(Event::MemoryShort { worker: worker(number), relief });
        }
        Step::Pass { millis } => {
            world.now = world.now + Duration::from_millis(millis);
            world.event(Event::TimePassed);
        }
        Step::Jump { seconds, back } => jump(world, seconds, back),
        Step::Sleep => {
            world.now = world.manager.next_deadline().unwrap_or(world.now).max(world.now);
            world.event(Event::TimePassed);
        }
        Step::Repeat { pick } => world.repeat(pick),
        Step::Nonsense { pick, kind } => nonsense(world, pick, kind),
        Step::Find { function, worker: number, tenant } => {
            world.found += 1;
            let instance = InstanceId::new(1, world.found);
            let spec = kind(function, world.revisions[function]);
            let tenant = whose(function, tenant);
            world.event(Event::InstanceFound { instance, worker: worker(number), spec, tenant });
        }
        Step::Place { .. }
        | Step::NoRoom { .. }
        | Step::Ready { .. }
        | Step::FailStart { .. }
        | Step::Die { .. }
        | Step::Confirm { .. } => apply_to_instance(world, step),
    }
}

/// A clock that was set: the next look may come much later than what is due, or long before.
fn jump(world: &mut World, seconds: u64, back: bool) {
    if back && !world.clock_goes_back {
        return;
    }
    let (now, by) = (world.now.as_nanos(), seconds * 1_000_000_000);
    world.now = Time::from_nanos(if back { now.saturating_sub(by) } else { now.saturating_add(by) });
    if seconds.is_multiple_of(2) {
        world.event(Event::TimePassed);
    }
}

/// The steps that are reports of what became of an instance.
fn apply_to_instance(world: &mut World, step: &Step) {
    match *step {
        Step::Place { pick, worker: number } => {
            let event = |instance| Event::Placed { instance, worker: worker(number) };
            world.of_instance(pick, |life| life == Life::Asked, event);
        }
        Step::NoRoom { pick, room_may_come } => {
            let event = |instance| Event::PlacementFailed { instance, reason: "full".into(), room_may_come };
            world.of_instance(pick, |life| life == Life::Asked, event);
        }
        Step::Ready { pick } => {
            // Also from an instance whose placement has not been heard of yet.
            let event = |instance| {
                let initialized = pick % 5 != 0;
                Event::InstanceReady { instance, worker: worker(pick % WORKERS), initialized }
            };
            world.of_instance(pick, |life| matches!(life, Life::Asked | Life::Placed), event);
        }
        Step::FailStart { pick } => {
            let event = |instance| Event::InstanceStartFailed { instance, reason: "broken".into() };
            world.of_instance(pick, |life| life == Life::Placed, event);
        }
        Step::Die { pick } => {
            let event = |instance| Event::InstanceGone { instance };
            world.of_instance(pick, |life| life != Life::Asked, event);
        }
        Step::Confirm { pick } => {
            let event = |instance| Event::InstanceGone { instance };
            world.of_instance(pick, |life| life == Life::Ended, event);
        }
        Step::Acquire { .. }
        | Step::Release { .. }
        | Step::Leave { .. }
        | Step::LoseWorker { .. }
        | Step::Find { .. }
        | Step::Replace { .. }
        | Step::Delete { .. }
        | Step::Reserve { .. }
        | Step::Provision { .. }
        | Step::Press { .. }
        | Step::DrainWorker { .. }
        | Step::Ask { .. }
        | Step::Blank { .. }
        | Step::Room
        | Step::Pass { .. }
        | Step::Jump { .. }
        | Step::Sleep
        | Step::Repeat { .. }
        | Step::Nonsense { .. } => {}
    }
}

/// Events that no honest sender would send; none may have an effect.
fn nonsense(world: &mut World, pick: usize, kind: usize) {
    let unknown = InstanceId::new(0, u64::MAX - pick as u64 % 100);
    let someone = worker(pick % WORKERS);
    match kind {
        0 => world.event(Event::InstanceGone { instance: unknown }),
        1 => world.event(Event::InstanceReady { instance: unknown, worker: someone, initialized: true }),
        2 => world.event(Event::WaiterLeft { wait: WaitId(u64::MAX - pick as u64 % 100) }),
        3 => world.release_unknown(LeaseId(u128::MAX / 2 + pick as u128 % 100)),
        4 => {
            let event = |instance| Event::InstanceStartFailed { instance, reason: "late".into() };
            world.of_instance(pick, |life| life == Life::Ready, event);
        }
        5 => {
            let event =
                |instance| Event::PlacementFailed { instance, reason: "late".into(), room_may_come: true };
            world.of_instance(pick, |life| life != Life::Asked, event);
        }
        _ => {
            let event = |instance| Event::Placed { instance, worker: someone.clone() };
            world.of_instance(pick, |life| life != Life::Asked, event);
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_given_twice_lost_or_remembered_for_ever(
        steps in prop::collection::vec(step(), 1..300),
        by_stopping in any::<bool>(),
        clock_goes_back in any::<bool>(),
    ) {
        let mut world = World::new(clock_goes_back);
        for step in &steps {
            apply(&mut world, step);
            world.check();
        }
        world.wind_down(by_stopping);
        world.manager.assert_forgotten();
    }
}

/// Long lives, which shrinking would be too slow for: `HEARTH_SEARCH_STEPS` says how many steps in all, and
/// `HEARTH_SEARCH_SEED` replays the life whose seed a failure prints.
#[test]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "the search is told how long, and prints its seed"
)]
fn long_lives_keep_the_same_promises() {
    const LIFE: u64 = 5_000;
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let replayed = number("HEARTH_SEARCH_SEED");
    let lives = (number("HEARTH_SEARCH_STEPS").unwrap_or(20_000) / LIFE).max(1);
    let seeds = replayed.map_or(0..lives, |seed| seed..seed + 1);
    for seed in seeds {
        eprintln!("HEARTH_SEARCH_SEED={seed}");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let (steps, mut world) = (step(), World::new(seed % 4 > 1));
        for _ in 0..LIFE {
            apply(&mut world, &steps.new_tree(&mut runner).unwrap().current());
            world.check();
        }
        world.wind_down(seed.is_multiple_of(2));
        world.manager.assert_forgotten();
    }
}

#[test]
fn the_kinds_of_function_differ_in_what_matters() {
    assert_eq!(kind(0, 1).concurrency, spec("f0", 1).concurrency);
    assert!(kind(1, 1).concurrency.soft < kind(1, 1).concurrency.hard);
    assert!(kind(2, 1).reserved_concurrency.is_some());
}
