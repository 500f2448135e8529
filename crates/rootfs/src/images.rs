//! Images on disk: made once, however many ask, checked before their first use, and removed when they are too many.
//!
//! Several processes may use one folder: what is there appears by a rename and is never changed.

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
use crate::layers::merge;
use crate::mkfs::{self, Owners};
use crate::tree::{MAX_BYTES, contents, identify, settle, stage};

/// A change of this makes all images anew.
const FORMAT: &str = "4";
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
    /// Held open: another process may remove the name.
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
            if age.is_ok_and(|age| age > ABANDONED) {
                match path.extension().and_then(|end| end.to_str()) {
                    Some("stage") => drop(fs::remove_dir_all(path)),
                    Some("new") => drop(fs::remove_file(path)),
                    _ => {}
                }
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
        let path = self.directory.join(format!("{id}.erofs"));
        let bytes = match check(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, image = id, "a disk image is made again");
                }
                let base = match (kind, base) {
                    (Kind::Base, None) => Some(Base::look(mounts)?),
                    (_, base) => base,
                };
                self.make((id, kind), &path, mounts, base.as_ref())?
            }
        };
        // Its age is since it was used last.
        let _ = File::open(about_path(&path)).and_then(|file| file.set_modified(SystemTime::now()));
        let file = File::open(&path).map_err(file_error("open", &path))?;
        let inner = Arc::new(Inner { id: id.to_owned(), path, file, bytes });
        let mut state = self.lock();
        state.in_use.retain(|_, image| image.strong_count() > 0);
        state.in_use.insert(id.to_owned(), Arc::downgrade(&inner));
        drop(state);
        self.make_room();
        Ok(Image { inner })
    }

    fn make(
        &self,
        (id, kind): (&str, Kind),
        path: &Path,
        mounts: &[(PathBuf, String)],
        base: Option<&Base>,
    ) -> Result<u64, RootfsError> {
        // Whoever makes the same at the same time, in this process or in another one, has other names.
        let staging =
            tempfile::Builder::new().prefix(&format!("{id}.")).suffix(".stage").tempdir_in(&self.directory);
        let staging = staging.map_err(file_error("make a folder in", &self.directory))?;
        let new = staging.path().with_extension("new");
        let made = self.make_in((staging.path(), &new), kind, mounts, base);
        drop(staging);
        let finished = made.and_then(|()| finish(&new, path).map_err(file_error("keep", path)));
        if finished.is_err() {
            let _ = fs::remove_file(&new);
        }
        finished
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
            .filter(|path| path.extension().is_some_and(|end| end == "erofs"))
            .filter_map(|path| {
                let used = fs::metadata(about_path(&path)).and_then(|about| about.modified()).ok()?;
                Some((used, fs::metadata(&path).ok()?.len(), path))
            })
            .collect();
        all.sort();
        let mut total: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in all {
            if total <= self.limit_bytes {
                return;
            }
            // Under the lock nobody can begin to hold it.
            let state = self.lock();
            let id = path.file_stem().and_then(|id| id.to_str()).unwrap_or_default();
            let held = state.in_use.get(id).is_some_and(|image| image.strong_count() > 0);
            if !held && !state.making.contains_key(id) {
                let _ = fs::remove_file(about_path(&path));
                let _ = fs::remove_file(&path);
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

fn about_path(image: &Path) -> PathBuf {
    image.with_extension("json")
}

fn hash_of(path: &Path) -> io::Result<(u64, String)> {
    contents(path).map(|(bytes, digest)| (bytes, hex(&digest)))
}

/// Makes a new image visible, with what it is to be checked by.
fn finish(new: &Path, path: &Path) -> io::Result<u64> {
    let (bytes, sha256) = hash_of(new)?;
    let file = File::open(new)?;
    // VMMs of other users read it.
    file.set_permissions(PermissionsExt::from_mode(0o644))?;
    file.sync_all()?;
    let half_made = new.with_extension("json.new");
    let mut about = File::create(&half_made)?;
    about.write_all(&serde_json::to_vec(&About { bytes, sha256 })?)?;
    about.sync_all()?;
    fs::rename(half_made, about_path(path))?;
    fs::rename(new, path)?;
    Ok(bytes)
}

/// The size of an image that is what was made.
fn check(path: &Path) -> io::Result<u64> {
    let about: About = serde_json::from_slice(&fs::read(about_path(path))?)?;
    let there = fs::metadata(path)?.len();
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is not what was made");
    if there != about.bytes || hash_of(path)?.1 != about.sha256 {
        return Err(damaged());
    }
    Ok(there)
}

#[cfg(test)]
mod tests;
