//! The function's processes: how they start, what they may use, how they end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hearth_wire::{Disk, Limits, StreamId, Usage, User};
use rustix::fs::{Gid, Uid};
use rustix::process::{Pid, WaitOptions};

use crate::{Failed, image, step, sys};

const CGROUPS: &str = "/sys/fs/cgroup";
const GROUP: &str = "/sys/fs/cgroup/function";
/// Controllers that limits and accounts need.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Processes stop within this, unless one of them waits for a disk.
const FREEZING: Duration = Duration::from_millis(200);

/// All processes that the worker asked for.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// By the worker's name.
    pub(crate) running: BTreeMap<u64, Running>,
    group: Option<Group>,
    seat: sys::Seat,
}

/// A process, or what it left to be sent.
#[derive(Debug)]
pub(crate) struct Running {
    /// `None` once it ended.
    pub(crate) pid: Option<Pid>,
    /// What it writes; `None` once all who could write are gone.
    pub(crate) output: Option<OwnedFd>,
    /// Where that goes.
    pub(crate) stream: StreamId,
}

/// The control group of all of them.
#[derive(Debug)]
struct Group {
    members: File,
    open_files: u64,
    current: File,
    peak: Option<File>,
    events: File,
    cpu: File,
}

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) number: u64,
    pub(crate) status: i32,
    pub(crate) signal: bool,
}

// === impl Processes ===

impl Processes {
    /// Says where and as whom programs run.
    pub(crate) fn run_as(&mut self, disks: &[Disk], user: Option<User>) {
        let in_image = disks.iter().any(|disk| matches!(disk, Disk::Root { .. }));
        self.seat = sys::Seat { root: in_image.then_some(image::ROOT), user };
    }

    /// Makes the group that bounds what processes may use.
    pub(crate) fn limit(&mut self, limits: &Limits) -> Result<(), Failed> {
        // Nothing else in this machine writes there, and /sys is seen as read-only by the function.
        for controller in CONTROLLERS {
            let control = format!("{CGROUPS}/cgroup.subtree_control");
            step(&format!("switch {controller} on"), fs::write(control, format!("+{controller}")))?;
        }
        step("make the function's group", fs::create_dir(GROUP))?;
        let settings = [
            ("memory.max", limits.memory_bytes.to_string()),
            ("memory.swap.max", "0".to_owned()),
            ("pids.max", limits.processes.to_string()),
        ];
        for (name, value) in settings {
            match fs::write(format!("{GROUP}/{name}"), value) {
                // A kernel without swap has no such limit.
                Err(error) if name == "memory.swap.max" && error.kind() == io::ErrorKind::NotFound => {}
                written => step(&format!("set {name}"), written)?,
            }
        }
        let open = |name: &str| File::open(format!("{GROUP}/{name}"));
        self.group = Some(Group {
            members: step(
                "open the group",
                File::options().write(true).open(format!("{GROUP}/cgroup.procs")),
            )?,
            open_files: u64::from(limits.open_files),
            current: step("open memory.current", open("memory.current"))?,
            peak: open("memory.peak").ok(),
            events: step("open memory.events", open("memory.events"))?,
            cpu: step("open cpu.stat", open("cpu.stat"))?,
        });
        Ok(())
    }

    /// Starts a program as the function's user: its pid, and what it writes.
    pub(crate) fn start(
        &self,
        argv: &[String],
        environment: &[String],
        directory: &str,
    ) -> io::Result<(Pid, OwnedFd)> {
        let group = self.group.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let path = argv.first().ok_or(io::ErrorKind::InvalidInput)?;
        let (output, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&output, true)?;
        // Programs open /dev/stdout by its name, as whom they run.
        let (uid, gid) = self.seat.ids();
        rustix::fs::fchown(&writer, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        let program = sys::Program::new(argv, environment)?;
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let members = group.members.try_clone()?;
        let place = sys::Place { members, open_files: group.open_files, directory: directory.to_owned() };
        sys::on_spawn(&mut command, program, place, self.seat.clone());
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok((pid.ok_or(io::ErrorKind::Other)?, output.into()))
    }

    /// Takes the next child that ended; those that nobody asked for are buried too, and not told of.
    pub(crate) fn reap(&mut self) -> Option<Ended> {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let found = self.running.iter_mut().find(|(_, running)| running.pid == Some(pid));
            let Some((number, running)) = found else { continue };
            running.pid = None;
            let signal = status.terminating_signal();
            let code = signal.or_else(|| status.exit_status()).unwrap_or(0);
            return Some(Ended { number: *number, status: code, signal: signal.is_some() });
        }
        None
    }

    /// Stops all of them where they are, as far as that comes about at once.
    pub(crate) fn freeze(&self) {
        if self.group.is_none() || fs::write(format!("{GROUP}/cgroup.freeze"), "1").is_err() {
            return;
        }
        let until = Instant::now() + FREEZING;
        let frozen = || {
            let events = fs::read_to_string(format!("{GROUP}/cgroup.events")).unwrap_or_default();
            events.lines().any(|line| line == "frozen 1")
        };
        while !frozen() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        if self.group.is_none() {
            return Ok(());
        }
        fs::write(format!("{GROUP}/cgroup.freeze"), "0")
    }

    /// What they use.
    pub(crate) fn usage(&mut self) -> Usage {
        let Some(group) = self.group.as_mut() else { return Usage::default() };
        let memory_bytes = number(&mut group.current);
        Usage {
            memory_bytes,
            memory_peak_bytes: group.peak.as_mut().map_or(memory_bytes, number),
            oom_kills: field(&mut group.events, "oom_kill"),
            cpu_us: field(&mut group.cpu, "usage_usec"),
        }
    }
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.take(4096).read_to_string(&mut text));
    text
}

fn number(file: &mut File) -> u64 {
    text(file).trim().parse().unwrap_or(0)
}

fn field(file: &mut File, name: &str) -> u64 {
    let text = text(file);
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}
