//! How many events a second are on disk: as many as syncs, or as many as callers share one.
//!
//! `cargo run --release -p hearth-store --example event_rate [FOLDER [CALLERS]]`; the folder decides which disk is timed.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_store::{EventContext, EventStore, GroupCommit, NewEvent, SqliteEvents, Target};
use hearth_types::{FunctionId, RequestId};

const TIME: Duration = Duration::from_secs(3);

fn event() -> NewEvent {
    let id = FunctionId { account: "123456789012".parse().unwrap(), name: "f".into() };
    NewEvent {
        request_id: RequestId::random(),
        target: Target::Function { id, qualifier: None },
        accepted_ms: 1,
        expires_ms: 2,
        context: EventContext::default(),
        payload: vec![b'x'; 256].into(),
    }
}

/// What one write and one sync an event give.
fn synced(folder: &Path) -> u32 {
    let mut file = File::create(folder.join("synced")).unwrap();
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < TIME {
        file.write_all(&[b'x'; 256]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    count
}

fn accepted(folder: &Path, callers: usize, group: GroupCommit) -> u32 {
    let path = folder.join(format!("events-{}-{}.db", group.most, group.linger_percent));
    let store = Arc::new(SqliteEvents::open_with(&path, group).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let began = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let store = Arc::clone(&store);
            runtime.spawn(async move {
                let mut count = 0;
                while began.elapsed() < TIME {
                    store.accept(event()).await.unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    callers.into_iter().map(|caller| runtime.block_on(caller).unwrap()).sum()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let callers = arguments.next().map_or(32, |text| text.parse().unwrap());
    let folder = tempfile::tempdir_in(folder).unwrap();
    let rate = |count: u32| f64::from(count) / TIME.as_secs_f64();
    println!("one write and sync an event: {:.0}/s", rate(synced(folder.path())));
    for (most, linger_percent) in [(1, 0), (512, 0), (512, 25), (512, 50), (512, 100)] {
        let count = accepted(folder.path(), callers, GroupCommit { most, linger_percent });
        println!("{callers} callers, {most} a commit, linger {linger_percent} %: {:.0}/s", rate(count));
    }
}
