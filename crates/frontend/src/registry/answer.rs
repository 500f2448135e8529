//! Answers in the specification's words.

use bytes::Bytes;
use hearth_oci::{Digest, OciError};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LINK, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json as object};

use crate::body::{Body, empty, full};

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// What became of content that was sent or asked for.
    pub(super) fn of(error: &OciError) -> Self {
        match error {
            OciError::Invalid { .. } | OciError::NoPlatform { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
            }
            OciError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", error.to_string())
            }
            OciError::Missing(_) => Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", error.to_string()),
            OciError::DiskFull => Self::new(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", error.to_string()),
            OciError::Io { source, .. } => {
                tracing::error!(%error, %source, "the registry cannot use its disk");
                let text = "Hearth could not use its disk; its log says why";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", text)
            }
        }
    }

    /// What one is told who must say a key first. Docker's client asks without one to hear this.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    pub(super) fn response(self) -> Response<Body> {
        let (code, message) = (self.code, self.message);
        let mut response =
            json(self.status, &object!({"errors": [{"code": code, "message": message, "detail": {}}]}));
        if self.status == StatusCode::UNAUTHORIZED {
            header(&mut response, WWW_AUTHENTICATE, "Basic realm=\"hearth\"");
        }
        response
    }
}

pub(super) fn json(status: StatusCode, document: &Value) -> Response<Body> {
    typed(status, "application/json", Bytes::from(document.to_string()))
}

/// A small document of some media type.
pub(super) fn typed(status: StatusCode, media_type: &str, content: Bytes) -> Response<Body> {
    let mut response = Response::new(full(content));
    *response.status_mut() = status;
    header(&mut response, CONTENT_TYPE, media_type);
    response
}

/// Something is where it was put.
pub(super) fn made(location: &str, digest: Digest) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    header(&mut response, hyper::header::LOCATION, location);
    header(&mut response, DIGEST, &digest.to_string());
    response
}

pub(super) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Sets a header whose value we have made or checked; one that cannot be one is left out.
pub(super) fn header(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Says where the next page is, if there is one.
pub(super) fn link_next(response: &mut Response<Body>, path: &str, last: Option<&String>, n: usize) {
    if let Some(last) = last {
        header(response, LINK, &format!("<{path}?n={n}&last={last}>; rel=\"next\""));
    }
}
