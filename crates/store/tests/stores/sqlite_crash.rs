//! What was answered is there after a kill at any moment, and on a disk that was full.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use hearth_store::{SqliteStore, Store, StoreError};

use super::suite::{ACCOUNT, id, new_function};

/// Where the test that runs in a process of its own finds its store.
const FOLDER: &str = "HEARTH_TEST_STORE";
const FIRST: &str = "HEARTH_TEST_FIRST";
const ROUNDS: u32 = 20;

fn start_child(test: &str, folder: &Path, first: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Microseconds that differ from call to call.
fn dice(sides: u32) -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_micros() % sides
}

#[test]
fn every_acknowledged_function_survives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut made = Vec::new();
    for round in 0..ROUNDS {
        let first = round * 100_000;
        let mut child = start_child("sqlite_crash::create_functions_until_killed", folder.path(), first);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // Every third time early, while the store is being made or opened.
        let wanted = if round % 3 == 0 { 0 } else { dice(60) };
        let mut line = String::new();
        let mut seen = 0;
        while seen < wanted && output.read_line(&mut line).unwrap() > 0 {
            seen = made_in(&line).count().try_into().unwrap();
        }
        std::thread::sleep(Duration::from_micros(dice(20_000).into()));
        child.kill().unwrap();
        output.read_to_string(&mut line).unwrap();
        child.wait().unwrap();
        made.extend(made_in(&line));

        let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
        for number in &made {
            let id = id(ACCOUNT, &format!("f{number}"));
            assert!(runtime.block_on(store.function(&id)).unwrap().is_some(), "{number} in round {round}");
        }
    }
    assert!(made.len() > 20, "{}", made.len());
}

/// The numbers that a child said it made: those of whole lines.
fn made_in(output: &str) -> impl Iterator<Item = u32> {
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    whole.lines().filter_map(|line| line.rsplit_once("made ")?.1.parse().ok())
}

#[tokio::test]
#[ignore = "run and killed by every_acknowledged_function_survives_a_kill_at_any_moment"]
async fn create_functions_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let first: u32 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = SqliteStore::open(&Path::new(&folder).join("store.db")).unwrap();
    for number in first..first + 100_000 {
        store.create_function(new_function(id(ACCOUNT, &format!("f{number}")), 1)).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "made {number}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_full_disk_is_said_and_is_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=3m none \"$1\" && exec \"$0\" --exact \"$2\" --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .args([std::env::current_exe().unwrap().as_os_str(), folder.path().as_os_str()])
        .arg(OsStr::new("sqlite_crash::on_a_disk_of_three_megabytes"))
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

#[tokio::test]
#[ignore = "run by a_full_disk_is_said_and_is_no_end, on a disk of its own"]
async fn on_a_disk_of_three_megabytes() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (path, filler) = (Path::new(&folder).join("store.db"), Path::new(&folder).join("filler"));
    let store = SqliteStore::open(&path).unwrap();
    fs::write(&filler, vec![1; 1 << 20]).unwrap();
    let new = |number: usize| new_function(id(ACCOUNT, &format!("f{number:05}")), 1);
    let mut made = 0;
    for _ in 0..3 {
        loop {
            match store.create_function(new(made)).await {
                Ok(_) => made += 1,
                Err(StoreError::DiskFull) => break,
                Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
            }
        }
        assert!(made > 0);
        let listed = store.list_functions(&ACCOUNT.parse().unwrap(), None, usize::MAX).await.unwrap();
        assert_eq!(listed.len(), made);
        // Gone in the first turn; then full is full, and stays said.
        let _ = fs::remove_file(&filler);
    }
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    let listed = store.list_functions(&ACCOUNT.parse().unwrap(), None, usize::MAX).await.unwrap();
    assert_eq!(listed.len(), made);
}
