//! Archives that real tools make, and what becomes of them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use super::raw::{Raw, archive, file, link};
use super::{World, listing, zip_of};

#[test]
fn the_files_of_an_archive_are_there_with_their_content_and_readable_to_all() {
    let world = World::new();
    let tool = Raw { mode: 0o104_711, ..file("bin/tool", "#!") };
    let secret = Raw { mode: 0o100_600, ..file("secret", "s") };
    let folder = Raw { mode: 0o041_700, ..file("folder/", "") };
    let empty = file("empty", "");
    let root = world.add(&archive(&[tool, secret, folder, empty]));
    let found: Vec<_> =
        listing(&root).into_iter().map(|(path, (mode, content))| (path, mode, content)).collect();
    let expected = [
        ("bin", 0o040_755, ""),
        ("bin/tool", 0o100_755, "#!"),
        ("empty", 0o100_644, ""),
        ("folder", 0o040_755, ""),
        ("secret", 0o100_644, "s"),
    ];
    assert_eq!(found, expected.map(|(path, mode, content)| (path.into(), mode, content.into())));
    assert_eq!(fs::metadata(&root).unwrap().mode(), 0o040_755);
}

#[test]
fn archives_without_unix_modes_hold_plain_files() {
    let world = World::new();
    let root = world.add(&archive(&[Raw { system: 0, mode: 0, ..file("a/b.py", "x") }]));
    assert_eq!(fs::metadata(root.join("a/b.py")).unwrap().mode(), 0o100_644);
}

#[test]
fn backslashes_of_windows_are_slashes_and_those_of_unix_are_not() {
    let world = World::new();
    let root = world.add(&archive(&[Raw { system: 0, mode: 0, ..file("a\\b.py", "x") }]));
    assert!(root.join("a/b.py").is_file());
    let root = world.add(&archive(&[file("a\\b.py", "x")]));
    assert!(root.join("a\\b.py").is_file());
}

#[test]
fn names_keep_their_bytes() {
    let world = World::new();
    let name = b"caf\xe9-\xff.py";
    let root = world.add(&archive(&[file(name, "x")]));
    assert!(root.join(std::ffi::OsStr::from_bytes(name)).is_file());
}

#[test]
fn of_files_with_the_same_name_the_last_one_stays() {
    let world = World::new();
    let root = world.add(&archive(&[file("a", "first"), file("b", "b"), file("./a", "last")]));
    assert_eq!(fs::read(root.join("a")).unwrap(), b"last");
}

#[test]
fn links_that_stay_inside_are_kept_even_when_they_dangle() {
    let world = World::new();
    let root = world.add(&archive(&[
        link("node_modules/.bin/run", "../pkg/run.js"),
        link("also", "node_modules/.bin/run"),
        link("up", "node_modules/.."),
        link("nowhere", "gone/../../../etc"),
        file("node_modules/pkg/run.js", "js"),
    ]));
    assert_eq!(fs::read(root.join("also")).unwrap(), b"js");
    assert_eq!(fs::read_link(root.join("nowhere")).unwrap().to_str(), Some("gone/../../../etc"));
}

#[test]
fn times_are_those_of_the_archive_exactly_if_it_says_them_exactly() {
    let world = World::new();
    // Extended timestamp: the modification time only.
    let exact = [&[0x55, 0x54, 5, 0, 1][..], &1_234_567_891_u32.to_le_bytes()].concat();
    let root = world.add(&archive(&[file("dos", "x"), Raw { extra: exact, ..file("exact", "x") }]));
    let time = |name: &str| fs::metadata(root.join(name)).unwrap().mtime();
    // 0x5a21 is the first of January 2025.
    assert_eq!(time("dos"), 1_735_689_600);
    assert_eq!(time("exact"), 1_234_567_891);
}

#[test]
fn an_archive_may_stand_between_other_bytes() {
    let world = World::new();
    let plain = zip_of([("bootstrap", "x")]);
    for (before, after) in [(&b"#!/bin/sh\nself-extracting\n"[..], &b""[..]), (b"", b"trailing junk")] {
        let root = world.add(&[before, &plain, after].concat());
        assert_eq!(fs::read(root.join("bootstrap")).unwrap(), b"x");
    }
}

#[test]
fn an_entry_whose_sizes_come_after_it_or_in_64_bits_is_read() {
    let world = World::new();
    let script = r"
import io, sys, zipfile
class Stream(io.RawIOBase):
    def writable(self): return True
    def write(self, data): return sys.stdout.buffer.write(data)
with zipfile.ZipFile(Stream(), 'w', zipfile.ZIP_DEFLATED) as archive:
    with archive.open('streamed', 'w') as entry: entry.write(b'abc' * 1000)
    with archive.open('large', 'w', force_zip64=True) as entry: entry.write(b'64')
";
    let output = Command::new("python3").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let root = world.add(&output.stdout);
    assert_eq!(fs::read(root.join("streamed")).unwrap(), b"abc".repeat(1_000));
    assert_eq!(fs::read(root.join("large")).unwrap(), b"64");
}

#[test]
fn what_python_packs_from_a_directory_comes_out_as_it_went_in() {
    let world = World::new();
    let source = tempfile::tempdir().unwrap();
    fs::create_dir_all(source.path().join("pkg/deep")).unwrap();
    fs::write(source.path().join("pkg/deep/mod.py"), "def f(): pass\n".repeat(5_000)).unwrap();
    fs::write(source.path().join("bootstrap"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(source.path().join("bootstrap"), fs::Permissions::from_mode(0o755)).unwrap();
    let packed = world.folder.path().join("packed");
    let status = Command::new("python3")
        .args(["-c", "import shutil, sys; shutil.make_archive(sys.argv[1], 'zip', sys.argv[2])"])
        .args([&packed, source.path()])
        .status();
    assert!(status.unwrap().success());
    let root = world.add(&fs::read(packed.with_extension("zip")).unwrap());
    assert_eq!(listing(&root), listing(source.path()));
}
