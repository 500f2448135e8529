//! Machines that turn against their worker, and VMMs that do: whoever waits for one hears of it, and nobody else does.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hearth_sandbox::{Exit, PauseError, Sandbox, SandboxSpec, SpawnError};
use libtest_mimic::Trial;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

use crate::machines::{end, signal, vmms, works};
use crate::world::{World, process, spec, trial};

/// What the smallest machine has.
const MACHINE_BYTES: u64 = 192 << 20;

/// What a guest, or a VMM that was taken over, may say instead of what it should: bytes that are nothing, and frames of all kinds
/// that are too long, for a stream that is not there.
fn crimes() -> [Vec<u8>; 4] {
    let frame = |kind: u8| [[kind, 0, 0xff, 0xff].as_slice(), &[0xff; 4]].concat();
    [
        vec![0xff; 1 << 16],
        (0..=255).cycle().take(1 << 16).collect(),
        b"GET / HTTP/1.1\r\n\r\n".repeat(100),
        (0..10).flat_map(|kind| frame(kind).repeat(1_000)).collect(),
    ]
}

/// The sockets that a VMM has open: its ends of what it speaks with its worker over.
fn sockets(vmm: i32) -> Vec<UnixStream> {
    let holder = pidfd_open(Pid::from_raw(vmm).unwrap(), PidfdFlags::empty()).unwrap();
    let open = fs::read_dir(format!("/proc/{vmm}/fd")).unwrap().flatten();
    let sockets = open.filter(|fd| {
        fs::read_link(fd.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    });
    let numbers = sockets.map(|fd| fd.file_name().to_string_lossy().parse().unwrap());
    let taken = numbers.filter_map(|number| pidfd_getfd(&holder, number, PidfdGetfdFlags::empty()).ok());
    taken.map(|socket: OwnedFd| UnixStream::from(socket)).collect()
}

/// Says something on all of a VMM's sockets, as far as it is listened to.
fn say_everywhere(vmm: i32, what: &[u8]) {
    // The machine is to add nothing of its own, and keep nothing from being said.
    signal(vmm, Signal::STOP);
    for mut socket in sockets(vmm) {
        let _ = socket.set_nonblocking(true);
        for _ in 0..64 {
            let _ = socket.write(what);
        }
    }
    signal(vmm, Signal::CONT);
}

/// Overwrites all that a machine has as its memory: what is mapped in one piece of its size. How many such pieces there were.
fn overwrite_memory(vmm: i32, byte: u8) -> usize {
    let maps = fs::read_to_string(format!("/proc/{vmm}/maps")).unwrap();
    let memory = File::options().write(true).open(format!("/proc/{vmm}/mem")).unwrap();
    let noise = vec![byte; 1 << 20];
    let ranges = maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-'));
    let ranges = ranges.map(|(from, to)| [from, to].map(|end| u64::from_str_radix(end, 16).unwrap()));
    let memories: Vec<_> = ranges.filter(|[from, to]| to - from == MACHINE_BYTES).collect();
    // A machine that goes on with half of it may end, and take the rest with it.
    signal(vmm, Signal::STOP);
    for [from, to] in &memories {
        for at in (*from..*to).step_by(noise.len()) {
            memory.write_all_at(&noise, at).unwrap();
        }
    }
    signal(vmm, Signal::CONT);
    memories.len()
}

/// A sandbox and its VMM, found by what was there before it. Its share of the CPU is its own, so that no VMM was started ahead for it.
async fn with_vmm(world: &World, share: u32) -> (Box<dyn Sandbox>, i32) {
    let before = vmms(world);
    let spec = SandboxSpec { cpu_millis: 300 + share, ..spec() };
    let sandbox = world.driver.create(spec).await.unwrap();
    let vmm = *vmms(world).difference(&before).next().unwrap();
    (sandbox, vmm)
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_machine_that_says_anything_at_all_is_cut_off_and_harms_nobody", |world| async {
            let neighbour = world.sandbox().await;
            for (share, crime) in (1..).zip(crimes()) {
                let (victim, vmm) = with_vmm(&world, share).await;
                let process = victim.spawn(process(&["/bin/sleep", "1000"])).await.unwrap();
                say_everywhere(vmm, &crime);
                assert_eq!(end(process.exit).await, Exit::SandboxGone);
                assert!(victim.accept().await.is_err());
                victim.destroy().await;
                assert!(!Path::new(&format!("/proc/{vmm}")).exists(), "its VMM is gone");
            }
            works(&*neighbour).await;
            works(&*world.sandbox().await).await;
            world
        }),
        trial("a_machine_whose_memory_is_noise_is_given_up_and_leaves_nothing", |world| async {
            // What a kernel that panics, an agent that is killed and a guest that overwrites both have in common: nothing that
            // answers. Whether the VMM ends at that or goes on with nothing in it differs.
            let neighbour = world.sandbox().await;
            for (share, byte) in [(1, 0x00), (2, 0xff)] {
                let (victim, vmm) = with_vmm(&world, share).await;
                assert_eq!(overwrite_memory(vmm, byte), 1, "its memory is found");
                let asked = victim.spawn(process(&["/bin/true"]));
                let asked = tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap();
                assert!(matches!(asked, Err(SpawnError::Gone | SpawnError::Exec { .. })), "{asked:?}");
                assert!(victim.pause().await.is_err());
                victim.destroy().await;
                assert!(!Path::new(&format!("/proc/{vmm}")).exists(), "its VMM is gone");
            }
            works(&*neighbour).await;
            world
        }),
        trial("whoever_waits_for_a_vmm_that_stands_still_hears_so", |world| async {
            let neighbour = world.sandbox().await;
            let (victim, vmm) = with_vmm(&world, 1).await;
            let waiting = victim.spawn(process(&["/bin/sleep", "1000"])).await.unwrap();
            signal(vmm, Signal::STOP);
            let asked =
                tokio::join!(victim.spawn(process(&["/bin/true"])), victim.connect(8080), works(&*neighbour));
            let late = std::io::ErrorKind::TimedOut;
            assert!(
                matches!(&asked.0, Err(SpawnError::Exec { source, .. }) if source.kind() == late),
                "{:?}",
                asked.0
            );
            assert!(matches!(&asked.1, Err(error) if error.kind() == late));
            // It cannot be hibernated either, and is over after the attempt.
            assert!(matches!(victim.pause().await, Err(PauseError::Step { .. })));
            assert_eq!(end(waiting.exit).await, Exit::SandboxGone);
            assert!(!Path::new(&format!("/proc/{vmm}")).exists(), "its VMM is gone");
            victim.destroy().await;
            world
        }),
    ]
}
