//! Which cgroup hierarchies this machine has, and where in them Hearth's groups go.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What Hearth limits and counts.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// What it stops processes with, where that has a hierarchy of its own.
const FREEZER: &str = "freezer";
/// The group that all of Hearth's groups are in.
const TOP: &str = "hearth";
/// The group beside it that this process goes to where groups with others in them may have no processes of their own.
const OWN: &str = "hearth-server";

/// The interface of a hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy a controller (kernel: admin-guide/cgroup-v1).
    V1,
    /// One hierarchy for all (kernel: admin-guide/cgroup-v2).
    V2,
}

/// Where one controller's groups go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its interface.
    pub(crate) version: Version,
    /// The group of this worker.
    pub(crate) directory: PathBuf,
}

/// The controllers that can be used, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    places: BTreeMap<&'static str, Place>,
    freezer: Option<Place>,
}

// === impl Hierarchies ===

impl Hierarchies {
    /// Finds the hierarchies and makes this worker's group in each.
    pub(crate) fn open(worker: &str) -> io::Result<Self> {
        let mut places = BTreeMap::new();
        for (controller, version, base) in find_on_this_machine()? {
            let directory = base.join(TOP).join(worker);
            match prepare(version, &base, &directory, controller) {
                Ok(()) => {
                    places.insert(controller, Place { version, directory });
                }
                Err(error) => {
                    tracing::warn!(controller, %error, base = %base.display(), "cannot use a cgroup controller");
                }
            }
        }
        // Without a hierarchy of its own the freezer is in every group of v2.
        let unified = places.values().find(|place: &&Place| place.version == Version::V2).cloned();
        let freezer = places.remove(FREEZER).or(unified);
        Ok(Self { places, freezer })
    }

    /// Where processes are stopped, if they can be.
    pub(crate) fn freezer(&self) -> Option<&Place> {
        self.freezer.as_ref()
    }

    /// Where `controller`'s groups go, if it can be used.
    pub(crate) fn get(&self, controller: &str) -> Option<&Place> {
        self.places.get(controller)
    }

    /// The directories that every sandbox of this worker has a group in, each once.
    pub(crate) fn directories(&self) -> Vec<&Place> {
        distinct(self.places.values())
    }

    /// All directories that a sandbox of this worker may have a group in, each once; the freezer's first, for in v1 what
    /// is frozen cannot be killed.
    pub(crate) fn all_directories(&self) -> Vec<&Place> {
        distinct(self.freezer.iter().chain(self.places.values()))
    }
}

fn distinct<'a>(all: impl Iterator<Item = &'a Place>) -> Vec<&'a Place> {
    let mut places: Vec<&Place> = Vec::new();
    for place in all {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// What [`find`] finds here.
pub(crate) fn find_on_this_machine() -> io::Result<Vec<(&'static str, Version, PathBuf)>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    Ok(find(&mounts, &own, rustix::process::geteuid().is_root()))
}

/// Each wanted controller with its interface and the directory below which Hearth's groups go.
fn find(mounts: &str, own: &str, root: bool) -> Vec<(&'static str, Version, PathBuf)> {
    let mut found = Vec::new();
    let mut unified = None;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4) else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or_default(), right.nth(1).unwrap_or_default());
        match kind {
            "cgroup" => {
                for controller in CONTROLLERS.into_iter().chain([FREEZER]) {
                    let has = options.split(',').any(|option| option == controller);
                    if has && !found.iter().any(|(known, _, _)| *known == controller) {
                        found.push((controller, Version::V1, base(point, own, Some(controller), root)));
                    }
                }
            }
            "cgroup2" => unified = Some(base(point, own, None, root)),
            _ => {}
        }
    }
    if let Some(unified) = unified {
        let offered = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
        for controller in CONTROLLERS {
            let has = offered.split_whitespace().any(|word| word == controller);
            if has && !found.iter().any(|(known, _, _)| *known == controller) {
                found.push((controller, Version::V2, unified.clone()));
            }
        }
    }
    found
}

