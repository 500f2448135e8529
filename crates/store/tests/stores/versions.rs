//! The questions about what hangs on a function: versions, aliases, what is provisioned. Each gets an empty store.

use std::sync::Arc;

use hearth_store::{
    AliasRecord, Change, CodeRef, FunctionRecord, LastUpdate, NewVersion, ProvisionedRecord, Served, State,
    StateReason, Store, StoreError, UpdateStatus, UrlRecord, VersionRecord,
};
use hearth_types::{CodeDigest, FunctionId, Version};

use super::suite::{ACCOUNT, id, new_function};

/// A function that runs.
async fn active(store: &Arc<dyn Store>, name: &str, code: u8) -> FunctionRecord {
    let mut record = store.create_function(new_function(id(ACCOUNT, name), code)).await.unwrap();
    record.state = State::Active;
    record.state_reason = None;
    record.last_update = LastUpdate { status: UpdateStatus::Successful, reason: None };
    store.update_function(record, Change::Bookkeeping).await.unwrap()
}

/// The same function with other code.
async fn changed(store: &Arc<dyn Store>, mut record: FunctionRecord, code: u8) -> FunctionRecord {
    record.code = CodeRef { digest: CodeDigest([code; 32]), size: 1_000 + u64::from(code) };
    store.update_function(record, Change::Revision).await.unwrap()
}

async fn publish(store: &Arc<dyn Store>, function: &FunctionRecord) -> VersionRecord {
    let new = NewVersion { function: function.clone(), description: None, pending: false, now_ms: 5 };
    store.publish_version(new).await.unwrap()
}

fn alias(function: &FunctionId, name: &str, version: u64) -> AliasRecord {
    AliasRecord {
        function: function.clone(),
        name: name.to_owned(),
        version: Version::Published(version),
        additional: None,
        description: "d".to_owned(),
        revision_id: String::new(),
    }
}

fn provisioned(function: &FunctionId, qualifier: &str, count: u32) -> ProvisionedRecord {
    ProvisionedRecord { function: function.clone(), qualifier: qualifier.to_owned(), count, modified_ms: 7 }
}

pub(crate) async fn what_serves_instead_is_kept_with_its_code(store: &Arc<dyn Store>) {
    let first = active(store, "f", 1).await;
    let mut second = first.clone();
    second.serving =
        Some(Served { revision: first.revision, config: first.config.clone(), code: first.code });
    let second = changed(store, second, 2).await;
    let read = store.list_functions(&first.id.account, None, 1).await.unwrap();
    assert_eq!(read.first(), Some(&second));
    let mut in_use = store.code_in_use().await.unwrap();
    in_use.sort();
    assert_eq!(in_use, [CodeDigest([1; 32]), CodeDigest([2; 32])]);
    let mut third = second;
    third.serving = None;
    store.update_function(third, Change::Bookkeeping).await.unwrap();
    assert_eq!(store.code_in_use().await.unwrap(), [CodeDigest([2; 32])]);
}

pub(crate) async fn a_version_stays_what_the_function_was(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    let new = NewVersion {
        function: function.clone(),
        description: Some("one".to_owned()),
        pending: false,
        now_ms: 5,
    };
    let version = store.publish_version(new).await.unwrap();
    let expected = VersionRecord {
        function: function.id.clone(),
        number: 1,
        revision: function.revision,
        revision_id: version.revision_id.clone(),
        config: hearth_store::FunctionConfig { description: "one".to_owned(), ..function.config.clone() },
        code: function.code,
        modified_ms: 5,
        state: State::Active,
        state_reason: None,
    };
    assert_eq!(version, expected);
    let later = changed(store, function, 2).await;
    assert_eq!(store.version(&later.id, 1).await.unwrap(), Some(version.clone()));
    let second = publish(store, &later).await;
    assert_eq!((second.number, second.code), (2, later.code));
    assert!(store.delete_version(&later.id, 1).await.unwrap());
    assert!(!store.delete_version(&later.id, 1).await.unwrap());
    assert_eq!(store.version(&later.id, 1).await.unwrap(), None);
    assert_eq!(store.version(&later.id, u64::MAX).await.unwrap(), None);
    assert_eq!(store.list_versions(&later.id, 0, 9).await.unwrap(), [second]);
}

