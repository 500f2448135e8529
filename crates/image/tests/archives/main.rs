//! Archives, good and evil, made by real tools and byte by byte: what is unpacked, what is refused, what is kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod crash;
mod kept;
mod random;
mod raw;
mod refused;
mod taken;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hearth_image::{ArchiveError, ImageStore};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// A store in a folder of its own, with a neighbour that must never be touched.
struct World {
    folder: TempDir,
    store: ImageStore,
}

impl World {
    /// In memory where there is such a place: thousands of files cost a real disk minutes.
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::write(folder.path().join("neighbour"), "untouched").unwrap();
        let store = ImageStore::open(&folder.path().join("code")).unwrap();
        Self { folder, store }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("code")
    }

    /// Adds an archive that must be taken.
    fn add(&self, archive: &[u8]) -> PathBuf {
        self.store.unpacked(self.store.add_zip(archive).unwrap()).unwrap()
    }

    /// Adds an archive that must be refused, and checks that it left nothing.
    fn refuse(&self, archive: &[u8]) -> ArchiveError {
        let before = listing(self.folder.path());
        let error = self.store.add_zip(archive).unwrap_err();
        assert_eq!(listing(self.folder.path()), before, "{error}");
        error
    }
}

/// Everything below a directory: type, mode, and content or target.
fn listing(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                directories.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (metadata.mode(), content));
        }
    }
    found
}

/// An archive of deflated files, as the zip crate writes them.
fn zip_of<N: AsRef<str>, C: AsRef<[u8]>>(files: impl IntoIterator<Item = (N, C)>) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(name.as_ref(), SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_ref()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}
