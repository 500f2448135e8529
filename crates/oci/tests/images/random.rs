//! Layers with bytes changed at random, and with a checksum that fits again: refused or unpacked, but nothing appears or changes outside.

use std::time::Duration;

use hearth_oci::{Document, ImageConfig};
use proptest::prelude::*;

use super::{Tar, World};

fn archive() -> Vec<u8> {
    Tar::default()
        .directory("a/")
        .file("a/b", &"content ".repeat(100))
        .link("c", "a/b")
        .link("d", "../../neighbour")
        .hard("e", "a/b")
        .file("a/.wh.gone", "")
        .file("f/.wh..wh..opq", "")
        .end()
}

/// Headers whose checksums fit, so that what is in them is looked at.
fn mend(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512) {
        if block[257..262] != *b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_of_a_layer_reaches_anything_outside(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let world = World::new();
        let mut archive = archive();
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        mend(&mut archive);
        let ready = world.images.ready(world.image_of(&[archive], <[u8]>::to_vec));
        let root = world.folder.path().join("images");
        let count = |path: &std::path::Path| std::fs::read_dir(path).unwrap().count();
        prop_assert_eq!(count(&root.join("tmp")), 0);
        prop_assert_eq!(count(&root.join("layers")), usize::from(ready.is_ok()));
        prop_assert_eq!(count(world.folder.path()), 2);
        prop_assert_eq!(std::fs::read_to_string(world.folder.path().join("neighbour")).unwrap(), "untouched");
        world.images.collect(&[], Duration::ZERO, true).unwrap();
    }

    #[test]
    fn any_bytes_are_a_document_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]\":,a-z0-9]{0,80}") {
        for bytes in [&*bytes, text.as_bytes()] {
            if let Ok(document) = Document::parse(bytes, None) {
                let _ = document.children();
            }
            let _ = ImageConfig::parse(bytes);
        }
    }
}