pub(crate) async fn what_has_not_changed_is_not_published_again(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    let first = publish(store, &function).await;
    let new = NewVersion {
        function: function.clone(),
        description: Some("other".to_owned()),
        pending: false,
        now_ms: 6,
    };
    assert_eq!(store.publish_version(new).await.unwrap(), first);
    // The same code again is no change either.
    let mut again = changed(store, function, 1).await;
    assert_eq!(publish(store, &again).await, first);
    again.config.timeout_seconds += 1;
    let again = store.update_function(again, Change::Revision).await.unwrap();
    assert_eq!(publish(store, &again).await.number, 2);
}

pub(crate) async fn numbers_of_versions_never_repeat_even_over_deletes(store: &Arc<dyn Store>) {
    let mut function = active(store, "f", 1).await;
    for (code, expected) in [(2, 1), (3, 2), (4, 3)] {
        function = changed(store, function, code).await;
        assert_eq!(publish(store, &function).await.number, expected);
        store.delete_version(&function.id, expected).await.unwrap();
    }
    store.delete_function(&function.id).await.unwrap();
    assert_eq!(publish(store, &active(store, "f", 1).await).await.number, 4);
    assert_eq!(publish(store, &active(store, "g", 1).await).await.number, 1);
}

pub(crate) async fn a_version_of_what_changed_in_between_is_a_conflict(store: &Arc<dyn Store>) {
    let stale = active(store, "f", 1).await;
    let current = store.update_function(stale.clone(), Change::Bookkeeping).await.unwrap();
    let new = NewVersion { function: stale.clone(), description: None, pending: false, now_ms: 5 };
    let refused = store.publish_version(new.clone()).await;
    assert!(matches!(refused, Err(StoreError::Conflict(id)) if id == stale.id));
    assert_eq!(store.list_versions(&current.id, 0, 9).await.unwrap(), []);
    store.delete_function(&current.id).await.unwrap();
    assert!(matches!(store.publish_version(new).await, Err(StoreError::NotFound(_))));
}

pub(crate) async fn of_racing_publishers_all_get_the_same_version(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    let racers = (0..16).map(|_| {
        let (store, function) = (Arc::clone(store), function.clone());
        tokio::spawn(async move { publish(&store, &function).await })
    });
    for racer in racers.collect::<Vec<_>>() {
        assert_eq!(racer.await.unwrap().number, 1);
    }
    assert_eq!(store.list_versions(&function.id, 0, 9).await.unwrap().len(), 1);
}

pub(crate) async fn a_version_of_an_unready_revision_is_pending_until_that_is_settled(
    store: &Arc<dyn Store>,
) {
    let function = store.create_function(new_function(id(ACCOUNT, "f"), 1)).await.unwrap();
    let first = publish(store, &function).await;
    assert_eq!((first.state, first.state_reason.is_some()), (State::Pending, true));
    let state = |number| async move {
        let version = store.version(&id(ACCOUNT, "f"), number).await.unwrap().unwrap();
        (version.state, version.state_reason)
    };
    // What becomes of another revision is nothing to it.
    store.settle_versions(&function.id, function.revision + 1, State::Active, None).await.unwrap();
    assert_eq!(state(1).await.0, State::Pending);
    store.settle_versions(&function.id, function.revision, State::Active, None).await.unwrap();
    assert_eq!(state(1).await, (State::Active, None));
    let mut updated = function;
    updated.state = State::Active;
    let updated = changed(store, updated, 2).await;
    assert_eq!(publish(store, &updated).await.state, State::Pending);
    let reason = Some(StateReason { code: "C".to_owned(), text: "t".to_owned() });
    store.settle_versions(&updated.id, updated.revision, State::Failed, reason.clone()).await.unwrap();
    assert_eq!(state(2).await, (State::Failed, reason));
    // What is settled stays.
    store.settle_versions(&updated.id, updated.revision, State::Active, None).await.unwrap();
    assert_eq!((state(1).await.0, state(2).await.0), (State::Active, State::Failed));
}

