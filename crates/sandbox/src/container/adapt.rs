//! A sandbox that was made ahead gets what its function asks for.
//!
//! Its first process has given up all power over its mounts by then. So a thread of the worker goes into its mount namespace,
//! attaches what was cloned outside, and ends. Nothing of a function runs in the sandbox yet, and its root is
//! read-only: the paths lead where the set-up left them.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use super::sandbox::{Inner, Remains, binds, join_network, lock, prepare_scratch};
use super::{Shared, sys};
use crate::cgroup::GroupLimits;
use crate::driver::{CreateError, ProcessSpec, SandboxSpec};

/// A mount that is attached nowhere yet, and where it goes.
struct Attachment {
    mount: OwnedFd,
    target: String,
    /// Whether another is there, which goes.
    replaces: bool,
}

fn step(step: &str) -> impl Fn(io::Error) -> CreateError {
    move |source| CreateError::Step { step: step.to_owned(), source }
}

impl Inner {
    /// Gives the sandbox what `spec` asks for and it was not made with.
    pub(super) async fn adapt(&self, spec: SandboxSpec) -> Result<(), CreateError> {
        let broken = |reason: &str| CreateError::SetUp { reason: reason.to_owned() };
        let made_as = lock(&self.made_as).take().ok_or_else(|| broken("it has its function already"))?;
        let user_range = match &*self.remains.lock().await {
            Some(Remains { user_range }) => *user_range,
            None => return Err(broken("it is gone")),
        };
        let (egress, scratch_bytes) = (spec.egress.clone(), spec.scratch_bytes);
        let pidfd = self.pidfd.get_ref().try_clone().map_err(step("watch the sandbox"))?;
        let (shared, group) = (self.shared.clone(), self.group.clone());
        let work = move || -> Result<(), CreateError> {
            let attachments = attachments(&shared, &made_as, &spec)?;
            let limits = GroupLimits::of(&spec);
            let name = made_as.instance.to_string();
            lock(&group).limit(&shared.hierarchies, &name, limits).map_err(step("set its limits"))?;
            if attachments.is_empty() {
                return Ok(());
            }
            // A thread of its own, as it never comes back from where it goes.
            let attaching = thread::Builder::new()
                .name("attach".to_owned())
                .stack_size(64 * 1024)
                .spawn(move || attach(pidfd.as_fd(), &attachments))
                .map_err(step("start a thread"))?;
            attaching.join().unwrap_or_else(|_| Err(broken("attaching its mounts broke off")))
        };
        let worked = tokio::task::spawn_blocking(work).await;
        worked.map_err(|error| step("adapt the sandbox")(io::Error::other(error)))??;
        prepare_scratch(&self.shared, scratch_bytes);
        let link = join_network(&self.shared, user_range, self.pidfd.get_ref(), &egress).await?;
        *lock(&self.link) = link;
        Ok(())
    }
}

impl Inner {
    /// Writes arguments and variables where the kernel looks for those that a process was started with.
    pub(super) fn restate(&self, process: &ProcessSpec) -> io::Result<()> {
        let (memory, stat) = only_beside(self.pid, || lock(&self.group).processes())?;
        let [arguments, variables] = places(&stat).ok_or(io::ErrorKind::InvalidData)?;
        let argv = process.argv.iter().flat_map(|argument| [argument.as_str(), "\0"]).collect::<String>();
        let line = |(name, value): (&String, &String)| format!("{name}={value}\0");
        let environment = process.environment.iter().map(line).collect::<String>();
        for (text, place) in [(argv, arguments), (environment, variables)] {
            let length = usize::try_from(place.end.saturating_sub(place.start)).unwrap_or(0);
            let mut bytes = text.into_bytes();
            if bytes.len() > length {
                return Err(io::ErrorKind::ArgumentListTooLong.into());
            }
            bytes.resize(length, 0);
            memory.write_all_at(&bytes, place.start)?;
        }
        Ok(())
    }
}

