//! Sandboxes that are stopped where they are, and go on.

use std::io::ErrorKind;
use std::time::Duration;

use hearth_sandbox::{Exit, PauseError, Process, Sandbox, SpawnError};
use libtest_mimic::Trial;
use tokio::io::AsyncReadExt;

use crate::world::{World, process, shell, spec, trial};

/// Counts for ever, in a process and in one that it forks now and then.
const COUNTER: &str = "while :; do echo x; sleep 0.01; (sleep 0.01); done";
/// A counter that runs writes more than once in this time, however busy the machine.
const A_WHILE: Duration = Duration::from_millis(500);

/// Whether anything is written within a while.
async fn runs(counter: &mut Process) -> bool {
    let mut buffer = [0; 4096];
    let read = tokio::time::timeout(A_WHILE, counter.output.read(&mut buffer)).await;
    read.is_ok_and(|read| read.unwrap() > 0)
}

/// Takes what was written so far.
async fn drain(counter: &mut Process) {
    let mut buffer = [0; 4096];
    let short = Duration::from_millis(50);
    while tokio::time::timeout(short, counter.output.read(&mut buffer)).await.is_ok() {}
}

async fn counting(world: &World) -> (Box<dyn Sandbox>, Process) {
    let sandbox = world.sandbox().await;
    let mut counter = sandbox.spawn(process(&["/bin/sh", "-c", COUNTER])).await.unwrap();
    assert!(runs(&mut counter).await);
    (sandbox, counter)
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_paused_counter_stands_still_and_goes_on_when_it_is_resumed", |world| async {
            let (sandbox, mut counter) = counting(&world).await;
            for _ in 0..3 {
                sandbox.pause().await.unwrap();
                sandbox.pause().await.unwrap();
                drain(&mut counter).await;
                assert!(!runs(&mut counter).await, "it counts while it is paused");
                sandbox.resume().await.unwrap();
                sandbox.resume().await.unwrap();
                assert!(runs(&mut counter).await, "it does not go on");
            }
            world
        }),
        trial("a_program_that_could_not_be_started_in_time_is_not_started_later", |world| async {
            let sandbox = world.sandbox().await;
            sandbox.pause().await.unwrap();
            let late = sandbox.spawn(process(&["/bin/sleep", "1000"])).await;
            assert!(
                matches!(late, Err(SpawnError::Exec { source, .. }) if source.kind() == ErrorKind::TimedOut)
            );
            sandbox.resume().await.unwrap();
            // It has the order, and ends before it obeys it.
            assert!(sandbox.accept().await.is_err());
            assert!(matches!(sandbox.spawn(process(&["/bin/true"])).await, Err(SpawnError::Gone)));
            world
        }),
        trial("a_paused_sandbox_can_be_ended_and_leaves_nothing", |world| async {
            let (sandbox, counter) = counting(&world).await;
            sandbox.pause().await.unwrap();
            sandbox.destroy().await;
            assert_eq!(counter.exit.await.unwrap_or(Exit::SandboxGone), Exit::SandboxGone);
            assert!(matches!(sandbox.pause().await, Err(PauseError::Gone)));
            assert!(matches!(sandbox.resume().await, Err(PauseError::Gone)));
            world
        }),
        trial("a_sandbox_that_is_ended_while_it_is_being_paused_is_gone", |world| async {
            for round in 0..20 {
                let (sandbox, _counter) = counting(&world).await;
                let (paused, ()) = tokio::join!(sandbox.pause(), async {
                    tokio::time::sleep(Duration::from_micros(100 * round)).await;
                    sandbox.destroy().await;
                });
                assert!(matches!(paused, Ok(()) | Err(PauseError::Gone)), "{paused:?}");
            }
            world
        }),
        trial("a_paused_sandbox_gives_back_what_the_disk_has_too", |world| async {
            let sandbox = world.driver.create(spec()).await.unwrap();
            // Pages of a file that was read are memory of the sandbox, and not needed.
            let (exit, _) =
                shell(&*sandbox, "head -c 8000000 /dev/zero > /tmp/f && sync && cat /tmp/f > /dev/null")
                    .await;
            assert_eq!(exit, Exit::Status(0));
            let before = sandbox.stats().memory_bytes;
            sandbox.pause().await.unwrap();
            let after = sandbox.stats().memory_bytes;
            assert!(after + 4_000_000 < before, "{before} bytes before, {after} after");
            world
        }),
        trial("what_a_killed_driver_left_paused_is_removed_by_the_next", |world| async {
            let (sandbox, _counter) = counting(&world).await;
            sandbox.pause().await.unwrap();
            // As after a kill: nobody closes the driver or the sandbox.
            std::mem::forget(sandbox);
            let again = World::open(&world.name).await;
            assert_eq!(again.recovered.sandboxes, 1);
            again.driver.close().await;
            world
        }),
    ]
}
