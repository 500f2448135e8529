//! What every driver must do.

use std::io::ErrorKind;

use hearth_sandbox::{Exit, ReadOnlyMount, SandboxSpec, SpawnError};
use libtest_mimic::Trial;
use tokio::io::AsyncReadExt;

use crate::world::{process, shell, spec, trial};

/// Has this very program be a server in a sandbox: no other is in the roots of all drivers.
const LISTEN: &str = "listen-inside";

/// Whether this program was started in a sandbox, and did what it was to do there.
pub(crate) fn was_inside() -> bool {
    use std::io::{Read, Write};
    if std::env::args().nth(1).as_deref() != Some(LISTEN) {
        return false;
    }
    let listener = std::net::TcpListener::bind("0.0.0.0:8080").unwrap();
    println!("listens");
    for stream in listener.incoming() {
        let (mut stream, mut heard) = (stream.unwrap(), [0; 100]);
        // One that went away hears nothing.
        let count = stream.read(&mut heard).unwrap_or(0);
        let _ = stream.write_all(&heard[..count].to_ascii_uppercase());
    }
    true
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_program_runs_and_its_status_and_output_are_seen", |world| async {
            let sandbox = world.sandbox().await;
            let (exit, output) = shell(&*sandbox, "echo one; echo two >&2; echo three; exit 7").await;
            assert_eq!((exit, output.as_str()), (Exit::Status(7), "one\ntwo\nthree\n"));
            world
        }),
        trial("a_signal_that_ends_a_program_is_told_apart_from_a_status", |world| async {
            let sandbox = world.sandbox().await;
            assert_eq!(shell(&*sandbox, "kill -SEGV $$").await.0, Exit::Signal(11));
            world
        }),
        trial("a_program_that_cannot_be_executed_says_why", |world| async {
            let sandbox = world.sandbox().await;
            for (program, kind) in
                [("/var/task/bootstrap", ErrorKind::NotFound), ("/etc/passwd", ErrorKind::PermissionDenied)]
            {
                match sandbox.spawn(process(&[program])).await {
                    Err(SpawnError::Exec { source, .. }) => assert_eq!(source.kind(), kind, "{program}"),
                    other => panic!("{program}: {other:?}"),
                }
            }
            assert_eq!(shell(&*sandbox, "exit 0").await.0, Exit::Status(0), "the sandbox is unharmed");
            world
        }),
        trial("the_runtime_api_is_reached_at_its_address", |world| async {
            let sandbox = world.sandbox().await;
            let script = "exec 3<>/dev/tcp/127.0.0.1/9001; echo hello >&3; read -r line <&3; echo $line";
            let client = sandbox.spawn(process(&["/bin/bash", "-c", script])).await.unwrap();
            let mut stream = sandbox.accept().await.unwrap();
            let mut said = [0; 6];
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"hello\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"well\n").await.unwrap();
            let mut output = String::new();
            let mut written = client.output;
            written.read_to_string(&mut output).await.unwrap();
            assert_eq!(output, "well\n");
            world
        }),
        trial("what_listens_inside_is_reached_at_its_port", |world| async {
            let code = world.directory.path().join("code");
            std::fs::create_dir(&code).unwrap();
            std::fs::copy(std::env::current_exe().unwrap(), code.join("app")).unwrap();
            let mounts = vec![ReadOnlyMount { source: code, target: "/var/task".into() }];
            let sandbox = world.driver.create(SandboxSpec { mounts, ..spec() }).await.unwrap();
            assert!(sandbox.connect(8080).await.is_err(), "nobody listens yet");
            let server = sandbox.spawn(process(&["/var/task/app", LISTEN])).await.unwrap();
            let mut said = [0; 8];
            let mut output = server.output;
            output.read_exact(&mut said).await.unwrap();
            for _ in 0..3 {
                let mut stream = sandbox.connect(8080).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert_eq!(answer, "HELLO");
            }
            sandbox.destroy().await;
            assert!(sandbox.connect(8080).await.is_err());
            world
        }),
        trial("a_memory_hog_is_killed_and_counted_and_its_neighbour_lives", |world| async {
            let (hog, neighbour) = (world.sandbox().await, world.sandbox().await);
            // One line without end, kept whole.
            let (exit, output) = shell(&*hog, "exec tail /dev/zero").await;
            assert_eq!((exit, output.as_str()), (Exit::Signal(9), ""), "it is killed without a word");
            let stats = hog.stats();
            assert!(stats.oom_kills >= 1, "{stats:?}");
            assert!(stats.memory_peak_bytes <= 65 << 20 && stats.memory_peak_bytes > 48 << 20, "{stats:?}");
            assert_eq!(shell(&*neighbour, "echo fine").await.1, "fine\n");
            assert_eq!(neighbour.stats().oom_kills, 0);
            world
        }),
        trial("a_fork_bomb_is_bounded_and_ends_with_its_sandbox", |world| async {
            let sandbox = world.sandbox().await;
            let bomb =
                sandbox.spawn(process(&["/bin/bash", "-c", "f() { f | f & }; f; sleep 1000"])).await.unwrap();
            let mut reader = bomb.output;
            let mut complaint = [0; 512];
            let length = reader.read(&mut complaint).await.unwrap();
            let complaint = String::from_utf8_lossy(&complaint[..length]).into_owned();
            assert!(complaint.contains("Resource temporarily unavailable"), "{complaint}");
            sandbox.destroy().await;
            world
        }),
        trial("a_disk_filler_gets_no_space_and_no_memory", |world| async {
            let sandbox = world.sandbox().await;
            let (_, output) =
                shell(&*sandbox, "head -c 100M /dev/zero > /tmp/fill; stat -c %s /tmp/fill").await;
            assert!(output.contains("No space left on device"), "{output}");
            let written: u64 = output.lines().last().unwrap().parse().unwrap();
            assert!((14 << 20..=16 << 20).contains(&written), "{written}");
            assert_eq!(sandbox.stats().oom_kills, 0);
            world
        }),
        trial("a_program_that_ignores_sigterm_is_ended_by_destroy", |world| async {
            let sandbox = world.sandbox().await;
            let stubborn = sandbox
                .spawn(process(&["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]))
                .await
                .unwrap();
            let (mut output, mut said) = (stubborn.output, [0; 3]);
            output.read_exact(&mut said).await.unwrap();
            sandbox.terminate().await;
            sandbox.destroy().await;
            sandbox.destroy().await;
            assert_eq!(stubborn.exit.await.unwrap_or(Exit::SandboxGone), Exit::SandboxGone);
            assert!(matches!(sandbox.spawn(process(&["/bin/true"])).await, Err(SpawnError::Gone)));
            assert!(sandbox.accept().await.is_err());
            world
        }),
        trial("what_was_terminated_politely_may_say_goodbye", |world| async {
            let sandbox = world.sandbox().await;
            let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done";
            let polite = sandbox.spawn(process(&["/bin/sh", "-c", script])).await.unwrap();
            let (mut output, mut said) = (polite.output, [0; 3]);
            output.read_exact(&mut said).await.unwrap();
            sandbox.terminate().await;
            let mut rest = String::new();
            output.read_to_string(&mut rest).await.unwrap();
            assert!(rest.ends_with("bye\n"), "{rest}");
            assert_eq!(polite.exit.await.unwrap(), Exit::Status(3));
            world
        }),
        trial("many_sandboxes_are_made_at_once", |world| async {
            let driver = std::sync::Arc::clone(&world.driver);
            let makers: Vec<_> = (0..crate::MANY)
                .map(|_| {
                    let driver = std::sync::Arc::clone(&driver);
                    tokio::spawn(async move { driver.create(spec()).await })
                })
                .collect();
            let mut made = Vec::new();
            for maker in makers {
                made.push(maker.await.unwrap().unwrap());
            }
            for sandbox in &made {
                assert_eq!(shell(&**sandbox, "exit 4").await.0, Exit::Status(4));
            }
            world
        }),
    ]
}
