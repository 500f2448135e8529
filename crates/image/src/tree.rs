//! Writes a tree of files below one directory and nowhere else.
//!
//! Every path is resolved by the kernel, beneath the root and without following a symbolic link, so no check of
//! strings stands between an archive and the rest of the disk.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::ArchiveError;
use crate::name::split;

/// The most files, directories and links in one tree.
pub(crate) const ENTRIES: u64 = 100_000;
/// The most directories among them: making one costs ten times what a file costs.
const DIRECTORIES: u64 = 20_000;
/// The kernel gives up on a path when directories are moved meanwhile, anywhere; then it is asked again.
const RESOLUTIONS: usize = 1_000;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
const PRIVATE: Mode = Mode::RWXU;
/// For directories and executables: any uid that an instance has can read them.
const EXECUTABLE: Mode = Mode::from_raw_mode(0o755);
const PLAIN: Mode = Mode::from_raw_mode(0o644);

/// A tree that is being written.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    /// The directory that was written to last: archives list neighbours together.
    current: Option<(Vec<u8>, OwnedFd)>,
    entries: u64,
    directories: u64,
}

impl Tree {
    /// Begins below `root`, an empty directory.
    pub(crate) fn begin(root: &Path) -> Result<Self, ArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(root, flags, Mode::empty())
            .and_then(|root| rustix::fs::fchmod(&root, EXECUTABLE).map(|()| root))
            .map(|root| Self { root, current: None, entries: 0, directories: 0 })
            .map_err(|error| ArchiveError::io(format!("open {}", root.display()), error))
    }

    /// Makes a directory, and those above it, where there is none.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        self.enter(path)
    }

    /// Makes an empty file; one of the same name gives way to it, as with unzip.
    pub(crate) fn file(&mut self, path: &[u8]) -> Result<File, ArchiveError> {
        let (parent, name) = split(path);
        self.enter(parent)?;
        self.count()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let make = |tree: &Self| rustix::fs::openat2(tree.parent(), name, flags, PRIVATE, BENEATH);
        match make(self) {
            Err(Errno::EXIST) => rustix::fs::unlinkat(self.parent(), name, AtFlags::empty())
                .and_then(|()| make(self))
                .map_err(|error| refusal(path, error)),
            made => made.map_err(|error| refusal(path, error)),
        }
        .map(File::from)
    }

    /// Ends a file: sets its mode and the time of its last change, seconds since the Unix epoch.
    pub(crate) fn finish(
        path: &[u8],
        file: &File,
        executable: bool,
        modified: i64,
    ) -> Result<(), ArchiveError> {
        let time = Timespec { tv_sec: modified, tv_nsec: 0 };
        rustix::fs::fchmod(file, if executable { EXECUTABLE } else { PLAIN })
            .and_then(|()| {
                rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })
            })
            .map_err(|error| refusal(path, error))
    }

    /// Makes a symbolic link. To be called when all files are there, so that none is written through it.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        let (parent, name) = split(path);
        self.enter(parent)?;
        self.count()?;
        rustix::fs::symlinkat(target, self.parent(), name).map_err(|error| refusal(path, error))
    }

    /// Checks that a link leads to a place in the tree, or to nothing. To be called when all links are there.
    pub(crate) fn check_link(&self, path: &[u8]) -> Result<(), ArchiveError> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        for _ in 0..RESOLUTIONS {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::BENEATH) {
                Err(Errno::AGAIN) => {}
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                Err(Errno::XDEV) => {
                    return Err(ArchiveError::entry(path, "it is a symbolic link that leaves the archive"));
                }
                Err(Errno::LOOP | Errno::NAMETOOLONG) => {
                    return Err(ArchiveError::entry(path, "it is a symbolic link that leads nowhere"));
                }
                Err(error) => return Err(refusal(path, error)),
            }
        }
        Err(refusal(path, Errno::AGAIN))
    }

    /// Makes `path` the directory that is written to.
    fn enter(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        let same = self.current.as_ref().map_or(path.is_empty(), |(current, _)| current == path);
        if same {
            return Ok(());
        }
        if path.is_empty() {
            self.current = None;
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), BENEATH) {
            Err(Errno::NOENT) => {
                let (parent, name) = split(path);
                self.enter(parent)?;
                self.count()?;
                self.directories += 1;
                if self.directories > DIRECTORIES {
                    return Err(ArchiveError::TooLarge { limit: DIRECTORIES, what: "directories" });
                }
                rustix::fs::mkdirat(self.parent(), name, PRIVATE)
                    .and_then(|()| rustix::fs::openat2(self.parent(), name, flags, Mode::empty(), BENEATH))
                    .and_then(|made| rustix::fs::fchmod(&made, EXECUTABLE).map(|()| made))
            }
            opened => opened,
        };
        let opened = opened.map_err(|error| refusal(path, error))?;
        self.current = Some((path.to_vec(), opened));
        Ok(())
    }

    fn parent(&self) -> impl AsFd {
        self.current.as_ref().map_or_else(|| self.root.as_fd(), |(_, current)| current.as_fd())
    }

    fn count(&mut self) -> Result<(), ArchiveError> {
        self.entries += 1;
        if self.entries > ENTRIES {
            return Err(ArchiveError::TooLarge { limit: ENTRIES, what: "files" });
        }
        Ok(())
    }
}

/// Whose fault it is that the kernel refused `path`.
fn refusal(path: &[u8], error: Errno) -> ArchiveError {
    match error {
        Errno::NOTDIR | Errno::ISDIR | Errno::EXIST | Errno::LOOP => {
            ArchiveError::entry(path, "another entry of the archive is of another kind at the same place")
        }
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => {
            ArchiveError::entry(path, "the file system cannot hold that name")
        }
        error => {
            let name = String::from_utf8_lossy(path);
            ArchiveError::io(format!("unpack {name:?}"), error)
        }
    }
}
