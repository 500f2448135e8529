//! Any bytes as a manifest, a configuration, a reference and a layer: refused or taken, but nothing appears or changes outside the
//! store, and what is refused leaves nothing.
//!
//! `cargo +nightly fuzz run image`, best with TMPDIR in memory (`/dev/shm`).

#![no_main]

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use hearth_oci::{Digest, Document, ImageConfig, Images, Platform, Reference, media};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tempfile::TempDir;

struct World {
    folder: TempDir,
    images: Images,
}

static WORLD: OnceLock<World> = OnceLock::new();

fn make_world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("neighbour"), "untouched").expect("a neighbour");
    let images = Images::open(&folder.path().join("images")).expect("a store");
    World { folder, images }
}

/// An image whose only layer these bytes are.
fn image_of(images: &Images, layer: &[u8]) -> Digest {
    let here = Platform::here();
    let config = json!({"os": here.os, "architecture": here.architecture,
        "rootfs": {"diff_ids": [Digest::of(layer)]}});
    let config = config.to_string();
    let describe = |media_type, content: &[u8]| {
        let digest = images.blobs().put(content).expect("a blob");
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    };
    let manifest = json!({"schemaVersion": 2, "config": describe(media::CONFIG, config.as_bytes()),
        "layers": [describe(media::LAYER, layer)]});
    images.blobs().put(manifest.to_string().as_bytes()).expect("a manifest")
}

fuzz_target!(|bytes: &[u8]| {
    let world = WORLD.get_or_init(make_world);
    if let Ok(document) = Document::parse(bytes, None) {
        let _ = document.children();
    }
    let _ = ImageConfig::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(reference) = text.parse::<Reference>()
    {
        assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference));
    }
    let image = image_of(&world.images, bytes);
    let ready = world.images.ready(image);
    let root = world.folder.path().join("images");
    assert_eq!(fs::read_dir(root.join("tmp")).expect("a folder").count(), 0);
    let layers = fs::read_dir(root.join("layers")).expect("a folder").count();
    assert_eq!(layers, usize::from(ready.is_ok()));
    assert_eq!(fs::read_dir(world.folder.path()).expect("a folder").count(), 2);
    assert_eq!(fs::read_to_string(world.folder.path().join("neighbour")).expect("the neighbour"), "untouched");
    world.images.collect(&[], Duration::ZERO, true).expect("room for the next");
});
