//! The jail of one VMM as a folder of the machine's: what is put into it, and what is taken out.
//!
//! ```text
//! <cells>/firecracker/<id>/root/     made here, entered by the jailer, the VMM's own
//!   files/     the machine's own: the VMM reads and writes what is there, and can make and rename nothing in it
//!   run/       the VMM's own: its sockets
//!   dev/       made by the jailer
//! ```
//!
//! Files of the machine appear in it by mounts that only the VMM's namespace has. The VMM may do in its folders what it
//! likes, so nothing in them is reached by a path: both folders are held open from before it starts, links are not followed,
//! and what is connected to is looked at first.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fchown, fstat, open, openat, renameat, unlinkat,
};
use rustix::mount::{OpenTreeFlags, open_tree};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

use super::config::{DISKS, FILES, RUN};

/// How often a socket that is not there yet is looked for.
const PAUSE: Duration = Duration::from_millis(1);

/// A jail that is being made or used.
#[derive(Debug)]
pub(super) struct Cell {
    directory: PathBuf,
    user: u32,
    files: OwnedFd,
    run: OwnedFd,
    mounts: Vec<(OwnedFd, CString)>,
}

// === impl Cell ===

impl Cell {
    /// Makes one. The jailer finds it by the name of `program` and `id`.
    pub(super) fn make(cells: &Path, program: &Path, id: &str, user: u32) -> io::Result<Self> {
        let name = program.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = cells.join(name).join(id);
        let root = directory.join("root");
        let made = (|| {
            fs::create_dir_all(root.join(FILES))?;
            fs::create_dir(root.join(RUN))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let hold = |name: &str| open(root.join(name), flags, Mode::empty());
            let (files, run) = (hold(FILES)?, hold(RUN)?);
            Ok(Self { directory: directory.clone(), user, files, run, mounts: Vec::new() })
        })();
        made.inspect_err(|_| {
            let _ = fs::remove_dir_all(&directory);
        })
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has a file of the machine's appear in it: one that has a name, or the kernel does not do it.
    pub(super) fn add(&mut self, name: &str, file: &File) -> io::Result<()> {
        drop(self.create(name, Mode::from(0o600))?);
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(file.as_fd(), c"", flags)?;
        let place = self.directory.join("root").join(FILES).join(name);
        let place = CString::new(place.as_os_str().as_bytes()).map_err(io::Error::other)?;
        self.mounts.push((tree, place));
        Ok(())
    }

    /// The same for the disks, the last of which it writes.
    pub(super) fn add_disks(&mut self, disks: [&File; 3]) -> io::Result<()> {
        fchown(disks[2], Some(Uid::from_raw(self.user)), Some(Gid::from_raw(self.user)))?;
        DISKS.iter().zip(disks).try_for_each(|(name, disk)| self.add(name, disk))
    }

    /// A file of its own with these bytes in it, that it cannot write.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.create(name, Mode::from(0o644))?.write_all_at(bytes, 0)
    }

    /// An empty file of its own that it can write.
    pub(super) fn writable(&self, name: &str) -> io::Result<File> {
        let file = self.create(name, Mode::from(0o600))?;
        fchown(&file, Some(Uid::from_raw(self.user)), Some(Gid::from_raw(self.user)))?;
        Ok(file)
    }

    fn create(&self, name: &str, mode: Mode) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&self.files, name, flags, mode)?);
        rustix::fs::fchmod(&file, mode)?;
        Ok(file)
    }

    /// A socket of the worker's among its files, that it can connect to.
    pub(super) fn listen(&self, name: &str) -> io::Result<UnixListener> {
        self.listen_in(&self.files, name)
    }

    /// The same among its own sockets.
    pub(super) fn listen_beside(&self, name: &str) -> io::Result<UnixListener> {
        // Of an earlier call, where there was one.
        let _ = unlinkat(&self.run, name, AtFlags::empty());
        self.listen_in(&self.run, name)
    }

    fn listen_in(&self, folder: &OwnedFd, name: &str) -> io::Result<UnixListener> {
        // There is no way to bind below an open folder, but by its name among this process's files.
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?;
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.user));
        chownat(folder, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(listener)
    }

    /// Takes the name of a file away; who has it open has it still.
    pub(super) fn forget(&self, name: &str) {
        if let Err(error) = unlinkat(&self.files, name, AtFlags::empty()) {
            tracing::debug!(%error, name, "a file of a VMM was not there to be removed");
        }
    }

    /// Has a file be at a path of the machine's instead.
    pub(super) fn move_out(&self, name: &str, path: &Path) -> io::Result<()> {
        renameat(&self.files, name, CWD, path).map_err(Into::into)
    }

    /// What is to be mounted in it; once.
    pub(super) fn take_mounts(&mut self) -> Vec<(OwnedFd, CString)> {
        std::mem::take(&mut self.mounts)
    }

    /// Connects to a socket of the VMM's as soon as it is there, and it listens.
    pub(super) async fn connect(&self, name: &str, until: Instant) -> io::Result<UnixStream> {
        loop {
            match self.connect_now(name).await {
                Err(error) if is_not_yet(&error) && Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                connected => return connected,
            }
        }
    }

    async fn connect_now(&self, name: &str) -> io::Result<UnixStream> {
        let socket =
            openat(&self.run, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no socket"));
        }
        UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn a_link_in_place_of_a_socket_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let cell = Cell::make(directory.path(), Path::new("/bin/vmm"), "one", own()).unwrap();
        let run = cell.directory().join("root/run");
        let other = directory.path().join("others");
        let _listener = UnixListener::bind(&other).unwrap();
        symlink(&other, run.join("api")).unwrap();
        assert!(cell.connect("api", soon()).await.is_err());
        fs::remove_file(run.join("api")).unwrap();
        fs::write(run.join("api"), "").unwrap();
        assert_eq!(cell.connect("api", soon()).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::remove_file(run.join("api")).unwrap();
        let _its = UnixListener::bind(run.join("api")).unwrap();
        cell.connect("api", soon()).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_put_in_place_of_its_folders_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let cell = Cell::make(directory.path(), Path::new("/bin/vmm"), "one", own()).unwrap();
        let root = cell.directory().join("root");
        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        for name in [FILES, RUN] {
            fs::rename(root.join(name), root.join(format!("{name}-gone"))).unwrap();
            symlink(&elsewhere, root.join(name)).unwrap();
        }
        drop(cell.writable("saved").unwrap());
        assert!(root.join("files-gone/saved").exists() && !elsewhere.join("saved").exists());
        cell.forget("saved");
        assert!(!root.join("files-gone/saved").exists());
        assert!(cell.connect("api", soon()).await.is_err());
    }
}
