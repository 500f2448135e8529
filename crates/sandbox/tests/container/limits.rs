//! Limits as the kernel has them, in whichever hierarchies this machine offers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;

use crate::world::{process, spec, trial};

/// Deeper than this no hierarchy has a server's groups.
const DEPTH: usize = 8;
/// The kernel's files for each limit, in version 1 and 2, and what the tests' sandboxes have there.
const LIMITS: [(&str, &str); 7] = [
    ("memory.limit_in_bytes", "67108864"),
    ("memory.max", "67108864"),
    ("pids.max", "64"),
    ("cpu.cfs_quota_us", "100000"),
    ("cpu.max", "100000 100000"),
    ("cpu.shares", "512"),
    ("cpu.weight", "50"),
];

/// The groups that are called `name`, at or below `directory`.
fn find(directory: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth > 0 {
            find(&entry.path(), name, depth - 1, found);
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("each_limit_is_set_where_the_kernel_keeps_it", |world| async {
        let spec = spec();
        let sandbox = world.driver.create(spec.clone()).await.unwrap();
        let _running = sandbox.spawn(process(&["/bin/sleep", "1000"])).await.unwrap();
        let mut worker = Vec::new();
        find(Path::new("/sys/fs/cgroup"), &world.name, DEPTH, &mut worker);
        let groups: Vec<_> = worker
            .iter()
            .flat_map(|group| fs::read_dir(group).unwrap().flatten())
            .filter(|entry| entry.file_type().unwrap().is_dir())
            .map(|entry| entry.path())
            .collect();
        let mut set = BTreeMap::new();
        for group in &groups {
            let members = fs::read_to_string(group.join("cgroup.procs")).unwrap();
            // The freezer of version 1 takes processes only when it is needed.
            assert!(
                group.join("freezer.state").exists() || members.lines().count() >= 2,
                "{}: {members}",
                group.display()
            );
            for (file, wanted) in LIMITS {
                if let Ok(text) = fs::read_to_string(group.join(file)) {
                    assert_eq!(text.trim(), wanted, "{}", group.join(file).display());
                    set.insert(file.split('.').next().unwrap(), group);
                }
            }
        }
        assert_eq!(set.keys().copied().collect::<Vec<_>>(), ["cpu", "memory", "pids"], "{groups:?}");
        if crate::test_host("cgroup2") || crate::test_host("delegated") {
            assert_eq!(groups.len(), 1, "{groups:?}");
        }
        world
    })]
}
