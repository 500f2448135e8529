use std::io;

use hearth_sandbox::{BoxFuture, Io, PauseError, Process, ProcessSpec, SpawnError, Stats};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::*;

/// One in which each connection comes out as a stream, with room for so many bytes that nobody has read.
struct Ends {
    room: usize,
    made: mpsc::UnboundedSender<DuplexStream>,
}

impl Sandbox for Ends {
    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(std::future::pending())
    }

    fn connect(&self, _port: u16) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        let (ours, theirs) = duplex(self.room);
        let sent = self.made.send(theirs);
        Box::pin(async move {
            sent.map_err(io::Error::other)?;
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }

    fn spawn(&self, _process: ProcessSpec) -> BoxFuture<'_, Result<Process, SpawnError>> {
        Box::pin(async { Err(SpawnError::Gone) })
    }

    fn terminate(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn pause(&self) -> BoxFuture<'_, Result<(), PauseError>> {
        Box::pin(async { Ok(()) })
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), PauseError>> {
        Box::pin(async { Ok(()) })
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn destroy(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

const HTTP: &str = r#"{"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080"}"#;
const TCP: &str = r#"{"protocol": "TCP", "port": 8080}"#;

/// Somebody who is told what the function writes, and the connections to them.
fn told(
    destination: &str,
    room: usize,
    counters: Arc<Counters>,
) -> (Telemetry, mpsc::UnboundedReceiver<DuplexStream>) {
    let telemetry = Telemetry::new(128, false, counters);
    let document = format!(
        r#"{{"types": ["function"], "buffering": {{"timeoutMs": 25}}, "destination": {destination}}}"#
    );
    let subscription = Subscription::read(Api::Logs, document.as_bytes()).unwrap();
    let (made, ends) = mpsc::unbounded_channel();
    telemetry.add("watcher", subscription, Arc::new(Ends { room, made }));
    (telemetry, ends)
}

async fn rest(mut end: DuplexStream) -> String {
    let mut read = Vec::new();
    end.read_to_end(&mut read).await.unwrap();
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn no_connection_is_left_when_a_sandbox_stands_still_and_the_batch_comes_after_it() {
    for destination in [HTTP, TCP] {
        let (telemetry, mut ends) = told(destination, 16, Arc::default());
        telemetry.lines(Stream::Function, b"one\n");
        let stuck = ends.recv().await.unwrap();
        tokio::task::yield_now().await;
        telemetry.sleep().await;
        tokio::select! {
            biased;
            taken = rest(stuck) => assert!(taken.len() <= 16, "{taken}"),
            () = std::future::ready(()) => unreachable!("it is closed by now"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(ends.try_recv().is_err(), "what sleeps is not spoken to");
        telemetry.wake();
        let mut again = ends.recv().await.unwrap();
        let mut read = String::new();
        while !read.contains("one") {
            read.push(char::from(again.read_u8().await.unwrap()));
        }
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_carries_no_batch() {
    let (telemetry, mut ends) = told(TCP, 4096, Arc::default());
    telemetry.lines(Stream::Function, b"one\n");
    let mut first = ends.recv().await.unwrap();
    assert!(telemetry.flush(Duration::from_secs(60)).await);
    let mut read = [0; 4096];
    assert!(first.read(&mut read).await.unwrap() > 0);
    telemetry.lines(Stream::Function, b"two\n");
    assert!(telemetry.flush(Duration::from_secs(60)).await);
    let count = first.read(&mut read).await.unwrap();
    assert!(String::from_utf8_lossy(&read[..count]).contains("two"), "it is kept");
    drop(first);
    telemetry.lines(Stream::Function, b"three\n");
    let mut second = ends.recv().await.unwrap();
    let count = second.read(&mut read).await.unwrap();
    assert!(String::from_utf8_lossy(&read[..count]).contains("three"));
}

#[tokio::test]
async fn what_is_left_in_the_end_is_sent_at_once_or_counted() {
    let counters = Arc::new(Counters::default());
    let dropped = || counters.telemetry_dropped.load(Ordering::Relaxed);
    let (telemetry, mut ends) = told(TCP, 4096, Arc::clone(&counters));
    telemetry.lines(Stream::Function, b"one\ntwo\n");
    telemetry.finish(Duration::from_secs(60)).await;
    let end = ends.recv().await.unwrap();
    telemetry.end().await;
    let read = rest(end).await;
    assert!(read.contains("one") && read.contains("two") && dropped() == 0, "{read}");
    let (telemetry, mut ends) = told(HTTP, 4096, Arc::clone(&counters));
    telemetry.lines(Stream::Function, b"one\ntwo\n");
    let _deaf = ends.recv().await.unwrap();
    telemetry.lines(Stream::Function, b"three\n");
    telemetry.end().await;
    assert_eq!(dropped(), 3);
}
