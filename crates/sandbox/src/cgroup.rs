//! Limits, accounts and the stopping of a sandbox: one small interface over cgroup v1, v2 and the mix of both.

mod freezer;
mod hierarchy;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::driver::{SandboxSpec, Stats};

use freezer::Freezer;
pub(crate) use hierarchy::{ALONE, Hierarchies, Place, Version, find_on_this_machine, in_the_way};

/// Period over which CPU time is counted against the ceiling, microseconds (the kernel's own default).
const CPU_PERIOD_US: u64 = 100_000;
/// Weight of a whole vCPU: the kernel's default for a group, in v1 shares.
const SHARES_PER_VCPU: u64 = 1_024;
/// A group with processes that are just ending cannot be removed yet; they end within this.
const REMOVE_TRIES: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// What a group may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    /// Bytes.
    pub(crate) memory_bytes: u64,
    /// Thousandths of a vCPU.
    pub(crate) cpu_millis: u32,
    /// Processes and threads.
    pub(crate) processes: u32,
}

impl GroupLimits {
    /// What a sandbox of this spec may use.
    pub(crate) const fn of(spec: &SandboxSpec) -> Self {
        let SandboxSpec { memory_bytes, cpu_millis, processes, .. } = *spec;
        Self { memory_bytes, cpu_millis, processes }
    }
}

/// The groups of one sandbox, one for each hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    directories: Vec<PathBuf>,
    memory: Option<Memory>,
    cpu: Option<(File, Version)>,
    freezer: Option<Freezer>,
}

/// Open files that the memory's numbers are read from.
#[derive(Debug)]
struct Memory {
    version: Version,
    directory: PathBuf,
    current: File,
    peak: Option<File>,
    events: Option<File>,
}

// === impl Group ===

impl Group {
    /// Makes a sandbox's groups and sets its limits.
    pub(crate) fn create(hierarchies: &Hierarchies, name: &str, limits: GroupLimits) -> io::Result<Self> {
        let mut group = Self { directories: Vec::new(), memory: None, cpu: None, freezer: None };
        let made = group.make(hierarchies, name, limits);
        if made.is_err() {
            group.remove();
        }
        made.map(|()| group)
    }

    fn make(&mut self, hierarchies: &Hierarchies, name: &str, limits: GroupLimits) -> io::Result<()> {
        for place in hierarchies.directories() {
            let directory = place.directory.join(name);
            fs::create_dir(&directory)?;
            self.directories.push(directory);
        }
        self.limit(hierarchies, name, limits)?;
        if let Some(place) = hierarchies.get("memory") {
            self.memory = Some(Memory::open(place.version, &place.directory.join(name))?);
        }
        if let Some(place) = hierarchies.get("cpu") {
            let directory = place.directory.join(name);
            let usage = match place.version {
                Version::V1 => "cpuacct.usage",
                Version::V2 => "cpu.stat",
            };
            self.cpu = File::open(directory.join(usage)).ok().map(|file| (file, place.version));
        }
        if let (Some(place), Some(members)) = (hierarchies.freezer(), self.directories.first()) {
            self.freezer = Some(Freezer::new(place, name, members));
        }
        Ok(())
    }

    /// Sets the limits of the groups of that name, which may have others.
    pub(crate) fn limit(&self, hierarchies: &Hierarchies, name: &str, limits: GroupLimits) -> io::Result<()> {
        if let Some(place) = hierarchies.get("memory") {
            limit_memory(place.version, &place.directory.join(name), limits.memory_bytes)?;
        }
        if let Some(place) = hierarchies.get("cpu") {
            limit_cpu(place.version, &place.directory.join(name), limits.cpu_millis)?;
        }
        if let Some(place) = hierarchies.get("pids") {
            fs::write(place.directory.join(name).join("pids.max"), limits.processes.to_string())?;
        }
        Ok(())
    }

    /// Puts a process into all groups.
    pub(crate) fn attach(&self, pid: i32) -> io::Result<()> {
        self.directories
            .iter()
            .try_for_each(|directory| fs::write(directory.join("cgroup.procs"), pid.to_string()))
    }

    /// Its processes, as far as this machine has a hierarchy that tells.
    pub(crate) fn processes(&self) -> io::Result<Vec<i32>> {
        let directory = self.directories.first().ok_or(io::ErrorKind::Unsupported)?;
        let list = fs::read_to_string(directory.join("cgroup.procs"))?;
        Ok(list.lines().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// What stops its processes, if they can be stopped.
    pub(crate) fn freezer(&self) -> Option<Freezer> {
        self.freezer.clone()
    }

    /// What gives memory back that its processes can do without: pages that the kernel has on disk too.
    pub(crate) fn reclaimer(&self) -> Option<Reclaimer> {
        let memory = self.memory.as_ref()?;
        Some(Reclaimer { version: memory.version, directory: memory.directory.clone() })
    }

    /// What its processes use and have used.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        if let Some(memory) = &self.memory {
            stats.memory_bytes = number(&memory.current).unwrap_or(0);
            stats.memory_peak_bytes = memory.peak.as_ref().and_then(number).unwrap_or(stats.memory_bytes);
            stats.oom_kills = memory.events.as_ref().and_then(|file| field(file, "oom_kill")).unwrap_or(0);
        }
        stats.cpu_us = match &self.cpu {
            Some((file, Version::V1)) => number(file).unwrap_or(0) / 1_000,
            Some((file, Version::V2)) => field(file, "usage_usec").unwrap_or(0),
            None => 0,
        };
        stats
    }

