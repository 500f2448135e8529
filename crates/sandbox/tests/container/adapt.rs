//! Sandboxes that are made ahead, and get what a function asks for later.

use std::fs;
use std::path::Path;

use hearth_sandbox::{Exit, ReadOnlyMount, SandboxSpec};
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{process, shell, spec, trial};

fn mount(source: &Path, target: &str) -> ReadOnlyMount {
    ReadOnlyMount { source: source.to_owned(), target: target.into() }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_sandbox_made_ahead_gets_code_limits_and_disk_while_a_process_waits_in_it", |world| async {
            assert!(world.driver.adapts());
            let (lang, code) = (world.directory.path().join("lang"), world.directory.path().join("code"));
            fs::create_dir_all(&lang).unwrap();
            fs::create_dir_all(&code).unwrap();
            fs::write(code.join("handler"), "of the function").unwrap();
            let mounts = vec![mount(&lang, "/var/lang")];
            let ahead = SandboxSpec { mounts: mounts.clone(), ..spec() };
            let sandbox = world.driver.create(ahead.clone()).await.unwrap();
            let script =
                "read -r line; cat /var/task/$line; touch /var/task/x /tmp/y; echo $?; df -m /tmp | tail -1";
            let (waiting, mut socket) =
                sandbox.spawn_listening(process(&["/bin/bash", "-c", script])).await.unwrap();
            let memory_bytes = 128 << 20;
            let mounts = mounts.into_iter().chain([mount(&code, "/var/task")]).collect();
            let mut wanted = SandboxSpec { mounts, memory_bytes, scratch_bytes: 100 << 20, ..spec() };
            sandbox.adapt(wanted.clone()).await.unwrap();
            socket.write_all(b"handler\n").await.unwrap();
            let (mut output, mut text) = (waiting.output, String::new());
            output.read_to_string(&mut text).await.unwrap();
            assert!(text.starts_with("of the function"), "{text}");
            assert!(text.contains("touch: cannot touch '/var/task/x': Read-only file system"), "{text}");
            assert!(!text.contains("/tmp/y"), "{text}");
            let disk: u64 = text.lines().last().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
            assert!((80..=100).contains(&disk), "{text}");
            assert_eq!(waiting.exit.await.unwrap(), Exit::Status(0));
            let (exit, _) = shell(&*sandbox, "exec tail /dev/zero").await;
            assert_eq!(exit, Exit::Signal(9), "it has a limit");
            let peak = sandbox.stats().memory_peak_bytes;
            assert!((100 << 20..=129 << 20).contains(&peak), "the one of its function: {peak}");
            wanted.mounts.clear();
            assert!(sandbox.adapt(wanted).await.unwrap_err().to_string().contains("already"));
            world
        }),
        trial("a_sandbox_made_ahead_for_another_runtime_is_refused", |world| async {
            let lang = world.directory.path().join("lang");
            fs::create_dir_all(&lang).unwrap();
            let ahead = SandboxSpec { mounts: vec![mount(&lang, "/var/lang")], ..spec() };
            let sandbox = world.driver.create(ahead).await.unwrap();
            let error = sandbox.adapt(spec()).await.unwrap_err();
            assert!(error.to_string().contains("not to see"), "{error}");
            world
        }),
        trial("what_is_mounted_into_a_sandbox_is_seen_nowhere_else", |world| async {
            let code = world.directory.path().join("code");
            fs::create_dir_all(&code).unwrap();
            let here = || fs::read_to_string("/proc/self/mountinfo").unwrap();
            let (before, sandbox) = (here(), world.sandbox().await);
            let wanted = SandboxSpec { mounts: vec![mount(&code, "/var/task")], ..spec() };
            sandbox.adapt(wanted).await.unwrap();
            let (_, inside) = shell(&*sandbox, "cat /proc/self/mountinfo").await;
            let line = inside.lines().find(|line| line.contains(" /var/task ")).unwrap();
            assert!(line.contains("ro,nosuid,nodev"), "{line}");
            assert!(!line.contains("shared:"), "{line}");
            assert_eq!(here(), before);
            world
        }),
    ]
}
