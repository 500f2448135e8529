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
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

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
}

/// Excess that is read and thrown away, so that a client that sends all before it listens hears the answer.
const DRAINED_BYTES: usize = 128 * 1024 * 1024;
const DRAINED_TIME: Duration = Duration::from_secs(5);

/// Reads a body to its end.
pub(crate) async fn read<B>(mut body: B, limits: ReadLimits, eager: bool) -> Result<Bytes, ReadError>
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
            let got = read(stream(receiver), LIMITS, true).await;
            assert_eq!(got, expected.map(Bytes::from));
        }
        assert_eq!(read(full(Bytes::from(vec![0; 11])), LIMITS, false).await, Err(ReadError::TooLarge));
    }

    #[tokio::test]
    async fn a_sender_that_stalls_or_drips_is_given_up() {
        let (stalled, receiver) = mpsc::channel(4);
        assert_eq!(read(stream(receiver), LIMITS, true).await, Err(ReadError::TooSlow));
        drop(stalled);
        let (sender, receiver) = mpsc::channel(4);
        let drip = tokio::spawn(async move {
            while sender.send(Bytes::from_static(b"")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert_eq!(read(stream(receiver), LIMITS, true).await, Err(ReadError::TooSlow));
        drip.await.unwrap();
    }
}