/// The memory of the only process of a sandbox beside its first, and the kernel's line about it.
fn only_beside(first: i32, processes: impl Fn() -> io::Result<Vec<i32>>) -> io::Result<(File, String)> {
    let others =
        || -> io::Result<Vec<i32>> { Ok(processes()?.into_iter().filter(|pid| *pid != first).collect()) };
    let before = others()?;
    let [pid] = before[..] else {
        return Err(io::Error::other("it is not the only process of its sandbox"));
    };
    let memory = File::options().write(true).open(format!("/proc/{pid}/mem"))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Asked again now that both are had: they are another's if it ended and its number was given away.
    if others()? != before {
        return Err(io::Error::other("it ended, or another began"));
    }
    Ok((memory, stat))
}

/// Where a process's arguments and variables are in its memory, as `/proc/PID/stat` says in its fields 48 to 51 (proc(5)).
fn places(stat: &str) -> Option<[Range<u64>; 2]> {
    // The second field, a name in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some([number(48)?..number(49)?, number(50)?..number(51)?])
}

/// Clones of all that is to be seen and is not yet. Blocks.
fn attachments(
    shared: &Shared,
    made_as: &SandboxSpec,
    spec: &SandboxSpec,
) -> Result<Vec<Attachment>, CreateError> {
    if spec.root != made_as.root {
        return Err(CreateError::SetUp { reason: "its root is not that of its function".to_owned() });
    }
    let there = binds(shared, made_as);
    let wanted = binds(shared, spec);
    if let Some((source, _)) = there.iter().find(|bind| !wanted.contains(bind)) {
        return Err(CreateError::SetUp {
            reason: format!("it sees {source}, which its function is not to see"),
        });
    }
    let mut attachments = Vec::new();
    for (source, target) in wanted {
        if there.contains(&(source.clone(), target.clone())) {
            continue;
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let mount =
            open_tree(CWD, &source, flags).map_err(|error| step(&format!("clone {source}"))(error.into()))?;
        sys::set_detached_attributes(mount.as_fd()).map_err(step(&format!("freeze {source}")))?;
        attachments.push(Attachment { mount, target, replaces: false });
    }
    if spec.scratch_bytes != made_as.scratch_bytes {
        let memory =
            || io::Error::new(io::ErrorKind::Unsupported, "it is memory, of the size that it was made with");
        let scratch = shared.scratch.as_ref().ok_or_else(memory).map_err(step("change the size of /tmp"))?;
        let mount = scratch.take(spec.scratch_bytes).map_err(step("make a disk for /tmp"))?;
        attachments.push(Attachment { mount, target: "/tmp".to_owned(), replaces: true });
    }
    Ok(attachments)
}

/// Attaches them in the mount namespace of a process, which this thread stays in.
fn attach(pidfd: BorrowedFd<'_>, attachments: &[Attachment]) -> Result<(), CreateError> {
    sys::enter_mounts_of(pidfd).map_err(step("enter the sandbox's mounts"))?;
    for Attachment { mount, target, replaces } in attachments {
        if *replaces {
            let left = unmount(target.as_str(), UnmountFlags::DETACH);
            left.map_err(|error| step(&format!("unmount {target}"))(error.into()))?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        let moved = move_mount(mount, "", CWD, target.as_str(), flags);
        moved.map_err(|error| step(&format!("attach {target}"))(error.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What is found in a sandbox of which the kernel says one thing, and then another.
    fn found(before: &[i32], after: &[i32]) -> io::Result<(File, String)> {
        let asked = Cell::new(false);
        only_beside(1, || Ok(if asked.replace(true) { after } else { before }.to_vec()))
    }

    #[test]
    fn nothing_is_written_to_a_process_that_got_the_number_of_one_that_ended() {
        let here = i32::try_from(std::process::id()).unwrap();
        let (_, stat) = found(&[1, here], &[1, here]).unwrap();
        assert!(stat.starts_with(&format!("{here} (")), "{stat}");
        assert!(found(&[1, here], &[1]).is_err(), "it ended, and this process is another");
        assert!(found(&[1, here], &[1, here, 2]).is_err());
        assert!(found(&[1, here, 2], &[1, here]).is_err() && found(&[1], &[1]).is_err());
    }
}
