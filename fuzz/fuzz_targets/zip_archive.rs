//! Any bytes as an archive: refused or unpacked, but nothing appears or changes outside its directory.
//!
//! `cargo +nightly fuzz run zip_archive`, best with TMPDIR in memory (`/dev/shm`).

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use hearth_image::ImageStore;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

struct World {
    folder: TempDir,
    store: ImageStore,
}

static WORLD: OnceLock<World> = OnceLock::new();

fn make_world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("neighbour"), "untouched").expect("a neighbour");
    let store = ImageStore::open(&folder.path().join("code")).expect("a store");
    World { folder, store }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// No link of the tree leads out of it.
fn check(root: &Path, directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let kind = fs::symlink_metadata(&path).expect("its kind").file_type();
        if kind.is_dir() {
            check(root, &path);
        } else if kind.is_symlink() {
            if let Ok(real) = path.canonicalize() {
                assert!(real.starts_with(root), "{path:?} leads to {real:?}");
            }
        } else {
            assert!(kind.is_file(), "{path:?} is {kind:?}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let world = WORLD.get_or_init(make_world);
    let root = world.folder.path();
    if let Ok(digest) = world.store.add_zip(data) {
        let unpacked = world.store.unpacked(digest).expect("it was unpacked").canonicalize().expect("a path");
        check(&unpacked, &unpacked);
        assert_eq!(world.store.collect(&[], Duration::ZERO).expect("a collection"), 1);
    }
    assert_eq!(names(root), ["code", "neighbour"]);
    assert_eq!(names(&root.join("code")), ["archives", "boot", "tmp", "unpacked"]);
    assert_eq!(fs::read(root.join("neighbour")).expect("the neighbour"), b"untouched");
    assert!(names(&root.join("code/tmp")).is_empty(), "something half made is left");
});
