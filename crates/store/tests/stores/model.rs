//! Random lives of a store beside a map that does the same: they answer alike.

use std::collections::BTreeMap;

use hearth_store::{Change, FunctionRecord, NewVersion, StoreError, VersionRecord};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Fresh;
use super::suite::{ACCOUNT, id, new_function};

#[derive(Clone, Debug)]
enum Step {
    Create {
        name: u8,
        code: u8,
    },
    /// `stale` acts on the record as it was before its last update.
    Update {
        name: u8,
        stale: bool,
        code: Option<u8>,
    },
    Delete {
        name: u8,
    },
    Read {
        name: u8,
    },
    Publish {
        name: u8,
        stale: bool,
    },
    DeleteVersion {
        name: u8,
        /// Counted from the newest.
        back: usize,
    },
    List {
        after: Option<u8>,
        limit: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..6_u8;
    prop_oneof![
        3 => (name.clone(), any::<u8>()).prop_map(|(name, code)| Step::Create { name, code }),
        4 => (name.clone(), any::<bool>(), any::<Option<u8>>())
            .prop_map(|(name, stale, code)| Step::Update { name, stale, code }),
        1 => name.clone().prop_map(|name| Step::Delete { name }),
        1 => name.clone().prop_map(|name| Step::Read { name }),
        2 => (name.clone(), proptest::bool::weighted(0.2))
            .prop_map(|(name, stale)| Step::Publish { name, stale }),
        1 => (name.clone(), 0..4_usize).prop_map(|(name, back)| Step::DeleteVersion { name, back }),
        1 => (proptest::option::of(name), 0..8_usize).prop_map(|(after, limit)| Step::List { after, limit }),
    ]
}

/// What is kept of a name: the record, and the one before it.
type Model = BTreeMap<String, (FunctionRecord, FunctionRecord)>;
/// The last number that was given to a version of a name, and the versions that there are.
type Versions = BTreeMap<String, (u64, Vec<VersionRecord>)>;

pub(crate) fn compare<G>(make: impl Fn() -> Fresh<G>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let lives = proptest::collection::vec(step(), 1..60);
    runner.run(&lives, |steps| runtime.block_on(live(&make(), steps))).unwrap();
}

async fn live<G>(fresh: &Fresh<G>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    let mut last_revision = 0;
    let mut versions = Versions::new();
    for step in steps {
        match step {
            Step::Publish { name, stale } => publish(fresh, &model, &mut versions, name, stale).await?,
            Step::DeleteVersion { name, back } => {
                let Some((_, kept)) = versions.get_mut(&format!("f{name}")) else { continue };
                let Some(at) = kept.len().checked_sub(back + 1) else { continue };
                let gone = kept.remove(at);
                prop_assert!(fresh.store.delete_version(&gone.function, gone.number).await.unwrap());
            }
            step => {
                if let Step::Delete { name } = &step {
                    // Their numbers stay used up.
                    versions.entry(format!("f{name}")).or_default().1.clear();
                }
                take(fresh, &mut model, &mut last_revision, step).await?;
            }
        }
    }
    for (name, (_, kept)) in &versions {
        prop_assert_eq!(&fresh.store.list_versions(&id(ACCOUNT, name), 0, usize::MAX).await.unwrap(), kept);
    }
    let all = fresh.store.list_functions(&ACCOUNT.parse().unwrap(), None, usize::MAX).await.unwrap();
    prop_assert!(all.iter().eq(model.values().map(|(record, _)| record)));
    Ok(())
}

async fn publish<G>(
    fresh: &Fresh<G>,
    model: &Model,
    versions: &mut Versions,
    name: u8,
    stale: bool,
) -> Result<(), TestCaseError> {
    let Some((current, before)) = model.get(&format!("f{name}")) else { return Ok(()) };
    let wanted = if stale { before } else { current };
    let new = NewVersion { function: wanted.clone(), description: None, pending: false, now_ms: 1 };
    let answer = fresh.store.publish_version(new).await;
    if wanted != current {
        prop_assert!(matches!(answer, Err(StoreError::Conflict(_))));
        return Ok(());
    }
    let version = answer.unwrap();
    prop_assert_eq!((&version.config, version.code), (&current.config, current.code));
    let (last, kept) = versions.entry(format!("f{name}")).or_default();
    let newest = kept.last().filter(|newest| newest.code == current.code);
    if let Some(newest) = newest {
        prop_assert_eq!(newest, &version);
    } else {
        prop_assert_eq!(version.number, *last + 1);
        *last = version.number;
        kept.push(version);
    }
    Ok(())
}

async fn take<G>(
    fresh: &Fresh<G>,
    model: &mut Model,
    last_revision: &mut u64,
    step: Step,
) -> Result<(), TestCaseError> {
    let store = &fresh.store;
    let name = |number: u8| format!("f{number}");
    match step {
        Step::Create { name: number, code } => {
            let made = store.create_function(new_function(id(ACCOUNT, &name(number)), code)).await;
            prop_assert_eq!(made.is_ok(), !model.contains_key(&name(number)));
            match made {
                Ok(record) => {
                    prop_assert!(record.revision > *last_revision);
                    *last_revision = record.revision;
                    model.insert(name(number), (record.clone(), record));
                }
                Err(error) => prop_assert!(matches!(error, StoreError::Exists(_))),
            }
        }
        Step::Update { name: number, stale, code } => {
            let Some((current, before)) = model.get(&name(number)).cloned() else { return Ok(()) };
            let mut wanted = if stale { before.clone() } else { current.clone() };
            if let Some(code) = code {
                wanted.code.digest.0[0] = code;
            }
            let change = if code.is_some() { Change::Revision } else { Change::Bookkeeping };
            let answer = store.update_function(wanted.clone(), change).await;
            if stale && before != current {
                prop_assert!(matches!(answer, Err(StoreError::Conflict(_))));
                return Ok(());
            }
            let record = answer.unwrap();
            prop_assert_eq!(record.generation, current.generation + 1);
            if code.is_some() {
                prop_assert!(record.revision > *last_revision);
                *last_revision = record.revision;
            } else {
                prop_assert_eq!(record.revision, current.revision);
            }
            let (generation, revision) = (record.generation, record.revision);
            let revision_id = record.revision_id.clone();
            prop_assert_eq!(&record, &FunctionRecord { generation, revision, revision_id, ..wanted });
            model.insert(name(number), (record, current));
        }
        Step::Delete { name: number } => {
            let deleted = store.delete_function(&id(ACCOUNT, &name(number))).await;
            prop_assert_eq!(deleted.is_ok(), model.remove(&name(number)).is_some());
        }
        Step::Read { name: number } => {
            let read = store.function(&id(ACCOUNT, &name(number))).await.unwrap();
            prop_assert_eq!(read.as_ref(), model.get(&name(number)).map(|(record, _)| record));
        }
        Step::List { after, limit } => {
            let after = after.map(name);
            let account = ACCOUNT.parse().unwrap();
            let listed = store.list_functions(&account, after.as_deref(), limit).await.unwrap();
            let expected: Vec<_> = model
                .iter()
                .filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after))
                .take(limit)
                .map(|(_, (record, _))| record.clone())
                .collect();
            prop_assert_eq!(listed, expected);
        }
        Step::Publish { .. } | Step::DeleteVersion { .. } => {}
    }
    Ok(())
}
