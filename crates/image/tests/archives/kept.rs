//! What the store does over time: restarts, crashes, damage, many at once, and collection.

use std::error::Error;
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use hearth_image::{ArchiveError, ImageStore};
use hearth_types::CodeDigest;

use super::{World, listing, zip_of};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn an_archive_is_kept_byte_for_byte_under_its_sha256() {
    let world = World::new();
    let archive = zip_of([("bootstrap", "x")]);
    let digest = world.store.add_zip(&archive).unwrap();
    assert_eq!(fs::read(world.store.archive_path(digest)).unwrap(), archive);
    let sha256sum =
        std::process::Command::new("sha256sum").arg(world.store.archive_path(digest)).output().unwrap();
    assert!(sha256sum.stdout.starts_with(digest.to_string().as_bytes()));
}

#[test]
fn a_store_that_is_opened_again_has_what_it_had_and_nothing_half_made() {
    let world = World::new();
    let digest = world.store.add_zip(&zip_of([("bootstrap", "x")])).unwrap();
    let before = listing(&world.root());
    fs::create_dir_all(world.root().join("tmp/half/made")).unwrap();
    fs::write(world.root().join("tmp/half.zip"), "PK").unwrap();
    let store = ImageStore::open(&world.root()).unwrap();
    assert_eq!(listing(&world.root()), before);
    assert!(store.unpacked(digest).unwrap().join("bootstrap").is_file());
}

#[test]
fn a_directory_of_an_earlier_boot_is_not_trusted_but_made_again() {
    let world = World::new();
    let digest = world.store.add_zip(&zip_of([("bootstrap", "whole")])).unwrap();
    let file = world.store.unpacked(digest).unwrap().join("bootstrap");
    // As after a power failure: the file has its name and not its content.
    File::create(&file).unwrap();
    fs::write(world.root().join("boot"), "another boot").unwrap();
    let store = ImageStore::open(&world.root()).unwrap();
    assert!(!file.exists());
    assert_eq!(fs::read(store.unpacked(digest).unwrap().join("bootstrap")).unwrap(), b"whole");
}

#[test]
fn a_missing_directory_is_made_once_by_however_many_ask() {
    let world = World::new();
    let digest = world.store.add_zip(&zip_of((0..200).map(|number| (format!("f{number}"), "x")))).unwrap();
    let path = world.store.unpacked(digest).unwrap();
    let before = listing(&path);
    fs::remove_dir_all(&path).unwrap();
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..8).map(|_| scope.spawn(|| world.store.unpacked(digest).unwrap())).collect();
        for asker in askers {
            assert_eq!(listing(&asker.join().unwrap()), before);
        }
    });
    assert_eq!(fs::read_dir(world.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn the_same_archive_can_be_added_by_many_at_once() {
    let world = World::new();
    let archive = zip_of((0..50).map(|number| (format!("f{number}"), "x")));
    std::thread::scope(|scope| {
        let adders: Vec<_> = (0..8).map(|_| scope.spawn(|| world.store.add_zip(&archive).unwrap())).collect();
        let digests: Vec<_> = adders.into_iter().map(|adder| adder.join().unwrap()).collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    });
    assert_eq!(fs::read_dir(world.root().join("unpacked")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(world.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_damaged_archive_is_named_and_heals_when_it_is_added_again() {
    let world = World::new();
    let archive = zip_of([("bootstrap", "x")]);
    let digest = world.store.add_zip(&archive).unwrap();
    fs::remove_dir_all(world.store.unpacked(digest).unwrap()).unwrap();
    let mut damaged = archive.clone();
    damaged[20] ^= 1;
    fs::write(world.store.archive_path(digest), damaged).unwrap();
    let error = world.store.unpacked(digest).unwrap_err();
    assert!(error.to_string().contains(&digest.to_string()), "{error}");
    assert!(error.source().unwrap().to_string().contains("damaged"));
    assert_eq!(world.store.add_zip(&archive).unwrap(), digest);
    fs::remove_dir_all(world.store.unpacked(digest).unwrap()).unwrap();
    world.store.unpacked(digest).unwrap();
}

#[test]
fn an_archive_that_is_not_here_is_an_error() {
    let error = World::new().store.unpacked(CodeDigest([7; 32])).unwrap_err();
    assert!(
        matches!(error, ArchiveError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );
}

#[test]
fn only_what_is_unused_and_old_is_collected() {
    let world = World::new();
    let add = |content: &str| world.store.add_zip(&zip_of([("bootstrap", content)])).unwrap();
    let (used, old, young, archive_only) = (add("used"), add("old"), add("young"), add("archive only"));
    fs::remove_dir_all(world.store.unpacked(archive_only).unwrap()).unwrap();
    let age = |digest| {
        for path in [world.store.archive_path(digest), world.root().join("unpacked").join(digest.to_string())]
        {
            if let Ok(file) = File::open(path) {
                file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
            }
        }
    };
    [used, old, archive_only].into_iter().for_each(age);
    fs::write(world.root().join("archives/not-ours"), "x").unwrap();
    assert_eq!(world.store.collect(&[used], HOUR).unwrap(), 2);
    assert!(!world.store.archive_path(old).exists() && !world.store.archive_path(archive_only).exists());
    assert!(world.store.unpacked(old).is_err());
    assert!(world.store.unpacked(used).is_ok() && world.store.unpacked(young).is_ok());
    assert!(world.root().join("archives/not-ours").exists());
    assert_eq!(world.store.collect(&[used], Duration::ZERO).unwrap(), 1);
    assert_eq!(fs::read_dir(world.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn adding_an_old_archive_again_makes_it_young() {
    let world = World::new();
    let archive = zip_of([("bootstrap", "x")]);
    let digest = world.store.add_zip(&archive).unwrap();
    File::open(world.store.archive_path(digest)).unwrap().set_modified(SystemTime::now() - 2 * HOUR).unwrap();
    world.store.add_zip(&archive).unwrap();
    assert_eq!(world.store.collect(&[], HOUR).unwrap(), 0);
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs -o size=3m none \"$1\" && exec \"$0\" --exact kept::on_a_disk_of_three_megabytes --ignored";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .args([&test, folder.path()])
        .env("HEARTH_TEST_SMALL_DISK", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if said.is_empty() {
        println!("skipped: no small disk here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by a_full_disk_is_said_and_leaves_nothing, on a disk of its own"]
fn on_a_disk_of_three_megabytes() {
    let Some(disk) = std::env::var_os("HEARTH_TEST_SMALL_DISK") else { return };
    let store = ImageStore::open(disk.as_ref()).unwrap();
    let before = listing(disk.as_ref());
    for content in [vec![0; 8 << 20], random_bytes(2 << 20)] {
        assert!(matches!(store.add_zip(&zip_of([("big", content)])), Err(ArchiveError::DiskFull)));
        assert_eq!(listing(disk.as_ref()), before);
    }
    let digest = store.add_zip(&zip_of([("small", "x")])).unwrap();
    assert!(store.unpacked(digest).unwrap().join("small").is_file());
}

/// Bytes that do not compress.
fn random_bytes(count: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}
