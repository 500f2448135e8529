//! Images on disk: made once, however many ask, checked before their first use, and removed when they are too many.
//!
//! Several processes may use one folder. An image is a folder in it, with what it is checked by, that appears all at once by a rename; it
//! is never changed, never replaced by another that is as good, and never removed while somebody holds it.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::RootfsError;
use crate::base::{Base, of_prefix};
use crate::error::file_error;
use crate::held::{appear, open_held, remove_unless_held};
use crate::layers::merge;
use crate::mkfs::{self, Owners};
use crate::tree::{MAX_BYTES, contents, identify, settle, stage};

/// A change of this makes all images anew.
const FORMAT: &str = "4";
/// The files of an image.
const IMAGE: &str = "image.erofs";
const ABOUT: &str = "about.json";
/// What is being made; an image's name has no dot.
const STAGE: &str = "stage";
/// How often one is made that is gone before it is used.
const TRIES: u32 = 3;
/// What was not finished for so long never will be.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Directories whose identity is remembered: they are looked through once in a process's life.
const MAX_KNOWN: usize = 4_096;

/// A read-only file system in a file. As long as one is held it is not removed.
#[derive(Clone, Debug)]
pub struct Image {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    path: PathBuf,
    /// Of [`open_held`].
    file: File,
    bytes: u64,
}

/// What is written beside an image.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    bytes: u64,
    sha256: String,
}

/// Directories and where they are to be seen.
type Mounts = Vec<(PathBuf, String)>;

/// Makes images and keeps them.
#[derive(Debug)]
pub struct Images {
    directory: PathBuf,
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was looked through, and what it is.
    known: HashMap<(Kind, Mounts), String>,
    in_use: HashMap<String, Weak<Inner>>,
    making: HashMap<String, Arc<Mutex<()>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Base,
    Code,
    Root,
}

// === impl Image ===

impl Image {
    /// The hash of what went into it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The image, open for reading.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.inner.file
    }

    /// Its size, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.bytes
    }
}

// === impl Images ===

