//! Answers that a runtime streams: passed on piece by piece, as fast as whoever takes them takes them.
//!
//! A runtime says so with a header, sends chunks, and says in trailers if it failed in the middle. A connection that breaks
//! in mid-stream cannot be made good by another post: what was passed on is with the caller already.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_types::{RequestId, StreamError, limits};
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::refusal::{refuse, too_large};
use super::{Caller, Reply, accepted, body, error_type};
use crate::instance::Posted;
use crate::protocol::Refusal;

const MODE: &str = "lambda-runtime-function-response-mode";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";
/// Longest type of a body that is passed on, bytes.
const MAX_CONTENT_TYPE: usize = 256;

/// Whether the runtime streams this answer.
pub(super) fn is(request: &Request<Incoming>) -> bool {
    request.headers().get(MODE).is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"streaming"))
}

/// What the runtime says that the answer is.
pub(super) fn content_type(request: &Request<Incoming>) -> Option<String> {
    let value = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    (value.len() <= MAX_CONTENT_TYPE).then(|| value.to_owned())
}

/// Whether the function failed in mid-stream.
pub(super) fn failed(trailers: &HeaderMap) -> bool {
    trailers.contains_key(ERROR_TYPE) || trailers.contains_key(ERROR_BODY)
}

/// How the function failed in mid-stream.
pub(super) fn error_of(trailers: &HeaderMap) -> StreamError {
    let kind = error_type(trailers).unwrap_or_else(|| "Runtime.Unknown".to_owned());
    let told = trailers.get(ERROR_BODY).and_then(|value| STANDARD.decode(value.as_bytes()).ok());
    let details = told.map_or_else(|| crate::failure::document(&kind, ""), Bytes::from);
    StreamError { kind, details }
}

/// A stream on its way; dropped before its end, it was broken off.
struct Passing<'a> {
    caller: &'a Caller,
    id: Option<RequestId>,
}

impl Passing<'_> {
    fn end(mut self, posted: Posted) -> Result<(), Refusal> {
        match self.id.take() {
            Some(id) => self.caller.instance.complete_post(self.caller.generation, id, posted),
            None => Ok(()),
        }
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            // One that is over already, by its deadline or its instance's end, has been answered.
            let _ = self.caller.instance.complete_post(self.caller.generation, id, Posted::Truncated);
        }
    }
}

/// Passes on all that comes. A taker who has gone does not stop the function.
pub(super) async fn pass_on(
    caller: &Caller,
    id: RequestId,
    mut body: Incoming,
    pieces: mpsc::Sender<Bytes>,
) -> Reply {
    let passing = Passing { caller, id: Some(id) };
    let mut passed = 0;
    let mut error = None;
    while let Some(frame) = body.frame().await {
        let data = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(other)) => {
                error = other.into_trailers().ok().filter(failed).map(|trailers| error_of(&trailers));
                continue;
            }
            Err(_) => {
                drop(pieces);
                drop(passing);
                return refuse(Refusal::InvalidRequestFormat);
            }
        };
        passed += data.len();
        if passed > limits::STREAMED_RESPONSE_BYTES {
            drop(pieces);
            let ended = passing.end(Posted::TooLarge(limits::STREAMED_RESPONSE_BYTES));
            body::discard(body, 0).await;
            return ended.map_or_else(refuse, |()| too_large(limits::STREAMED_RESPONSE_BYTES));
        }
        let _ = pieces.send(data).await;
    }
    drop(pieces);
    passing.end(Posted::Streamed { error, bytes: passed }).map_or_else(refuse, |()| accepted())
}
