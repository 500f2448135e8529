//! Batches on their way into an instance, over connections to what its extension listens on.
//!
//! Whoever listens there is hostile: it may not be there, never read, never answer, or answer without end. An attempt has its
//! time, a batch its attempts, and nobody waits for either but the batches behind it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_sandbox::{Io, Sandbox};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Subscriber;
use super::buffer::{Batch, Due};
use super::event;
use super::lock;
use super::subscription::Destination;
use crate::clock::epoch_ms;

/// For a connection, a request, and the answer's head and body.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How often a batch is sent before it is given up.
const ATTEMPTS: u32 = 12;
/// The same of a subscriber that let the batch before go that way.
const ATTEMPTS_WITHOUT_HOPE: u32 = 2;
/// Before the second attempt; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Between batches: whoever reads fast does not have the worker write without end.
const BREATH: Duration = Duration::from_millis(10);
/// Most bytes of an answer's head, and of its body, that are read for the sake of the next request.
const MAX_ANSWER: usize = 16 << 10;

/// A connection that was good for the batch before.
enum Kept {
    None,
    Http { sender: SendRequest<Full<Bytes>>, _connection: JoinSet<hyper::Result<()>> },
    Tcp(Box<dyn Io>),
}

/// Sends what a subscriber is to be told, for as long as this is not dropped. What sleeps is not spoken to.
pub(super) async fn deliver(
    subscriber: Arc<Subscriber>,
    sandbox: Arc<dyn Sandbox>,
    mut awake: watch::Receiver<bool>,
) {
    let mut kept = Kept::None;
    let mut attempts = ATTEMPTS;
    loop {
        let due = lock(&subscriber.buffer).due(Instant::now());
        match due {
            Due::Now => {}
            Due::At(at) => {
                tokio::select! {
                    () = subscriber.bell.notified() => {}
                    () = sleep_until(at) => {}
                }
                continue;
            }
            Due::Never => {
                subscriber.bell.notified().await;
                continue;
            }
        }
        if awake.wait_for(|awake| *awake).await.is_err() {
            return;
        }
        let batch = lock(&subscriber.buffer).take();
        let lost = batch.dropped;
        let body = body(batch, &subscriber.subscription.destination);
        let arrived = send(&subscriber, &*sandbox, &mut awake, (&mut kept, body), attempts).await;
        if arrived {
            attempts = ATTEMPTS;
            lock(&subscriber.buffer).sent();
        } else {
            attempts = ATTEMPTS_WITHOUT_HOPE;
            subscriber.given_up(lost);
        }
        subscriber.settled.notify_waiters();
        sleep(BREATH).await;
    }
}

/// A batch as it is sent.
fn body(batch: Batch, destination: &Destination) -> Bytes {
    let Batch { mut events, dropped } = batch;
    if dropped.records > 0 {
        events.push(event::dropped(epoch_ms(), dropped));
    }
    let length: usize = events.iter().map(|event| event.len() + 1).sum();
    let mut body = Vec::with_capacity(length + 1);
    let (before, between, after): (&[u8], &[u8], &[u8]) = match destination {
        Destination::Http { .. } => (b"[", b",", b"]"),
        Destination::Tcp { .. } => (b"", b"\n", b"\n"),
    };
    body.extend_from_slice(before);
    for (place, event) in events.into_iter().enumerate() {
        if place > 0 {
            body.extend_from_slice(between);
        }
        body.extend_from_slice(&event);
    }
    body.extend_from_slice(after);
    body.into()
}

/// Whether the batch arrived, in so many attempts.
async fn send(
    subscriber: &Subscriber,
    sandbox: &dyn Sandbox,
    awake: &mut watch::Receiver<bool>,
    (kept, body): (&mut Kept, Bytes),
    attempts: u32,
) -> bool {
    let destination = &subscriber.subscription.destination;
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=attempts {
        let used = std::mem::replace(kept, Kept::None);
        let was_kept = !matches!(used, Kept::None);
        let tried = timeout(ATTEMPT, try_once(used, sandbox, destination, body.clone())).await;
        if let Ok(Some(good)) = tried {
            *kept = good;
            return true;
        }
        // A connection that was closed since says nothing of who listens.
        if attempt < attempts && !was_kept {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if awake.wait_for(|awake| *awake).await.is_err() {
            return false;
        }
    }
    tracing::debug!(extension = subscriber.extension, "telemetry that nobody takes is given up");
    false
}

/// The connection, if the batch arrived over it.
async fn try_once(kept: Kept, sandbox: &dyn Sandbox, destination: &Destination, body: Bytes) -> Option<Kept> {
    match destination {
        Destination::Http { port, authority, path, put } => {
            let (mut sender, connection) = match kept {
                Kept::Http { sender, _connection } if sender.is_ready() => (sender, _connection),
                Kept::Http { .. } | Kept::Tcp(_) | Kept::None => {
                    let io = sandbox.connect(*port).await.ok()?;
                    let handshake =
                        http1::Builder::new().max_buf_size(MAX_ANSWER).handshake(TokioIo::new(io));
                    let (sender, connection) = handshake.await.ok()?;
                    (sender, JoinSet::from_iter([connection]))
                }
            };
            let request = Request::builder()
                .method(if *put { Method::PUT } else { Method::POST })
                .uri(path)
                .header(header::HOST, authority)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body))
                .ok()?;
            let answer = sender.send_request(request).await.ok()?;
            if !answer.status().is_success() {
                return None;
            }
            let is_whole = read_away(answer.into_body()).await;
            Some(if is_whole { Kept::Http { sender, _connection: connection } } else { Kept::None })
        }
        Destination::Tcp { port } => {
            let mut io = match kept {
                Kept::Tcp(io) => io,
                Kept::Http { .. } | Kept::None => sandbox.connect(*port).await.ok()?,
            };
            io.write_all(&body).await.ok()?;
            io.flush().await.ok()?;
            Some(Kept::Tcp(io))
        }
    }
}

/// Whether an answer's body ended within its bound.
async fn read_away(mut body: hyper::body::Incoming) -> bool {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_ANSWER {
            return false;
        }
    }
    true
}
