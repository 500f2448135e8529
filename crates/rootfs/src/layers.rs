//! An image's layers, one over the other, as one tree: hard links where that can be, with owners and modes as they are.
//!
//! Layers are in overlayfs' own form: a character device 0/0 takes a name away, an attribute says that a directory hides all below.
//! They are read only: what the merged tree has of its own is unlinked before it is written.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, getxattr, linkat, utimensat};

use crate::RootfsError;
use crate::error::file_error;
use crate::tree::{Bounds, walk};

/// Where overlayfs keeps that a directory hides what is below: as root, and as anybody else.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];
/// Places of mounts, which an image need not have.
const PLACES: [&str; 5] = ["dev", "proc", "sys", "tmp", "etc"];
/// What is the instance's own in `/etc`.
const NAMES: [(&str, &str); 3] = [
    ("hosts", "127.0.0.1 localhost sandbox.localdomain sandbox\n"),
    ("hostname", "sandbox\n"),
    ("resolv.conf", ""),
];

/// Makes `to`, an empty directory, what `layers` are together, the uppermost first, with the places that a machine mounts over.
pub(crate) fn merge(layers: &[PathBuf], to: &Path) -> Result<(), RootfsError> {
    let mut bounds = Bounds::default();
    for layer in layers.iter().rev() {
        lay_over(layer, to, &mut bounds)?;
    }
    for name in PLACES {
        let place = to.join(name);
        if !fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_dir()) {
            clear(&place)?;
            fs::create_dir(&place).map_err(file_error("make", &place))?;
        }
    }
    for (name, text) in NAMES {
        let place = to.join("etc").join(name);
        clear(&place)?;
        fs::write(&place, text).map_err(file_error("write", &place))?;
        let everybody = PermissionsExt::from_mode(0o644);
        fs::set_permissions(&place, everybody).map_err(file_error("set the mode of", &place))?;
    }
    Ok(())
}

fn lay_over(layer: &Path, to: &Path, bounds: &mut Bounds) -> Result<(), RootfsError> {
    let mut each = |path: &Path, meta: &Metadata| {
        bounds.count(layer, meta)?;
        let rest = path.strip_prefix(layer).unwrap_or(path);
        if meta.is_dir() {
            return directory(path, meta, &to.join(rest), rest.as_os_str().is_empty());
        }
        let place = to.join(rest);
        clear(&place)?;
        if meta.file_type().is_char_device() {
            // Unpacking lets no other through.
            return Ok(());
        }
        place_one(path, meta, &place).map_err(file_error("copy", path))
    };
    walk(layer, &mut each)?;
    // Only now, as each thing made in a directory changes its time.
    let mut each = |path: &Path, meta: &Metadata| {
        let place = to.join(path.strip_prefix(layer).unwrap_or(path));
        if !meta.is_dir() {
            return Ok(());
        }
        let time = Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() };
        let times = Timestamps { last_access: time, last_modification: time };
        let set = utimensat(CWD, &place, &times, AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(|error| file_error("set the time of", &place)(error.into()))
    };
    walk(layer, &mut each)
}

/// A directory joins the one below, unless it hides that or takes the place of something else.
fn directory(path: &Path, meta: &Metadata, place: &Path, is_root: bool) -> Result<(), RootfsError> {
    let joins = fs::symlink_metadata(place).is_ok_and(|below| below.is_dir());
    if joins && !is_root && is_opaque(path) {
        clear(place)?;
    }
    if !place.is_dir() || !joins {
        clear(place)?;
        fs::create_dir(place).map_err(file_error("make", place))?;
    }
    let mode = PermissionsExt::from_mode(meta.mode() & 0o7777);
    own(place, meta)
        .and_then(|()| fs::set_permissions(place, mode))
        .map_err(file_error("set the mode of", place))
}

fn place_one(path: &Path, meta: &Metadata, place: &Path) -> io::Result<()> {
    // Of a link itself, not of what it points to.
    if linkat(CWD, path, CWD, place, AtFlags::empty()).is_ok() {
        return Ok(());
    }
    if meta.is_symlink() {
        symlink(fs::read_link(path)?, place)?;
        return lchown(place, Some(meta.uid()), Some(meta.gid())).or_else(unless_not_root);
    }
    if meta.file_type().is_fifo() {
        rustix::fs::mknodat(CWD, place, rustix::fs::FileType::Fifo, meta.mode().into(), 0)?;
    } else {
        fs::copy(path, place)?;
        fs::File::options().write(true).open(place)?.set_modified(meta.modified()?)?;
    }
    own(place, meta)?;
    fs::set_permissions(place, PermissionsExt::from_mode(meta.mode() & 0o7777))
}

fn own(place: &Path, meta: &Metadata) -> io::Result<()> {
    chown(place, Some(meta.uid()), Some(meta.gid())).or_else(unless_not_root)
}

/// Who is not root has everything as its own, in the layers too.
fn unless_not_root(error: io::Error) -> io::Result<()> {
    if rustix::process::geteuid().is_root() { Err(error) } else { Ok(()) }
}

fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 1];
    OPAQUE.iter().any(|name| {
        getxattr(directory, *name, &mut value[..]).is_ok_and(|length| length == 1) && value == *b"y"
    })
}

/// Removes whatever has a name.
fn clear(place: &Path) -> Result<(), RootfsError> {
    let removed = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(place),
        Ok(_) => fs::remove_file(place),
    };
    removed.map_err(file_error("remove", place))
}