    /// Removes the groups, whose processes have been killed. Blocks until the last is gone, for a second at most.
    pub(crate) fn remove(&mut self) {
        for directory in self.directories.drain(..) {
            remove(&directory);
        }
        if let Some(directory) = self.freezer.take().as_ref().and_then(Freezer::own_directory) {
            remove(directory);
        }
    }
}

/// Gives memory of a sandbox back.
#[derive(Clone, Debug)]
pub(crate) struct Reclaimer {
    version: Version,
    directory: PathBuf,
}

impl Reclaimer {
    /// Has the kernel take what it can, to swap if there is some. It is no error that this is little.
    pub(crate) fn reclaim(&self) {
        let written = match self.version {
            // Both fail with EAGAIN or EBUSY when not all could be taken, which is the usual outcome.
            Version::V1 => fs::write(self.directory.join("memory.force_empty"), "0"),
            Version::V2 => fs::read_to_string(self.directory.join("memory.current"))
                .and_then(|bytes| fs::write(self.directory.join("memory.reclaim"), bytes.trim())),
        };
        if let Err(error) = written {
            tracing::debug!(%error, path = %self.directory.display(), "not all memory was given back");
        }
    }
}

/// Memory of a group and those in it, without the pages of files that nobody used of late.
pub(crate) fn memory_bytes(place: &Place) -> u64 {
    let (usage, inactive) = match place.version {
        Version::V1 => ("memory.usage_in_bytes", "total_inactive_file "),
        Version::V2 => ("memory.current", "inactive_file "),
    };
    let read = |file: &str| fs::read_to_string(place.directory.join(file)).unwrap_or_default();
    let usage: u64 = read(usage).trim().parse().unwrap_or(0);
    let stat = read("memory.stat");
    let droppable = stat.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok());
    usage.saturating_sub(droppable.unwrap_or(0))
}

/// Every group in this worker's is of a sandbox that is over: its processes died with the worker that made it.
pub(crate) fn remove_left_groups(hierarchies: &Hierarchies) -> usize {
    let mut names = std::collections::BTreeSet::new();
    for place in hierarchies.all_directories() {
        for entry in fs::read_dir(&place.directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                kill_and_remove(&entry.path());
                names.insert(entry.file_name());
            }
        }
    }
    names.len()
}

/// Removes all groups of this worker, killing what is in them.
pub(crate) fn remove_groups(hierarchies: &Hierarchies) {
    for place in hierarchies.all_directories() {
        kill_and_remove(&place.directory);
        // The top is shared with other workers: the last one removes it.
        if let Some(top) = place.directory.parent()
            && fs::remove_dir(top).is_ok()
            && let (Version::V2, Some(base)) = (place.version, top.parent())
        {
            hierarchy::come_back(base);
        }
    }
}

/// Kills what is in a group, then removes it and the groups in it.
fn kill_and_remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_and_remove(&entry.path());
        }
    }
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    freezer::thaw_left(directory);
    remove(directory);
}

fn remove(directory: &Path) {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(REMOVE_PAUSE),
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(path = %directory.display(), %error, "cannot remove a cgroup");
                return;
            }
        }
    }
    tracing::warn!(path = %directory.display(), "a cgroup still has processes; the next start removes it");
}

fn limit_memory(version: Version, directory: &Path, bytes: u64) -> io::Result<()> {
    let write = |file: &str, value: String| fs::write(directory.join(file), value);
    match version {
        Version::V1 => {
            // Only there where swap is accounted: then there is none for tenants. Before and after, as neither limit may
            // be on the wrong side of the other, whether they grow or shrink.
            let _ = write("memory.memsw.limit_in_bytes", bytes.to_string());
            write("memory.limit_in_bytes", bytes.to_string())?;
            let _ = write("memory.memsw.limit_in_bytes", bytes.to_string());
        }
        Version::V2 => {
            write("memory.max", bytes.to_string())?;
            let _ = write("memory.swap.max", "0".to_owned());
            // The processes of a function end together, as the instance does.
            let _ = write("memory.oom.group", "0".to_owned());
        }
    }
    Ok(())
}

/// A share of the CPU when the machine is busy, and a ceiling of whole vCPUs when it is not.
fn limit_cpu(version: Version, directory: &Path, millis: u32) -> io::Result<()> {
    let millis = u64::from(millis.max(1));
    let ceiling = millis.div_ceil(1_000) * CPU_PERIOD_US;
    let write = |file: &str, value: String| fs::write(directory.join(file), value);
    match version {
        Version::V1 => {
            write("cpu.shares", (millis * SHARES_PER_VCPU / 1_000).max(2).to_string())?;
            write("cpu.cfs_quota_us", ceiling.to_string())
        }
        Version::V2 => {
            write("cpu.weight", (millis / 10).clamp(1, 10_000).to_string())?;
            write("cpu.max", format!("{ceiling} {CPU_PERIOD_US}"))
        }
    }
}

// === impl Memory ===

impl Memory {
    fn open(version: Version, directory: &Path) -> io::Result<Self> {
        let [current, peak, events] = match version {
            Version::V1 => ["memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"],
            Version::V2 => ["memory.current", "memory.peak", "memory.events"],
        };
        Ok(Self {
            version,
            directory: directory.to_owned(),
            current: File::open(directory.join(current))?,
            // Newer than the rest: Linux 5.19 for v2's peak.
            peak: File::open(directory.join(peak)).ok(),
            events: File::open(directory.join(events)).ok(),
        })
    }
}

fn read<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let length = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()
}

fn number(file: &File) -> Option<u64> {
    read(file, &mut [0; 32])?.trim().parse().ok()
}

fn field(file: &File, name: &str) -> Option<u64> {
    let mut buffer = [0; 1024];
    read(file, &mut buffer)?
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
