//! An image as the root: its layers, one over the other, and over them what may be written.
//!
//! The layers are shared by every sandbox that has the image, and nothing is copied to make one. The uppermost layer is always
//! the driver's own: mount points that an image need not have, and an `/etc` that names this sandbox.
//!
//! ```text
//! writable disk (or none) | mount points | layers of the image, the uppermost first
//! ```
//!
//! Each layer is mounted once more for the sandbox, with the owners of its files mapped into the sandbox's range of ids (idmapped mounts,
//! Linux 5.19 for layers): what is root's in the image is the sandbox's root's, and on disk nothing changes. These mounts are made on
//! the writable disk, or on a small one of memory, under the root itself, where the overlay hides them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, open_tree,
};

use super::protocol::{ImageLayers, Upper};
use super::setup::{Failed, step};

/// What may be written is below these on its disk: overlayfs wants two directories of one file system.
const UPPER: &str = "upper";
const WORK: &str = "work";
/// What has the places of layers, where nothing can be written.
const PLACES: &CStr = c"mode=755,size=64k,nr_inodes=256";

/// Mounts the image at `root`, an existing directory, with `disk` for what is written, and `owners` to say whose its files are.
pub(super) fn mount_image(
    root: &str,
    image: &ImageLayers,
    disk: Option<OwnedFd>,
    owners: Option<OwnedFd>,
) -> Result<(), Failed> {
    let upper = upper(root, image, disk)?;
    let mapped;
    let image = match owners {
        None => image,
        Some(owners) => {
            if !upper {
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                step("make places for layers", mount("tmpfs", root, "tmpfs", flags, Some(PLACES)))?;
            }
            let layers = step("map the owners of files", map_owners(root, &image.layers, owners.as_fd()))?;
            mapped = ImageLayers { layers, ..image.clone() };
            &mapped
        }
    };
    match overlay(root, image, upper) {
        // Linux before 6.5 knows layers in one text only.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            step("mount the image's layers", old_overlay(root, image, upper))
        }
        mounted => step("mount the image's layers", mounted),
    }
}

/// Makes the directories for what is written, on a disk that is mounted under the root itself, where the overlay hides it.
fn upper(root: &str, image: &ImageLayers, disk: Option<OwnedFd>) -> Result<bool, Failed> {
    match (image.upper, disk) {
        (Upper::None, _) => return Ok(false),
        (Upper::Disk, Some(disk)) => {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            step("attach the root's disk", move_mount(&disk, "", CWD, root, flags))?;
        }
        (Upper::Disk, None) => {
            let missing = io::Error::from(io::ErrorKind::InvalidData);
            return step("attach the root's disk", Err::<bool, _>(missing));
        }
        (Upper::Memory(bytes), _) => {
            let options = CString::new(format!("mode=755,size={bytes}")).unwrap_or_default();
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            step("mount the root's memory", mount("tmpfs", root, "tmpfs", flags, Some(options.as_c_str())))?;
        }
    }
    for name in [UPPER, WORK] {
        let path = format!("{root}/{name}");
        step("make room for what is written", std::fs::create_dir(&path))?;
        let open = rustix::fs::chmod(&*path, Mode::from(0o755));
        step("make room for what is written", open)?;
    }
    if image.owned {
        // The root's own directory is that of what is written.
        let (uid, gid) = (Uid::from_raw(image.root_id), Gid::from_raw(image.root_id));
        let given = rustix::fs::chown(format!("{root}/{UPPER}"), Some(uid), Some(gid));
        step("give the root away", given)?;
    }
    Ok(true)
}

/// Mounts layers once more, with mapped owners, below `root`; where.
fn map_owners(root: &str, layers: &[String], owners: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let mut mapped = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let place = format!("{root}/{number}");
        std::fs::create_dir(&place)?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, layer.as_str(), clone)?;
        super::sys::set_owners(tree.as_fd(), owners)?;
        move_mount(&tree, "", CWD, place.as_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        mapped.push(place);
    }
    Ok(mapped)
}

fn overlay(root: &str, image: &ImageLayers, upper: bool) -> io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "image")?;
    for layer in &image.layers {
        fsconfig_set_string(&context, "lowerdir+", layer.as_str())?;
    }
    if upper {
        fsconfig_set_string(&context, "upperdir", format!("{root}/{UPPER}"))?;
        fsconfig_set_string(&context, "workdir", format!("{root}/{WORK}"))?;
    }
    if image.unprivileged {
        fsconfig_set_flag(&context, "userxattr")?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(&mounted, "", CWD, root, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

fn old_overlay(root: &str, image: &ImageLayers, upper: bool) -> io::Result<()> {
    let escaped = |path: &str| path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    // The kernel takes one page of options: names beside each other are said from where they are.
    let parent =
        image.layers.last().and_then(|layer| Path::new(layer).parent()).unwrap_or_else(|| Path::new("/"));
    std::env::set_current_dir(parent)?;
    let names = image.layers.iter().map(|layer| {
        let short = Path::new(layer).strip_prefix(parent).ok().and_then(Path::to_str);
        escaped(short.unwrap_or(layer))
    });
    let mut options = format!("lowerdir={}", names.collect::<Vec<_>>().join(":"));
    if upper {
        let root = escaped(root);
        options.push_str(&format!(",upperdir={root}/{UPPER},workdir={root}/{WORK}"));
    }
    if image.unprivileged {
        options.push_str(",userxattr");
    }
    let options = CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("image", root, "overlay", flags, Some(options.as_c_str())).map_err(Into::into)
}
