//! What is a machine's own: clones that differ, hibernation, and ends that nobody asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hearth_sandbox::{Exit, PauseError, ReadOnlyMount, Sandbox, SandboxSpec, SpawnError};
use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, process, shell, spec, trial};

fn groups(name: &str) -> Vec<PathBuf> {
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let places = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    places.map(|place| place.join("hearth").join(format!("{name}-vm"))).filter(|path| path.exists()).collect()
}

/// The VMMs of a world that have a machine.
pub(crate) fn vmms(world: &World) -> BTreeSet<i32> {
    let below =
        |group: PathBuf| fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
    let spare =
        |group: &PathBuf| group.file_name().is_some_and(|name| name.to_string_lossy().starts_with("spare-"));
    let lists = groups(&world.name).into_iter().flat_map(below).filter(|group| !spare(group));
    let lists = lists.map(|group| group.join("cgroup.procs"));
    let pids = lists.filter_map(|list| fs::read_to_string(list).ok());
    pids.flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()).collect()
}

pub(crate) fn signal(vmm: i32, signal: Signal) {
    kill_process(Pid::from_raw(vmm).unwrap(), signal).unwrap();
}

/// Waits for the end of a process, not for ever.
pub(crate) async fn end(exit: tokio::sync::oneshot::Receiver<Exit>) -> Exit {
    let waited = tokio::time::timeout(Duration::from_secs(20), exit).await;
    waited.unwrap().unwrap_or(Exit::SandboxGone)
}

/// Sees to it that a sandbox works.
pub(crate) async fn works(sandbox: &dyn Sandbox) {
    assert_eq!(shell(sandbox, "echo fine").await, (Exit::Status(0), "fine\n".to_owned()));
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = clones();
    trials.extend(snapshots());
    trials.extend(hibernation());
    trials.extend(ends());
    trials
}

