//! What this machine offers to sandboxes, found out by trying, for `hearth doctor`.

use std::path::Path;

use crate::cgroup::{self, Version};
use crate::container::{scratch_disks_work, try_to_map_owners};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Works.
    Works,
    /// Sandboxes work without it, with less.
    Lacking,
    /// Sandboxes do not work without it.
    Missing,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub what: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen.
    pub proof: String,
    /// What to do about a lack.
    pub advice: Option<String>,
}

/// Namespaces that every sandbox has, by their names in `/proc/self/ns`.
const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// Tries everything that a sandbox is made of; images are to be kept on the file system of `folder`.
#[must_use]
pub fn run(folder: &Path) -> Vec<Check> {
    let mut checks = vec![kernel(), user(), namespaces(), root(), seccomp()];
    checks.extend(cgroups());
    checks.push(scratch());
    checks.push(owners(folder));
    checks.push(pressure());
    checks
}

fn check(what: &str, verdict: Verdict, proof: impl Into<String>, advice: Option<&str>) -> Check {
    Check { what: what.to_owned(), verdict, proof: proof.into(), advice: advice.map(str::to_owned) }
}

fn kernel() -> Check {
    let name = rustix::system::uname();
    check("kernel", Verdict::Works, format!("Linux {}", name.release().to_string_lossy()), None)
}

fn user() -> Check {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return check("user", Verdict::Works, "root: each instance gets its own range of user ids", None);
    }
    check(
        "user",
        Verdict::Lacking,
        format!("user {uid}: all instances run as this one, limits need delegated cgroups, /tmp is memory"),
        Some("run the server as root for full isolation; functions never are"),
    )
}

fn namespaces() -> Check {
    let absent: Vec<_> =
        NAMESPACES.iter().filter(|name| !Path::new("/proc/self/ns").join(name).exists()).collect();
    if !absent.is_empty() {
        return check(
            "namespaces",
            Verdict::Missing,
            format!("the kernel has no {absent:?}"),
            Some("use a kernel with CONFIG_NAMESPACES and all its kinds"),
        );
    }
    match std::process::Command::new("unshare").args(["-Umpnuif", "--fork", "-r", "true"]).output() {
        Ok(output) if output.status.success() => check(
            "namespaces",
            Verdict::Works,
            "a process ran in new user, mnt, pid, net, ipc and uts namespaces",
            None,
        ),
        Ok(output) => check(
            "namespaces",
            if rustix::process::geteuid().is_root() { Verdict::Missing } else { Verdict::Lacking },
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Some(
                "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces > 0",
            ),
        ),
        Err(error) => check(
            "namespaces",
            Verdict::Lacking,
            format!("there, but not tried: cannot run unshare: {error}"),
            Some("install util-linux"),
        ),
    }
}

fn root() -> Check {
    if root_is_a_mount() {
        check("root", Verdict::Works, "a mount, from which instances can leave for their own", None)
    } else {
        check("root", Verdict::Missing, ROOT_IS_NO_MOUNT, Some(MAKE_IT_ONE))
    }
}

/// Why there can be no sandboxes below a root that is a directory like any other.
const ROOT_IS_NO_MOUNT: &str =
    "this process's root is no mount, as after a plain chroot: the kernel lets nobody leave it for another";
const MAKE_IT_ONE: &str =
    "make it one before: `mount --bind DIR DIR; chroot DIR`, or use pivot_root as containers do";

/// Says what to do where sandboxes cannot leave the root that they begin in.
pub(crate) fn require_root_mount() -> std::io::Result<()> {
    if root_is_a_mount() {
        return Ok(());
    }
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, format!("{ROOT_IS_NO_MOUNT}; {MAKE_IT_ONE}")))
}

fn root_is_a_mount() -> bool {
    // A machine without /proc has other lacks, and they are said.
    std::fs::read_to_string("/proc/self/mountinfo").map_or(true, |mounts| has_root(&mounts))
}

fn has_root(mounts: &str) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

fn seccomp() -> Check {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "errno") {
        check("seccomp", Verdict::Works, format!("filters can {}", actions.trim()), None)
    } else {
        check(
            "seccomp",
            Verdict::Missing,
            "the kernel filters no system calls",
            Some("use a kernel with CONFIG_SECCOMP_FILTER"),
        )
    }
}

fn cgroups() -> Vec<Check> {
    let found = cgroup::find_on_this_machine().unwrap_or_default();
    ["memory", "cpu", "pids"]
        .into_iter()
        .map(|controller| {
            let what = format!("cgroup {controller}");
            match found.iter().find(|(name, _, _)| *name == controller) {
                Some((_, version, base)) => found_cgroup(&what, *version, base),
                None => check(
                    &what,
                    Verdict::Lacking,
                    "no hierarchy has it: instances run without this limit",
                    Some("mount cgroup2 at /sys/fs/cgroup, or boot with the controller enabled"),
                ),
            }
        })
        .collect()
}

fn found_cgroup(what: &str, version: Version, base: &Path) -> Check {
    let (name, others) = match version {
        Version::V1 => ("v1", 0),
        Version::V2 => ("v2", cgroup::in_the_way(base)),
    };
    let place = format!("{name} at {}", base.display());
    if rustix::fs::access(base, rustix::fs::Access::WRITE_OK).is_err() {
        let advice = "run as root, or in a service with Delegate=yes";
        return check(what, Verdict::Lacking, format!("{place}, which cannot be written"), Some(advice));
    }
    if others > 0 {
        let proof = format!("{place}, where {others} other processes are in the way of limits");
        return check(what, Verdict::Lacking, proof, Some(cgroup::ALONE));
    }
    check(what, Verdict::Works, place, None)
}

fn scratch() -> Check {
    match scratch_disks_work() {
        Ok(()) => check(
            "disks for /tmp",
            Verdict::Works,
            "a small file system was made and mounted on a loop device",
            None,
        ),
        Err(error) => check(
            "disks for /tmp",
            Verdict::Lacking,
            format!("{error}: /tmp is memory, and counts as the function's"),
            Some("run as root with e2fsprogs, /dev/loop-control and ext4"),
        ),
    }
}

fn owners(folder: &Path) -> Check {
    let what = "owners of images' files";
    match try_to_map_owners(folder) {
        Ok(()) => {
            check(what, Verdict::Works, format!("mapped on the file system of {}", folder.display()), None)
        }
        Err(error) => check(
            what,
            Verdict::Lacking,
            format!(
                "{error}, at {}: files of container images belong to nobody in instances",
                folder.display()
            ),
            Some("run as root on Linux 5.19 or newer, with the data on ext4, xfs, btrfs, or tmpfs (6.3)"),
        ),
    }
}

fn pressure() -> Check {
    match std::fs::read_to_string("/proc/pressure/memory") {
        Ok(text) => {
            check("pressure (PSI)", Verdict::Works, text.lines().next().unwrap_or_default().to_owned(), None)
        }
        Err(_) => check(
            "pressure (PSI)",
            Verdict::Lacking,
            "the kernel does not report stall time",
            Some("boot with psi=1"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_a_mount_only_where_one_is_listed_there() {
        let whole = "22 1 0:20 / / rw - ext4 /dev/vda rw\n23 22 0:21 / /proc rw - proc proc rw";
        assert!(has_root(whole));
        assert!(!has_root("23 22 0:21 / /proc rw - proc proc rw"));
        assert!(root_is_a_mount());
    }
}
