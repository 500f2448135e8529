//! Questions about layers.

use std::sync::Arc;

use hearth_store::{CodeRef, LayerAbout, LayerFilter, LayerRef, LayerVersion, Store};
use hearth_types::CodeDigest;

use crate::suite::{ACCOUNT, id, new_function};

fn version(layer: &str, code: u8, runtimes: &[&str]) -> LayerVersion {
    LayerVersion {
        account: ACCOUNT.parse().unwrap(),
        layer: layer.into(),
        number: 0,
        code: CodeRef { digest: CodeDigest([code; 32]), size: 10 },
        unzipped: 20,
        about: LayerAbout {
            runtimes: runtimes.iter().map(|runtime| (*runtime).to_owned()).collect(),
            architectures: vec!["x86_64".to_owned()],
            ..LayerAbout::default()
        },
        created_ms: 1,
    }
}

pub(crate) async fn versions_of_a_layer_count_up_and_never_repeat(store: &Arc<dyn Store>) {
    let account = ACCOUNT.parse().unwrap();
    let first = store.publish_layer(version("l", 1, &[])).await.unwrap();
    let second = store.publish_layer(version("l", 1, &[])).await.unwrap();
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!(store.layer_version(&account, "l", 2).await.unwrap(), Some(second));
    assert!(store.delete_layer_version(&account, "l", 2).await.unwrap());
    assert!(!store.delete_layer_version(&account, "l", 2).await.unwrap());
    assert_eq!(store.layer_version(&account, "l", 2).await.unwrap(), None);
    assert_eq!(store.publish_layer(version("l", 1, &[])).await.unwrap().number, 3);
    assert_eq!(store.layer_version(&account, "l", u64::MAX).await.unwrap(), None);
}

pub(crate) async fn layers_are_listed_by_their_newest_version_that_fits(store: &Arc<dyn Store>) {
    let account = ACCOUNT.parse().unwrap();
    for (layer, runtimes) in
        [("b", &["python3.12"][..]), ("a", &["python3.12"]), ("a", &["nodejs22.x"]), ("c", &[])]
    {
        store.publish_layer(version(layer, 1, runtimes)).await.unwrap();
    }
    let listed = async |filter: LayerFilter, after: &str, limit| {
        let found = store.list_layers(&account, after, filter, limit).await.unwrap();
        found.iter().map(|one| format!("{}:{}", one.layer, one.number)).collect::<Vec<_>>()
    };
    let python = || LayerFilter { runtime: Some("python3.12".to_owned()), architecture: None };
    let arm = LayerFilter { runtime: None, architecture: Some("arm64".to_owned()) };
    assert_eq!(listed(LayerFilter::default(), "", 9).await, ["a:2", "b:1", "c:1"]);
    assert_eq!(listed(LayerFilter::default(), "a", 1).await, ["b:1"]);
    assert_eq!(listed(python(), "", 9).await, ["a:1", "b:1"]);
    assert!(listed(arm, "", 9).await.is_empty());
    let versions =
        store.list_layer_versions(&account, "a", u64::MAX, LayerFilter::default(), 9).await.unwrap();
    assert_eq!(versions.iter().map(|one| one.number).collect::<Vec<_>>(), [2, 1]);
    let older = store.list_layer_versions(&account, "a", 2, python(), 9).await.unwrap();
    assert_eq!(older.iter().map(|one| one.number).collect::<Vec<_>>(), [1]);
}

pub(crate) async fn a_deleted_layer_stays_in_use_while_a_function_has_it(store: &Arc<dyn Store>) {
    let account = ACCOUNT.parse().unwrap();
    let layer = store.publish_layer(version("l", 77, &[])).await.unwrap();
    let mut new = new_function(id(ACCOUNT, "f"), 1);
    new.config.layers = vec![LayerRef::new("arn".to_owned(), layer.code)];
    let kept = store.create_function(new).await.unwrap();
    assert_eq!(kept.config.layers[0].digest(), Some(layer.code.digest));
    store.delete_layer_version(&account, "l", 1).await.unwrap();
    assert!(store.code_in_use().await.unwrap().contains(&layer.code.digest));
    store.delete_function(&kept.id).await.unwrap();
    assert!(!store.code_in_use().await.unwrap().contains(&layer.code.digest));
}
