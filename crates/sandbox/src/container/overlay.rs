//! An image as the root: its layers, one over the other, and over them what may be written.
//!
//! The layers are shared by every sandbox that has the image, and nothing is copied to make one. The uppermost layer is always
//! the driver's own: mount points that an image need not have, and an `/etc` that names this sandbox.
//!
//! ```text
//! writable disk (or none) | mount points | layers of the image, the uppermost first
//! ```

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};

use super::protocol::{ImageLayers, Upper};
use super::setup::{Failed, step};

/// What may be written is below these on its disk: overlayfs wants two directories of one file system.
const UPPER: &str = "upper";
const WORK: &str = "work";

/// Mounts the image at `root`, an existing directory, with `disk` for what is written.
pub(super) fn mount_image(root: &str, image: &ImageLayers, disk: Option<OwnedFd>) -> Result<(), Failed> {
    let upper = upper(root, image.upper, disk)?;
    match overlay(root, image, upper) {
        // Linux before 6.5 knows layers in one text only.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            step("mount the image's layers", old_overlay(root, image, upper))
        }
        mounted => step("mount the image's layers", mounted),
    }
}

/// Makes the directories for what is written, on a disk that is mounted under the root itself, where the overlay hides it.
fn upper(root: &str, upper: Upper, disk: Option<OwnedFd>) -> Result<bool, Failed> {
    match (upper, disk) {
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
    Ok(true)
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
