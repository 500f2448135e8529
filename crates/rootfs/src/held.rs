//! Files on disk that several processes use in place, and that none may take away from another.
//!
//! A file that has lost its name can still be read, but the kernel mounts it nowhere any more: Firecracker's machines would not start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, open, openat, unlinkat};

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

/// Removes a folder of files, unless that one of them is held by somebody: whether it is gone.
///
/// Files are removed by their names in the folder that was looked at, not in one that has taken its place meanwhile.
pub fn remove_unless_held(directory: &Path, file: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(folder) = open(directory, flags | OFlags::DIRECTORY, Mode::empty()) else { return false };
    // What has no such file is the rest of one that was being removed.
    let lock = openat(&folder, file, flags, Mode::empty()).ok().map(File::from);
    if lock.as_ref().is_some_and(|file| file.try_lock().is_err()) {
        return false;
    }
    for entry in Dir::read_from(&folder).into_iter().flatten().flatten() {
        let _ = unlinkat(&folder, entry.file_name(), AtFlags::empty());
    }
    // It stays if it is another one by now, which is never empty.
    fs::remove_dir(directory).is_ok()
}

/// Has a finished folder appear under its name, all at once: whether it has, as there was no other one.
///
/// # Errors
/// What the kernel said otherwise.
pub fn appear(new: &Path, directory: &Path) -> io::Result<bool> {
    match fs::rename(new, directory) {
        Ok(()) => Ok(true),
        // The one or the other, as the file system likes.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

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
        // A process that another test starts has a copy of every open file, until it is another program.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !remove_unless_held(&directory, "data") {
            assert!(Instant::now() < deadline, "nobody holds it");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!directory.exists());
        assert_eq!(open_held(&directory.join("data")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
