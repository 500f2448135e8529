//! The folder of what was installed: each thing in a directory of its own that is there whole or not at all.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::catalog::AddError;

/// Makes `home/name` by `fill`ing a directory beside it, and only then giving it its name. Does nothing if it is there; of
/// two at once the second waits and finds the work done.
pub(crate) fn install(
    home: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> Result<(), AddError>,
) -> Result<PathBuf, AddError> {
    let finished = home.join(name);
    if finished.is_dir() {
        return Ok(finished);
    }
    fs::create_dir_all(home).map_err(failed("make", home))?;
    let lock_path = home.join(".lock");
    let lock = fs::File::create(&lock_path).map_err(failed("open", &lock_path))?;
    lock.lock().map_err(failed("lock", &lock_path))?;
    if finished.is_dir() {
        return Ok(finished);
    }
    // Whoever was killed in the middle left one; the lock says that nobody is in the middle now.
    let half_made = home.join(format!(".{name}-half-made"));
    if half_made.exists() {
        fs::remove_dir_all(&half_made).map_err(failed("remove", &half_made))?;
    }
    fs::create_dir(&half_made).map_err(failed("make", &half_made))?;
    let filled = fill(&half_made).and_then(|()| {
        open_to_all(&half_made).map_err(failed("open to all", &half_made))?;
        fs::rename(&half_made, &finished).map_err(failed("rename", &half_made))
    });
    if filled.is_err() {
        let _ = fs::remove_dir_all(&half_made);
    }
    filled.map(|()| finished)
}

/// The error of a step that the kernel refused.
pub(crate) fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AddError {
    let path = path.to_owned();
    move |source| AddError::Io { step, path, source }
}

/// FNV-1a over files with their names: for telling clients apart, not for trusting them.
pub(crate) fn fingerprint(files: &[(&str, &str)]) -> u64 {
    let bytes = files.iter().flat_map(|(name, text)| name.bytes().chain(text.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Instances run as users of their own, who must be able to read.
fn open_to_all(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path())?;
        }
    } else if metadata.is_file() {
        fs::set_permissions(path, Permissions::from_mode(0o644 | (metadata.permissions().mode() & 0o111)))?;
    }
    Ok(())
}
