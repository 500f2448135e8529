//! What the store of events promises: all or nothing of each event, whatever happens to the process or the disk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hearth_store::{
    EventContext, EventStore, Expected, NewEvent, Setting, SettingKind, SqliteEvents, StoreError, Target,
};
use hearth_types::{AccountId, FunctionId, RequestId};

/// Where the tests that run in a process of their own find their store.
const FOLDER: &str = "HEARTH_TEST_EVENTS";

fn account() -> AccountId {
    "123456789012".parse().unwrap()
}

fn function(name: &str) -> FunctionId {
    FunctionId { account: account(), name: name.into() }
}

fn event(name: &str, payload: &str) -> NewEvent {
    NewEvent {
        request_id: RequestId::random(),
        target: Target::Function { id: function(name), qualifier: Some("live".to_owned()) },
        accepted_ms: 1_000,
        expires_ms: 2_000,
        context: EventContext { trace: Some("Root=1".to_owned()), ..EventContext::default() },
        payload: payload.to_owned().into(),
    }
}

fn setting(key: &str) -> Setting {
    let body = "{}".to_owned();
    Setting {
        kind: SettingKind::Schedule,
        account: account(),
        key: key.to_owned(),
        generation: 0,
        mark: 0,
        body,
    }
}

fn open(folder: &Path) -> SqliteEvents {
    SqliteEvents::open(&folder.join("events.db")).unwrap()
}

#[tokio::test]
async fn an_event_is_read_back_as_it_was_accepted_until_it_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let new = event("f", "{}");
    let id = store.accept(new.clone()).await.unwrap();
    store.postpone(id, 2, 5_000).await.unwrap();
    drop(store);
    let store = open(folder.path());
    let read = store.event(id).await.unwrap().unwrap();
    assert_eq!((read.event, read.failures), (new, 2));
    let heads = store.heads(None, 10).await.unwrap();
    assert_eq!((heads.len(), heads[0].due_ms, heads[0].bytes), (1, 5_000, 2));
    let to = Target::Destination { account: account(), arn: "arn:aws:sqs:::q".to_owned() };
    let ids = store.finish(id, vec![NewEvent { target: to.clone(), ..event("f", "1") }]).await.unwrap();
    assert_eq!(store.event(id).await.unwrap(), None);
    assert_eq!(store.event(ids[0]).await.unwrap().unwrap().event.target, to);
}

/// How large the file of the events is, bytes.
fn size(folder: &Path) -> u64 {
    fs::metadata(folder.join("events.db")).unwrap().len()
}

#[tokio::test]
async fn a_file_whose_events_are_over_gives_back_what_they_took_and_loses_none_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let payload = "x".repeat(1 << 20);
    let stays = store.accept(event("f", &payload)).await.unwrap();
    let mut over = Vec::new();
    for _ in 0..40 {
        over.push(store.accept(event("f", &payload)).await.unwrap());
    }
    let last = store.accept(event("f", &payload)).await.unwrap();
    let before = size(folder.path());
    assert!(before > 32 << 20, "{before}");
    for id in over {
        store.finish(id, Vec::new()).await.unwrap();
    }
    let end = Instant::now() + Duration::from_secs(60);
    while size(folder.path()) >= 24 << 20 {
        assert!(Instant::now() < end, "{} bytes", size(folder.path()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(store);
    let store = open(folder.path());
    for id in [stays, last] {
        assert_eq!(store.event(id).await.unwrap().unwrap().event.payload.len(), payload.len());
    }
}

#[tokio::test]
async fn a_file_from_before_files_shrank_is_made_anew_with_all_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let id = open(folder.path()).accept(event("f", "{}")).await.unwrap();
    let path = folder.path().join("events.db");
    let vacuum = |set: Option<&str>| -> i64 {
        let other = rusqlite::Connection::open(&path).unwrap();
        if let Some(set) = set {
            other.execute_batch(&format!("PRAGMA auto_vacuum = {set}; VACUUM")).unwrap();
        }
        other.query_row("PRAGMA auto_vacuum", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(vacuum(Some("NONE")), 0);
    assert!(open(folder.path()).event(id).await.unwrap().is_some());
    assert_eq!(vacuum(None), 2);
}

#[tokio::test]
async fn a_function_that_is_forgotten_takes_only_its_own_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for name in ["f", "f", "g"] {
        store.accept(event(name, "{}")).await.unwrap();
    }
    for key in ["f:$LATEST", "f:1", "ff:$LATEST"] {
        let new = Setting { kind: SettingKind::EventInvokeConfig, ..setting(key) };
        store.put_setting(new, Expected::Any).await.unwrap().unwrap();
    }
    store.forget(&function("f")).await.unwrap();
    assert_eq!(store.heads(None, 10).await.unwrap().len(), 1);
    let left = |store: &SqliteEvents| -> Vec<String> {
        store.all_settings(SettingKind::EventInvokeConfig).into_iter().map(|setting| setting.key).collect()
    };
    assert_eq!(left(&store), ["ff:$LATEST"]);
    drop(store);
    assert_eq!(left(&open(folder.path())), ["ff:$LATEST"]);
}

#[tokio::test]
async fn a_setting_is_changed_by_who_read_it_last_and_listed_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let kept = store.put_setting(setting("a/1"), Expected::Nothing).await.unwrap().unwrap();
    assert_eq!(store.put_setting(setting("a/1"), Expected::Nothing).await.unwrap(), None);
    let before = Expected::Generation(kept.generation);
    let changed = Setting { body: "{\"b\":1}".to_owned(), ..kept };
    let changed = store.put_setting(changed, before).await.unwrap().unwrap();
    assert_eq!(store.put_setting(setting("a/1"), before).await.unwrap(), None);
    assert_eq!(store.setting(SettingKind::Schedule, &account(), "a/1"), Some(changed));
    for key in ["a/3", "a/2", "b/1"] {
        store.put_setting(setting(key), Expected::Nothing).await.unwrap();
    }
    let keys = |prefix: &str, after: &str, limit| -> Vec<String> {
        let found = store.settings(SettingKind::Schedule, &account(), prefix, after, limit);
        found.into_iter().map(|setting| setting.key).collect()
    };
    assert_eq!(keys("a/", "", 2), ["a/1", "a/2"]);
    assert_eq!(keys("a/", "a/2", 9), ["a/3"]);
    assert_eq!(keys("", "", 9).len(), 4);
    assert!(store.delete_setting(SettingKind::Schedule, &account(), "a/1").await.unwrap());
    assert!(!store.delete_setting(SettingKind::Schedule, &account(), "a/1").await.unwrap());
}

#[tokio::test]
async fn a_mark_moves_forward_only_and_brings_its_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let kept = store.put_setting(setting("g/s"), Expected::Nothing).await.unwrap().unwrap();
    for _ in 0..3 {
        store.fire(&kept, 1_000, Some(event("f", "{}"))).await.unwrap();
    }
    assert_eq!(store.heads(None, 10).await.unwrap().len(), 1);
    let changed = store.put_setting(kept.clone(), Expected::Any).await.unwrap().unwrap();
    assert_eq!(changed.mark, 1_000);
    assert_eq!(store.fire(&kept, 2_000, Some(event("f", "{}"))).await.unwrap(), None);
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.setting(SettingKind::Schedule, &account(), "g/s").unwrap().mark, 1_000);
    assert_eq!(store.fire(&changed, 2_000, None).await.unwrap(), Some(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_callers_write_at_once_is_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let callers = (0..200).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.accept(event("f", &number.to_string())).await.unwrap() })
    });
    let mut ids = BTreeSet::new();
    for caller in callers.collect::<Vec<_>>() {
        ids.insert(caller.await.unwrap());
    }
    assert_eq!(ids.len(), 200);
    assert_eq!(store.heads(None, 1_000).await.unwrap().len(), 200);
}

