//! Random archives: whatever they hold, nothing outside their own directory changes.

use std::path::Path;

use proptest::prelude::*;

use super::raw::{Raw, archive, file};
use super::{World, listing};

fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["..", ".", "", "\\", "..\\x", "neighbour", "\u{0}", "\n"])
            .prop_map(str::to_owned),
    ];
    (prop::collection::vec(part, 1..4), any::<prop::sample::Index>()).prop_map(|(parts, index)| {
        let end = if index.index(6) == 0 { "/" } else { "" };
        format!("{}{end}", parts.join("/")).into_bytes()
    })
}

fn entry() -> impl Strategy<Value = Raw> {
    let mode = prop_oneof![
        4 => Just(0o100_644),
        4 => Just(0o120_777),
        1 => Just(0o040_755),
        1 => Just(0),
        1 => any::<u16>().prop_map(u32::from),
    ];
    let content = prop_oneof![
        4 => name(),
        1 => Just(b"/etc/passwd".to_vec()),
        1 => Just(b"../../../neighbour".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..50),
    ];
    let system = prop::sample::select(vec![3_u8, 3, 0]);
    (name(), content, mode, system).prop_map(|(name, content, mode, system)| Raw {
        mode,
        system,
        ..file(name, content)
    })
}

/// What lies beside the store, and in it beside the archives and their directories.
fn surroundings(world: &World) -> Vec<String> {
    let own = |path: &Path| path.starts_with("code/archives") || path.starts_with("code/unpacked");
    let all = listing(world.folder.path());
    all.into_iter().filter(|(path, _)| !own(path)).map(|found| format!("{found:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_archive_changes_nothing_outside_its_own_directory(entries in prop::collection::vec(entry(), 1..8)) {
        let world = World::new();
        let before = surroundings(&world);
        if let Ok(digest) = world.store.add_zip(&archive(&entries)) {
            let root = world.store.unpacked(digest).unwrap();
            for path in listing(&root).into_keys() {
                if let Ok(real) = root.join(path).canonicalize() {
                    prop_assert!(real.starts_with(root.canonicalize().unwrap()), "{real:?}");
                }
            }
        }
        prop_assert_eq!(surroundings(&world), before);
    }

    #[test]
    fn a_damaged_archive_is_refused_or_unpacked_and_never_more(
        entries in prop::collection::vec(entry(), 1..4),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let world = World::new();
        let before = surroundings(&world);
        let mut bytes = archive(&entries);
        for (index, byte) in damages {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = world.store.add_zip(&bytes);
        prop_assert_eq!(surroundings(&world), before);
    }
}
