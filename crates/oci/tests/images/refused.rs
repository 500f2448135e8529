//! What is refused, and that nothing is left of it.

use hearth_oci::{Digest, OciError};
use tar::EntryType;

use super::{Tar, World, gzip};

#[test]
fn layers_that_climb_or_bring_devices_are_refused() {
    let world = World::new();
    let evil = [
        Tar::default().file("../neighbour", "touched").end(),
        Tar::default().file("a/../../neighbour", "touched").end(),
        Tar::default().hard("a", "../../neighbour").end(),
        Tar::default().hard("a", "/etc/passwd").end(),
        Tar::default().link("up", "../..").hard("a", "up/neighbour").end(),
        Tar::default().entry("disk", EntryType::Block, "", 0o666, b"").end(),
        Tar::default().entry("null", EntryType::Char, "", 0o666, b"").end(),
        Tar::default().file(".wh...", "").end(),
        Tar::default().file(".wh.", "").end(),
        Tar::default().directory("a/").file("a/b", "").file("a", "").end(),
        Tar::default().file("a", "").file("a/b", "").end(),
        Tar::default().link("a", "").end(),
    ];
    for (number, archive) in evil.into_iter().enumerate() {
        let error = world.refuse(archive);
        assert!(matches!(error, OciError::Invalid { .. }), "{number}: {error}");
    }
}

#[test]
fn a_file_written_through_a_link_to_outside_stays_inside() {
    let world = World::new();
    let outside = world.folder.path().display().to_string();
    let archive = Tar::default().link("out", &outside).file("out/neighbour", "touched").end();
    // Either is safe: refused, since the link leads to nothing in the layer, or written inside.
    let error = world.refuse(archive);
    assert!(matches!(error, OciError::Invalid { .. }), "{error}");
}

#[test]
fn archives_that_lie_about_their_lengths_are_refused() {
    let world = World::new();
    let whole = Tar::default().file("a", &"x".repeat(5_000)).end();
    for cut in [1, 511, 513, 2_000, 5_100] {
        world.refuse(whole[..cut].to_vec());
    }
    let mut wrong_sum = whole.clone();
    wrong_sum[0] = b'b';
    world.refuse(wrong_sum);
    // A name of four gigabytes, of which nothing comes.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(4 << 30);
    header.set_cksum();
    world.refuse(header.as_bytes().to_vec());
    // And one of a file that is larger than any image.
    header.set_entry_type(EntryType::Regular);
    header.set_size(11 << 30);
    header.set_cksum();
    assert!(matches!(world.refuse(header.as_bytes().to_vec()), OciError::TooLarge { .. }));
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let world = World::new();
    let archive = Tar::default().file("a", "").end();
    let swapped = world.image_of(&[archive], |_| gzip(&Tar::default().file("b", "").end()));
    let error = world.images.ready(swapped).unwrap_err().to_string();
    assert!(error.contains("the image's configuration says"), "{error}");
    let damaged = world.image_of(&[Tar::default().file("c", "").end()], |archive| {
        let mut packed = gzip(archive);
        packed.truncate(packed.len() - 5);
        packed
    });
    assert!(matches!(world.images.ready(damaged), Err(OciError::Invalid { .. })));
}

#[test]
fn a_blob_is_kept_under_no_other_name_than_its_own() {
    let world = World::new();
    let blobs = world.images.blobs();
    let expected = Digest::of(b"expected");
    assert!(blobs.copy(&mut &b"something else"[..], expected, 14).is_err());
    assert!(blobs.copy(&mut &b"expected and more"[..], expected, 8).is_err());
    assert!(blobs.copy(&mut &b"expect"[..], expected, 8).is_err());
    assert_eq!(blobs.size(expected), None);
    blobs.copy(&mut &b"expected"[..], expected, 8).unwrap();
    assert_eq!(blobs.read(expected, 100).unwrap(), b"expected");
    std::fs::write(blobs.path(expected), "EXPECTED").unwrap();
    assert!(blobs.read(expected, 100).unwrap_err().to_string().contains("cannot use sha256:"));
}
