//! The questions. Each gets a store that is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hearth_store::{
    Change, CodeRef, FunctionConfig, FunctionRecord, LastUpdate, LoggingConfig, NewFunction, State, Store,
    StoreError, UpdateStatus, Usage,
};
use hearth_types::{AccountId, CodeDigest, FunctionId};

pub(crate) const ACCOUNT: &str = "123456789012";
const OTHER_ACCOUNT: &str = "210987654321";

pub(crate) fn id(account: &str, name: &str) -> FunctionId {
    FunctionId { account: account.parse().unwrap(), name: name.into() }
}

pub(crate) fn new_function(id: FunctionId, code: u8) -> NewFunction {
    NewFunction {
        config: FunctionConfig {
            description: "with \"quotes\", a \u{0} and 日本語".to_owned(),
            role: "arn:aws:iam::123456789012:role/r".to_owned(),
            image: None,
            runtime: "python3.12".to_owned(),
            handler: "app.handler".to_owned(),
            memory_mb: 128,
            timeout_seconds: 3,
            ephemeral_mb: 512,
            environment: Some(BTreeMap::from([("KEY".to_owned(), "value".to_owned())])),
            architecture: "x86_64".to_owned(),
            tracing_mode: "PassThrough".to_owned(),
            logging: LoggingConfig {
                format: "Text".to_owned(),
                group: format!("/aws/lambda/{}", id.name),
                application_level: None,
                system_level: None,
            },
            layers: Vec::new(),
            passive: BTreeMap::from([("KMSKeyArn".to_owned(), "\"\"".to_owned())]),
        },
        id,
        code: CodeRef { digest: CodeDigest([code; 32]), size: 1_000 + u64::from(code) },
        tags: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
        now_ms: 1_700_000_000_000,
    }
}

async fn create(store: &Arc<dyn Store>, name: &str) -> FunctionRecord {
    store.create_function(new_function(id(ACCOUNT, name), 1)).await.unwrap()
}

pub(crate) async fn a_created_function_is_pending_and_read_back_as_it_was_answered(store: &Arc<dyn Store>) {
    assert_eq!(store.function(&id(ACCOUNT, "f")).await.unwrap(), None);
    let new = new_function(id(ACCOUNT, "f"), 1);
    let record = store.create_function(new.clone()).await.unwrap();
    assert_eq!((record.state, record.last_update.status), (State::Pending, UpdateStatus::InProgress));
    assert!(record.state_reason.is_some());
    assert_eq!((&record.id, &record.config, record.code), (&new.id, &new.config, new.code));
    assert_eq!((&record.tags, record.modified_ms, record.generation), (&new.tags, new.now_ms, 1));
    assert_eq!(store.function(&new.id).await.unwrap(), Some(record.clone()));
    assert_eq!(store.list_functions(&new.id.account, None, 10).await.unwrap(), [record]);
}

pub(crate) async fn a_name_is_taken_until_it_is_deleted(store: &Arc<dyn Store>) {
    let record = create(store, "f").await;
    let again = store.create_function(new_function(record.id.clone(), 2)).await;
    assert!(matches!(again, Err(StoreError::Exists(taken)) if taken == record.id));
    assert_eq!(store.function(&record.id).await.unwrap().as_ref(), Some(&record));
    assert_eq!(store.delete_function(&record.id).await.unwrap(), record.revision);
    assert_eq!(store.function(&record.id).await.unwrap(), None);
    assert!(matches!(store.delete_function(&record.id).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.update_function(record, Change::Bookkeeping).await, Err(StoreError::NotFound(_))));
    create(store, "f").await;
}

pub(crate) async fn names_are_apart_in_each_account(store: &Arc<dyn Store>) {
    let here = create(store, "f").await;
    let there = store.create_function(new_function(id(OTHER_ACCOUNT, "f"), 2)).await.unwrap();
    store.delete_function(&here.id).await.unwrap();
    assert_eq!(store.function(&there.id).await.unwrap(), Some(there.clone()));
    assert_eq!(store.list_functions(&here.id.account, None, 10).await.unwrap(), []);
}

pub(crate) async fn an_update_of_code_draws_a_revision_and_bookkeeping_does_not(store: &Arc<dyn Store>) {
    let first = create(store, "f").await;
    let mut record = first.clone();
    record.state = State::Active;
    record.state_reason = None;
    record.last_update = LastUpdate { status: UpdateStatus::Successful, reason: None };
    record.reserved_concurrency = Some(7);
    let booked = store.update_function(record.clone(), Change::Bookkeeping).await.unwrap();
    let expected =
        FunctionRecord { generation: 2, revision_id: booked.revision_id.clone(), ..record.clone() };
    assert_eq!(booked, expected);
    assert_ne!(booked.revision_id, first.revision_id);
    assert_eq!(store.function(&first.id).await.unwrap().as_ref(), Some(&booked));

    let mut changed = booked.clone();
    changed.code = CodeRef { digest: CodeDigest([9; 32]), size: 9 };
    changed.modified_ms += 1;
    let changed = store.update_function(changed, Change::Revision).await.unwrap();
    assert_eq!(changed.generation, 3);
    assert!(changed.revision > booked.revision);
    assert_eq!(store.function(&first.id).await.unwrap(), Some(changed));
}

pub(crate) async fn an_update_of_what_changed_in_between_is_a_conflict(store: &Arc<dyn Store>) {
    let stale = create(store, "f").await;
    let current = store.update_function(stale.clone(), Change::Bookkeeping).await.unwrap();
    for change in [Change::Bookkeeping, Change::Revision] {
        let refused = store.update_function(stale.clone(), change).await;
        assert!(matches!(refused, Err(StoreError::Conflict(id)) if id == stale.id));
    }
    assert_eq!(store.function(&stale.id).await.unwrap(), Some(current));
}

