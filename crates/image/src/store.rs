//! Where archives and what was unpacked from them are kept.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_types::CodeDigest;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use crate::ArchiveError;
use crate::unpack::unpack;

/// Archives that can be unpacked again at once.
const TURNS: usize = 16;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where archives and what was unpacked from them are kept. One process at a time may have it open.
#[derive(Debug)]
pub struct ImageStore {
    archives: PathBuf,
    unpacked: PathBuf,
    merged: PathBuf,
    scratch: PathBuf,
    /// Held while something gets or loses its final name, so that what was just added is not collected.
    names: Mutex<()>,
    /// Held while an archive is unpacked again, so that a burst of starts does it once.
    turns: [Mutex<()>; TURNS],
}

impl ImageStore {
    /// Opens the store below `root`, making it if it is not there, and removes what a crash left half made.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(root: &Path) -> io::Result<Self> {
        let store = Self {
            archives: root.join("archives"),
            unpacked: root.join("unpacked"),
            merged: root.join("merged"),
            scratch: root.join("tmp"),
            names: Mutex::default(),
            turns: Default::default(),
        };
        for directory in [&store.archives, &store.unpacked, &store.merged, &store.scratch] {
            fs::create_dir_all(directory)?;
        }
        fs::remove_dir_all(&store.scratch)?;
        fs::create_dir(&store.scratch)?;
        // What was unpacked is never synced: it is whole unless the machine itself went down since.
        let (boot, this_boot) = (root.join("boot"), fs::read(BOOT_ID).unwrap_or_default());
        if this_boot.is_empty() || fs::read(&boot).unwrap_or_default() != this_boot {
            for directory in [&store.unpacked, &store.merged] {
                fs::remove_dir_all(directory)?;
                fs::create_dir(directory)?;
            }
            fs::write(&boot, this_boot)?;
        }
        sync(root)?;
        root.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync)?;
        Ok(store)
    }

    /// Checks and unpacks a zip archive and keeps both it and the directory; the archive is durable when it returns.
    ///
    /// # Errors
    /// See [`ArchiveError`]; nothing is kept then.
    pub fn add_zip(&self, archive: &[u8]) -> Result<CodeDigest, ArchiveError> {
        let digest = CodeDigest(Sha256::digest(archive).into());
        let known = self.is_unpacked(digest);
        let directory = if known {
            None
        } else {
            let directory = self.scratch_directory()?;
            unpack(Cursor::new(archive), archive.len() as u64, directory.path())?;
            Some(directory)
        };
        let written = self.scratch_file().and_then(|mut file| {
            file.write_all(archive)?;
            Ok(file)
        });
        let written = written.map_err(|error| ArchiveError::io("write the archive", error))?;
        self.keep(written, digest, directory)?;
        Ok(digest)
    }

    /// The same for an archive that is in a file of [`Self::scratch_file`] already, and so need not be in memory.
    ///
    /// # Errors
    /// See [`ArchiveError`]; nothing is kept then.
    pub fn add_zip_file(&self, archive: NamedTempFile) -> Result<CodeDigest, ArchiveError> {
        let failed = |error| ArchiveError::io("read the archive", error);
        let mut file = archive.reopen().map_err(failed)?;
        let (digest, size) = digest(&mut file).map_err(failed)?;
        let directory = if self.is_unpacked(digest) {
            None
        } else {
            let directory = self.scratch_directory()?;
            file.rewind().map_err(failed)?;
            unpack(BufReader::new(file), size, directory.path())?;
            Some(directory)
        };
        self.keep(archive, digest, directory)?;
        Ok(digest)
    }

    /// A file to receive an archive into; gone when it is dropped, or at the next start.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch_file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.scratch)
    }

    /// Makes an archive durable under its name, and publishes what was unpacked from it. Written anew even if it is known: a copy
    /// that was damaged on disk heals, and its age begins again.
    fn keep(
        &self,
        archive: NamedTempFile,
        digest: CodeDigest,
        directory: Option<TempDir>,
    ) -> Result<(), ArchiveError> {
        archive.as_file().sync_all().map_err(|error| ArchiveError::io("write the archive", error))?;
        let _names = lock(&self.names);
        archive
            .persist(self.archive_path(digest))
            .map_err(|error| error.error)
            .and_then(|_| sync(&self.archives))
            .map_err(|error| ArchiveError::io("keep the archive", error))?;
        directory.map_or(Ok(()), |directory| self.publish(directory, digest))
    }

    /// The unpacked directory of an archive; unpacked again from the kept archive if it is missing, which takes
    /// about as long as [`Self::add_zip`] did.
    ///
    /// # Errors
    /// When the archive is not here or no longer what its digest says.
    pub fn unpacked(&self, digest: CodeDigest) -> Result<PathBuf, ArchiveError> {
        if self.is_unpacked(digest) {
            return Ok(self.unpacked_path(digest));
        }
        let _turn = lock(&self.turns[usize::from(digest.0[0]) % TURNS]);
        if self.is_unpacked(digest) {
            return Ok(self.unpacked_path(digest));
        }
        let path = self.archive_path(digest);
        let failed = |error| ArchiveError::io(format!("unpack {} again", path.display()), error);
        let (archive, size) = open_verified(&path, digest).map_err(failed)?;
        let directory = self.scratch_directory()?;
        unpack(BufReader::new(archive), size, directory.path())?;
        self.publish(directory, digest)?;
        Ok(self.unpacked_path(digest))
    }

    /// The kept archive itself, for download.
    #[must_use]
    pub fn archive_path(&self, digest: CodeDigest) -> PathBuf {
        self.archives.join(format!("{digest}.zip"))
    }

    /// Removes every archive, with its directory, that is not in `in_use` and is older than `grace`; answers how many.
    ///
    /// `in_use` is to name what running instances see, too: their files would go away under them. So would merged
    /// directories, all of which go after `grace`: it is for the start of a process, when there are no instances.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn collect(&self, in_use: &[CodeDigest], grace: Duration) -> io::Result<usize> {
        let mut candidates = BTreeSet::new();
        for entry in fs::read_dir(&self.archives)?.chain(fs::read_dir(&self.unpacked)?) {
            let name = entry?.file_name();
            let name = name.to_str().map(|name| name.strip_suffix(".zip").unwrap_or(name));
            candidates.extend(name.and_then(|name| name.parse::<CodeDigest>().ok()));
        }
        for digest in in_use {
            candidates.remove(digest);
        }
        let mut removed = 0;
        for digest in candidates {
            removed += usize::from(self.remove_if_old(digest, grace)?);
        }
        self.remove_merged(grace)?;
        Ok(removed)
    }

    /// Removes what was merged more than `grace` ago: it is merged again where it is still asked for.
    fn remove_merged(&self, grace: Duration) -> io::Result<()> {
        for entry in fs::read_dir(&self.merged)? {
            let entry = entry?;
            if entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age >= grace) {
                let doomed = TempDir::new_in(&self.scratch)?;
                fs::rename(entry.path(), doomed.path().join("merged"))?;
                doomed.close()?;
            }
        }
        Ok(())
    }

    fn remove_if_old(&self, digest: CodeDigest, grace: Duration) -> io::Result<bool> {
        let (archive, directory) = (self.archive_path(digest), self.unpacked_path(digest));
        let doomed = TempDir::new_in(&self.scratch)?;
        let names = lock(&self.names);
        for path in [&archive, &directory] {
            match fs::symlink_metadata(path).and_then(|metadata| metadata.modified()) {
                // A time in the future has no age: the clock was set, and the next collection will see it.
                Ok(modified) if modified.elapsed().is_ok_and(|age| age >= grace) => {}
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for (path, to) in [(&directory, "unpacked"), (&archive, "archive")] {
            match fs::rename(path, doomed.path().join(to)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        drop(names);
        doomed.close().map(|()| true)
    }

    /// Where merged directories are.
    pub(crate) fn merged_folder(&self) -> &Path {
        &self.merged
    }

    pub(crate) fn scratch_directory(&self) -> Result<TempDir, ArchiveError> {
        TempDir::new_in(&self.scratch)
            .map_err(|error| ArchiveError::io("make a directory to unpack in", error))
    }

    /// Gives a complete directory its final name, unless somebody else just did.
    fn publish(&self, directory: TempDir, digest: CodeDigest) -> Result<(), ArchiveError> {
        match fs::rename(directory.path(), self.unpacked_path(digest)) {
            Ok(()) => {
                let _ = directory.keep();
                Ok(())
            }
            Err(_) if self.is_unpacked(digest) => Ok(()),
            Err(error) => Err(ArchiveError::io("name the unpacked directory", error)),
        }
    }

    fn unpacked_path(&self, digest: CodeDigest) -> PathBuf {
        self.unpacked.join(digest.to_string())
    }

    fn is_unpacked(&self, digest: CodeDigest) -> bool {
        self.unpacked_path(digest).is_dir()
    }
}

/// Opens an archive whose content is still what `wanted` says.
fn open_verified(path: &Path, wanted: CodeDigest) -> io::Result<(File, u64)> {
    let mut file = File::open(path)?;
    let (found, size) = digest(&mut file)?;
    if found != wanted {
        let problem = "the file is damaged, its SHA-256 is not its name: deploy the function's code again";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    file.rewind()?;
    Ok((file, size))
}

/// Digest and size of what is read to its end.
fn digest(file: &mut File) -> io::Result<(CodeDigest, u64)> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((CodeDigest(hash.finalize().into()), size)),
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
