//! Who waits for what becomes of an invocation, and takes its answer whole or piece by piece.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hearth_types::{
    Answer, InvokeError, Piece, Pieces, Reply, RequestId, StreamEnd, StreamError, StreamedAnswer,
};
use tokio::sync::{mpsc, oneshot};

use super::{Flight, Instance, Invoked, lock};
use crate::failure;

/// Pieces of a streamed answer, each as large as a read of the connection at most, that wait for their taker.
const PIECES: usize = 4;
/// What a taker is told whose function was taken away in mid-stream.
const LOST: &str = "ServiceException";

/// The result of an invocation whose caller takes a stream.
pub(crate) type Replied = Result<Reply, InvokeError>;

/// A caller who waits. It may have gone: then nobody is told.
#[derive(Debug)]
pub(super) enum Asker {
    /// It takes an answer as a whole only.
    Whole(oneshot::Sender<Invoked>),
    /// It takes a stream, and has none yet.
    Stream(oneshot::Sender<Replied>),
    /// It has the stream; who holds the slot is told apart from who takes the pieces, which may take longer.
    Streaming { end: oneshot::Sender<StreamEnd>, over: oneshot::Sender<bool> },
}

/// What is known of an answer when it is over.
pub(super) struct Told {
    pub(super) answer: Answer,
    /// How a stream ended that was begun.
    pub(super) stream_error: Option<StreamError>,
}

/// The pieces that a runtime posts, on their way to their taker.
struct Posted {
    pieces: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<StreamEnd>,
    ended: Option<StreamEnd>,
}

// === impl Asker ===

impl Asker {
    /// The invocation is over.
    pub(super) fn tell(self, told: Told) {
        match self {
            Self::Whole(asker) => {
                let _ = asker.send(Ok(told.answer));
            }
            Self::Stream(asker) => {
                let _ = asker.send(Ok(Reply::Whole(told.answer)));
            }
            Self::Streaming { end, over } => {
                let Answer { log_tail, reusable, .. } = told.answer;
                let _ = over.send(reusable);
                let _ = end.send(StreamEnd { error: told.stream_error, log_tail, reusable });
            }
        }
    }

    /// There is no answer, or no more of it.
    pub(super) fn fail(self, error: InvokeError) {
        match self {
            Self::Whole(asker) => {
                let _ = asker.send(Err(error));
            }
            Self::Stream(asker) => {
                let _ = asker.send(Err(error));
            }
            Self::Streaming { end, over } => {
                let _ = over.send(false);
                let _ = end.send(lost(&error.to_string()));
            }
        }
    }
}

fn lost(reason: &str) -> StreamEnd {
    let details = failure::document(LOST, reason);
    StreamEnd { error: Some(StreamError { kind: LOST.to_owned(), details }), log_tail: None, reusable: false }
}

impl Pieces for Posted {
    fn poll_piece(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Piece> {
        let this = &mut *self;
        match this.pieces.poll_recv(context) {
            Poll::Ready(Some(piece)) => return Poll::Ready(Piece::Data(piece)),
            // What was sent before the end comes before it, however the invocation ended.
            Poll::Ready(None) | Poll::Pending => {}
        }
        if this.ended.is_none()
            && let Poll::Ready(end) = Pin::new(&mut this.end).poll(context)
        {
            this.ended = Some(end.unwrap_or_else(|_| lost("its life broke off")));
        }
        if this.ended.is_some()
            && let Ok(piece) = this.pieces.try_recv()
        {
            return Poll::Ready(Piece::Data(piece));
        }
        this.ended.take().map_or(Poll::Pending, |end| Poll::Ready(Piece::End(end)))
    }
}

impl Instance {
    /// The runtime begins to stream the answer of an invocation. Where to put the pieces, if the caller takes them.
    pub(crate) fn begin_stream(
        &self,
        generation: u32,
        id: RequestId,
        content_type: Option<String>,
    ) -> Option<mpsc::Sender<Bytes>> {
        let mut state = lock(&self.state);
        if state.generation != generation {
            return None;
        }
        let flight: &mut Flight = state.flights.iter_mut().find(|flight| flight.id == id)?;
        if !matches!(flight.asker, Asker::Stream(_)) {
            return None;
        }
        let (end, ended) = oneshot::channel();
        let (over, is_over) = oneshot::channel();
        let streaming = Asker::Streaming { end, over };
        let Asker::Stream(asker) = std::mem::replace(&mut flight.asker, streaming) else {
            return None;
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        let posted = Posted { pieces, end: ended, ended: None };
        // A caller who has gone lets the runtime stream into the void.
        let over = async move { is_over.await.unwrap_or(false) };
        let _ = asker.send(Ok(Reply::Streamed(StreamedAnswer::new(content_type, posted, over))));
        Some(sender)
    }
}
