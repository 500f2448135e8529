//! Files that are not what they were: each is refused, in words that help, and left as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hearth_store::{FunctionRecord, NewVersion, OpenError, SqliteStore, Store};
use tempfile::TempDir;

use super::suite::{ACCOUNT, id, new_function};

const PAGE: usize = 4_096;

/// A folder with a store of `count` functions, closed.
fn closed_store(count: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    fill(&SqliteStore::open(&path).unwrap(), count);
    (folder, path)
}

fn fill(store: &SqliteStore, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for number in 0..count {
        let new = new_function(id(ACCOUNT, &format!("f{number}")), 1);
        runtime.block_on(store.create_function(new)).unwrap();
    }
}

fn functions(store: &SqliteStore) -> Vec<FunctionRecord> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(store.list_functions(&ACCOUNT.parse().unwrap(), None, usize::MAX)).unwrap()
}

/// Every file of a folder with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs::read(path).unwrap_or_default())).collect()
}

/// Opens a store that must be refused, and checks that the refusal changed nothing and names the file.
fn refusal(path: &Path) -> OpenError {
    let folder = path.parent().unwrap();
    let before = content(folder);
    let error = SqliteStore::open(path).unwrap_err();
    assert!(content(folder) == before, "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

fn assert_damaged(path: &Path, what: &str) {
    let error = refusal(path);
    assert!(matches!(error, OpenError::Damaged { .. }), "{what}: {error}");
    assert!(error.to_string().contains("restore it from a backup"), "{what}: {error}");
}

#[test]
fn a_file_that_is_cut_off_emptied_or_overwritten_is_refused() {
    let (_folder, path) = closed_store(100);
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 20 * PAGE);
    for length in [0, 1, 50, 99, 100, PAGE, PAGE + 1, whole.len() / 2, whole.len() - PAGE, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_damaged(&path, &format!("cut off at {length}"));
    }
    let garbage = [&[0xa5; 200][..], &whole[200..]].concat();
    for (what, bytes) in
        [("garbage header", garbage), ("zeros", vec![0; whole.len()]), ("text", "text ".repeat(999).into())]
    {
        fs::write(&path, bytes).unwrap();
        assert_damaged(&path, what);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(functions(&SqliteStore::open(&path).unwrap()).len(), 100);
}

#[test]
fn a_zeroed_page_is_found_wherever_it_is() {
    let (_folder, path) = closed_store(60);
    let whole = fs::read(&path).unwrap();
    for page in 0..whole.len() / PAGE {
        let mut damaged = whole.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0);
        fs::write(&path, damaged).unwrap();
        assert_damaged(&path, &format!("page {page}"));
    }
}

#[test]
fn damage_beside_a_log_leaves_the_log_too() {
    let source = tempfile::tempdir().unwrap();
    let live = SqliteStore::open(&source.path().join("store.db")).unwrap();
    fill(&live, 60);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let copy = || {
        for (file, bytes) in content(source.path()) {
            fs::write(folder.path().join(file.file_name().unwrap()), bytes).unwrap();
        }
    };
    copy();
    assert!(fs::metadata(folder.path().join("store.db-wal")).unwrap().len() > 0);
    let whole = fs::read(&path).unwrap();
    for (what, bytes) in [("empty", vec![]), ("zeros", vec![0; whole.len()]), ("cut off", whole[..50].into())]
    {
        fs::write(&path, bytes).unwrap();
        assert_damaged(&path, what);
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(refusal(&path), OpenError::Missing { .. }));
    // The copy of a running store, log and all, is what a power failure leaves.
    copy();
    assert_eq!(functions(&SqliteStore::open(&path).unwrap()), functions(&live));
}

#[test]
fn a_log_that_says_nonsense_about_a_page_is_refused_and_kept() {
    let (folder, path) = closed_store(60);
    // A log whose checksums are right and whose content is not: a page that SQLite itself was told to write.
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 2 WHERE type = 'index'",
        )
        .unwrap();
    let copy = tempfile::tempdir().unwrap();
    for (file, bytes) in content(folder.path()) {
        let name = file.file_name().unwrap();
        if !name.to_str().unwrap().ends_with("-shm") {
            fs::write(copy.path().join(name), bytes).unwrap();
        }
    }
    assert_damaged(&copy.path().join("store.db"), "log");
}

