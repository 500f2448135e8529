//! What is left when sandboxes, zygotes and workers end, politely or not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hearth_sandbox::{Container, ContainerConfig, Driver, Exit, ZYGOTE_ARGUMENT};
use libtest_mimic::Trial;

use crate::world::{World, process, shell, spec, trial, until};

/// Children of this process that are zygotes.
fn zygotes() -> Vec<i32> {
    let me = std::process::id();
    let tasks = fs::read_dir(format!("/proc/{me}/task")).unwrap().flatten();
    let children = tasks.flat_map(|task| {
        fs::read_to_string(task.path().join("children"))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    children
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                line.split(|byte| *byte == 0).any(|word| word == ZYGOTE_ARGUMENT.as_bytes())
            })
        })
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn groups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        found.extend([hierarchy.path().join("hearth").join(name)].into_iter().filter(|path| path.exists()));
    }
    found.extend([Path::new("/sys/fs/cgroup/hearth").join(name)].into_iter().filter(|path| path.exists()));
    found
}

fn loop_files() -> BTreeSet<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok()).collect()
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("closing_leaves_no_process_group_mount_or_loop_device", |world| async {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let sandbox = world.sandbox().await;
            let _running = sandbox.spawn(process(&["/bin/sleep", "1000"])).await.unwrap();
            assert!(!groups(&world.name).is_empty());
            assert_eq!(
                fs::read_to_string("/proc/self/mountinfo").unwrap(),
                mounts,
                "no mount is visible outside"
            );
            world.driver.close().await;
            assert_eq!(groups(&world.name), Vec::<PathBuf>::new());
            until("the zygote's end", || zygotes().is_empty()).await;
            let ours = world.directory.path().display().to_string();
            until("the loop devices' release", || !loop_files().iter().any(|file| file.contains(&ours)))
                .await;
            assert!(matches!(world.driver.create(spec()).await, Err(hearth_sandbox::CreateError::Closed)));
            world
        }),
        trial("prepared_disks_are_few_however_many_sandboxes_and_sizes_there_were", |world| async {
            for round in 0..30u64 {
                let mut other = spec();
                other.scratch_bytes += round << 20;
                let (one, two) = tokio::join!(world.driver.create(other.clone()), world.sandbox());
                one.unwrap().destroy().await;
                two.destroy().await;
            }
            let ours = world.directory.path().display().to_string();
            let count = || loop_files().iter().filter(|file| file.contains(&ours)).count();
            until("the spare disks' release", || count() <= 16).await;
            world
        }),
        trial("a_killed_zygote_ends_its_sandboxes_and_is_replaced", |world| async {
            let sandbox = world.sandbox().await;
            let running = sandbox.spawn(process(&["/bin/sleep", "1000"])).await.unwrap();
            let killed = zygotes();
            assert_eq!(killed.len(), 1);
            assert!(Command::new("kill").args(["-9", &killed[0].to_string()]).status().unwrap().success());
            assert_eq!(running.exit.await.unwrap_or(Exit::SandboxGone), Exit::SandboxGone);
            let next = world.sandbox().await;
            assert_eq!(shell(&*next, "exit 5").await.0, Exit::Status(5));
            world
        }),
        trial("what_a_killed_worker_left_is_removed_by_the_next", |world| async {
            // Groups as a worker that was killed leaves them: no process, not removed.
            for group in groups(&world.name) {
                fs::create_dir(group.join("00000000000000000000000000000001")).unwrap();
            }
            let config = ContainerConfig {
                name: world.name.clone(),
                directory: world.directory.path().join("next"),
                program: std::env::current_exe().unwrap(),
                resolvers: Vec::new(),
            };
            let (next, recovered) = Container::open(config).await.unwrap();
            assert_eq!((world.recovered.sandboxes, recovered.sandboxes), (0, 1));
            next.close().await;
            world
        }),
        trial("two_drivers_do_not_touch_each_other", |world| async {
            let other = World::open(&format!("{}-other", world.name)).await;
            let (mine, theirs) = (world.sandbox().await, other.sandbox().await);
            other.driver.close().await;
            assert_eq!(shell(&*mine, "exit 6").await.0, Exit::Status(6));
            assert!(theirs.spawn(process(&["/bin/true"])).await.is_err());
            world
        }),
    ]
}
