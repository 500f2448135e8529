//! A response's body on its way from a service to its taker.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

/// A body that says when it has come to its end, and breaks off where nothing comes for too long.
pub(super) struct Passed<F, G> {
    body: Incoming,
    /// Done once at the end, not if the body breaks off.
    at_end: Option<F>,
    _guard: G,
    idle: Duration,
    /// Running while nothing comes.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<F: FnOnce(), G> Passed<F, G> {
    pub(super) fn new(body: Incoming, at_end: F, guard: G, idle: Duration) -> Self {
        let mut passed = Self { body, at_end: Some(at_end), _guard: guard, idle, patience: None };
        if passed.body.is_end_stream() {
            passed.end();
        }
        passed
    }

    fn end(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

impl<F: FnOnce() + Unpin, G: Unpin> Body for Passed<F, G> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => {
                if this.patience.is_some() {
                    this.patience = None;
                }
                if frame.is_none() || this.body.is_end_stream() {
                    this.end();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
            }
            Poll::Pending => {
                let idle = this.idle;
                let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(idle)));
                patience
                    .as_mut()
                    .poll(context)
                    .map(|()| Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the service fell silent"))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