fn clones() -> Vec<Trial> {
    vec![
        trial("no_two_clones_draw_the_same_random_numbers_and_all_know_the_time", |world| async {
            let mut drawn = BTreeSet::new();
            for _ in 0..8 {
                let sandbox = world.sandbox().await;
                let (_, said) = shell(&*sandbox, "od -An -tx1 -N16 /dev/urandom; date +%s").await;
                let (random, time) = said.trim().split_once('\n').unwrap();
                assert!(drawn.insert(random.to_owned()), "{random} was drawn twice");
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                assert!(now.abs_diff(time.trim().parse().unwrap()) <= 5, "its clock says {time}");
            }
            world
        }),
        trial("clones_share_no_disk_and_no_process", |world| async {
            let (one, two) = (world.sandbox().await, world.sandbox().await);
            assert_eq!(shell(&*one, "echo mine > /tmp/file; cat /tmp/file").await.1, "mine\n");
            assert_eq!(shell(&*two, "ls -A /tmp").await.1, "");
            let (_, booted) = shell(&*one, "cat /proc/sys/kernel/random/boot_id").await;
            let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
            assert_ne!(booted, host, "it has a kernel of its own");
            let (_, said) = shell(&*one, "ls /proc | grep -c '^[0-9]'; cat /proc/1/cmdline 2>&1").await;
            let (count, first) = said.split_once('\n').unwrap();
            assert!(count.parse::<u32>().unwrap() < 10, "it sees {count} processes");
            assert!(first.contains("No such file"), "the first process is hidden: {first}");
            world
        }),
        trial("a_function_sees_its_code_where_it_belongs_and_cannot_write_it", |world| async {
            let code = world.directory.path().join("code");
            fs::create_dir(&code).unwrap();
            fs::write(code.join("app"), "it is me").unwrap();
            let mut spec = spec();
            spec.mounts = vec![ReadOnlyMount { source: code, target: "/var/task".into() }];
            let sandbox = world.driver.create(spec).await.unwrap();
            let script = "cat /var/task/app; echo; for place in /var/task /usr /etc /sys/fs/cgroup /dev; do touch $place/x \
                          2>/dev/null && echo wrote $place; done; id -u; ls /run";
            let (_, said) = shell(&*sandbox, script).await;
            assert_eq!(said, "it is me\n993\n");
            world
        }),
        trial("a_function_in_a_machine_has_no_capability_in_any_set", |world| async {
            let sandbox = world.sandbox().await;
            let (_, said) = shell(&*sandbox, "grep -E '^(Cap|NoNewPrivs)' /proc/self/status").await;
            let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
            let none: String = sets.iter().map(|set| format!("{set}:\t0000000000000000\n")).collect();
            assert_eq!(said, none + "NoNewPrivs:\t1\n");
            world
        }),
        trial("a_file_that_is_no_program_is_refused_and_no_shell_tries_it", |world| async {
            let sandbox = world.sandbox().await;
            let script = "printf '\\177ELF nonsense' > /tmp/nonsense; echo 'echo a shell ran it' > /tmp/bare; chmod +x /tmp/*";
            shell(&*sandbox, script).await;
            for path in ["/tmp/nonsense", "/tmp/bare"] {
                let Err(SpawnError::Exec { source, .. }) = sandbox.spawn(process(&[path])).await else {
                    panic!("{path} was started");
                };
                assert_eq!(source.raw_os_error(), Some(Errno::NOEXEC.raw_os_error()), "{path}");
            }
            world
        }),
        trial("more_memory_than_a_machine_has_may_be_asked_for_but_not_used", |world| async {
            let sandbox = world.sandbox().await;
            // A buffer of a gigabyte in a machine of 192 MiB: got, and the end of whoever fills it.
            let (_, said) = shell(&*sandbox, "dd if=/dev/zero of=/dev/null bs=1G count=1; echo $?").await;
            assert!(said.ends_with("137\n"), "{said}");
            world
        }),
        trial("a_machine_reaches_no_network_but_its_own_loopback", |world| async {
            let sandbox = world.sandbox().await;
            let script = "ls /sys/class/net; for to in 10.0.2.2 127.0.0.2 169.254.169.254 1.1.1.1; do \
                          (exec 3<>/dev/tcp/$to/80) 2>/dev/null && echo reached $to; done; true";
            let client = sandbox.spawn(process(&["/bin/bash", "-c", script])).await.unwrap();
            let (mut output, mut said) = (client.output, String::new());
            output.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "lo\n");
            world
        }),
    ]
}

