//! What this machine offers to sandboxes, found out by trying, for `hearth doctor`.

use std::path::Path;

use crate::cgroup::{self, Version};
use crate::container::scratch_disks_work;

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

/// Tries everything that a sandbox is made of.
#[must_use]
pub fn run() -> Vec<Check> {
    let mut checks = vec![kernel(), user(), namespaces(), seccomp()];
    checks.extend(cgroups());
    checks.push(scratch());
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
                Some((_, version, base)) => {
                    let version = match version {
                        Version::V1 => "v1",
                        Version::V2 => "v2",
                    };
                    let writable = rustix::fs::access(base, rustix::fs::Access::WRITE_OK).is_ok();
                    if writable {
                        check(&what, Verdict::Works, format!("{version} at {}", base.display()), None)
                    } else {
                        check(
                            &what,
                            Verdict::Lacking,
                            format!("{version} at {}, which cannot be written", base.display()),
                            Some("run as root, or in a service with Delegate=yes"),
                        )
                    }
                }
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
