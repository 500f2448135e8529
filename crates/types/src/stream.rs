//! Answers that come piece by piece, from the runtime that makes them to the client that takes them.
//!
//! Whoever takes the pieces sets the pace: what holds a piece back holds the runtime back, and no more than a few pieces
//! wait between the two.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::Answer;

/// What came of an invocation whose caller takes a stream.
#[derive(Debug)]
pub enum Reply {
    /// The function answered at once, or failed before it streamed anything.
    Whole(Answer),
    /// The first piece of the answer may not be made yet.
    Streamed(StreamedAnswer),
}

/// An answer that is being made.
pub struct StreamedAnswer {
    /// What the runtime says that it is.
    pub content_type: Option<String>,
    pieces: Pin<Box<dyn Pieces>>,
    over: Option<Over>,
}

/// Resolves when the function has ended, whether or not all of its answer was taken: whether the instance can take another
/// request.
pub type Over = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Where the pieces of an answer come from.
pub trait Pieces: Send {
    /// The next piece; not to be asked again after the end.
    fn poll_piece(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Piece>;
}

/// A part of an answer.
#[derive(Debug)]
pub enum Piece {
    /// Some bytes of it.
    Data(Bytes),
    /// All was there.
    End(StreamEnd),
}

/// How a streamed answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// Set when the function did not succeed, however much of its answer came before.
    pub error: Option<StreamError>,
    /// The last [`crate::limits::LOG_TAIL_BYTES`] of this invocation's log, if wanted.
    pub log_tail: Option<Bytes>,
    /// Whether the instance can take another request.
    pub reusable: bool,
}

/// How a function failed in mid-stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The error's type, as the runtime or Lambda calls it.
    pub kind: String,
    /// The error document.
    pub details: Bytes,
}

impl StreamedAnswer {
    /// An answer whose pieces come from there, and that is `over` when the function has ended.
    pub fn new(
        content_type: Option<String>,
        pieces: impl Pieces + 'static,
        over: impl Future<Output = bool> + Send + 'static,
    ) -> Self {
        Self { content_type, pieces: Box::pin(pieces), over: Some(Box::pin(over)) }
    }

    /// What resolves when the function has ended; once.
    pub fn take_over(&mut self) -> Option<Over> {
        self.over.take()
    }

    /// The next piece; not to be asked again after the end.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        self.pieces.as_mut().poll_piece(context)
    }

    /// The next piece; not to be asked again after the end.
    pub async fn next(&mut self) -> Piece {
        poll_fn(|context| self.poll_next(context)).await
    }
}

impl fmt::Debug for StreamedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamedAnswer").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}