/// Starts a script in a machine that can be saved, waits until it has said `ready`, and saves it.
async fn save(world: &World, spec: SandboxSpec, key: &str, script: &str) {
    let snapshotter = world.driver.snapshotter().unwrap();
    let sandbox = snapshotter.create_to_save(spec).await.unwrap();
    let mut process = sandbox.spawn(process(&["/bin/bash", "-c", script])).await.unwrap();
    let mut said = String::new();
    while !said.contains("ready\n") {
        let mut bytes = [0; 64];
        let count = process.output.read(&mut bytes).await.unwrap();
        assert!(count > 0, "it ended: {said}");
        said.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    sandbox.snapshot(key, "a note").await.unwrap();
    assert_eq!(end(process.exit).await, Exit::SandboxGone);
    assert!(sandbox.spawn(crate::world::process(&["/bin/true"])).await.is_err(), "it is over");
    sandbox.destroy().await;
}

/// A spec for the next instance of the same function.
fn next(of: &SandboxSpec) -> SandboxSpec {
    SandboxSpec { instance: spec().instance, ..of.clone() }
}

fn snapshots() -> Vec<Trial> {
    vec![
        trial("a_process_goes_on_in_every_machine_made_from_its_snapshot", |world| async {
            let spec = spec();
            let script = "echo mine > /tmp/file; mkfifo /tmp/pipe; echo ready; read -r word < /tmp/pipe; \
                          echo $word $(cat /tmp/file) $(date +%s) $(od -An -tx1 -N8 /dev/urandom | tr -d ' '); exit 3";
            save(&world, spec.clone(), &world.name, script).await;
            let snapshotter = world.driver.snapshotter().unwrap();
            let mut drawn = BTreeSet::new();
            for _ in 0..4 {
                let restored = snapshotter.restore(next(&spec), &world.name).await.unwrap().unwrap();
                assert_eq!(restored.note, "a note");
                let [process] = <[_; 1]>::try_from(restored.processes).ok().unwrap();
                works(&*restored.sandbox).await;
                assert_eq!(shell(&*restored.sandbox, "echo woken > /tmp/pipe").await.0, Exit::Status(0));
                let mut said = String::new();
                let mut output = process.output;
                output.read_to_string(&mut said).await.unwrap();
                let words: Vec<&str> = said.split_whitespace().collect();
                assert_eq!(words[..2], ["woken", "mine"], "{said}");
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                assert!(now.abs_diff(words[2].parse().unwrap()) <= 5, "its clock says {said}");
                assert!(drawn.insert(words[3].to_owned()), "{said} was drawn twice");
                assert_eq!(end(process.exit).await, Exit::Status(3));
                let (_, file) = shell(&*restored.sandbox, "cat /tmp/file; echo yours > /tmp/file").await;
                assert_eq!(file, "mine\n", "each has a disk of its own");
                restored.sandbox.destroy().await;
            }
            world
        }),
        trial("what_draws_without_pause_draws_in_no_two_machines_the_same", |world| async {
            let spec = spec();
            let script = "i=0; while :; do od -An -tx1 -N8 /dev/urandom >> /tmp/drawn; i=$((i+1)); [ $i = 5 ] && echo ready; done";
            save(&world, spec.clone(), &world.name, script).await;
            let snapshotter = world.driver.snapshotter().unwrap();
            let mut all: Vec<Vec<String>> = Vec::new();
            for _ in 0..3 {
                let restored = snapshotter.restore(next(&spec), &world.name).await.unwrap().unwrap();
                let before = shell(&*restored.sandbox, "wc -l < /tmp/drawn").await.1;
                let more = format!(
                    "until [ $(wc -l < /tmp/drawn) -gt {} ]; do :; done; cat /tmp/drawn",
                    before.trim()
                );
                let (_, drawn) = shell(&*restored.sandbox, &more).await;
                all.push(drawn.lines().map(str::to_owned).collect());
                restored.sandbox.destroy().await;
            }
            for (one, two) in [(0, 1), (0, 2), (1, 2)] {
                let same = all[one].iter().zip(&all[two]).take_while(|(one, two)| one == two).count();
                assert!(same >= 5, "what was drawn before the snapshot is in both");
                let after: BTreeSet<_> = all[one][same..].iter().collect();
                assert!(!after.is_empty() && all[two].len() > same, "both have gone on");
                assert!(all[two][same..].iter().all(|line| !after.contains(line)), "{after:?}");
            }
            world
        }),
        trial(
            "there_is_no_snapshot_of_another_function_and_none_of_what_was_not_made_for_it",
            |world| async {
                let spec = spec();
                save(&world, spec.clone(), &world.name, "echo ready; sleep 60").await;
                let snapshotter = world.driver.snapshotter().unwrap();
                assert!(snapshotter.restore(next(&spec), "another key").await.unwrap().is_none());
                let other = SandboxSpec { processes: spec.processes + 1, ..next(&spec) };
                assert!(snapshotter.restore(other, &world.name).await.unwrap().is_none());
                let sandbox = world.sandbox().await;
                let refused = sandbox.snapshot(&world.name, "").await;
                assert!(matches!(refused, Err(PauseError::Unsupported)), "{refused:?}");
                works(&*sandbox).await;
                world
            },
        ),
        trial("a_machine_made_from_a_snapshot_hibernates_and_wakes", |world| async {
            let spec = spec();
            let script = "mkfifo /tmp/pipe; echo ready; read -r word < /tmp/pipe; echo $word";
            save(&world, spec.clone(), &world.name, script).await;
            let restored = world.driver.snapshotter().unwrap().restore(next(&spec), &world.name).await;
            let restored = restored.unwrap().unwrap();
            restored.sandbox.pause().await.unwrap();
            restored.sandbox.resume().await.unwrap();
            assert_eq!(shell(&*restored.sandbox, "echo again > /tmp/pipe").await.0, Exit::Status(0));
            let [process] = <[_; 1]>::try_from(restored.processes).ok().unwrap();
            let (mut output, mut said) = (process.output, String::new());
            output.read_to_string(&mut said).await.unwrap();
            assert_eq!((said.as_str(), end(process.exit).await), ("again\n", Exit::Status(0)));
            world
        }),
    ]
}

fn hibernation() -> Vec<Trial> {
    vec![
        trial("a_hibernated_machine_has_no_process_and_comes_back_with_its_own", |world| async {
            let sandbox = world.sandbox().await;
            let script = "read -r line < /tmp/pipe; echo woken by $line; exit 5";
            assert_eq!(shell(&*sandbox, "mkfifo /tmp/pipe").await.0, Exit::Status(0));
            let mut waiting = sandbox.spawn(process(&["/bin/sh", "-c", script])).await.unwrap();
            for _ in 0..2 {
                sandbox.pause().await.unwrap();
                sandbox.pause().await.unwrap();
                assert_eq!(vmms(&world), BTreeSet::new());
                assert_eq!(sandbox.stats().memory_bytes, 0);
                sandbox.resume().await.unwrap();
                sandbox.resume().await.unwrap();
                works(&*sandbox).await;
            }
            shell(&*sandbox, "echo me > /tmp/pipe").await;
            let mut said = String::new();
            waiting.output.read_to_string(&mut said).await.unwrap();
            assert_eq!((said.as_str(), end(waiting.exit).await), ("woken by me\n", Exit::Status(5)));
            world
        }),
        trial("a_request_that_waits_for_its_answer_survives_hibernation", |world| async {
            let sandbox = world.sandbox().await;
            let script = "exec 3<>/dev/tcp/127.0.0.1/9001; echo next >&3; read -r line <&3; echo $line";
            let client = sandbox.spawn(process(&["/bin/bash", "-c", script])).await.unwrap();
            let mut request = [0; 5];
            let mut stream = sandbox.accept().await.unwrap();
            stream.read_exact(&mut request).await.unwrap();
            sandbox.pause().await.unwrap();
            assert!(stream.read(&mut request).await.is_err(), "this connection is over");
            sandbox.resume().await.unwrap();
            let mut stream = sandbox.accept().await.unwrap();
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"next\n");
            stream.write_all(b"answer\n").await.unwrap();
            let (mut output, mut said) = (client.output, String::new());
            output.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "answer\n");
            world
        }),
        trial("without_room_to_hibernate_a_machine_goes_on", |world| async {
            // The tests' driver has room for a few of these machines.
            let mut all = Vec::new();
            for _ in 0..7 {
                all.push(world.sandbox().await);
            }
            let mut refused = 0;
            for sandbox in &all {
                match sandbox.pause().await {
                    Ok(()) => {}
                    Err(PauseError::Step { source, .. }) => {
                        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
                        refused += 1;
                        works(&**sandbox).await;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(refused > 0, "all found room");
            world
        }),
    ]
}

/// What the kernel says of a process: `R`uns, `S`leeps, is s`T`opped.
fn state_of(pid: i32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().next().unwrap().to_owned()
}

fn ends() -> Vec<Trial> {
    vec![
        trial("a_machine_that_rests_stands_still_until_something_is_said_to_it", |world| async {
            let sandbox = world.sandbox().await;
            let script = "read -r word < /tmp/pipe; echo $word";
            shell(&*sandbox, "mkfifo /tmp/pipe").await;
            let waits = sandbox.spawn(process(&["/bin/sh", "-c", script])).await.unwrap();
            let vmm = *vmms(&world).first().unwrap();
            sandbox.rest();
            let until = Instant::now() + Duration::from_secs(10);
            while state_of(vmm) != "T" {
                assert!(Instant::now() < until, "it is {}", state_of(vmm));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            sandbox.rest();
            assert_eq!(shell(&*sandbox, "echo woken > /tmp/pipe").await.0, Exit::Status(0));
            assert_ne!(state_of(vmm), "T");
            let (mut output, mut said) = (waits.output, String::new());
            output.read_to_string(&mut said).await.unwrap();
            assert_eq!((said.as_str(), end(waits.exit).await), ("woken\n", Exit::Status(0)));
            // Nor does it keep it from hibernating, or from its end.
            sandbox.rest();
            sandbox.pause().await.unwrap();
            sandbox.rest();
            sandbox.resume().await.unwrap();
            works(&*sandbox).await;
            sandbox.rest();
            sandbox.destroy().await;
            assert!(vmms(&world).is_empty());
            world
        }),
        trial("a_vmm_that_is_killed_takes_only_its_own_instance_with_it", |world| async {
            let victim = world.sandbox().await;
            let victims = vmms(&world);
            let other = world.sandbox().await;
            let process = victim.spawn(process(&["/bin/sleep", "1000"])).await.unwrap();
            victims.iter().for_each(|vmm| signal(*vmm, Signal::KILL));
            assert_eq!(end(process.exit).await, Exit::SandboxGone);
            assert!(victim.accept().await.is_err());
            assert!(matches!(victim.pause().await, Err(PauseError::Gone | PauseError::Step { .. })));
            victim.destroy().await;
            works(&*other).await;
            world
        }),
        trial("a_vmm_that_hangs_can_be_ended", |world| async {
            let sandbox = world.sandbox().await;
            vmms(&world).iter().for_each(|vmm| signal(*vmm, Signal::STOP));
            sandbox.destroy().await;
            assert_eq!(vmms(&world), BTreeSet::new());
            world
        }),
        trial("a_driver_that_is_closed_leaves_no_vmm_and_no_group", |world| async {
            let one = world.sandbox().await;
            let two = world.sandbox().await;
            two.pause().await.unwrap();
            assert!(!groups(&world.name).is_empty());
            world.driver.close().await;
            assert_eq!((vmms(&world), groups(&world.name)), (BTreeSet::new(), Vec::new()));
            assert!(one.accept().await.is_err());
            assert!(matches!(world.driver.create(spec()).await, Err(hearth_sandbox::CreateError::Closed)));
            world
        }),
        trial("a_template_that_was_tampered_with_is_made_again", |world| async {
            works(&*world.sandbox().await).await;
            world.driver.close().await;
            let templates: Vec<_> =
                fs::read_dir(crate::shared().join("templates")).unwrap().flatten().collect();
            let mut tampered = 0;
            for template in templates {
                tampered += u32::from(flip_a_bit(&template.path().join("memory")));
            }
            assert!(tampered > 0);
            let again = World::open(&format!("{}-again", world.name)).await;
            works(&*again.sandbox().await).await;
            again.driver.close().await;
            world
        }),
    ]
}

/// Changes one byte that is not zero, somewhere in the middle.
fn flip_a_bit(path: &Path) -> bool {
    use std::os::unix::fs::FileExt;
    let Ok(file) = fs::File::options().read(true).write(true).open(path) else { return false };
    let mut at = file.metadata().unwrap().len() / 2;
    let mut piece = vec![0; 1 << 16];
    loop {
        let count = file.read_at(&mut piece, at).unwrap();
        if let Some(place) = piece[..count].iter().position(|byte| *byte != 0) {
            file.write_all_at(&[piece[place] ^ 1], at + place as u64).unwrap();
            return true;
        }
        if count == 0 {
            return false;
        }
        at += count as u64;
    }
}
