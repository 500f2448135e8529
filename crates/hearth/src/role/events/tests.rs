//! The shell without functions: what is sent to endpoints, and what is kept.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use hearth_store::{EventContext, Expected, Setting, SettingKind, SqliteEvents, SqliteStore};
use hearth_types::RequestId;

use super::*;

const ARN: &str = "arn:aws:hearth:::http/x";

fn config(lane_depth: u64) -> Config {
    Config {
        lane_depth,
        depth: 100,
        bytes: 1 << 20,
        running: 16,
        lane_running: 8,
        expiring: 4,
        retry: Duration::from_secs(60),
        refused: (Duration::from_secs(60), Duration::from_secs(300)),
    }
}

/// Events that send to a port of this machine.
fn events(folder: &tempfile::TempDir, config: Config, port: u16) -> Arc<Events> {
    let store = SqliteEvents::open(&folder.path().join("events.db")).unwrap();
    let endpoint = format!("x=http://127.0.0.1:{port}/").parse().unwrap();
    Arc::new(Events::new(config, Arc::new(store), Destinations::new([endpoint], None), None))
}

fn record(payload: &'static str) -> NewEvent {
    let accepted_ms = now_ms();
    NewEvent {
        request_id: RequestId::random(),
        target: Target::Destination { account: "123456789012".parse().unwrap(), arn: ARN.to_owned() },
        accepted_ms,
        expires_ms: accepted_ms + 60_000,
        context: EventContext::default(),
        payload: payload.into(),
    }
}

/// Answers each request on a connection of its own: 500 if there is `poison` in it.
fn receiver() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut read, mut piece) = (Vec::new(), [0; 4_096]);
            while !read.ends_with(b"!") {
                match stream.read(&mut piece) {
                    Ok(size) if size > 0 => read.extend_from_slice(&piece[..size]),
                    _ => break,
                }
            }
            let status = if String::from_utf8_lossy(&read).contains("poison") { 500 } else { 200 };
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

/// Does what is to be done now, one after the other.
async fn work(events: &Events) {
    loop {
        let (steps, _) = events.steps();
        if steps.is_empty() {
            return;
        }
        for step in steps {
            events.carry_out(step).await;
        }
    }
}

#[tokio::test]
async fn a_record_that_its_endpoint_does_not_take_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let events = events(&folder, config(100), receiver());
    for payload in ["poison!", "a!", "b!", "c!"] {
        events.accept(record(payload)).await.unwrap();
    }
    work(&events).await;
    events.accept(record("late!")).await.unwrap();
    work(&events).await;
    assert_eq!(events.counts.sent.load(Ordering::Relaxed), 4);
    assert_eq!(events.totals().waiting, 1);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_asked_once_for_all() {
    let folder = tempfile::tempdir().unwrap();
    // Bound, and closed again.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let events = events(&folder, config(100), port);
    for _ in 0..20 {
        events.accept(record("a!")).await.unwrap();
    }
    work(&events).await;
    assert_eq!(events.totals().waiting, 20);
    let (steps, sleep) = events.steps();
    assert!(steps.is_empty() && sleep.is_some());
}

#[tokio::test]
async fn what_follows_from_events_passes_no_bound() {
    let folder = tempfile::tempdir().unwrap();
    let events = events(&folder, config(2), 1);
    let id = events.store.accept(record("a!")).await.unwrap();
    assert!(events.finish(id, vec![record("b!"), record("c!"), record("d!")]).await);
    assert_eq!(events.totals().waiting, 2);
    assert_eq!(events.counts.dropped.load(Ordering::Relaxed), 1);
    assert_eq!(events.store.heads(None, 10).await.unwrap().len(), 2);
    assert!(events.accept(record("e!")).await.is_err());
}

#[tokio::test]
async fn what_got_too_old_in_a_long_stop_is_told_of_piece_by_piece() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteEvents::open(&folder.path().join("events.db")).unwrap();
    for _ in 0..20 {
        store.accept(NewEvent { expires_ms: 1, ..record("a!") }).await.unwrap();
    }
    drop(store);
    let events = events(&folder, config(100), 1);
    let functions = SqliteStore::open(&folder.path().join("hearth.db")).unwrap();
    assert_eq!(events.recover(&functions).await.unwrap(), 20);
    let (steps, _) = events.steps();
    assert_eq!(steps.len(), 4);
    for step in steps {
        events.carry_out(step).await;
    }
    work(&events).await;
    assert_eq!(events.counts.expired.load(Ordering::Relaxed), 20);
    assert_eq!(events.totals(), Totals::default());
    assert_eq!(events.store.heads(None, 10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_start_drops_how_events_are_retried_of_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let events = events(&folder, config(100), 1);
    let setting = Setting {
        kind: SettingKind::EventInvokeConfig,
        account: "123456789012".parse().unwrap(),
        key: "gone:$LATEST".to_owned(),
        generation: 0,
        mark: 0,
        body: "{}".to_owned(),
    };
    events.store.put_setting(setting, Expected::Any).await.unwrap();
    let functions = SqliteStore::open(&folder.path().join("hearth.db")).unwrap();
    events.recover(&functions).await.unwrap();
    assert!(events.store.all_settings(SettingKind::EventInvokeConfig).is_empty());
}
