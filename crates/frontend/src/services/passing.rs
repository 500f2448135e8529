//! What is passed on after the head, and the slot that is held meanwhile.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use crate::Backend;
use crate::body::Body;
use crate::invoke::Held;

/// Bytes of an upgraded connection that are in hand at once, each way.
const PIECE: usize = 4 << 10;
/// A body of so many bytes goes whole into the buffer of its HTTP/1.1 connection.
const BUFFERED: u64 = 64 << 10;

/// A response's body; the slot is free at its end, when nobody takes it any more, or when its client took nothing for too long.
pub(super) struct Leased<B: Backend> {
    passing: Arc<Mutex<Option<Passing<B>>>>,
    has_ended: bool,
    size: SizeHint,
}

struct Passing<B: Backend> {
    /// Before the slot, so that it is dropped first: the instance counts the request for as long as this is there, and must not any
    /// more when another gets the slot.
    body: Body,
    _held: Held<B>,
    /// When the client last took something; nothing while it waits for the service.
    taken: Option<Instant>,
}

impl<B: Backend> Leased<B> {
    /// `is_buffered` says that a small body is taken whether or not the client reads.
    pub(super) fn new(body: Body, held: Held<B>, idle: Duration, is_buffered: bool) -> Self {
        let (size, has_ended) = (body.size_hint(), body.is_end_stream());
        let passing = Passing { body, _held: held, taken: Some(Instant::now()) };
        let passing = Arc::new(Mutex::new(Some(passing).filter(|_| !has_ended)));
        let is_small = size.upper().is_some_and(|most| most <= BUFFERED);
        if !(has_ended || is_buffered && is_small) {
            tokio::spawn(watch(Arc::downgrade(&passing), idle));
        }
        Self { passing, has_ended, size }
    }
}

/// Takes a body away from a client that takes nothing of it: it is not asked for more then, so nobody else would notice.
async fn watch<B: Backend>(passing: Weak<Mutex<Option<Passing<B>>>>, idle: Duration) {
    loop {
        let until = {
            let Some(passing) = passing.upgrade() else { return };
            let mut passing = lock(&passing);
            let Some(now_passing) = &*passing else { return };
            let until = now_passing.taken.unwrap_or_else(Instant::now) + idle;
            if until <= Instant::now() {
                *passing = None;
                return;
            }
            until
        };
        sleep_until(until).await;
    }
}

impl<B: Backend> HttpBody for Leased<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.has_ended {
            return Poll::Ready(None);
        }
        let mut shared = lock(&this.passing);
        let Some(passing) = &mut *shared else {
            this.has_ended = true;
            let text = "the client took nothing for too long";
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, text))));
        };
        let polled = Pin::new(&mut passing.body).poll_frame(context);
        passing.taken = polled.is_ready().then(Instant::now);
        this.has_ended = match &polled {
            Poll::Ready(None | Some(Err(_))) => true,
            Poll::Ready(Some(Ok(_))) => passing.body.is_end_stream(),
            Poll::Pending => false,
        };
        if this.has_ended {
            *shared = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

/// Joins a client's connection and a service's, once both have switched protocols, until one ends or both are silent for `idle`.
pub(super) fn switch<B: Backend>(
    theirs: OnUpgrade,
    response: &mut Response<Body>,
    held: Held<B>,
    idle: Duration,
) {
    let ours = hyper::upgrade::on(&mut *response);
    // What the backend wants kept for as long as the connection is in use.
    let kept = std::mem::take(response.extensions_mut());
    tokio::spawn(async move {
        let joined = async {
            let (theirs, ours) = tokio::try_join!(theirs, ours).map_err(io::Error::other)?;
            join(TokioIo::new(theirs), TokioIo::new(ours), idle).await
        };
        if let Err(error) = joined.await {
            tracing::debug!(%error, "an upgraded connection broke off");
        }
        drop((held, kept));
    });
}

/// Passes on what comes from either side, each at its own pace.
async fn join(
    left: impl AsyncRead + AsyncWrite,
    right: impl AsyncRead + AsyncWrite,
    idle: Duration,
) -> io::Result<()> {
    let (left_reader, left_writer) = tokio::io::split(left);
    let (right_reader, right_writer) = tokio::io::split(right);
    let last = Mutex::new(Instant::now());
    let both = async {
        tokio::try_join!(pump(left_reader, right_writer, &last), pump(right_reader, left_writer, &last))
            .map(drop)
    };
    let silence = async {
        loop {
            let until = *lock(&last) + idle;
            if until <= Instant::now() {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            sleep_until(until).await;
        }
    };
    tokio::select! {
        ended = both => ended,
        silent = silence => silent,
    }
}

async fn pump(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    last: &Mutex<Instant>,
) -> io::Result<()> {
    let mut piece = [0; PIECE];
    loop {
        let count = reader.read(&mut piece).await?;
        *lock(last) = Instant::now();
        if count == 0 {
            return writer.shutdown().await;
        }
        writer.write_all(piece.get(..count).unwrap_or_default()).await?;
        writer.flush().await?;
        *lock(last) = Instant::now();
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
