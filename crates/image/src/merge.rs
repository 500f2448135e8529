//! Layers laid over each other: one directory for each combination, made once.
//!
//! Files are hard links to those of the unpacked archives, so that a combination costs directories only. Nothing is ever
//! written to either: instances see them read-only.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use hearth_types::CodeDigest;
use sha2::{Digest, Sha256};

use crate::{ArchiveError, ImageStore};

impl ImageStore {
    /// The directory of these archives laid over each other, the last on top; nothing if there are none. Archives and
    /// directories are unpacked and merged again if they are missing.
    ///
    /// # Errors
    /// When an archive is not here or no longer what its digest says, or the disk fails.
    pub fn merged(&self, layers: &[CodeDigest]) -> Result<Option<PathBuf>, ArchiveError> {
        let (first, others) = match layers {
            [] => return Ok(None),
            [only] => return self.unpacked(*only).map(Some),
            [first, others @ ..] => (first, others),
        };
        let path = self.merged_path(layers);
        if path.is_dir() {
            return Ok(Some(path));
        }
        let directory = self.scratch_directory()?;
        for layer in std::iter::once(first).chain(others) {
            let source = self.unpacked(*layer)?;
            lay_over(&source, directory.path())
                .map_err(|error| ArchiveError::io(format!("merge layer {layer}"), error))?;
        }
        match fs::rename(directory.path(), &path) {
            Ok(()) => drop(directory.keep()),
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(ArchiveError::io("name the merged directory", error)),
        }
        Ok(Some(path))
    }

    /// The bytes of all files that an archive unpacked to.
    ///
    /// # Errors
    /// When the archive is not here or no longer what its digest says, or the disk fails.
    pub fn unpacked_bytes(&self, digest: CodeDigest) -> Result<u64, ArchiveError> {
        let root = self.unpacked(digest)?;
        let mut bytes = 0;
        walk(&root, |entry, _| {
            let metadata = entry.metadata()?;
            bytes += if metadata.is_file() { metadata.len() } else { 0 };
            Ok(())
        })
        .map_err(|error| ArchiveError::io("measure what was unpacked", error))?;
        Ok(bytes)
    }

    fn merged_path(&self, layers: &[CodeDigest]) -> PathBuf {
        let mut hash = Sha256::new();
        layers.iter().for_each(|layer| hash.update(layer.0));
        self.merged_folder().join(CodeDigest(hash.finalize().into()).to_string())
    }
}

/// Links what is below `source` into `target`; what is in the way of it goes.
fn lay_over(source: &Path, target: &Path) -> io::Result<()> {
    walk(source, |entry, below| {
        let to = target.join(below);
        let there = fs::symlink_metadata(&to).ok();
        if entry.file_type()?.is_dir() {
            if there.as_ref().is_some_and(fs::Metadata::is_dir) {
                return Ok(());
            }
            if there.is_some() {
                fs::remove_file(&to)?;
            }
            fs::create_dir(&to)?;
            return fs::set_permissions(&to, entry.metadata()?.permissions());
        }
        match there {
            Some(there) if there.is_dir() => fs::remove_dir_all(&to)?,
            Some(_) => fs::remove_file(&to)?,
            None => {}
        }
        match fs::hard_link(entry.path(), &to) {
            // A file can have some ten thousand names only.
            Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {
                fs::copy(entry.path(), &to).map(drop)
            }
            linked => linked,
        }
    })?;
    fs::set_permissions(target, fs::metadata(source)?.permissions())
}

/// Calls `visit` with everything below `root` and its path from there, directories before what is in them. Links are not
/// followed.
fn walk(root: &Path, mut visit: impl FnMut(&DirEntry, &Path) -> io::Result<()>) -> io::Result<()> {
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        for entry in fs::read_dir(root.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            visit(&entry, &path)?;
            if entry.file_type()?.is_dir() {
                left.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_last_layer_is_on_top_and_no_link_of_one_leads_another_out() {
        let folder = tempfile::tempdir().unwrap();
        let [low, high, merged] = ["low", "high", "merged"].map(|name| folder.path().join(name));
        for (path, text) in [
            (low.join("same"), "low"),
            (low.join("only"), "low"),
            (low.join("file-then-folder"), "low"),
            (low.join("folder-then-file/x"), "low"),
            (high.join("same"), "high"),
            (high.join("file-then-folder/x"), "high"),
            (high.join("folder-then-file"), "high"),
            (high.join("out/x"), "high"),
        ] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, low.join("out")).unwrap();
        fs::create_dir(&merged).unwrap();
        lay_over(&low, &merged).unwrap();
        lay_over(&high, &merged).unwrap();
        let read = |name: &str| fs::read_to_string(merged.join(name)).unwrap();
        assert_eq!(
            ["same", "only", "file-then-folder/x", "folder-then-file", "out/x"].map(read),
            ["high", "low", "high", "high", "high"]
        );
        assert!(fs::read_dir(&outside).unwrap().next().is_none());
        assert!(!merged.join("out").is_symlink());
    }
}
