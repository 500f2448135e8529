//! Bodies of requests and answers: made, streamed, and read under limits of size and time.
//!
//! Nothing that a client sends is held before it is counted: a slow or endless sender costs one timeout and at
//! most the operation's limit.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there already.
#[must_use]
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes piece by piece and ends when the sender is dropped.
#[must_use]
pub fn stream(pieces: mpsc::Receiver<Bytes>) -> Body {
    Stream(pieces).boxed_unsync()
}

struct Stream(mpsc::Receiver<Bytes>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, document: &Value) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(document.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// How much of a body is read, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLimits {
    /// Most bytes.
    pub(crate) bytes: usize,
    /// Longest wait for the next piece.
    pub(crate) idle: Duration,
    /// Longest time for the whole.
    pub(crate) total: Duration,
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// More bytes than allowed.
    TooLarge,
    /// The client sent nothing for too long, or was too slow on the whole.
    TooSlow,
    /// The client went away or broke the protocol.
    Broken,
    /// Other requests have all the memory there is for bodies.
    Crowded,
}

/// Bodies up to this size need no share of the memory.
const SMALL: usize = 64 * 1024;
/// How long a request waits for its share of memory.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request's share of the memory that all bodies have together: as much as it really sent, so that a client that
/// announces much and sends little takes little from others.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    /// KiB that are free.
    memory: &'a Semaphore,
    held: Option<SemaphorePermit<'a>>,
}

impl<'a> Share<'a> {
    pub(crate) fn of(memory: &'a Semaphore) -> Self {
        Self { memory, held: None }
    }

    /// Has the share cover `bytes`.
    async fn cover(&mut self, bytes: usize) -> Result<(), ReadError> {
        let held = self.held.as_ref().map_or(0, SemaphorePermit::num_permits);
        let wanted = bytes.saturating_sub(SMALL).div_ceil(1024);
        let missing = u32::try_from(wanted.saturating_sub(held)).map_err(|_| ReadError::Crowded)?;
        if missing == 0 {
            return Ok(());
        }
        let more = timeout(PATIENCE, self.memory.acquire_many(missing)).await;
        let Ok(Ok(more)) = more else { return Err(ReadError::Crowded) };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

/// Excess that is read and thrown away, so that a client that sends all before it listens hears the answer.
const DRAINED_BYTES: usize = 128 * 1024 * 1024;
const DRAINED_TIME: Duration = Duration::from_secs(5);

/// Reads a body to its end.
pub(crate) async fn read<B>(
    mut body: B,
    limits: ReadLimits,
    eager: bool,
    share: &mut Share<'_>,
) -> Result<Bytes, ReadError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().lower();
    if announced > limits.bytes as u64 {
        drain(body, eager).await;
        return Err(ReadError::TooLarge);
    }
    let end = Instant::now() + limits.total;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let deadline = end.min(Instant::now() + limits.idle);
        let Some(piece) = next(&mut body, deadline).await? else { break };
        if first.len() + rest.len() + piece.len() > limits.bytes {
            drop((first, rest));
            drain(body, eager).await;
            return Err(ReadError::TooLarge);
        }
        share.cover(first.len() + rest.len() + piece.len()).await?;
        // A small body comes in one piece, which needs no copy.
        if first.is_empty() && rest.is_empty() {
            first = piece;
            continue;
        }
        if rest.is_empty() {
            let wanted = usize::try_from(announced).unwrap_or(0).max(first.len() + piece.len());
            rest.reserve(wanted.min(limits.bytes));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&piece);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

async fn next<B>(body: &mut B, deadline: Instant) -> Result<Option<Bytes>, ReadError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(ReadError::TooSlow),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(ReadError::Broken),
            Ok(Some(Ok(frame))) => {
                // Trailers are of no interest.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Reads what nobody wants. `eager`: the client sends without waiting for `100 Continue`, so it may not listen until
/// it has sent all.
pub(crate) async fn drain<B>(mut body: B, eager: bool)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let end = Instant::now() + DRAINED_TIME;
    let mut read = 0;
    while eager && read < DRAINED_BYTES {
        match next(&mut body, end).await {
            Ok(Some(piece)) => read += piece.len(),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReadLimits =
        ReadLimits { bytes: 10, idle: Duration::from_millis(50), total: Duration::from_millis(200) };

    async fn read_all(body: Body, eager: bool) -> Result<Bytes, ReadError> {
        read(body, LIMITS, eager, &mut Share::of(&Semaphore::new(0))).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_holds_memory_for_what_was_sent_and_waits_for_it_only_so_long() {
        let memory = Semaphore::new(200);
        let limits = ReadLimits { bytes: 1 << 20, ..LIMITS };
        let sent = |kib: usize| full(Bytes::from(vec![0; kib * 1024]));
        let mut small = Share::of(&memory);
        assert!(read(sent(64), limits, true, &mut small).await.is_ok());
        assert_eq!(memory.available_permits(), 200);
        let mut large = Share::of(&memory);
        assert!(read(sent(64 + 150), limits, true, &mut large).await.is_ok());
        assert_eq!(memory.available_permits(), 50);
        let mut crowded = Share::of(&memory);
        assert_eq!(read(sent(64 + 51), limits, true, &mut crowded).await, Err(ReadError::Crowded));
        drop(large);
        assert_eq!(memory.available_permits(), 200);
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        for (sent, expected) in [
            (vec![], Ok("")),
            (vec!["0123456789"], Ok("0123456789")),
            (vec!["01234", "56789"], Ok("0123456789")),
            (vec!["01234", "567890"], Err(ReadError::TooLarge)),
        ] {
            let (sender, receiver) = mpsc::channel(4);
            for piece in sent {
                sender.send(Bytes::from(piece)).await.unwrap();
            }
            drop(sender);
            let got = read_all(stream(receiver), true).await;
            assert_eq!(got, expected.map(Bytes::from));
        }
        assert_eq!(read_all(full(Bytes::from(vec![0; 11])), false).await, Err(ReadError::TooLarge));
    }

    #[tokio::test]
    async fn a_sender_that_stalls_or_drips_is_given_up() {
        let (stalled, receiver) = mpsc::channel(4);
        assert_eq!(read_all(stream(receiver), true).await, Err(ReadError::TooSlow));
        drop(stalled);
        let (sender, receiver) = mpsc::channel(4);
        let drip = tokio::spawn(async move {
            while sender.send(Bytes::from_static(b"")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert_eq!(read_all(stream(receiver), true).await, Err(ReadError::TooSlow));
        drip.await.unwrap();
    }
}
