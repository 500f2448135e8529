//! Telemetry for extensions: Lambda's Telemetry API and the Logs API before it.
//!
//! ```text
//!  what processes write --+                 +--> buffer --> delivery --> the extension's own server, in the instance
//!  (output)               +--> Telemetry ---+
//!  what the platform says-+    (hub)        +--> buffer --> delivery --> ...
//! ```
//!
//! A hub belongs to an instance, its subscribers to one generation of the sandbox. Where nobody subscribes, all of it is one
//! relaxed load for each piece of output. Whoever feeds it never waits: a buffer takes an event or counts it as dropped, and a task
//! for each subscriber sends what is due. Those tasks end with the sandbox.

mod buffer;
mod connection;
mod delivery;
mod event;
mod subscription;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hearth_sandbox::Sandbox;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::clock::epoch_ms;
use crate::metrics::{Counters, count, count_many};
use crate::said::Said;
use buffer::{Buffer, Dropped, Lines, Room};
use connection::Kept;
pub(crate) use subscription::{Api, Stream, Subscription};

/// The part of its memory that an instance's subscribers may have in the worker's: one of so many.
const SHARE: usize = 32;

/// Who is told what happens in an instance.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// The streams that somebody wants, a bit each.
    wanted: AtomicU8,
    room: Arc<Room>,
    json: bool,
    counters: Arc<Counters>,
    awake: watch::Sender<bool>,
    audience: Mutex<Audience>,
}

#[derive(Debug, Default)]
struct Audience {
    subscribers: Vec<Arc<Subscriber>>,
    deliveries: JoinSet<()>,
}

/// An extension that has subscribed.
#[derive(Debug)]
struct Subscriber {
    extension: String,
    subscription: Subscription,
    buffer: Mutex<Buffer>,
    /// Rung when there is something to send earlier than was known.
    bell: Notify,
    /// Rung when a batch is over.
    settled: Notify,
    /// Locked for as long as it is used.
    connection: tokio::sync::Mutex<Kept>,
    counters: Arc<Counters>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Telemetry ===

impl Telemetry {
    /// For an instance of so much memory, and whether its log is of documents.
    pub(crate) fn new(memory_mb: u32, json: bool, counters: Arc<Counters>) -> Self {
        let memory = usize::try_from(memory_mb).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        Self {
            wanted: AtomicU8::new(0),
            room: Arc::new(Room::new(memory / SHARE)),
            json,
            counters,
            awake: watch::Sender::new(true),
            audience: Mutex::default(),
        }
    }

    /// Whether anybody is told of that stream.
    pub(crate) fn is_wanted(&self, stream: Stream) -> bool {
        self.wanted.load(Ordering::Relaxed) & stream.bit() != 0
    }

    /// Has an extension in that sandbox told from now on.
    pub(crate) fn add(&self, extension: &str, subscription: Subscription, sandbox: Arc<dyn Sandbox>) {
        let mut audience = lock(&self.audience);
        let subscriber = Arc::new(Subscriber {
            extension: extension.to_owned(),
            buffer: Mutex::new(Buffer::new(subscription.buffering, Arc::clone(&self.room))),
            subscription,
            bell: Notify::new(),
            settled: Notify::new(),
            connection: tokio::sync::Mutex::default(),
            counters: Arc::clone(&self.counters),
        });
        let delivery = delivery::deliver(Arc::clone(&subscriber), sandbox, self.awake.subscribe());
        audience.deliveries.spawn(delivery);
        audience.subscribers.push(subscriber);
        self.wanted.store(audience.wanted(), Ordering::Relaxed);
    }

    /// Forgets all subscribers, and what they have not been sent, which is counted.
    pub(crate) fn clear(&self) {
        let Audience { subscribers, deliveries } = self.dismiss();
        drop(deliveries);
        self.discard(&subscribers);
    }

    /// The same; afterwards there is no connection into the sandbox.
    pub(crate) async fn end(&self) {
        let Audience { subscribers, mut deliveries } = self.dismiss();
        deliveries.shutdown().await;
        self.discard(&subscribers);
    }

    fn discard(&self, subscribers: &[Arc<Subscriber>]) {
        for subscriber in subscribers {
            let lost = lock(&subscriber.buffer).discard();
            count_many(&self.counters.telemetry_dropped, lost as u64);
        }
    }