impl Images {
    /// Uses `directory`, for about `limit_bytes`, and removes what was never finished there.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(directory: PathBuf, limit_bytes: u64) -> Result<Self, RootfsError> {
        fs::create_dir_all(&directory).map_err(file_error("make the folder", &directory))?;
        for entry in fs::read_dir(&directory).map_err(file_error("read", &directory))?.flatten() {
            let path = entry.path();
            let age = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .map(|time| time.elapsed().unwrap_or_default());
            // A younger one may be another process's, which is at it.
            if age.is_ok_and(|age| age > ABANDONED) && path.extension().is_some_and(|end| end == STAGE) {
                let _ = fs::remove_dir_all(path);
            }
        }
        Ok(Self { directory, limit_bytes, state: Mutex::default() })
    }

    /// A guest's root with these directories of a runtime in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn base(&self, runtime: &[(PathBuf, String)]) -> Result<Image, RootfsError> {
        let runtime: Vec<_> = runtime.iter().flat_map(|(source, target)| of_prefix(source, target)).collect();
        self.get(Kind::Base, &runtime)
    }

    /// A disk with each of these directories at the path where it is to be seen.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn code(&self, mounts: &[(PathBuf, String)]) -> Result<Image, RootfsError> {
        self.get(Kind::Code, mounts)
    }

    /// A container image as a root: these layers, the uppermost first, each in a directory that is named by what is in it; and the
    /// places that a machine mounts over.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn root(&self, layers: &[PathBuf]) -> Result<Image, RootfsError> {
        let layers: Vec<_> = layers.iter().map(|layer| (layer.clone(), String::new())).collect();
        self.get(Kind::Root, &layers)
    }

    fn get(&self, kind: Kind, mounts: &[(PathBuf, String)]) -> Result<Image, RootfsError> {
        let key = (kind, mounts.to_vec());
        let known = self.lock().known.get(&key).cloned();
        let (id, base) = match known {
            Some(id) => (id, None),
            None => {
                let (id, base) = look(kind, mounts)?;
                let mut state = self.lock();
                if state.known.len() >= MAX_KNOWN {
                    state.known.clear();
                }
                state.known.insert(key, id.clone());
                (id, base)
            }
        };
        if let Some(image) = self.used(&id) {
            return Ok(image);
        }
        let making = Arc::clone(self.lock().making.entry(id.clone()).or_default());
        let turn = making.lock().unwrap_or_else(PoisonError::into_inner);
        let image = match self.used(&id) {
            Some(image) => Ok(image),
            None => self.open_or_make(&id, kind, mounts, base),
        };
        drop(turn);
        self.lock().making.remove(&id);
        image
    }

    /// One that is held by somebody.
    fn used(&self, id: &str) -> Option<Image> {
        self.lock().in_use.get(id).and_then(Weak::upgrade).map(|inner| Image { inner })
    }

    fn open_or_make(
        &self,
        id: &str,
        kind: Kind,
        mounts: &[(PathBuf, String)],
        base: Option<Base>,
    ) -> Result<Image, RootfsError> {
        let directory = self.directory.join(id);
        let (file, bytes) = self.checked_or_made((id, kind), &directory, mounts, base)?;
        // Its age is since it was used last.
        let _ = File::open(directory.join(ABOUT)).and_then(|file| file.set_modified(SystemTime::now()));
        let inner = Arc::new(Inner { id: id.to_owned(), path: directory.join(IMAGE), file, bytes });
        let mut state = self.lock();
        state.in_use.retain(|_, image| image.strong_count() > 0);
        state.in_use.insert(id.to_owned(), Arc::downgrade(&inner));
        drop(state);
        self.make_room();
        Ok(Image { inner })
    }

    /// Two processes may get into each other's way, but not time and again.
    fn checked_or_made(
        &self,
        (id, kind): (&str, Kind),
        directory: &Path,
        mounts: &[(PathBuf, String)],
        mut base: Option<Base>,
    ) -> Result<(File, u64), RootfsError> {
        let mut tries = TRIES;
        loop {
            match open_checked(directory) {
                Ok(found) => return Ok(found),
                Err(error) if tries == 0 => return Err(file_error("use", directory)(error)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // There may be the rest of one that was being removed.
                    remove_unless_held(directory, IMAGE);
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
                {
                    tracing::warn!(%error, image = id, "a disk image is made again");
                    let _ = fs::remove_dir_all(directory);
                }
                Err(error) => return Err(file_error("use", directory)(error)),
            }
            tries -= 1;
            if kind == Kind::Base && base.is_none() {
                base = Some(Base::look(mounts)?);
            }
            self.make((id, kind), directory, mounts, base.as_ref())?;
        }
    }

    fn make(
        &self,
        (id, kind): (&str, Kind),
        directory: &Path,
        mounts: &[(PathBuf, String)],
        base: Option<&Base>,
    ) -> Result<(), RootfsError> {
        // Whoever makes the same at the same time, in this process or in another one, has other names.
        let (begin, end) = (format!("{id}."), format!(".{STAGE}"));
        let staging = tempfile::Builder::new().prefix(&begin).suffix(&end).tempdir_in(&self.directory);
        let staging = staging.map_err(file_error("make a folder in", &self.directory))?;
        let new = staging.path().join("new");
        fs::create_dir(&new).map_err(file_error("make", &new))?;
        self.make_in((staging.path(), &new.join(IMAGE)), kind, mounts, base)?;
        finish(&new, directory).map_err(file_error("keep", directory))
    }

    fn make_in(
        &self,
        (staging, new): (&Path, &Path),
        kind: Kind,
        mounts: &[(PathBuf, String)],
        base: Option<&Base>,
    ) -> Result<(), RootfsError> {
        // Nobody else enters it: set-user-id programs of an image are for nobody on this machine.
        fs::set_permissions(staging, Permissions::from_mode(0o700)).map_err(file_error("make", staging))?;
        let tree = staging.join("tree");
        fs::create_dir(&tree).map_err(file_error("make", &tree))?;
        let owners = if kind == Kind::Root {
            let layers: Vec<_> = mounts.iter().map(|(layer, _)| layer.clone()).collect();
            merge(&layers, &tree)?;
            if rustix::process::geteuid().is_root() { Owners::Kept } else { Owners::Root }
        } else {
            if let Some(base) = base {
                base.stage(&tree)?;
            }
            for (source, target) in mounts {
                stage(source, &tree.join(target.trim_start_matches('/')))?;
            }
            settle(&tree)?;
            Owners::Root
        };
        mkfs::make(&tree, new, owners)?;
        let bytes = fs::metadata(new).map_err(file_error("read", new))?.len();
        if bytes > MAX_BYTES.min(self.limit_bytes) {
            let limit_mb = MAX_BYTES.min(self.limit_bytes) >> 20;
            return Err(RootfsError::TooLarge { what: "a disk image".to_owned(), limit_mb });
        }
        Ok(())
    }

    /// Removes what was used longest ago and is not held by anybody, until the rest is within the limit.
    fn make_room(&self) {
        let mut all: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter_map(|path| {
                let used = fs::metadata(path.join(ABOUT)).and_then(|about| about.modified()).ok()?;
                Some((used, fs::metadata(path.join(IMAGE)).ok()?.len(), path))
            })
            .collect();
        all.sort();
        let mut total: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in all {
            if total <= self.limit_bytes {
                return;
            }
            if remove_unless_held(&path, IMAGE) {
                total -= bytes;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What directories are, for an image's name, and what of the host goes with them.
fn look(kind: Kind, mounts: &[(PathBuf, String)]) -> Result<(String, Option<Base>), RootfsError> {
    let mut hash = Sha256::new();
    hash.update(FORMAT);
    let base = match kind {
        Kind::Base => {
            let base = Base::look(mounts)?;
            base.identify(&mut hash)?;
            Some(base)
        }
        Kind::Code | Kind::Root => None,
    };
    if kind == Kind::Root {
        hash.update("root");
        for (layer, _) in mounts {
            let name = layer.file_name().unwrap_or(layer.as_os_str()).as_encoded_bytes();
            hash.update(name.len().to_le_bytes());
            hash.update(name);
        }
        return Ok((hex(&hash.finalize()), base));
    }
    for (source, target) in mounts {
        hash.update(target.len().to_le_bytes());
        hash.update(target);
        identify(source, &mut hash)?;
    }
    Ok((hex(&hash.finalize()), base))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn hash_of(path: &Path) -> io::Result<(u64, String)> {
    contents(path).map(|(bytes, digest)| (bytes, hex(&digest)))
}

/// Makes a new image visible, with what it is to be checked by. One that another process has finished meanwhile is left as it is.
fn finish(new: &Path, directory: &Path) -> io::Result<()> {
    let image = new.join(IMAGE);
    let (bytes, sha256) = hash_of(&image)?;
    let file = File::open(&image)?;
    // VMMs of other users read it.
    file.set_permissions(PermissionsExt::from_mode(0o644))?;
    file.sync_all()?;
    let mut about = File::create(new.join(ABOUT))?;
    about.write_all(&serde_json::to_vec(&About { bytes, sha256 })?)?;
    about.sync_all()?;
    appear(new, directory).map(drop)
}

/// An image that is what was made, held, and its size.
fn open_checked(directory: &Path) -> io::Result<(File, u64)> {
    let about: About = serde_json::from_slice(&fs::read(directory.join(ABOUT))?)?;
    let path = directory.join(IMAGE);
    let file = open_held(&path)?;
    let there = file.metadata()?.len();
    if there != about.bytes || hash_of(&path)?.1 != about.sha256 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what was made"));
    }
    Ok((file, there))
}

#[cfg(test)]
mod tests;
