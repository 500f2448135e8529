//! Images as roots: layers of directories, one over the other, shared by sandboxes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_sandbox::{Exit, ImageRoot, Root, Sandbox, SandboxSpec};
use libtest_mimic::Trial;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use crate::world::{World, shell, spec, trial};

/// A static shell with all the small tools in it.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an_image_is_all_that_its_sandbox_sees_and_only_tmp_can_be_written", |world| async move {
            let layers = layers(world.directory.path());
            let sandbox = image(&world, &layers, None).await;
            let (exit, text) = shell(&*sandbox, SEEN).await;
            assert_eq!((exit, text.as_str()), (Exit::Status(0), "upper\nkept\nnew\nread-only\ntmp\n"));
            world
        }),
        trial("what_one_sandbox_writes_over_an_image_is_bounded_and_seen_by_no_other", |world| async move {
            let layers = layers(world.directory.path());
            for path in ["data", "data/both"] {
                fs::set_permissions(layers[0].join(path), fs::Permissions::from_mode(0o777)).unwrap();
            }
            let first = image(&world, &layers, Some(16 << 20)).await;
            let second = image(&world, &layers, Some(16 << 20)).await;
            let write = "echo changed > /data/both && cat /data/both";
            assert_eq!(shell(&*first, write).await, (Exit::Status(0), "changed\n".to_owned()));
            let (_, text) = shell(&*second, "cat /data/both; ls /data").await;
            assert_eq!(text, "upper\nboth\nkept\nnew\n");
            let (_, text) = shell(&*first, "dd if=/dev/zero of=/data/big bs=1M count=64 2>&1").await;
            assert!(text.contains("No space left"), "{text}");
            assert_eq!(fs::read_to_string(layers[0].join("data/both")).unwrap(), "upper\n");
            assert!(!layers[0].join("data/big").exists() && !layers[1].join("data/big").exists());
            world
        }),
        trial("devices_and_set_user_id_programs_of_an_image_do_nothing", |world| async move {
            let layers = layers(world.directory.path());
            let mode = Mode::from(0o666);
            mknodat(CWD, layers[1].join("disk"), FileType::BlockDevice, mode, makedev(7, 0)).unwrap();
            fs::copy(BUSYBOX, layers[1].join("bin/su")).unwrap();
            fs::set_permissions(layers[1].join("bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
            let sandbox = image(&world, &layers, None).await;
            let (_, text) =
                shell(&*sandbox, "head -c 1 /disk 2>&1; /bin/su --help >/dev/null 2>&1; id -u").await;
            assert!(text.contains("Permission denied") && text.ends_with("993\n"), "{text}");
            world
        }),
    ]
}

const SEEN: &str = "cat /data/both; ls /data | grep -v both; [ ! -e /usr/bin/env ] || echo host; \
    touch /data/x 2>/dev/null || echo read-only; touch /tmp/x && echo tmp; [ ! -e /taken ] || echo taken; \
    ls /hidden";

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Two layers, the upper of which takes away a file and hides what a directory had.
pub(crate) fn layers(directory: &Path) -> [PathBuf; 2] {
    // As in a store of images, no name stands for two contents.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = |place| directory.join(format!("layers/{}-{number}-{place}", std::process::id()));
    let (upper, lower) = (name("upper"), name("lower"));
    for path in ["bin", "data", "hidden"] {
        fs::create_dir_all(lower.join(path)).unwrap();
    }
    fs::copy(BUSYBOX, lower.join("bin/busybox")).unwrap();
    for name in ["sh", "cat", "ls", "grep", "touch", "dd", "id", "head"] {
        symlink("busybox", lower.join("bin").join(name)).unwrap();
    }
    for (path, text) in
        [("data/both", "lower\n"), ("data/kept", "kept\n"), ("taken", ""), ("hidden/file", "")]
    {
        fs::write(lower.join(path), text).unwrap();
    }
    fs::create_dir_all(upper.join("data")).unwrap();
    fs::create_dir_all(upper.join("hidden")).unwrap();
    fs::write(upper.join("data/both"), "upper\n").unwrap();
    fs::write(upper.join("data/new"), "new\n").unwrap();
    mknodat(CWD, upper.join("taken"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    setxattr(upper.join("hidden"), c"trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    [upper, lower]
}

async fn image(world: &World, layers: &[PathBuf], writable_bytes: Option<u64>) -> Box<dyn Sandbox> {
    let root =
        Root::Image(ImageRoot { layers: layers.to_vec(), writable_bytes, user: None, more_ids: Vec::new() });
    world.driver.create(SandboxSpec { root, ..spec() }).await.unwrap()
}