/// Root uses the top of the hierarchy, where the next start finds what this one leaves; others what was delegated to them.
fn base(point: &str, own: &str, controller: Option<&str>, root: bool) -> PathBuf {
    if root {
        return PathBuf::from(point);
    }
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let matches = match controller {
            Some(controller) => controllers.split(',').any(|one| one == controller),
            None => controllers.is_empty(),
        };
        matches.then_some(path)
    });
    let path = path.unwrap_or("/");
    // This process may have gone there already.
    let delegated = path.strip_suffix(OWN).and_then(|path| path.strip_suffix('/')).unwrap_or(path);
    Path::new(point).join(delegated.trim_start_matches('/'))
}

fn prepare(version: Version, base: &Path, directory: &Path, controller: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if version == Version::V2 {
        enable(base, controller).or_else(|error| {
            if error.kind() != io::ErrorKind::ResourceBusy {
                return Err(error);
            }
            // All but the root group have processes or groups with limits, not both (kernel: cgroup-v2, "No Internal Process").
            leave(base).and_then(|()| enable(base, controller)).map_err(|error| crowded(base, error))
        })?;
        for level in [&base.join(TOP), directory] {
            enable(level, controller)?;
        }
    }
    Ok(())
}

/// Lets the groups in a group limit what `controller` limits.
fn enable(group: &Path, controller: &str) -> io::Result<()> {
    fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"))
}

/// Takes this process out of a group, into one that is in it and has no others in it.
fn leave(base: &Path) -> io::Result<()> {
    let own = base.join(OWN);
    fs::create_dir_all(&own)?;
    fs::write(own.join("cgroup.procs"), std::process::id().to_string())
}

fn crowded(base: &Path, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::ResourceBusy {
        return error;
    }
    let text = format!("other processes are in {}: {ALONE}", base.display());
    io::Error::new(io::ErrorKind::ResourceBusy, text)
}

/// What to do about other processes in the group that is to have groups with limits.
pub(crate) const ALONE: &str = "start the server in a group of its own, as \
                                `systemd-run --user --scope -p Delegate=yes hearth dev` or a service with Delegate=yes does";

/// Whether groups with limits can be made in a group of v2 by a process in it: the processes that would be in the way.
pub(crate) fn in_the_way(base: &Path) -> usize {
    // Only the root group has no type, and it may have both.
    if !base.join("cgroup.type").exists() {
        return 0;
    }
    let processes = fs::read_to_string(base.join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id().to_string();
    processes.lines().filter(|pid| *pid != own).count()
}

/// Goes back to where this process came from, so that nothing is left.
pub(crate) fn come_back(base: &Path) {
    let own = base.join(OWN);
    if own.exists() {
        for controller in CONTROLLERS {
            let _ = fs::write(base.join("cgroup.subtree_control"), format!("-{controller}"));
        }
        let _ = fs::write(base.join("cgroup.procs"), std::process::id().to_string());
        let _ = fs::remove_dir(own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_controllers_are_found_where_they_are_mounted() {
        let mounts = "\
29 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
30 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 25 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";
        let own = "3:memory:/user/me\n2:cpu,cpuacct:/\n1:pids:/x";
        let as_root = find(mounts, own, true);
        assert_eq!(as_root.len(), 3);
        assert!(as_root.contains(&("memory", Version::V1, "/sys/fs/cgroup/memory".into())));
        let as_user = find(mounts, own, false);
        assert!(as_user.contains(&("memory", Version::V1, "/sys/fs/cgroup/memory/user/me".into())));
        assert!(as_user.contains(&("cpu", Version::V1, "/sys/fs/cgroup/cpu,cpuacct".into())));
    }

    #[test]
    fn what_was_delegated_is_the_group_above_the_one_that_the_server_went_to() {
        for own in ["0::/user/scope", "0::/user/scope/hearth-server"] {
            assert_eq!(base("/cgroup", own, None, false), Path::new("/cgroup/user/scope"));
        }
        assert_eq!(base("/cgroup", "0::/", None, false), Path::new("/cgroup"));
    }

    #[test]
    fn v2_is_used_for_what_it_offers() {
        let unified = tempfile::tempdir().unwrap();
        fs::write(unified.path().join("cgroup.controllers"), "cpu memory pids hugetlb\n").unwrap();
        let mounts = format!("29 25 0:26 / {} rw - cgroup2 cgroup2 rw", unified.path().display());
        let found = find(&mounts, "0::/", true);
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|(_, version, base)| *version == Version::V2 && base == unified.path()));
    }
}
