//! What layers become.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use super::{Tar, World, gzip};

#[test]
fn what_a_layer_takes_away_becomes_what_overlayfs_has_for_that() {
    let upper = Tar::default()
        .file("gone/.wh.file", "")
        .directory("emptied/")
        .file("emptied/.wh..wh..opq", "")
        .file(".wh..wh.plnk", "")
        .file(".wh.turned", "")
        .file("turned/inside", "new")
        .file("both", "mine")
        .file(".wh.both", "")
        .end();
    let world = World::new();
    let layer = &world.unpack(&[upper])[0];
    let whiteout = fs::symlink_metadata(layer.join("gone/file")).unwrap();
    assert_eq!((whiteout.mode() & 0o170_000, whiteout.rdev()), (0o020_000, 0));
    let opaque = |path: &str| {
        let mut value = [0; 8];
        rustix::fs::getxattr(layer.join(path), c"trusted.overlay.opaque", &mut value[..])
    };
    if rustix::process::geteuid().is_root() {
        assert_eq!(opaque("emptied"), Ok(1));
        assert_eq!(opaque("turned"), Ok(1));
        assert!(opaque("gone").is_err());
    }
    assert_eq!(fs::read_to_string(layer.join("both")).unwrap(), "mine");
    let names = fs::read_dir(layer).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".wh.")));
}

#[test]
fn links_are_kept_and_followed_inside_the_layer_only() {
    let archive = Tar::default()
        .directory("usr/lib/")
        .link("lib", "usr/lib")
        .link("out", "/usr/../../../..")
        .file("lib/a", "through a link")
        .file("out/b", "stays inside")
        .hard("c", "lib/a")
        .link("etc", "/etc")
        .end();
    let world = World::new();
    let layer = &world.unpack(&[archive])[0];
    assert_eq!(fs::read_to_string(layer.join("usr/lib/a")).unwrap(), "through a link");
    assert_eq!(fs::read_to_string(layer.join("b")).unwrap(), "stays inside");
    assert_eq!(fs::metadata(layer.join("c")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(layer.join("etc")).unwrap(), std::path::Path::new("/etc"));
}

#[test]
fn what_gnu_tar_writes_comes_out_alike_in_all_its_formats() {
    let world = World::new();
    let source = world.folder.path().join("source");
    let long = "long/".repeat(30) + &"n".repeat(200);
    fs::create_dir_all(source.join(&long).parent().unwrap()).unwrap();
    fs::write(source.join(&long), "deep").unwrap();
    fs::write(source.join("sparse"), "start").unwrap();
    let sparse = fs::File::options().write(true).open(source.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 8 << 20).unwrap();
    fs::write(source.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(source.join("program"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::symlink(&long, source.join("link")).unwrap();
    for format in ["--format=gnu", "--format=posix"] {
        for version in ["", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"] {
            let mut tar = Command::new("tar");
            tar.args([format, "-S", "-c", "-C"])
                .arg(&source)
                .arg(".")
                .args((!version.is_empty()).then_some(version));
            let archive = tar.output().unwrap();
            assert!(archive.status.success(), "{}", String::from_utf8_lossy(&archive.stderr));
            let layer = &world.unpack(&[archive.stdout])[0];
            let difference = Command::new("diff").arg("-r").arg(&source).arg(layer).output().unwrap();
            assert!(difference.status.success(), "{format} {version}: {difference:?}");
            let (made, original) = (fs::metadata(layer.join("sparse")), fs::metadata(source.join("sparse")));
            assert!(
                made.unwrap().blocks() <= original.unwrap().blocks() + 16,
                "{format} {version}: no holes"
            );
            assert_eq!(fs::metadata(layer.join("program")).unwrap().mode() & 0o7777, 0o4751);
        }
    }
}

#[test]
fn plain_gzip_and_zstandard_layers_are_told_apart_by_what_they_are() {
    let world = World::new();
    let archive = |name: &str| Tar::default().file(name, "x").end();
    let zstd = |content: &[u8]| {
        ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
    };
    for (name, pack) in [("plain", <[u8]>::to_vec as fn(&[u8]) -> Vec<u8>), ("gzip", gzip), ("zstd", zstd)] {
        let image = world.image_of(&[archive(name)], pack);
        assert!(world.images.ready(image).unwrap().layers[0].join(name).exists());
    }
}

#[test]
fn a_layer_is_unpacked_once_for_all_images_that_have_it() {
    let world = World::new();
    let shared = Tar::default().file("shared", "x").end();
    let first = world.unpack(&[shared.clone(), Tar::default().file("a", "").end()]);
    let inode = fs::metadata(first[0].join("shared")).unwrap().ino();
    let second = world.unpack(&[shared.clone(), Tar::default().file("b", "").end(), shared]);
    assert_eq!(second.len(), 2, "a layer that is there twice counts once");
    assert_eq!(fs::metadata(second[1].join("shared")).unwrap().ino(), inode);
}
