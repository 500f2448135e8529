//! Reads requests' bodies under limits that hold over all connections together.
//!
//! Ten thousand clients may be connected; they may not all have their six megabytes, or seventy, in memory at once.

use std::time::Duration;

use bytes::Bytes;
use hearth_types::limits;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use hyper::header::{EXPECT, HeaderMap};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::Backend;
use crate::body::{ReadError, ReadLimits, Share, read};
use crate::core::Core;
use crate::error::ApiError;

/// Large archives that are decoded and unpacked at once.
pub(crate) const CODE_UPLOADS: usize = 4;
/// Archives that are unpacked at once, wherever they come from.
pub(crate) const UNPACKING: usize = 4;
/// Objects of S3 that are brought at once.
pub(crate) const FETCHES: usize = 8;
/// What may be decoded without waiting for a turn: such a request may name code that lies elsewhere.
const SMALL: usize = 64 << 10;
/// KiB of large bodies in memory at once: a gibibyte.
pub(crate) const MEMORY_KIB: usize = 1024 * 1024;
/// Lambda's limit for requests with code: fifty mebibytes in base64, and some.
const CODE_BYTES: usize = 70_167_211;
/// The most that other requests need.
const OTHER_BYTES: usize = 1024 * 1024;
/// How long an archive waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest pause of a sender.
const IDLE: Duration = Duration::from_secs(30);

/// A body, its share of the memory, and the turn of one with code.
pub(crate) type Held<'a> = (Bytes, Option<(Share<'a>, Option<SemaphorePermit<'a>>)>);

impl<B: Backend> Core<B> {
    /// Reads the body of a request for `operation`.
    ///
    /// # Errors
    /// Too large, too slow, broken, or too many others at once.
    pub(crate) async fn read_body(
        &self,
        operation: &'static str,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Held<'_>, ApiError> {
        if body.is_end_stream() {
            return Ok((Bytes::new(), None));
        }
        let (bytes, seconds, code) = match operation {
            "CreateFunction" | "UpdateFunctionCode" | "PublishLayerVersion" => {
                (CODE_BYTES, 600, "RequestEntityTooLargeException")
            }
            "Invoke" if is_event(headers) => (limits::ASYNC_PAYLOAD_BYTES, 60, "RequestTooLargeException"),
            "InvokeAsync" => (limits::ASYNC_PAYLOAD_BYTES, 60, "RequestTooLargeException"),
            "Invoke" | "InvokeWithResponseStream" | "FunctionUrl" => {
                (limits::SYNC_PAYLOAD_BYTES, 120, "RequestTooLargeException")
            }
            _ => (OTHER_BYTES, 60, "RequestEntityTooLargeException"),
        };
        let limits = ReadLimits { bytes, idle: IDLE, total: Duration::from_secs(seconds) };
        let mut share = Share::of(&self.memory);
        match read(body, limits, eager(headers), &mut share).await {
            Ok(body) => {
                let large = bytes == CODE_BYTES && body.len() > SMALL;
                let turn = if large { Some(self.turn(&self.uploads).await?) } else { None };
                Ok((body, Some((share, turn))))
            }
            Err(ReadError::Crowded) => Err(crowded().closing()),
            Err(ReadError::TooLarge) => {
                // Lambda calls this one by another name here.
                let invokes = matches!(operation, "Invoke" | "InvokeWithResponseStream" | "FunctionUrl");
                let operation = if invokes { "InvokeFunction" } else { operation };
                Err(ApiError::too_large(code, bytes, operation).closing())
            }
            Err(ReadError::TooSlow) => Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimeoutException",
                "The body of the request did not arrive in time",
            )
            .closing()),
            Err(ReadError::Broken) => {
                Err(ApiError::content("The body of the request could not be read to its end").closing())
            }
        }
    }

    /// Waits for one of a few at once.
    ///
    /// # Errors
    /// Too many others do, for too long.
    pub(crate) async fn turn<'a>(&self, turns: &'a Semaphore) -> Result<SemaphorePermit<'a>, ApiError> {
        match timeout(PATIENCE, turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(crowded()),
        }
    }
}

/// Whether an Invoke request is for later.
fn is_event(headers: &HeaderMap) -> bool {
    headers.get("x-amz-invocation-type").is_some_and(|value| value == "Event")
}

/// Whether a client sends its body without waiting to be told so.
pub(crate) fn eager(headers: &HeaderMap) -> bool {
    !headers.contains_key(EXPECT)
}

fn crowded() -> ApiError {
    ApiError::unavailable("Too many large requests at once; try again")
}
