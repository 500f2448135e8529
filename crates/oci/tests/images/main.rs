//! Images, good and evil: what is unpacked, what is refused, what is kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod kept;
mod layers;
mod random;
mod refused;

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use hearth_oci::{Digest, Images, OciError, Platform, media};
use serde_json::json;
use tar::{EntryType, Header};

/// A store in a folder of its own, with a neighbour that must never be touched.
struct World {
    folder: tempfile::TempDir,
    images: Images,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("neighbour"), "untouched").unwrap();
        let images = Images::open(&folder.path().join("images")).unwrap();
        Self { folder, images }
    }

    /// An image of these archives, the lowest first, compressed by `pack`.
    fn image_of(&self, archives: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Digest {
        let blobs = self.images.blobs();
        let diff_ids: Vec<String> = archives.iter().map(|archive| Digest::of(archive).to_string()).collect();
        let here = Platform::here();
        let config = json!({"os": here.os, "architecture": here.architecture, "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let describe = |media_type: &str, content: &[u8]| {
            let digest = blobs.put(content).unwrap();
            json!({"mediaType": media_type, "digest": digest, "size": content.len()})
        };
        let layers: Vec<_> =
            archives.iter().map(|archive| describe(media::DOCKER_LAYER, &pack(archive))).collect();
        let config = describe(media::CONFIG, config.to_string().as_bytes());
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers});
        blobs.put(manifest.to_string().as_bytes()).unwrap()
    }

    /// The directories of an image that must be taken, the lowest first.
    fn unpack(&self, archives: &[Vec<u8>]) -> Vec<PathBuf> {
        let mut layers = self.images.ready(self.image_of(archives, gzip)).unwrap().layers;
        layers.reverse();
        layers
    }

    /// An image that must be refused, which leaves nothing half made.
    fn refuse(&self, archive: Vec<u8>) -> OciError {
        let error = self.images.ready(self.image_of(&[archive], gzip)).unwrap_err();
        let root = self.folder.path().join("images");
        for folder in ["tmp", "layers"] {
            assert_eq!(std::fs::read_dir(root.join(folder)).unwrap().count(), 0, "{error}");
        }
        assert_eq!(std::fs::read_to_string(self.folder.path().join("neighbour")).unwrap(), "untouched");
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), 2);
        error
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Writes archives entry by entry, with any name.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, name: &str, kind: EntryType, target: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(1_000_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, EntryType::Regular, "", 0o644, content.as_bytes())
    }

    fn directory(self, name: &str) -> Self {
        self.entry(name, EntryType::Directory, "", 0o755, b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, target, 0o777, b"")
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Link, target, 0o644, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
