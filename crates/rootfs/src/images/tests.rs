//! Images of small directories.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn code(directory: &Path, text: &str) -> PathBuf {
    let code = directory.join("code");
    fs::create_dir_all(code.join("lib")).unwrap();
    fs::write(code.join("app.py"), text).unwrap();
    fs::write(code.join("lib/x"), vec![7; 100_000]).unwrap();
    fs::set_permissions(code.join("app.py"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("app.py", code.join("link")).unwrap();
    code
}

fn open(directory: &Path, limit: u64) -> Images {
    Images::open(directory.join("images"), limit).unwrap()
}

/// What is in an image, by the tool that checks them.
fn extracted(image: &Image, to: &Path) -> PathBuf {
    let output = std::process::Command::new("fsck.erofs")
        .arg(format!("--extract={}", to.display()))
        .arg(image.path())
        .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    to.to_owned()
}

#[test]
fn an_image_has_each_directory_where_it_is_to_be_seen() {
    let directory = tempfile::tempdir().unwrap();
    let images = open(directory.path(), u64::MAX);
    let source = code(directory.path(), "print(1)");
    let image =
        images.code(&[(source.clone(), "/var/task".to_owned()), (source, "/opt".to_owned())]).unwrap();
    let out = extracted(&image, &directory.path().join("out"));
    assert_eq!(fs::read_to_string(out.join("var/task/app.py")).unwrap(), "print(1)");
    assert_eq!(fs::read(out.join("opt/lib/x")).unwrap().len(), 100_000);
    assert_eq!(fs::read_link(out.join("opt/link")).unwrap(), Path::new("app.py"));
    let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let times = [directory.path().join("code"), out.join("opt")].map(|code| time(&code.join("app.py")));
    let age = times[0].duration_since(times[1]).unwrap_or_default();
    assert!(age < Duration::from_secs(1), "the image's file has another time");
    assert_eq!(fs::metadata(out.join("opt/app.py")).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn the_same_directory_gives_the_same_image_and_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let source = code(directory.path(), "a");
    let mounts = [(source.clone(), "/var/task".to_owned())];
    let first = open(directory.path(), u64::MAX).code(&mounts).unwrap();
    let bytes = fs::read(first.path()).unwrap();
    let made = fs::metadata(first.path()).unwrap().modified().unwrap();
    let again = open(directory.path(), u64::MAX).code(&mounts).unwrap();
    assert_eq!(again.id(), first.id());
    assert_eq!(fs::metadata(again.path()).unwrap().modified().unwrap(), made);
    fs::remove_file(again.path()).unwrap();
    let third = open(directory.path(), u64::MAX).code(&mounts).unwrap();
    assert!(fs::read(third.path()).unwrap() == bytes, "two images of one directory differ");
    // Of the same size, and as old.
    let time = fs::metadata(source.join("app.py")).unwrap().modified().unwrap();
    fs::write(source.join("app.py"), "b").unwrap();
    File::open(source.join("app.py")).unwrap().set_modified(time).unwrap();
    assert_ne!(open(directory.path(), u64::MAX).code(&mounts).unwrap().id(), first.id());
}

#[test]
fn a_damaged_image_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let mounts = [(code(directory.path(), "a"), "/var/task".to_owned())];
    let path = open(directory.path(), u64::MAX).code(&mounts).unwrap().path().to_owned();
    let whole = fs::read(&path).unwrap();
    for damage in
        [whole[..whole.len() / 2].to_vec(), Vec::new(), [&whole[..5_000], &[1], &whole[5_001..]].concat()]
    {
        fs::write(&path, damage).unwrap();
        open(directory.path(), u64::MAX).code(&mounts).unwrap();
        assert!(fs::read(&path).unwrap() == whole);
    }
}

#[test]
fn too_many_images_go_but_none_that_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let images = open(directory.path(), 300_000);
    let mut held = Vec::new();
    for number in 0..4 {
        let source = code(&directory.path().join(number.to_string()), "a");
        let image = images.code(&[(source, format!("/x{number}"))]).unwrap();
        if number == 0 {
            held.push(image);
        }
    }
    assert!(held[0].path().exists());
    let left = fs::read_dir(directory.path().join("images")).unwrap().count();
    assert!(left < 4, "{left} images");
}

#[test]
fn of_several_that_make_the_same_at_once_each_holds_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let mounts = [(code(directory.path(), "a"), "/var/task".to_owned())];
    // Each as a process of its own would, where nothing is there yet.
    let all: Vec<Image> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| open(directory.path(), 20_000_000).code(&mounts).unwrap()))
            .collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    use std::os::unix::fs::MetadataExt;
    for image in &all {
        let (held, there) = (image.file().metadata().unwrap(), fs::metadata(image.path()).unwrap());
        assert_eq!((held.ino(), held.nlink()), (there.ino(), 1));
    }
    // Nor does another one's want of room take it from them.
    let source = code(&directory.path().join("other"), "b");
    let other = open(directory.path(), 150_000).code(&[(source, "/opt".to_owned())]).unwrap();
    assert!(all[0].path().exists() && other.path().exists());
}