    fn dismiss(&self) -> Audience {
        let mut audience = lock(&self.audience);
        self.wanted.store(0, Ordering::Relaxed);
        self.awake.send_replace(true);
        std::mem::take(&mut audience)
    }

    /// Lines that a process wrote.
    pub(crate) fn lines(&self, stream: Stream, lines: &[u8]) {
        let (now, now_ms) = (Instant::now(), epoch_ms());
        let audience = lock(&self.audience);
        let mut lines = Lines::new(lines, |line| event::line(now_ms, stream, line, self.json));
        for subscriber in audience.of(stream) {
            let dropped = lock(&subscriber.buffer).offer_lines(now, &mut lines);
            count_many(&self.counters.telemetry_dropped, dropped);
            subscriber.bell.notify_one();
        }
    }

    /// Something that the platform says; to one extension only if that is given.
    pub(crate) fn platform(&self, now_ms: u64, said: &Said<'_>, only: Option<&str>) {
        let now = Instant::now();
        let audience = lock(&self.audience);
        for subscriber in audience.of(Stream::Platform) {
            if only.is_some_and(|only| only != subscriber.extension) {
                continue;
            }
            for event in event::platform(now_ms, said, subscriber.subscription.schema) {
                subscriber.offer(now, event);
            }
            subscriber.bell.notify_one();
        }
    }

    /// Sends what waits, and waits until that is over, for so long at most. Whether it is.
    pub(crate) async fn flush(&self, patience: Duration) -> bool {
        let subscribers = self.hurry();
        let all = async {
            for subscriber in &subscribers {
                subscriber.until_settled().await;
            }
        };
        timeout(patience, all).await.is_ok()
    }

    /// Whether nothing waits to be sent; what does is sent now.
    pub(crate) fn is_settled(&self) -> bool {
        self.hurry().iter().all(|subscriber| lock(&subscriber.buffer).is_settled())
    }

    fn hurry(&self) -> Vec<Arc<Subscriber>> {
        let subscribers = lock(&self.audience).subscribers.clone();
        for subscriber in &subscribers {
            lock(&subscriber.buffer).hurry();
            subscriber.bell.notify_one();
        }
        subscribers
    }

    /// Sends what is left, and does not wait for more to come from now on; for so long at most.
    pub(crate) async fn finish(&self, patience: Duration) {
        self.close();
        self.flush(patience).await;
    }

    fn close(&self) {
        for subscriber in &lock(&self.audience).subscribers {
            lock(&subscriber.buffer).close();
            subscriber.bell.notify_one();
        }
    }

    /// The sandbox is about to stand still: nothing is sent any more. Afterwards there is no connection into it.
    pub(crate) async fn sleep(&self) {
        self.awake.send_replace(false);
        let subscribers = lock(&self.audience).subscribers.clone();
        for subscriber in subscribers {
            *subscriber.connection.lock().await = Kept::None;
        }
    }

    /// It goes on, and what is due is sent again.
    pub(crate) fn wake(&self) {
        self.awake.send_if_modified(|awake| !std::mem::replace(awake, true));
    }
}

// === impl Audience ===

impl Audience {
    fn of(&self, stream: Stream) -> impl Iterator<Item = &Subscriber> {
        let all = self.subscribers.iter().map(|subscriber| &**subscriber);
        all.filter(move |subscriber| subscriber.subscription.wants(stream))
    }

    fn wanted(&self) -> u8 {
        let streams = self.subscribers.iter().flat_map(|subscriber| &subscriber.subscription.streams);
        streams.fold(0, |bits, stream| bits | stream.bit())
    }
}

// === impl Subscriber ===

impl Subscriber {
    fn offer(&self, now: Instant, event: Bytes) {
        if !lock(&self.buffer).offer(now, event) {
            count(&self.counters.telemetry_dropped);
        }
    }

    fn given_up(&self, lost: Dropped) {
        let events = lock(&self.buffer).given_up(lost);
        count_many(&self.counters.telemetry_dropped, events as u64);
    }

    async fn until_settled(&self) {
        loop {
            // Before it is looked at, so that no ring is missed.
            let settled = self.settled.notified();
            if lock(&self.buffer).is_settled() {
                return;
            }
            settled.await;
        }
    }
}
