//! What is passed on after the head, and the slot that is held meanwhile.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// A response's body; the slot is free at its end or when nobody takes it any more.
pub(super) struct Leased<B: Backend> {
    body: Body,
    held: Option<Held<B>>,
}

impl<B: Backend> Leased<B> {
    pub(super) fn new(body: Body, held: Held<B>) -> Self {
        let held = Some(held).filter(|_| !body.is_end_stream());
        Self { body, held }
    }
}

impl<B: Backend> HttpBody for Leased<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = &polled {
            self.held = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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

fn lock(last: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}
