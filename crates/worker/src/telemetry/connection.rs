//! A connection to what an extension listens on, and a batch over it.
//!
//! No task of its own reads or writes it: who drops it knows that nothing is said over it any more.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hearth_sandbox::{Io, Sandbox};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::subscription::Destination;

/// Most bytes of an answer's head, and of its body, that are read for the sake of the next request; and of what is said over TCP,
/// where nothing is to be said.
const MAX_ANSWER: usize = 16 << 10;
/// Read of it at once.
const CHUNK: usize = 1 << 10;
/// Written at once.
const PIECE: usize = 16 << 10;
/// For what is left to be written when the answer is there already.
const REST: Duration = Duration::from_millis(200);

type Connection = Pin<Box<http1::Connection<TokioIo<Box<dyn Io>>, Pieces>>>;

/// A batch piece by piece: what is written at once may be copied, and its copy be kept as long as the connection.
pub(super) struct Pieces(Bytes);

/// A connection that was good for the batch before.
#[derive(Default)]
pub(super) enum Kept {
    #[default]
    None,
    Http {
        sender: SendRequest<Pieces>,
        connection: Connection,
    },
    Tcp(Box<dyn Io>),
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Http { .. } => "Http",
            Self::Tcp(_) => "Tcp",
        })
    }
}

// === impl Pieces ===

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let most = self.0.len().min(PIECE);
        Poll::Ready((most > 0).then(|| Ok(Frame::data(self.0.split_to(most)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

// === impl Kept ===

impl Kept {
    /// Itself, unless it was closed since: what is written to such a one seems to arrive.
    pub(super) async fn if_open(mut self) -> Self {
        let is_open = poll_fn(|cx| {
            Poll::Ready(match &mut self {
                Self::None => false,
                Self::Http { sender, connection } => {
                    !sender.is_closed() && connection.as_mut().poll(cx).is_pending() && sender.is_ready()
                }
                Self::Tcp(io) => is_open(&mut **io, cx),
            })
        });
        if is_open.await { self } else { Self::None }
    }

    /// Sends a batch over it, or a new one; the connection, if the batch arrived.
    pub(super) async fn carry(
        self,
        sandbox: &dyn Sandbox,
        destination: &Destination,
        body: Bytes,
    ) -> Option<Self> {
        match destination {
            Destination::Http { port, authority, path, put } => {
                let request = Request::builder()
                    .method(if *put { Method::PUT } else { Method::POST })
                    .uri(path)
                    .header(header::HOST, authority)
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Pieces(body))
                    .ok()?;
                let (mut sender, mut connection) = match self {
                    Self::Http { sender, connection } => (sender, connection),
                    Self::Tcp(_) | Self::None => {
                        let io = sandbox.connect(*port).await.ok()?;
                        let handshake =
                            http1::Builder::new().max_buf_size(MAX_ANSWER).handshake(TokioIo::new(io));
                        let (sender, connection) = handshake.await.ok()?;
                        (sender, Box::pin(connection))
                    }
                };
                let is_good = driven(&mut connection, exchange(&mut sender, request)).await?;
                Some(if is_good { Self::Http { sender, connection } } else { Self::None })
            }
            Destination::Tcp { port } => {
                let mut io = match self {
                    Self::Tcp(io) => io,
                    Self::Http { .. } | Self::None => sandbox.connect(*port).await.ok()?,
                };
                io.write_all(&body).await.ok()?;
                io.flush().await.ok()?;
                Some(Self::Tcp(io))
            }
        }
    }
}

/// Whether nobody has closed it. What was said meanwhile is of no interest, and too much of it a reason to hang up.
fn is_open(mut io: &mut dyn Io, cx: &mut Context<'_>) -> bool {
    let mut bytes = [0; CHUNK];
    for _ in 0..MAX_ANSWER / CHUNK {
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut io).poll_read(cx, &mut buffer) {
            Poll::Pending => return true,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
            Poll::Ready(_) => return false,
        }
    }
    false
}

/// Does the connection's work until what is done over it is over.
async fn driven<T>(connection: &mut Connection, exchange: impl Future<Output = T>) -> T {
    let mut exchange = pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        // What it read last is there to be had.
        _ = connection => exchange.await,
    }
}

/// Whether the connection is good for another, if the request was answered well.
async fn exchange(sender: &mut SendRequest<Pieces>, request: Request<Pieces>) -> Option<bool> {
    let answer = sender.send_request(request).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    Some(read_away(answer.into_body()).await && matches!(timeout(REST, sender.ready()).await, Ok(Ok(()))))
}

/// Whether an answer's body ended within its bound.
async fn read_away(mut body: Incoming) -> bool {
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
