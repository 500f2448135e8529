//! Directories: what tells one from another, and copies that cost little.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use sha2::{Digest, Sha256};

use crate::RootfsError;
use crate::error::file_error;

/// What one image may hold, bytes.
pub(crate) const MAX_BYTES: u64 = 4 << 30;
/// Files in one image.
const MAX_FILES: u64 = 1_000_000;

/// What was seen of that.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    bytes: u64,
    files: u64,
}

impl Bounds {
    /// Counts something below `root`.
    pub(crate) fn count(&mut self, root: &Path, meta: &Metadata) -> Result<(), RootfsError> {
        self.files += 1;
        self.bytes += if meta.is_file() { meta.len() } else { 0 };
        if self.bytes > MAX_BYTES || self.files > MAX_FILES {
            let what = root.display().to_string();
            return Err(RootfsError::TooLarge { what, limit_mb: MAX_BYTES >> 20 });
        }
        Ok(())
    }
}

/// Calls `each` for everything below `root`, itself first, parents before children, in the order of names. Links are not
/// followed.
pub(crate) fn walk(
    root: &Path,
    each: &mut dyn FnMut(&Path, &Metadata) -> Result<(), RootfsError>,
) -> Result<(), RootfsError> {
    let meta = fs::symlink_metadata(root).map_err(file_error("read", root))?;
    each(root, &meta)?;
    if meta.is_dir() {
        let entries = fs::read_dir(root).map_err(file_error("read", root))?;
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()
            .map_err(file_error("read", root))?;
        paths.sort();
        for path in paths {
            walk(&path, each)?;
        }
    }
    Ok(())
}

/// Adds to `hash` what would make an image of `root` another one: names, kinds, modes, times, and what is in files. Nothing less
/// would do: code of two functions can have the same names, sizes and times.
pub(crate) fn identify(root: &Path, hash: &mut Sha256) -> Result<(), RootfsError> {
    let mut bounds = Bounds::default();
    let mut each = |path: &Path, meta: &Metadata| {
        bounds.count(root, meta)?;
        let name = path.strip_prefix(root).unwrap_or(path).as_os_str().as_encoded_bytes();
        hash.update(name.len().to_le_bytes());
        hash.update(name);
        hash.update(meta.mode().to_le_bytes());
        if meta.is_file() {
            let (bytes, digest) = contents(path).map_err(file_error("read", path))?;
            hash.update(bytes.to_le_bytes());
            hash.update(digest);
            hash.update(meta.mtime().to_le_bytes());
        } else if meta.is_symlink() {
            let target = fs::read_link(path).map_err(file_error("read", path))?;
            hash.update(target.as_os_str().as_encoded_bytes());
        }
        Ok(())
    };
    walk(root, &mut each)
}

/// Size and hash of a file.
pub(crate) fn contents(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((bytes, hash.finalize().into()));
        }
        hash.update(buffer.get(..count).unwrap_or_default());
        bytes += count as u64;
    }
}

/// Has `to` hold what `from` does, without copying where a file can have two names. Parents of `to` are made.
pub(crate) fn stage(from: &Path, to: &Path) -> Result<(), RootfsError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(file_error("make", parent))?;
    }
    let mut each = |path: &Path, meta: &Metadata| {
        let place = match path.strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
            Ok(rest) => to.join(rest),
            Err(_) => return Ok(()),
        };
        if meta.is_dir() {
            if !place.is_dir() {
                fs::create_dir(&place).map_err(file_error("make", &place))?;
            }
            let mode = PermissionsExt::from_mode(meta.mode() & 0o7777 | 0o700);
            fs::set_permissions(&place, mode).map_err(file_error("set the mode of", &place))
        } else if meta.is_symlink() {
            let target = fs::read_link(path).map_err(file_error("read", path))?;
            symlink(target, &place).map_err(file_error("make", &place))
        } else if meta.is_file() {
            let copied = fs::hard_link(path, &place).or_else(|_| {
                fs::copy(path, &place)?;
                File::open(&place)?.set_modified(meta.modified()?)
            });
            copied.map_err(file_error("copy", path))
        } else {
            Err(RootfsError::Strange(path.to_owned()))
        }
    };
    walk(from, &mut each)
}

/// Gives directories and links one time: theirs is when they were staged.
pub(crate) fn settle(root: &Path) -> Result<(), RootfsError> {
    let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = Timestamps { last_access: epoch, last_modification: epoch };
    let mut each = |path: &Path, meta: &Metadata| {
        if meta.is_file() {
            return Ok(());
        }
        let set = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(|error| file_error("set the time of", path)(error.into()))
    };
    walk(root, &mut each)
}
