//! Batches on their way into an instance, over connections to what its extension listens on.
//!
//! Whoever listens there is hostile: it may not be there, never read, never answer, or answer without end. An attempt has its
//! time, a batch its attempts, and nobody waits for either but the batches behind it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_sandbox::Sandbox;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Subscriber;
use super::buffer::{Batch, Due};
use super::connection::Kept;
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
/// Sends what a subscriber is to be told, for as long as this is not dropped. What sleeps is not spoken to.
pub(super) async fn deliver(
    subscriber: Arc<Subscriber>,
    sandbox: Arc<dyn Sandbox>,
    mut awake: watch::Receiver<bool>,
) {
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
        let arrived = send(&subscriber, &*sandbox, &mut awake, body, attempts).await;
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
    body: Bytes,
    attempts: u32,
) -> bool {
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    while attempt <= attempts {
        if awake.wait_for(|awake| *awake).await.is_err() {
            return false;
        }
        match try_once(subscriber, sandbox, awake, body.clone()).await {
            Tried::Arrived => return true,
            Tried::Interrupted => continue,
            // A connection that was closed since says nothing of who listens.
            Tried::Failed { was_kept: true } => {}
            Tried::Failed { was_kept: false } => {
                if attempt < attempts {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        attempt += 1;
    }
    tracing::debug!(extension = subscriber.extension, "telemetry that nobody takes is given up");
    false
}

/// What became of an attempt.
enum Tried {
    Arrived,
    Failed {
        was_kept: bool,
    },
    /// The sandbox is about to stand still: the connection is gone, and whether the batch arrived is not known.
    Interrupted,
}

async fn try_once(
    subscriber: &Subscriber,
    sandbox: &dyn Sandbox,
    awake: &mut watch::Receiver<bool>,
    body: Bytes,
) -> Tried {
    // Held for as long as there is a connection: whoever has it after the news of the sleep knows that there is none.
    let mut kept = subscriber.connection.lock().await;
    let until_asleep = async {
        if awake.wait_for(|awake| !*awake).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = until_asleep => Tried::Interrupted,
        tried = over(&mut kept, subscriber, sandbox, body) => tried,
    }
}

/// Sends it over a connection, and keeps that if it is good for the next one.
async fn over(kept: &mut Kept, subscriber: &Subscriber, sandbox: &dyn Sandbox, body: Bytes) -> Tried {
    let used = std::mem::take(kept).if_open().await;
    let was_kept = !matches!(used, Kept::None);
    let carried = used.carry(sandbox, &subscriber.subscription.destination, body);
    match timeout(ATTEMPT, carried).await {
        Ok(Some(good)) => {
            *kept = good;
            Tried::Arrived
        }
        Ok(None) | Err(_) => Tried::Failed { was_kept },
    }
}