pub(crate) async fn of_racing_updates_exactly_one_wins(store: &Arc<dyn Store>) {
    let mut record = create(store, "f").await;
    for round in 0..10 {
        let racers = (0..16).map(|racer| {
            let (store, mut mine) = (Arc::clone(store), record.clone());
            mine.modified_ms = racer;
            tokio::spawn(async move { store.update_function(mine, Change::Revision).await })
        });
        let mut winners = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.unwrap() {
                Ok(won) => winners.push(won),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        record = winners.remove(0);
        assert_eq!(store.function(&record.id).await.unwrap().as_ref(), Some(&record));
    }
}

pub(crate) async fn of_racing_creates_exactly_one_wins(store: &Arc<dyn Store>) {
    let racers = (0..16).map(|racer| {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.create_function(new_function(id(ACCOUNT, "f"), racer)).await })
    });
    let mut winners = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(won) => winners.push(won),
            Err(StoreError::Exists(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.function(&id(ACCOUNT, "f")).await.unwrap().as_ref(), winners.first());
}

pub(crate) async fn a_record_of_a_deleted_function_does_not_touch_its_successor(store: &Arc<dyn Store>) {
    let old = create(store, "f").await;
    store.delete_function(&old.id).await.unwrap();
    let new = create(store, "f").await;
    assert_eq!(old.generation, new.generation);
    let refused = store.update_function(old, Change::Bookkeeping).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))));
    assert_eq!(store.function(&new.id).await.unwrap().as_ref(), Some(&new));
}

pub(crate) async fn revisions_never_repeat_even_over_deletes(store: &Arc<dyn Store>) {
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        let mut record = create(store, "f").await;
        assert!(seen.insert(record.revision));
        for _ in 0..3 {
            record = store.update_function(record, Change::Revision).await.unwrap();
            assert!(seen.insert(record.revision));
        }
        store.delete_function(&record.id).await.unwrap();
    }
}

pub(crate) async fn pages_of_a_list_are_in_order_and_complete(store: &Arc<dyn Store>) {
    let names = ["Z", "_", "a", "a-", "a0", "aa", "b", "é", "😀"];
    for name in names.iter().rev() {
        create(store, name).await;
    }
    store.create_function(new_function(id(OTHER_ACCOUNT, "aaa"), 1)).await.unwrap();
    let account: AccountId = ACCOUNT.parse().unwrap();
    for limit in 1..=names.len() + 1 {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = store.list_functions(&account, after.as_deref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.id.name.to_string());
            pages.extend(page.iter().map(|record| record.id.name.to_string()));
        }
        assert_eq!(pages, names, "pages of {limit}");
    }
    assert_eq!(store.list_functions(&account, None, 0).await.unwrap(), []);
    assert_eq!(store.list_functions(&account, Some("never there"), 1).await.unwrap()[0].id.name, "é".into());
}

pub(crate) async fn unfinished_functions_are_those_pending_or_being_updated(store: &Arc<dyn Store>) {
    let finish = |mut record: FunctionRecord, state, status| async move {
        record.state = state;
        record.last_update = LastUpdate { status, reason: None };
        store.update_function(record, Change::Bookkeeping).await.unwrap()
    };
    create(store, "pending").await;
    finish(create(store, "active").await, State::Active, UpdateStatus::Successful).await;
    finish(create(store, "failed").await, State::Failed, UpdateStatus::Failed).await;
    finish(create(store, "updating").await, State::Active, UpdateStatus::InProgress).await;
    store.create_function(new_function(id(OTHER_ACCOUNT, "pending"), 1)).await.unwrap();
    let unfinished = store.unfinished_functions().await.unwrap();
    let unfinished: BTreeSet<String> = unfinished.iter().map(|record| record.id.to_string()).collect();
    let expected = [(ACCOUNT, "pending"), (ACCOUNT, "updating"), (OTHER_ACCOUNT, "pending")]
        .map(|(a, n)| format!("{a}/{n}"));
    assert_eq!(unfinished, expected.into());
}

pub(crate) async fn usage_sums_up_one_account(store: &Arc<dyn Store>) {
    let account: AccountId = ACCOUNT.parse().unwrap();
    assert_eq!(store.usage(&account).await.unwrap(), Usage::default());
    for (name, code, reserved) in [("a", 1, Some(5)), ("b", 2, None), ("c", 3, Some(0))] {
        let mut record = store.create_function(new_function(id(ACCOUNT, name), code)).await.unwrap();
        record.reserved_concurrency = reserved;
        store.update_function(record, Change::Bookkeeping).await.unwrap();
    }
    store.create_function(new_function(id(OTHER_ACCOUNT, "a"), 200)).await.unwrap();
    let expected =
        Usage { functions: 3, code_bytes: 3_006, reserved_concurrency: 5, provisioned_unreserved: 0 };
    assert_eq!(store.usage(&account).await.unwrap(), expected);
}

pub(crate) async fn code_in_use_names_each_archive_once(store: &Arc<dyn Store>) {
    for (account, name, code) in
        [(ACCOUNT, "a", 1), (ACCOUNT, "b", 1), (ACCOUNT, "c", 2), (OTHER_ACCOUNT, "a", 3)]
    {
        store.create_function(new_function(id(account, name), code)).await.unwrap();
    }
    store.delete_function(&id(ACCOUNT, "c")).await.unwrap();
    let mut in_use = store.code_in_use().await.unwrap();
    in_use.sort();
    assert_eq!(in_use, [CodeDigest([1; 32]), CodeDigest([3; 32])]);
}
