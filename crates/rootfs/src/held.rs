//! Files on disk that several processes use in place, and that none may take away from another.
//!
//! A file that has lost its name can still be read, but the kernel mounts it nowhere any more: Firecracker's machines would not start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Opens a file so that [`remove_unless_held`] leaves it alone, in this process and in others, until the last copy of what this gives is
/// closed. The kernel sees to that however a process ends (flock(2)).
///
/// # Errors
/// `NotFound` when it is not there, or was taken away at that moment.
pub fn open_held(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    file.lock_shared()?;
    // It may have gone between the two steps.
    if file.metadata()?.nlink() == 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(file)
}

/// Removes a folder, unless that file of it is held by somebody: whether it is gone.
pub fn remove_unless_held(directory: &Path, file: &str) -> bool {
    // What has no such file is nobody's.
    let lock = File::open(directory.join(file)).ok();
    if lock.as_ref().is_some_and(|file| file.try_lock().is_err()) {
        return false;
    }
    fs::remove_dir_all(directory).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_stays_until_the_last_copy_is_closed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("image");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("data"), "x").unwrap();
        let held = open_held(&directory.join("data")).unwrap();
        let copy = held.try_clone().unwrap();
        let other = open_held(&directory.join("data")).unwrap();
        drop((held, other));
        assert!(!remove_unless_held(&directory, "data"));
        drop(copy);
        assert!(remove_unless_held(&directory, "data") && !directory.exists());
        assert_eq!(open_held(&directory.join("data")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
