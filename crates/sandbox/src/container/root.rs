//! The skeleton that a sandbox's root is made from: mount points, and an `/etc` that is nobody's.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::init::{FUNCTION_GID, FUNCTION_UID};

/// Directories of the root, all of them mount points or empty.
const DIRECTORIES: [&str; 12] =
    ["dev", "proc", "sys", "tmp", "usr", "etc", "opt", "root", "var/task", "var/runtime", "var/lang", "run"];
/// Top-level names that are links into `/usr` on a merged system and directories on others.
const ALIASES: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

const HOSTS: &str = "127.0.0.1 localhost sandbox.localdomain sandbox\n";

/// Makes the skeleton below `directory`, anew each time, and says where it is.
pub(super) fn make(directory: &Path) -> io::Result<PathBuf> {
    let root = directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for name in DIRECTORIES {
        let path = root.join(name);
        fs::create_dir_all(&path)?;
    }
    for name in ALIASES {
        let host = Path::new("/").join(name);
        if let Ok(target) = fs::read_link(&host) {
            symlink(target, root.join(name))?;
        } else if host.is_dir() {
            fs::create_dir(root.join(name))?;
        }
    }
    etc(&root.join("etc"))?;
    open_to_all(&root)?;
    Ok(root)
}

/// Makes the layer that is over those of every image: the places of mounts, which an image need not have.
pub(super) fn make_image_points(directory: &Path) -> io::Result<PathBuf> {
    let points = directory.join("image-points");
    if points.exists() {
        fs::remove_dir_all(&points)?;
    }
    for name in ["dev", "proc", "sys", "tmp", "etc"] {
        fs::create_dir_all(points.join(name))?;
    }
    for (name, text) in [("hosts", HOSTS), ("hostname", "sandbox\n"), ("resolv.conf", "")] {
        fs::write(points.join("etc").join(name), text)?;
    }
    open_to_all(&points)?;
    Ok(points)
}

fn etc(etc: &Path) -> io::Result<()> {
    let user = format!(
        "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:{FUNCTION_UID}:{FUNCTION_GID}::/home/sbx_user1051:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
    );
    let files = [
        ("passwd", user),
        ("group", format!("root:x:0:\nsbx_user1051:x:{FUNCTION_GID}:\nnogroup:x:65534:\n")),
        ("hosts", HOSTS.to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ("resolv.conf", String::new()),
        ("host.conf", "multi on\n".to_owned()),
    ];
    for (name, text) in files {
        fs::write(etc.join(name), text)?;
    }
    // Places for what is bound from the host, of the host's kind.
    for name in super::setup::HOST_ETC {
        let host = Path::new("/etc").join(name);
        if host.is_dir() {
            fs::create_dir_all(etc.join(name))?;
        } else if host.exists() {
            let place = etc.join(name);
            fs::create_dir_all(place.parent().unwrap_or(etc))?;
            fs::write(place, "")?;
        }
    }
    Ok(())
}

/// The sandbox's users are not the skeleton's owner.
fn open_to_all(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_to_all(&entry.path())?;
        } else if kind.is_file() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o644))?;
        }
    }
    fs::set_permissions(path, Permissions::from_mode(0o755))
}