pub(crate) async fn pages_of_versions_are_in_order_and_complete(store: &Arc<dyn Store>) {
    let mut function = active(store, "f", 0).await;
    for code in 1..=12 {
        function = changed(store, function, code).await;
        publish(store, &function).await;
    }
    for limit in 1..=13 {
        let (mut pages, mut after) = (Vec::new(), 0);
        loop {
            let page = store.list_versions(&function.id, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = last.number;
            pages.extend(page.iter().map(|version| version.number));
        }
        assert!(pages.iter().copied().eq(1..=12), "pages of {limit}");
    }
}

pub(crate) async fn an_alias_is_changed_by_who_read_it_last(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    publish(store, &function).await;
    let made = store.put_alias(alias(&function.id, "live", 1)).await.unwrap().unwrap();
    assert!(!made.revision_id.is_empty());
    assert_eq!(store.alias(&function.id, "live").await.unwrap(), Some(made.clone()));
    assert_eq!(store.put_alias(alias(&function.id, "live", 1)).await.unwrap(), None);
    publish(store, &changed(store, function.clone(), 2).await).await;
    let mut wanted = made.clone();
    wanted.additional = Some((2, 0.25));
    let updated = store.put_alias(wanted.clone()).await.unwrap().unwrap();
    assert_ne!(updated.revision_id, made.revision_id);
    assert_eq!(updated, AliasRecord { revision_id: updated.revision_id.clone(), ..wanted.clone() });
    assert_eq!(store.alias(&function.id, "live").await.unwrap(), Some(updated));
    assert_eq!(store.put_alias(wanted).await.unwrap(), None);
    assert!(store.delete_alias(&function.id, "live").await.unwrap());
    assert!(!store.delete_alias(&function.id, "live").await.unwrap());
    assert_eq!(store.put_alias(made).await.unwrap(), None);
}

pub(crate) async fn an_alias_means_versions_that_are_there(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    let missing = store.put_alias(alias(&function.id, "live", 1)).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
    let mut latest = alias(&function.id, "dev", 1);
    latest.version = Version::Latest;
    assert!(store.put_alias(latest).await.unwrap().is_some());
    publish(store, &function).await;
    let mut other = alias(&function.id, "live", 1);
    other.additional = Some((2, 0.5));
    assert!(matches!(store.put_alias(other).await, Err(StoreError::NotFound(_))));
    assert!(store.put_alias(alias(&function.id, "live", 1)).await.unwrap().is_some());
    assert!(store.delete_version(&function.id, 1).await.is_err());
    assert!(store.version(&function.id, 1).await.unwrap().is_some());
    store.delete_alias(&function.id, "live").await.unwrap();
    assert!(store.delete_version(&function.id, 1).await.unwrap());
}

pub(crate) async fn aliases_are_listed_by_name_and_version(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    publish(store, &function).await;
    publish(store, &changed(store, function.clone(), 2).await).await;
    for (name, version, additional) in [
        ("b", Version::Latest, None),
        ("a", Version::Published(1), None),
        ("c", Version::Published(1), Some((2, 0.1))),
    ] {
        let record = AliasRecord { version, additional, ..alias(&function.id, name, 1) };
        store.put_alias(record).await.unwrap().unwrap();
    }
    for (version, after, limit, expected) in [
        (None, "", 9, "abc"),
        (None, "a", 1, "b"),
        (Some(Version::Published(1)), "", 9, "ac"),
        (Some(Version::Published(2)), "", 9, "c"),
        (Some(Version::Latest), "", 9, "b"),
        (Some(Version::Published(3)), "", 9, ""),
    ] {
        let listed = store.list_aliases(&function.id, version, after, limit).await.unwrap();
        let names: String = listed.iter().map(|alias| alias.name.as_str()).collect();
        assert_eq!(names, expected, "{version:?} after {after:?}");
    }
}

pub(crate) async fn what_is_provisioned_goes_with_what_it_is_for(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    let missing = store.put_provisioned(provisioned(&id(ACCOUNT, "g"), "1", 1)).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
    publish(store, &function).await;
    publish(store, &changed(store, function.clone(), 2).await).await;
    store.put_alias(alias(&function.id, "live", 2)).await.unwrap();
    for (qualifier, count) in [("live", 3), ("1", 9), ("1", 4)] {
        store.put_provisioned(provisioned(&function.id, qualifier, count)).await.unwrap();
    }
    let expected = [provisioned(&function.id, "1", 4), provisioned(&function.id, "live", 3)];
    assert_eq!(store.provisioned(&function.id).await.unwrap(), expected);
    assert_eq!(store.provisioned_functions().await.unwrap().first(), Some(&function.id));
    store.delete_version(&function.id, 1).await.unwrap();
    assert_eq!(store.provisioned(&function.id).await.unwrap(), expected[1..]);
    store.delete_alias(&function.id, "live").await.unwrap();
    assert_eq!(store.provisioned(&function.id).await.unwrap(), []);
    store.put_provisioned(provisioned(&function.id, "2", 1)).await.unwrap();
    assert!(store.delete_provisioned(&function.id, "2").await.unwrap());
    assert!(!store.delete_provisioned(&function.id, "2").await.unwrap());
    assert_eq!(store.provisioned_functions().await.unwrap(), []);
}

pub(crate) async fn a_deleted_function_takes_all_with_it(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    publish(store, &function).await;
    store.put_alias(alias(&function.id, "live", 1)).await.unwrap();
    store.put_provisioned(provisioned(&function.id, "live", 3)).await.unwrap();
    store.delete_function(&function.id).await.unwrap();
    let again = active(store, "f", 2).await;
    assert_eq!(store.list_versions(&again.id, 0, 9).await.unwrap(), []);
    assert_eq!(store.list_aliases(&again.id, None, "", 9).await.unwrap(), []);
    assert_eq!(store.provisioned(&again.id).await.unwrap(), []);
    assert_eq!(store.code_in_use().await.unwrap(), [CodeDigest([2; 32])]);
}

pub(crate) async fn sums_have_versions_and_what_is_provisioned_in_them(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    publish(store, &function).await;
    store.put_provisioned(provisioned(&function.id, "1", 3)).await.unwrap();
    let mut reserved = active(store, "g", 2).await;
    reserved.reserved_concurrency = Some(10);
    store.update_function(reserved.clone(), Change::Bookkeeping).await.unwrap();
    publish(store, &store.function(&reserved.id).await.unwrap().unwrap()).await;
    store.put_provisioned(provisioned(&reserved.id, "1", 5)).await.unwrap();
    let usage = store.usage(&function.id.account).await.unwrap();
    assert_eq!((usage.functions, usage.code_bytes), (2, 2 * 1_001 + 2 * 1_002));
    assert_eq!((usage.reserved_concurrency, usage.provisioned_unreserved), (10, 3));
    assert_eq!(store.reservations().await.unwrap(), [(reserved.id, 10)]);
}

fn url(function: &FunctionId, qualifier: &str, url_id: &str) -> UrlRecord {
    UrlRecord {
        function: function.clone(),
        qualifier: qualifier.to_owned(),
        url_id: url_id.to_owned(),
        signed: true,
        streamed: false,
        cors: Some("{}".to_owned()),
        created_ms: 5,
        modified_ms: 5,
    }
}

pub(crate) async fn urls_are_kept_by_qualifier_and_go_with_what_they_are_for(store: &Arc<dyn Store>) {
    let function = active(store, "f", 1).await;
    let id = &function.id;
    let missing = store.put_url(url(&super::suite::id(ACCOUNT, "none"), "", "x")).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
    publish(store, &function).await;
    store.put_alias(alias(id, "live", 1)).await.unwrap();
    store.put_url(url(id, "live", "b")).await.unwrap();
    store.put_url(url(id, "", "a")).await.unwrap();
    // What is written again keeps its name and its beginning.
    let changed = UrlRecord {
        signed: false,
        streamed: true,
        cors: None,
        created_ms: 9,
        modified_ms: 9,
        ..url(id, "", "z")
    };
    store.put_url(changed.clone()).await.unwrap();
    let kept = UrlRecord { url_id: "a".to_owned(), created_ms: 5, ..changed };
    assert_eq!(store.urls(id).await.unwrap(), [kept.clone(), url(id, "live", "b")]);
    assert_eq!(store.all_urls().await.unwrap().len(), 2);
    store.delete_alias(id, "live").await.unwrap();
    assert_eq!(store.urls(id).await.unwrap(), [kept]);
    assert!(store.delete_url(id, "").await.unwrap());
    assert!(!store.delete_url(id, "").await.unwrap());
    store.put_url(url(id, "", "c")).await.unwrap();
    store.delete_function(id).await.unwrap();
    assert!(store.all_urls().await.unwrap().is_empty());
}
