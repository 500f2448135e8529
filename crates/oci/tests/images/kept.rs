//! What is kept and what goes.

use std::time::Duration;

use hearth_oci::{Images, media};
use hearth_types::AccountId;

use super::{Tar, World, gzip};

#[test]
fn what_a_function_or_a_repository_refers_to_is_never_removed() {
    let world = World::new();
    let [used, tagged, loose] =
        ["used", "tagged", "loose"].map(|name| world.image_of(&[Tar::default().file(name, "").end()], gzip));
    for image in [used, tagged, loose] {
        world.images.ready(image).unwrap();
    }
    let account: AccountId = "123456789012".parse().unwrap();
    let repository = world.images.repositories().get(&account, "team/app").unwrap();
    repository.put_manifest(tagged, media::MANIFEST, None, Some("v1")).unwrap();
    assert_eq!(
        world.images.collect(&[used.0], Duration::from_secs(60), true).unwrap(),
        1,
        "a layer has no grace"
    );
    assert_eq!(world.images.collect(&[used.0], Duration::ZERO, true).unwrap(), 3);
    for image in [used, tagged] {
        world.images.ready(image).unwrap();
    }
    assert!(world.images.ready(loose).is_err());
    assert_eq!(repository.manifest("v1"), Some((tagged, media::MANIFEST.to_owned())));
    assert!(repository.delete_manifest(tagged).unwrap());
    assert_eq!((repository.tags().unwrap().len(), repository.manifest("v1")), (0, None));
    assert_eq!(world.images.collect(&[used.0], Duration::ZERO, true).unwrap(), 4);
}

#[test]
fn accounts_do_not_see_each_others_repositories() {
    let world = World::new();
    let image = world.image_of(&[Tar::default().file("a", "").end()], gzip);
    let [mine, other]: [AccountId; 2] =
        ["111111111111", "222222222222"].map(|account| account.parse().unwrap());
    let repositories = world.images.repositories();
    repositories.get(&mine, "a/b").unwrap().put_manifest(image, media::MANIFEST, None, Some("x")).unwrap();
    assert_eq!(repositories.names(&mine).unwrap(), ["a/b"]);
    assert_eq!(repositories.get(&other, "a/b").unwrap().manifest("x"), None);
    assert!(repositories.names(&other).unwrap().is_empty());
    for name in ["../222222222222/a", "a+b", ".", ""] {
        assert!(repositories.get(&mine, name).is_none(), "{name}");
    }
}

#[test]
fn what_is_half_made_goes_and_what_is_whole_stays_when_the_store_is_opened_again() {
    let world = World::new();
    let image = world.image_of(&[Tar::default().file("a", "").end()], gzip);
    world.images.ready(image).unwrap();
    let root = world.folder.path().join("images");
    std::fs::create_dir_all(root.join("tmp/half/made")).unwrap();
    let again = Images::open(&root).unwrap();
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    assert!(again.ready(image).unwrap().layers[0].join("a").exists());
}