#[test]
fn the_rest_of_one_that_was_being_removed_is_no_hindrance() {
    let directory = tempfile::tempdir().unwrap();
    let mounts = [(code(directory.path(), "a"), "/var/task".to_owned())];
    for file in [IMAGE, ABOUT] {
        let path = open(directory.path(), u64::MAX).code(&mounts).unwrap().path().to_owned();
        fs::remove_file(path.with_file_name(file)).unwrap();
        assert!(open(directory.path(), u64::MAX).code(&mounts).unwrap().path().exists());
    }
}

#[test]
fn what_is_too_large_or_strange_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let source = code(directory.path(), "a");
    let images = open(directory.path(), 20_000);
    let mounts = [(source.clone(), "/var/task".to_owned())];
    assert!(matches!(images.code(&mounts), Err(RootfsError::TooLarge { .. })));
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    assert!(matches!(open(directory.path(), u64::MAX).code(&mounts), Err(RootfsError::Strange(_))));
    assert_eq!(fs::read_dir(directory.path().join("images")).unwrap().count(), 0);
}

#[test]
fn a_root_has_a_shell_that_runs() {
    let directory = tempfile::tempdir().unwrap();
    let image = open(directory.path(), u64::MAX).base(&[]).unwrap();
    let out = extracted(&image, &directory.path().join("out"));
    let passwd = fs::read_to_string(out.join("etc/passwd")).unwrap();
    assert!(passwd.contains("sbx_user1051:x:993:990"));
    if !rustix::process::geteuid().is_root() {
        println!("skipped: running the root's shell needs root");
        return;
    }
    let mut shell = std::process::Command::new("chroot");
    let output = shell.arg(&out).args(["/bin/sh", "-c", "echo $(expr 40 + 2)"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "42\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn of_a_prefix_with_a_whole_system_in_it_only_interpreters_are_taken() {
    assert_eq!(
        of_prefix(Path::new("/opt/python"), "/var/lang"),
        [("/opt/python".into(), "/var/lang".into())]
    );
    for (source, target) in of_prefix(Path::new("/usr"), "/var/lang") {
        assert!(target.contains("python3") || target.contains("node"), "{} at {target}", source.display());
    }
}

#[test]
fn an_images_layers_are_one_root_with_the_places_that_a_machine_mounts_over() {
    let directory = tempfile::tempdir().unwrap();
    let [upper, lower] = ["b2", "a1"].map(|name| directory.path().join(name));
    for path in ["bin", "hidden", "was-link", "etc"] {
        fs::create_dir_all(lower.join(path)).unwrap();
    }
    for (path, text) in
        [("bin/sh", "sh"), ("taken", ""), ("hidden/old", ""), ("etc/hosts", "evil"), ("both", "lower")]
    {
        fs::write(lower.join(path), text).unwrap();
    }
    fs::hard_link(lower.join("bin/sh"), lower.join("bin/ash")).unwrap();
    // Nothing of this machine's is reached by it.
    symlink(directory.path().join("outside"), lower.join("tmp")).unwrap();
    symlink(directory.path().join("outside"), lower.join("dir")).unwrap();
    fs::create_dir(directory.path().join("outside")).unwrap();
    for path in ["hidden", "dir"] {
        fs::create_dir_all(upper.join(path)).unwrap();
    }
    for (path, text) in [("hidden/new", "new"), ("dir/file", "inside"), ("both", "upper")] {
        fs::write(upper.join(path), text).unwrap();
    }
    rustix::fs::setxattr(upper.join("hidden"), "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
        .unwrap();
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("taken"), kind, rustix::fs::Mode::empty(), 0).unwrap();
    fs::set_permissions(upper.join("dir"), PermissionsExt::from_mode(0o750)).unwrap();

    let images = open(directory.path(), u64::MAX);
    let image = images.root(&[upper.clone(), lower.clone()]).unwrap();
    let out = extracted(&image, &directory.path().join("out"));
    let read = |path: &str| fs::read_to_string(out.join(path)).unwrap();
    assert_eq!(
        (read("both"), read("hidden/new"), read("dir/file")),
        ("upper".into(), "new".into(), "inside".into())
    );
    assert_eq!((read("bin/ash"), read("etc/resolv.conf")), ("sh".into(), String::new()));
    assert!(read("etc/hosts").contains("localhost"));
    assert!(!out.join("taken").exists() && !out.join("hidden/old").exists());
    assert_eq!(fs::metadata(out.join("dir")).unwrap().permissions().mode() & 0o777, 0o750);
    for place in ["dev", "proc", "sys", "tmp"] {
        assert!(fs::symlink_metadata(out.join(place)).unwrap().is_dir(), "{place}");
    }
    assert_eq!(fs::read_to_string(lower.join("etc/hosts")).unwrap(), "evil", "the layer is as it was");
    assert_eq!(fs::read_dir(directory.path().join("outside")).unwrap().count(), 0);
    // Another order is another root.
    assert_ne!(images.root(&[lower, upper]).unwrap().id(), image.id());
}
