//! Archives that are refused, each for its reason, leaving nothing behind.

use hearth_image::ArchiveError;
use hearth_types::limits::UNZIPPED_BYTES;

use super::raw::{Raw, archive, file, link};
use super::{World, zip_of};

fn problem(archive: &[u8]) -> String {
    match World::new().refuse(archive) {
        ArchiveError::BadEntry { problem, .. } => problem,
        error => panic!("refused for another reason: {error}"),
    }
}

#[test]
fn paths_that_could_leave_the_root() {
    for name in ["../evil", "/etc/evil", "a/../../evil", "a\0b", "..", "a/..", ""] {
        assert!(!problem(&archive(&[file("good", "x"), file(name, "x")])).is_empty());
    }
    assert!(problem(&archive(&[Raw { system: 0, mode: 0, ..file("..\\evil", "x") }])).contains(".."));
    assert!(problem(&zip_of([("n".repeat(256), "x")])).contains("255"));
    assert!(problem(&zip_of([("d/".repeat(2_048), "")])).contains("4,095"));
    assert!(problem(&zip_of([("d/".repeat(101), "")])).contains("deep"));
}

#[test]
fn links_that_leave_the_root() {
    for target in ["/etc/passwd", "..", "../evil", "a/../../evil", "../code/neighbour", "a/b/../../../../x"] {
        let entries = [file("a/b/c", "x"), link("link", target)];
        assert!(problem(&archive(&entries)).contains("leaves"), "{target}");
    }
    // Each link is harmless alone.
    let chain = [file("a/b/c", "x"), link("a/up", ".."), link("out", "a/up/../..")];
    assert!(problem(&archive(&chain)).contains("leaves"));
}

#[test]
fn links_that_are_none() {
    assert!(problem(&archive(&[link("loop", "loop")])).contains("nowhere"));
    assert!(problem(&archive(&[link("empty", "")])).contains("target"));
    assert!(problem(&archive(&[link("nul", "a\0b")])).contains("target"));
    assert!(problem(&archive(&[link("long", "t".repeat(5_000))])).contains("long"));
    assert!(problem(&archive(&[link("slash/", "a")])).contains("link"));
}

#[test]
fn files_written_through_a_link_or_a_file() {
    let outside = World::new();
    let target = outside.folder.path().to_str().unwrap();
    for entries in [
        [link("d", target), file("d/evil", "x")],
        [file("d/evil", "x"), link("d", target)],
        [link("neighbour", format!("{target}/neighbour")), file("neighbour", "evil")],
        [file("d", "x"), file("d/evil", "x")],
        [file("d/evil", "x"), file("d", "x")],
        [link("d", "a"), link("d", "b")],
        [link("d", "a"), link("d/x", "b")],
    ] {
        assert!(problem(&archive(&entries)).contains("another kind"), "{entries:?}");
    }
    assert_eq!(std::fs::read(outside.folder.path().join("neighbour")).unwrap(), b"untouched");
}

#[test]
fn kinds_that_code_never_is() {
    for mode in [0o010_644, 0o020_644, 0o060_644, 0o140_644, 0o170_644] {
        assert!(problem(&archive(&[Raw { mode, ..file("odd", "") }])).contains("device"), "{mode:o}");
    }
    assert!(problem(&archive(&[file("a", "x"), file("folder/", "content")])).contains("directory"));
}

#[test]
fn encrypted_entries_and_unknown_methods() {
    assert!(problem(&archive(&[Raw { flags: 1, ..file("a", "x") }])).contains("encrypted"));
    for method in [1, 6, 9, 12, 14, 93, 95, 99, 12_345] {
        assert!(problem(&archive(&[Raw { method, ..file("a", "x") }])).contains("deflate"), "{method}");
    }
}

#[test]
fn what_is_no_archive_or_has_no_files() {
    let world = World::new();
    for nothing in [&b""[..], &archive(&[]), &archive(&[Raw { mode: 0o040_755, ..file("only/", "") }])] {
        assert!(matches!(world.refuse(nothing), ArchiveError::Empty));
    }
    for junk in [&b"x"[..], &[0; 10_000], b"PK\x03\x04", b"PK\x05\x06", "not a zip".repeat(9_999).as_bytes()]
    {
        assert!(matches!(world.refuse(junk), ArchiveError::Corrupt(_)));
    }
}

