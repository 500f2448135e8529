//! Bodies, read up to a bound.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Read and thrown away after the bound, so that a caller who only then reads gets to hear why, bytes.
const MAX_DISCARDED: usize = 32 << 20;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    BrokeOff,
}

/// The body, if it has at most `limit` bytes.
pub(super) async fn read(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    Ok(read_whole(body, limit).await?.0)
}

/// The body and the trailers behind it, if it has at most `limit` bytes.
pub(super) async fn read_whole(
    mut body: Incoming,
    limit: usize,
) -> Result<(Bytes, Option<HeaderMap>), BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        discard(body, 0).await;
        return Err(BodyError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let data = match frame.map_err(|_| BodyError::BrokeOff)?.into_data() {
            Ok(data) => data,
            Err(other) => {
                trailers = other.into_trailers().ok();
                continue;
            }
        };
        if first.len() + rest.len() + data.len() > limit {
            discard(body, limit).await;
            return Err(BodyError::TooLarge);
        }
        if first.is_empty() && rest.is_empty() {
            // Most bodies are one piece, which needs no copy.
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.max(first.len() + data.len()));
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&data);
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, trailers))
}

/// Reads on for a while, `read` bytes having been read.
pub(super) async fn discard(mut body: Incoming, mut read: usize) {
    let most = read + MAX_DISCARDED;
    while read < most {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => break,
        }
    }
}
