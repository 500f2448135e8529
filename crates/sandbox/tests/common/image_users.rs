//! Who runs an image's programs, whose its files are, and how little its root user can do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use hearth_sandbox::{Exit, ImageRoot, ImageUser, Root, Sandbox, SandboxSpec};
use libtest_mimic::Trial;

use crate::image::{BUSYBOX, layers};
use crate::world::{World, shell, spec, trial};

/// Of nobody in particular, above the ids that every sandbox has.
const GREAT: u32 = 65_532;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "an_images_root_user_owns_its_files_gives_them_away_and_becomes_other_users",
            |world| async move {
                let layers = owned(&world);
                let sandbox = run_as(&world, &layers, (0, 0)).await;
                let script = "id -u; id -G; stat -c %u:%g / /etc /private /private/secret; cat /private/secret; \
                echo more >> /private/secret; chown 33:33 /private/secret && chmod 600 /private/secret && \
                stat -c %u /private/secret && start-stop-daemon -S -c www -x /bin/cat -- /private/secret; \
                start-stop-daemon -S -c www -x /bin/touch -- /root-only 2>&1";
                let (_, text) = shell(&*sandbox, script).await;
                let expected = format!(
                    "0\n0\n0:0\n0:0\n0:0\n{GREAT}:{GREAT}\nsecret\n33\ntouch: /root-only: Permission denied\n"
                );
                // The directory is root's alone: user 33 cannot get at its own file in it.
                assert_eq!(
                    text.replace("cat: can't open '/private/secret': Permission denied\n", ""),
                    expected
                );
                let there = fs::metadata(layers[0].join("private/secret")).unwrap();
                assert_eq!((there.uid(), there.len()), (GREAT, 7), "the layer is as it was");
                world
            },
        ),
        trial("an_image_runs_as_the_user_that_it_names_without_any_power", |world| async move {
            let layers = owned(&world);
            let sandbox = run_as(&world, &layers, (GREAT, 33)).await;
            let script = "id -u; id -g; id -G; grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status; cat /own; \
                touch /private/x 2>&1; echo out > /dev/stdout";
            let (_, text) = shell(&*sandbox, script).await;
            let zero = "0000000000000000";
            let expected = format!(
                "{GREAT}\n33\n33 44\nCapPrm:\t{zero}\nCapEff:\t{zero}\nCapBnd:\t{zero}\nmine\n\
                 touch: /private/x: Permission denied\nout\n"
            );
            assert_eq!(text, expected);
            world
        }),
        trial("an_images_root_user_has_no_power_over_its_sandbox_or_the_machine", |world| async move {
            let sandbox = run_as(&world, &owned(&world), (0, 0)).await;
            for (script, why) in [
                ("mount -t tmpfs x /tmp", "denied"),
                ("umount /proc", "not permitted"),
                ("mknod /disk b 7 0", "not permitted"),
                ("chroot / true", "not permitted"),
                ("hostname other", "not permitted"),
                ("ip link add x type dummy", "not permitted"),
                ("echo 1 > /proc/sys/kernel/panic", "Read-only"),
                ("cat /proc/1/environ || echo refused >&2; false", "refused"),
                ("ls /proc/1/root || echo refused >&2; false", "refused"),
                ("readlink /proc/1/fd/0 || echo refused >&2; false", "refused"),
            ] {
                refused(&*sandbox, script, why).await;
            }
            if !crate::OWN_KERNEL {
                refused(&*sandbox, "unshare -U true", "not permitted").await;
                refused(&*sandbox, "chown 4242 /own", "Invalid argument").await;
            }
            let (_, text) = shell(&*sandbox, "kill -9 1; sleep 0.1; grep Cap /proc/self/status").await;
            assert!(
                text.contains("CapEff:\t00000000000000fb") && text.contains("CapBnd:\t00000000000000fb"),
                "{text}"
            );
            world
        }),
        trial("set_user_id_programs_of_an_image_make_nobody_its_root_user", |world| async move {
            let layers = owned(&world);
            fs::copy(BUSYBOX, layers[1].join("bin/su")).unwrap();
            fs::set_permissions(layers[1].join("bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
            let sandbox = run_as(&world, &layers, (GREAT, 33)).await;
            let (_, text) = shell(&*sandbox, "/bin/su -c id 2>&1; id -u").await;
            assert!(text.contains("must be suid") && text.ends_with(&format!("{GREAT}\n")), "{text}");
            world
        }),
        trial("any_port_of_a_sandboxs_own_network_can_be_listened_on", |world| async move {
            let sandbox = run_as(&world, &owned(&world), (GREAT, 33)).await;
            let script = "httpd -p 127.0.0.1:80 -h /data; \
                until wget -q -O - http://127.0.0.1/both; do sleep 0.05; done 2>/dev/null; kill -9 -1";
            let (_, text) = shell(&*sandbox, script).await;
            assert_eq!(text, "upper\n");
            world
        }),
    ]
}

/// Runs a script that is to fail with a text that says why.
async fn refused(sandbox: &dyn Sandbox, script: &str, why: &str) {
    let (exit, text) = shell(sandbox, &format!("( {script} ) 2>&1")).await;
    assert!(exit != Exit::Status(0) && text.contains(why), "{script}: {exit:?} {text}");
}

/// The layers with some things that are not everybody's.
fn owned(world: &World) -> [PathBuf; 2] {
    let layers = layers(world.directory.path());
    for name in [
        "chmod",
        "chown",
        "chroot",
        "hostname",
        "ip",
        "kill",
        "mknod",
        "mount",
        "httpd",
        "wget",
        "sleep",
        "start-stop-daemon",
        "stat",
        "umount",
        "unshare",
        "true",
    ] {
        std::os::unix::fs::symlink("busybox", layers[1].join("bin").join(name)).unwrap();
    }
    fs::create_dir(layers[0].join("etc")).unwrap();
    fs::write(layers[0].join("etc/passwd"), "root:x:0:0::/:\nwww:x:33:33::/:\n").unwrap();
    let private = layers[0].join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    for (path, text) in [("private/secret", "secret\n"), ("own", "mine\n")] {
        let path = layers[0].join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(GREAT), Some(GREAT)).unwrap();
    }
    layers
}

async fn run_as(world: &World, layers: &[PathBuf], (uid, gid): (u32, u32)) -> Box<dyn Sandbox> {
    let groups = if uid == 0 { Vec::new() } else { vec![44] };
    let root = Root::Image(ImageRoot {
        layers: layers.to_vec(),
        writable_bytes: Some(16 << 20),
        user: Some(ImageUser { uid, gid, groups }),
        more_ids: vec![GREAT],
    });
    world.driver.create(SandboxSpec { root, ..spec() }).await.unwrap()
}