#[test]
fn a_missing_database_is_not_a_first_start() {
    let (_folder, path) = closed_store(1);
    fs::remove_file(&path).unwrap();
    let error = refusal(&path);
    let OpenError::Missing { evidence, .. } = &error else { panic!("{error}") };
    assert!(error.to_string().contains("restore it from a backup"), "{error}");
    fs::remove_file(evidence).unwrap();
    assert_eq!(functions(&SqliteStore::open(&path).unwrap()), []);
}

#[test]
fn what_a_crash_left_half_made_is_no_database_yet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    fs::write(folder.path().join("store.db-new"), "half").unwrap();
    fs::write(folder.path().join("store.db-new-journal"), "half").unwrap();
    drop(SqliteStore::open(&path).unwrap());
    let names: Vec<_> = content(folder.path()).into_keys().collect();
    assert_eq!(names, ["store.db", "store.db-made"].map(|name| folder.path().join(name)));
}

#[test]
fn a_lost_marker_is_made_again() {
    let (folder, path) = closed_store(1);
    fs::remove_file(folder.path().join("store.db-made")).unwrap();
    drop(SqliteStore::open(&path).unwrap());
    fs::remove_file(&path).unwrap();
    assert!(matches!(refusal(&path), OpenError::Missing { .. }));
}

#[test]
fn databases_of_others_and_of_the_future_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign.db");
    let other = rusqlite::Connection::open(&foreign).unwrap();
    other.execute_batch("PRAGMA application_id = 7; CREATE TABLE theirs (x)").unwrap();
    other.close().unwrap();
    assert!(matches!(refusal(&foreign), OpenError::Foreign { application_id: 7, .. }));

    let (_folder, path) = closed_store(1);
    let future = rusqlite::Connection::open(&path).unwrap();
    future.pragma_update(None, "user_version", 99).unwrap();
    future.close().unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::TooNew { found: 99, .. }), "{error}");

    let directory = folder.path().join("directory.db");
    fs::create_dir(&directory).unwrap();
    assert_damaged(&directory, "directory");
}

#[test]
fn a_store_has_one_owner_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let first = SqliteStore::open(&path).unwrap();
    fill(&first, 1);
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    fill_one_more(&first);
    drop(first);
    assert_eq!(functions(&SqliteStore::open(&path).unwrap()).len(), 2);
}

fn fill_one_more(store: &SqliteStore) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(store.create_function(new_function(id(ACCOUNT, "more"), 1))).unwrap();
}

#[test]
fn a_store_of_the_first_schema_is_brought_up_to_date_with_all_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../src/sqlite/schema/1.sql")).unwrap();
    old.execute_batch(
        "PRAGMA application_id = 0x48727468; PRAGMA user_version = 1; \
         INSERT INTO function SELECT '123456789012', 'f', 3, 9, 'r', zeroblob(32), 7, 5, 1, config, status, '{}', 0 \
         FROM (SELECT '{\"description\":\"\",\"role\":\"\",\"runtime\":\"python3.12\",\"handler\":\"h\",\
         \"memory_mb\":128,\"timeout_seconds\":3,\"ephemeral_mb\":512,\"environment\":null,\
         \"architecture\":\"x86_64\",\"tracing_mode\":\"PassThrough\",\"logging\":{\"format\":\"Text\",\
         \"group\":\"g\",\"application_level\":null,\"system_level\":null},\"passive\":{}}' AS config, \
         '{\"state\":\"Active\",\"state_reason\":null,\"last_update\":{\"status\":\"Successful\",\"reason\":null}}' \
         AS status)",
    )
    .unwrap();
    drop(old);
    let store = SqliteStore::open(&path).unwrap();
    let found = functions(&store);
    assert_eq!((found.len(), found[0].revision, found[0].reserved_concurrency), (1, 9, Some(5)));
    assert_eq!(found[0].serving, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let new = NewVersion { function: found[0].clone(), description: None, pending: false, now_ms: 1 };
    assert_eq!(runtime.block_on(store.publish_version(new)).unwrap().number, 1);
    drop(store);
    assert_eq!(functions(&SqliteStore::open(&path).unwrap()), found);
}
