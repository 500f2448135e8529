//! The data folder: who may use it, what is where in it, and what a crashed predecessor left of throw-away ones.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Begins the names of throw-away data folders.
const THROW_AWAY_PREFIX: &str = "hearth-dev-";
const LOCK_FILE: &str = "lock";

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error(
        "data folder {path} is in use by another hearth{owner}: stop that one, or give this one its own --data"
    )]
    InUse { path: PathBuf, owner: String },
    #[error("cannot {step} {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A data folder that this process, and no other, uses until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    throw_away: bool,
    // Held for its lock, which the kernel releases however this process ends.
    _lock: File,
}

impl DataDir {
    /// Takes `path`, making it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| DataDirError::Io { step: "make data folder", path: path.to_owned(), source })?;
        let path = fs::canonicalize(path).map_err(|source| DataDirError::Io {
            step: "find data folder",
            path: path.to_owned(),
            source,
        })?;
        Self::lock(path, false)
    }

    /// Makes a folder that goes away with this process, and removes those of processes that were killed.
    pub(crate) fn throw_away() -> Result<Self, DataDirError> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let mut random = [0; 8];
        let path = loop {
            fill_random(&mut random).map_err(|source| DataDirError::Io {
                step: "draw a name below",
                path: parent.clone(),
                source,
            })?;
            let path = parent.join(format!("{THROW_AWAY_PREFIX}{:016x}", u64::from_ne_bytes(random)));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(DataDirError::Io { step: "make data folder", path, source }),
            }
        };
        Self::lock(path, true)
    }

    /// A name for this folder's worker in cgroups and the like: the same for the same folder, different for others.
    pub(crate) fn worker_name(&self) -> String {
        worker_name(&self.path)
    }

    fn lock(path: PathBuf, throw_away: bool) -> Result<Self, DataDirError> {
        let file = path.join(LOCK_FILE);
        let io = |step, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { step, path, source }
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(io("open", &file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&file).unwrap_or_default();
                let owner = owner
                    .trim()
                    .parse::<u32>()
                    .map_or_else(|_| String::new(), |pid| format!(" (process {pid})"));
                return Err(DataDirError::InUse { path, owner });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock", &file)(source)),
        }
        // The number is for the message above only: the lock decides, so a failed write is no failure.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { path, throw_away, _lock: lock })
    }

    pub(crate) fn is_throw_away(&self) -> bool {
        self.throw_away
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Of an authority.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.path.join("acme")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("hearth.db")
    }

    pub(crate) fn seal_key(&self) -> PathBuf {
        self.path.join("seal.key")
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.path.join("events.db")
    }

    pub(crate) fn code(&self) -> PathBuf {
        self.path.join("code")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(crate) fn sandbox(&self) -> PathBuf {
        self.path.join("sandbox")
    }

    /// Removes a throw-away folder; keeps any other.
    pub(crate) fn finish(self) -> Result<(), DataDirError> {
        if !self.throw_away {
            return Ok(());
        }
        fs::remove_dir_all(&self.path).map_err(|source| DataDirError::Io {
            step: "remove data folder",
            path: self.path.clone(),
            source,
        })
    }
}

/// Removes throw-away folders whose owner was killed: nobody holds their lock.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // The parent is open to all users: only a real directory of this user is one of ours.
        let ours = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == current_uid());
        if !ours || !entry.file_name().to_string_lossy().starts_with(THROW_AWAY_PREFIX) {
            continue;
        }
        // Opened without making it: a folder without a lock file is just being made by somebody else.
        let Ok(lock) = OpenOptions::new().read(true).write(true).open(path.join(LOCK_FILE)) else { continue };
        if lock.try_lock().is_ok() {
            // Its name goes with the folder: nobody else would remove what is called by it.
            hearth_sandbox::remove_remains(&worker_name(&path));
            match fs::remove_dir_all(&path) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "removed the data folder of a hearth that was killed");
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove the data folder of a killed hearth");
                }
            }
        }
    }
}

/// The name of a data folder's worker.
fn worker_name(data: &Path) -> String {
    use sha2::{Digest, Sha256};
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(data.as_os_str().as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn current_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn fill_random(buffer: &mut [u8]) -> io::Result<()> {
    use std::io::Read;
    File::open("/dev/urandom")?.read_exact(buffer)
}

/// A number that no earlier process drew.
pub(crate) fn random_u64() -> io::Result<u64> {
    let mut random = [0; 8];
    fill_random(&mut random)?;
    Ok(u64::from_ne_bytes(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_at_a_time_and_the_refusal_names_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }));
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn only_abandoned_throw_away_folders_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let abandoned = make("hearth-dev-1");
        fs::write(abandoned.join(LOCK_FILE), "1").unwrap();
        let in_use = DataDir::lock(make("hearth-dev-2"), true).unwrap();
        let being_made = make("hearth-dev-3");
        let other = make("other");
        fs::write(other.join(LOCK_FILE), "1").unwrap();
        remove_abandoned(parent.path());
        assert!(!abandoned.exists());
        assert!(in_use.path().exists() && being_made.exists() && other.exists());
        let path = in_use.path().to_owned();
        in_use.finish().unwrap();
        assert!(!path.exists());
    }
}
