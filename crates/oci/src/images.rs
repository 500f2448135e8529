//! Images made ready to run, and what may be removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hearth_types::CodeDigest;
use tempfile::TempDir;

use crate::blobs::list;
use crate::config::CONFIG_BYTES;
use crate::manifest::{Document, MANIFEST_BYTES, Manifest};
use crate::unpack::unpack;
use crate::{Blobs, Digest, ImageConfig, OciError, Repositories};

/// Layers that can be unpacked at once.
const TURNS: usize = 16;
/// Threads that unpack layers of one image.
const UNPACKERS: usize = 4;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where images are kept. One process at a time may have it open.
#[derive(Debug)]
pub struct Images {
    blobs: Blobs,
    repositories: Repositories,
    layers: PathBuf,
    scratch: PathBuf,
    /// Held while a layer is unpacked, so that a burst of starts does it once.
    turns: [Mutex<()>; TURNS],
}

/// An image that can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyImage {
    /// What it runs.
    pub config: ImageConfig,
    /// Its layers as directories, the uppermost first, none of them twice.
    pub layers: Vec<PathBuf>,
}

// === impl Images ===

impl Images {
    /// Opens the store below `root`, making it if it is not there, and removes what a crash left half made.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(root: &Path) -> io::Result<Self> {
        let (layers, scratch) = (root.join("layers"), root.join("tmp"));
        for directory in [&layers, &scratch] {
            fs::create_dir_all(directory)?;
        }
        // What lies here keeps the owners and modes of images: set-user-id programs among them are for nobody on this machine.
        rustix::fs::chmod(root, rustix::fs::Mode::RWXU)?;
        fs::remove_dir_all(&scratch)?;
        fs::create_dir(&scratch)?;
        // What was unpacked is never synced: it is whole unless the machine itself went down since.
        let (boot, this_boot) = (root.join("boot"), fs::read(BOOT_ID).unwrap_or_default());
        if this_boot.is_empty() || fs::read(&boot).unwrap_or_default() != this_boot {
            fs::remove_dir_all(&layers)?;
            fs::create_dir(&layers)?;
            fs::write(&boot, this_boot)?;
        }
        let blobs = Blobs::open(root.join("blobs"), scratch.clone())?;
        let repositories = Repositories::open(root.join("repositories"), scratch.clone())?;
        File::open(root)?.sync_all()?;
        Ok(Self { blobs, repositories, layers, scratch, turns: Default::default() })
    }

    /// All content.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Who has put what where.
    #[must_use]
    pub fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    /// The manifest of the image for this machine: `digest` itself, or the one that fits of the index that it names.
    ///
    /// # Errors
    /// It is not here, is neither, or nothing in it is for this machine.
    pub fn resolve(&self, digest: Digest) -> Result<(Digest, Manifest), OciError> {
        match self.document(digest)? {
            Document::Manifest(manifest) => Ok((digest, manifest)),
            Document::Index(index) => {
                let chosen = index.for_this_machine()?.digest;
                match self.document(chosen)? {
                    Document::Manifest(manifest) => Ok((chosen, manifest)),
                    Document::Index(_) => {
                        Err(OciError::invalid("the index", "the image for this machine is an index again"))
                    }
                }
            }
        }
    }

    /// An image's configuration, checked against its manifest and this machine.
    ///
    /// # Errors
    /// It is not here, is no image, or is for another kind of machine.
    pub fn config(&self, manifest: &Manifest) -> Result<ImageConfig, OciError> {
        let config = ImageConfig::parse(&self.blobs.read(manifest.config.digest, CONFIG_BYTES)?)?;
        Manifest::check_platform(&config)?;
        if manifest.layers.is_empty() {
            return Err(OciError::invalid("the image", "it has no layers, so there is nothing in it to run"));
        }
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let problem = format!(
                "its configuration has {} layers and its manifest {}",
                config.rootfs.diff_ids.len(),
                manifest.layers.len()
            );
            return Err(OciError::invalid("the image", problem));
        }
        Ok(config)
    }

    /// Makes an image ready: unpacks those of its layers that are not unpacked.
    ///
    /// # Errors
    /// It is not here, or is not what it says.
    pub fn ready(&self, digest: Digest) -> Result<ReadyImage, OciError> {
        let (_, manifest) = self.resolve(digest)?;
        let config = self.config(&manifest)?;
        let mut seen = BTreeSet::new();
        let mut missing = Vec::new();
        let mut layers = Vec::new();
        // A layer that is there twice has nothing to say but where it is uppermost, and overlayfs takes it once.
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids).rev() {
            if seen.insert(*diff_id) {
                layers.push(self.layer_path(*diff_id));
                if !self.layer_path(*diff_id).is_dir() {
                    missing.push((layer.digest, *diff_id));
                }
            }
        }
        self.unpack_all(missing)?;
        Ok(ReadyImage { config, layers })
    }

    fn unpack_all(&self, missing: Vec<(Digest, Digest)>) -> Result<(), OciError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = missing.len().min(cores).min(UNPACKERS);
        let queue = Mutex::new(missing);
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let work = || {
            while let Some((layer, diff_id)) = next() {
                if let Err(error) = self.unpack_one(layer, diff_id) {
                    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    return Err(error);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut result = work();
            for worker in workers {
                let broke = || OciError::io("unpack a layer", io::Error::other("its thread broke down"));
                let theirs = worker.join().unwrap_or_else(|_| Err(broke()));
                result = result.and(theirs);
            }
            result
        })
    }

    fn unpack_one(&self, layer: Digest, diff_id: Digest) -> Result<(), OciError> {
        let turn = &self.turns[usize::from(diff_id.0.0[0]) % TURNS];
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.layer_path(diff_id);
        if path.is_dir() {
            return Ok(());
        }
        let failed = |error| OciError::io("unpack a layer", error);
        let directory = TempDir::new_in(&self.scratch).map_err(failed)?;
        unpack(self.blobs.file(layer)?, diff_id, directory.path()).map_err(|error| match error {
            OciError::Invalid { what, problem } => {
                OciError::Invalid { what: format!("layer {layer}: {what}"), problem }
            }
            other => other,
        })?;
        fs::rename(directory.keep(), path).map_err(failed)
    }

    fn layer_path(&self, diff_id: Digest) -> PathBuf {
        self.layers.join(diff_id.hex())
    }

    /// A manifest or index that is here.
    ///
    /// # Errors
    /// It is not, or is neither.
    pub fn document(&self, digest: Digest) -> Result<Document, OciError> {
        Document::parse(&self.blobs.read(digest, MANIFEST_BYTES as u64)?, None)
    }

    /// Removes what no repository has a manifest of and nothing in `in_use`, manifests of functions, needs, if it is older
    /// than `grace`; with `layers`, when nothing runs, unpacked layers too. Answers how many blobs and layers went.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn collect(&self, in_use: &[CodeDigest], grace: Duration, layers: bool) -> io::Result<usize> {
        let before = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let (mut keep, mut keep_layers) = (BTreeSet::new(), BTreeSet::new());
        let mut queue: Vec<Digest> = in_use.iter().copied().map(Digest).collect();
        queue.extend(self.repositories.manifests()?);
        while let Some(digest) = queue.pop() {
            if !keep.insert(digest) {
                continue;
            }
            match self.document(digest) {
                Ok(Document::Index(index)) => queue.extend(index.manifests.iter().map(|child| child.digest)),
                Ok(Document::Manifest(manifest)) => {
                    keep.insert(manifest.config.digest);
                    keep.extend(manifest.layers.iter().map(|layer| layer.digest));
                    if let Ok(config) = self.config(&manifest) {
                        keep_layers.extend(config.rootfs.diff_ids);
                    }
                }
                // Archives of functions are in that list, too, and an index need not be complete.
                Err(error) => tracing::debug!(%digest, %error, "not looked into"),
            }
        }
        let mut removed = 0;
        for digest in self.blobs.all()? {
            if !keep.contains(&digest) && self.blobs.remove_older(digest, before)? {
                removed += 1;
            }
        }
        if layers {
            for diff_id in list(&self.layers)? {
                if !keep_layers.contains(&diff_id) {
                    let doomed = TempDir::new_in(&self.scratch)?;
                    fs::rename(self.layer_path(diff_id), doomed.path().join("layer"))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}