#[test]
fn an_archive_cut_off_anywhere() {
    let world = World::new();
    let whole = zip_of([("bootstrap", "x".repeat(500)), ("second", "y".repeat(500))]);
    for length in 1..whole.len() {
        assert!(matches!(world.refuse(&whole[..length]), ArchiveError::Corrupt(_)), "{length}");
    }
    // Cut in front: the list is there, and what it lists is not.
    assert!(matches!(world.refuse(&whole[40..]), ArchiveError::Corrupt(_)));
}

#[test]
fn content_that_is_not_what_the_list_says() {
    let world = World::new();
    let honest = file("a", "content");
    for lie in [
        Raw { crc: 1, ..honest.clone() },
        Raw { size: 6, ..honest.clone() },
        Raw { size: 8, ..honest.clone() },
        Raw { packed: 6, ..honest.clone() },
        Raw { packed: 6_000, ..honest.clone() },
        Raw { method: 8, ..honest.clone() },
    ] {
        assert!(
            matches!(world.refuse(&archive(std::slice::from_ref(&lie))), ArchiveError::Corrupt(_)),
            "{lie:?}"
        );
    }
}

fn too_large(archive: &[u8]) -> &'static str {
    match World::new().refuse(archive) {
        ArchiveError::TooLarge { what, .. } => what,
        error => panic!("refused for another reason: {error}"),
    }
}

#[test]
fn too_many_bytes_whatever_their_ratio() {
    let half = u32::try_from(UNZIPPED_BYTES / 2 + 1).unwrap();
    let claims = [Raw { size: half, ..file("a", "") }, Raw { size: half, ..file("b", "") }];
    assert_eq!(too_large(&archive(&claims)), "bytes");
    let zeros = zip_of([("zeros", vec![0; 1 << 20])]);
    let entry = zeros_entry(&zeros);
    let bomb: Vec<_> =
        (0..251).map(|number| Raw { name: format!("f{number}").into(), ..entry.clone() }).collect();
    let bomb = archive(&bomb);
    assert!(bomb.len() < 1 << 20, "a ratio that is worth the name: {}", bomb.len());
    assert_eq!(too_large(&bomb), "bytes");
}

/// A mebibyte of zeros, deflated by the zip crate.
fn zeros_entry(zeros: &[u8]) -> Raw {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(zeros)).unwrap();
    let mut deflated = Vec::new();
    std::io::Read::read_to_end(&mut archive.by_index_raw(0).unwrap(), &mut deflated).unwrap();
    let entry = archive.by_index(0).unwrap();
    Raw { method: 8, crc: entry.crc32(), size: 1 << 20, ..file("zeros", deflated) }
}

#[test]
fn too_many_files_listed_or_implied() {
    assert_eq!(too_large(&zip_of((0..100_001).map(|number| (number.to_string(), "")))), "files");
    // Directories that no entry names.
    let deep = (0..230).map(|number| (format!("{number}/{}f", "d/".repeat(90)), ""));
    assert_eq!(too_large(&zip_of(deep)), "directories");
}

#[test]
fn a_bomb_that_lies_about_its_size() {
    let world = World::new();
    let mut archive = zip_of([("bomb", vec![0; 8 << 20])]);
    let honest = (8_u32 << 20).to_le_bytes();
    let at = archive.windows(4).rposition(|window| window == honest).unwrap();
    archive[at..at + 4].copy_from_slice(&1_000_u32.to_le_bytes());
    assert!(matches!(world.refuse(&archive), ArchiveError::Corrupt(_)));
}

#[test]
fn entries_that_share_their_bytes() {
    let world = World::new();
    let kernel = file("kernel", "x".repeat(10_000));
    let mut entries = vec![kernel.clone()];
    entries.extend((0..50).map(|number| Raw {
        name: format!("copy{number}").into(),
        shares: Some(0),
        ..kernel.clone()
    }));
    match world.refuse(&archive(&entries)) {
        ArchiveError::Corrupt(problem) => assert!(problem.contains("overlap"), "{problem}"),
        error => panic!("{error}"),
    }
}

#[test]
fn long_names_are_shortened_in_messages() {
    let error = World::new().refuse(&archive(&[file("../".repeat(5_000), "x")]));
    assert!(error.to_string().len() < 400, "{error}");
}
