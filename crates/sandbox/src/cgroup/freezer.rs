//! Stops all processes of a sandbox, and lets them go on.
//!
//! In v2 every group can be frozen. In v1 the freezer is a hierarchy of its own; a sandbox gets a group there only when
//! it is to be frozen for the first time, so that a start does not pay for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::hierarchy::{Place, Version};

/// Processes that fork while they are moved are moved again; so often at most.
const MOVES: u32 = 20;
/// The kernel stops what sleeps or runs at once; what waits for a disk takes a moment.
const DEADLINE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const LOOKS_TO_THAW: u32 = 20;

/// The means to freeze one sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Freezer {
    version: Version,
    /// Its group in the freezer's hierarchy.
    directory: PathBuf,
    /// A group that has all its processes.
    members: PathBuf,
}

impl Freezer {
    /// The freezer of the sandbox `name`, whose processes are all in the group `members`.
    pub(crate) fn new(place: &Place, name: &str, members: &Path) -> Self {
        Self { version: place.version, directory: place.directory.join(name), members: members.to_owned() }
    }

    /// Stops all processes. Those that could not be stopped in time go on, with the others.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        let frozen = match self.version {
            Version::V1 => self.gather().and_then(|()| self.write_and_wait("freezer.state", "FROZEN")),
            Version::V2 => self.write_and_wait("cgroup.freeze", "1"),
        };
        if frozen.is_err() {
            let _ = self.thaw();
        }
        frozen
    }

    /// Lets all processes go on.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        let written = match self.version {
            Version::V1 => fs::write(self.directory.join("freezer.state"), "THAWED"),
            Version::V2 => fs::write(self.directory.join("cgroup.freeze"), "0"),
        };
        match written {
            // Never frozen, or removed with all that was in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written,
        }
    }

    /// The group in the freezer's own hierarchy, if it was made.
    pub(crate) fn own_directory(&self) -> Option<&Path> {
        (self.version == Version::V1 && self.directory.exists()).then_some(&self.directory)
    }

    /// Moves all processes into the freezer's group, also those that are born meanwhile.
    fn gather(&self) -> io::Result<()> {
        match fs::create_dir(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let procs = self.directory.join("cgroup.procs");
        for _ in 0..MOVES {
            let inside = fs::read_to_string(&procs)?;
            let inside: Vec<_> = inside.lines().collect();
            let all = fs::read_to_string(self.members.join("cgroup.procs"))?;
            let mut outside = all.lines().filter(|pid| !inside.contains(pid)).peekable();
            if outside.peek().is_none() {
                return Ok(());
            }
            for pid in outside {
                match fs::write(&procs, pid) {
                    // It ended in the meantime.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    written => written?,
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "its processes multiply faster than they can be moved"))
    }

    /// In v1 a process that forks just then can miss being frozen, and the group hangs between the states until it is
    /// told once more; now and then only after all were let go for a moment.
    fn write_and_wait(&self, file: &str, value: &str) -> io::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        for look in 1_u32.. {
            fs::write(self.directory.join(file), value)?;
            if self.is_frozen()? {
                return Ok(());
            }
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
            if self.version == Version::V1 && look.is_multiple_of(LOOKS_TO_THAW) {
                self.thaw()?;
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        let text = format!("not all processes stopped within {} s", DEADLINE.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    fn is_frozen(&self) -> io::Result<bool> {
        match self.version {
            Version::V1 => Ok(fs::read_to_string(self.directory.join("freezer.state"))?.trim() == "FROZEN"),
            Version::V2 => {
                let events = fs::read_to_string(self.directory.join("cgroup.events"))?;
                Ok(events.lines().any(|line| line == "frozen 1"))
            }
        }
    }
}

/// Lets the processes of a group go on, if it is one that can be frozen: in v1 what is frozen cannot even be killed.
pub(crate) fn thaw_left(directory: &Path) {
    let state = directory.join("freezer.state");
    if state.exists() {
        let _ = fs::write(state, "THAWED");
    }
}