#[test]
fn every_accepted_event_survives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut accepted = BTreeSet::new();
    for _ in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "accept_events_until_killed", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("accepted") && output.read_line(&mut said).unwrap() > 0 {}
        let micros = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_micros();
        std::thread::sleep(Duration::from_micros((micros % 40_000).into()));
        child.kill().unwrap();
        output.read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        accepted.extend(whole.lines().filter_map(|line| line.split("accepted ").nth(1)).map(str::to_owned));
        let store = open(folder.path());
        let mut kept = BTreeSet::new();
        for head in runtime.block_on(store.heads(None, usize::MAX)).unwrap() {
            let record = runtime.block_on(store.event(head.id)).unwrap().unwrap();
            kept.insert(record.event.request_id.to_string());
        }
        let lost: Vec<_> = accepted.difference(&kept).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
    assert!(accepted.len() > 100, "{}", accepted.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run and killed by every_accepted_event_survives_a_kill_at_any_moment"]
async fn accept_events_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Arc::new(open(Path::new(&folder)));
    let callers = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            // Until it is killed.
            for _ in 0..100_000_000 {
                let new = event("f", "{}");
                let id = new.request_id;
                store.accept(new).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "accepted {id}").unwrap();
                out.flush().unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

#[test]
fn a_full_disk_keeps_events_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=3m none \"$1\" && exec \"$0\" --exact \"$2\" --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .args([std::env::current_exe().unwrap().as_os_str(), folder.path().as_os_str()])
        .arg(OsStr::new("on_a_disk_of_three_megabytes"))
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.is_empty() {
        println!("skipped: no small disk here: {problem}");
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}{problem}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_full_disk_keeps_events_whole_or_not_at_all, on a disk of its own"]
async fn on_a_disk_of_three_megabytes() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (folder, filler) = (Path::new(&folder), Path::new(&folder).join("filler"));
    let store = Arc::new(open(folder));
    fs::write(&filler, vec![1; 1 << 20]).unwrap();
    let payload = "x".repeat(20_000);
    let mut kept = BTreeSet::new();
    for turn in 0..3 {
        let mut full = false;
        while !full {
            let callers = (0..8).map(|_| {
                let (store, new) = (Arc::clone(&store), event("f", &payload));
                tokio::spawn(async move { store.accept(new).await })
            });
            for caller in callers.collect::<Vec<_>>() {
                match caller.await.unwrap() {
                    Ok(id) => assert!(kept.insert(id)),
                    Err(StoreError::DiskFull) => full = true,
                    Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
                }
            }
        }
        let listed: BTreeSet<_> =
            store.heads(None, 10_000).await.unwrap().into_iter().map(|head| head.id).collect();
        assert_eq!(listed, kept, "in turn {turn}");
        // Gone in the first turn; then full is full, and stays said.
        let _ = fs::remove_file(&filler);
    }
    drop(store);
    let listed = open(folder).heads(None, 10_000).await.unwrap();
    assert!(listed.iter().all(|head| kept.contains(&head.id) && head.bytes == 20_000));
    assert_eq!(listed.len(), kept.len());
}
