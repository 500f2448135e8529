//! InvokeWithResponseStream: the answer in frames of AWS's event stream, each as soon as the function has made what is in it.
//!
//! The client sets the pace, within the function's timeout. One that goes away does not stop the function, as in Lambda: its slot
//! stays taken until the function has made all of its answer, which is then thrown away.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue as FrameValue, Message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use hearth_types::{Answer, Piece, Reply, StreamEnd, StreamError, StreamedAnswer};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value};

use crate::Backend;
use crate::body::{Body, empty};
use crate::core::Core;
use crate::error::ApiError;
use crate::invoke::{Held, Taken, Wanted, error_outcome, executed, payload};
use crate::service::Call;
use crate::tenancy;

/// What frames add to their payload at most: prelude, the headers below, checksum.
const FRAME_OVERHEAD: usize = 160;

impl<B: Backend> Core<B> {
    /// Must run in a task of its own: a client that goes away must not end it.
    pub(crate) async fn invoke_with_response_stream(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let started = Instant::now();
        let result = self.stream_answer(call).await;
        let outcome = match &result {
            Ok((outcome, _)) => outcome,
            Err(error) => error_outcome(error),
        };
        self.metrics.invoked(outcome, started.elapsed().as_secs_f64());
        result.map(|(_, response)| response)
    }

    async fn stream_answer(&self, call: Call) -> Result<(&'static str, Response<Body>), ApiError> {
        let (named, qualifier) = call.qualified_function()?;
        let wanted = Wanted::read(&call.headers)?;
        let payload = payload(call.body)?;
        let spec = self.serving(&named.id, &qualifier).await?;
        tenancy::match_up(&spec, wanted.tenant.as_ref())?;
        if wanted.event {
            let text = "Streaming is not supported for the invocation type Event";
            return Err(ApiError::parameter(text));
        }
        if wanted.dry_run {
            return Ok(("dry_run", empty(StatusCode::NO_CONTENT)));
        }
        let invocation = wanted.invocation(&spec, &qualifier, call.request_id, payload);
        let version = spec.revision.version.version;
        let (reply, held) = self.run(spec, invocation, Taken::Streamed).await?;
        let (outcome, events) = match reply {
            Reply::Whole(answer) => {
                let outcome = if answer.error.is_some() { "function_error" } else { "success" };
                (outcome, Events::Whole(framed(answer)?))
            }
            Reply::Streamed(answer) => ("success", Events::Streamed(Taking::new(answer, held))),
        };
        let mut response = Response::new(events.boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.amazon.eventstream"));
        headers.insert("x-amz-executed-version", executed(version));
        Ok((outcome, response))
    }
}

/// A stream that is being taken.
pub(crate) struct Taking(Option<StreamedAnswer>);

impl Taking {
    /// The slot is free when the function has ended, not when its client has taken everything: a slow one, or one that has gone,
    /// holds a few pieces and no instance.
    pub(crate) fn new<B: Backend>(mut answer: StreamedAnswer, mut held: Held<B>) -> Self {
        if let Some(over) = answer.take_over() {
            tokio::spawn(async move { held.reusable(over.await) });
        }
        Self(Some(answer))
    }

    /// The next piece; nothing after the end.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        let Some(answer) = &mut self.0 else { return Poll::Ready(None) };
        let Poll::Ready(piece) = answer.poll_next(context) else { return Poll::Pending };
        if let Piece::End(_) = &piece {
            self.0 = None;
        }
        Poll::Ready(Some(piece))
    }

    /// The next piece; nothing after the end.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        poll_fn(|context| self.poll_next(context)).await
    }
}

/// The body of an answer.
enum Events {
    Whole(Bytes),
    Streamed(Taking),
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = match self.get_mut() {
            Self::Whole(frames) if frames.is_empty() => None,
            Self::Whole(frames) => Some(Ok(std::mem::take(frames))),
            Self::Streamed(taking) => match taking.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => piece.map(|piece| match piece {
                    Piece::Data(data) => frame("PayloadChunk", "application/octet-stream", data),
                    Piece::End(end) => completion(end),
                }),
            },
        };
        Poll::Ready(frame.map(|frame| frame.map(Frame::data)))
    }
}

/// An answer that is there already.
fn framed(answer: Answer) -> Result<Bytes, ApiError> {
    let Answer { payload, error, log_tail, reusable } = answer;
    let broken = |error: io::Error| ApiError::internal(error.to_string());
    let mut frames = BytesMut::new();
    let error = match error {
        Some(error) => Some(StreamError { kind: error.as_str().to_owned(), details: payload }),
        None if payload.is_empty() => None,
        None => {
            let chunk = frame("PayloadChunk", "application/octet-stream", payload).map_err(broken)?;
            frames.extend_from_slice(&chunk);
            None
        }
    };
    frames.extend_from_slice(&completion(StreamEnd { error, log_tail, reusable }).map_err(broken)?);
    Ok(frames.freeze())
}

fn completion(end: StreamEnd) -> io::Result<Bytes> {
    let mut document = Map::new();
    let mut member = |name: &str, value: String| document.insert(name.to_owned(), Value::String(value));
    if let Some(error) = end.error {
        member("ErrorCode", error.kind);
        member("ErrorDetails", String::from_utf8_lossy(&error.details).into_owned());
    }
    if let Some(tail) = end.log_tail {
        member("LogResult", STANDARD.encode(tail));
    }
    frame("InvokeComplete", "application/json", Value::Object(document).to_string().into())
}

fn frame(event: &'static str, content_type: &'static str, payload: Bytes) -> io::Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(payload.len() + FRAME_OVERHEAD);
    let header =
        |name: &'static str, value: &'static str| Header::new(name, FrameValue::String(value.into()));
    let message = Message::new(payload)
        .add_header(header(":event-type", event))
        .add_header(header(":content-type", content_type))
        .add_header(header(":message-type", "event"));
    write_message_to(&message, &mut buffer).map_err(io::Error::other)?;
    Ok(buffer.freeze())
}
