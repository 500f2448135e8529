//! Objects of S3: read, never written.
//!
//! Source: docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html and .../ErrorResponses.html. The bucket is in the path, as
//! every S3-compatible server takes it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::caller::{Caller, words};
use crate::{Account, CallError, Endpoint};

/// Bytes of an error's text that are read.
const ERROR_BYTES: usize = 64 << 10;

/// An object as it is named.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its bucket.
    pub bucket: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Which version of it; the newest if none is named.
    pub version: Option<&'a str>,
}

/// How long is waited for an object.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until its answer begins.
    pub head: Duration,
    /// Within it, for the next piece.
    pub pause: Duration,
    /// For all of it.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let (head, pause) = (Duration::from_secs(20), Duration::from_secs(10));
        Self { head, pause, whole: Duration::from_secs(300) }
    }
}

/// An S3-compatible service.
#[derive(Clone, Debug)]
pub struct S3 {
    caller: Caller,
    patience: Patience,
}

impl S3 {
    /// The service at `endpoint`.
    ///
    /// # Errors
    /// The machine's certificates cannot be read.
    pub fn new(endpoint: Endpoint, account: Account) -> std::io::Result<Self> {
        Ok(Self { caller: Caller::new("s3", endpoint, account)?, patience: Patience::default() })
    }

    /// The same with other times.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Writes an object of at most `most` bytes to `to`; answers its size.
    ///
    /// # Errors
    /// See [`CallError`]; part of it may have been written then.
    pub async fn read<W: AsyncWrite + Unpin>(
        &self,
        object: Object<'_>,
        most: u64,
        to: &mut W,
    ) -> Result<u64, CallError> {
        let path = path(object)?;
        let response = self.caller.send(Request::builder(), &path, Bytes::new(), self.patience.head).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response).await);
        }
        let body = response.into_body();
        if body.size_hint().exact().is_some_and(|size| size > most) {
            return Err(CallError::TooLarge { most });
        }
        self.copy(body, most, to).await
    }

    async fn copy<W: AsyncWrite + Unpin>(
        &self,
        mut body: Incoming,
        most: u64,
        to: &mut W,
    ) -> Result<u64, CallError> {
        let Patience { pause, whole, .. } = self.patience;
        let end = Instant::now() + whole;
        let mut size = 0_u64;
        loop {
            let soon = Instant::now() + pause;
            let frame = timeout_at(soon.min(end), body.frame()).await;
            let frame = match frame.map_err(|_| self.caller.late(if soon < end { pause } else { whole }))? {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    let endpoint = self.caller.endpoint.to_string();
                    return Err(CallError::BrokeOff { endpoint, source: error.into() });
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            size += data.len() as u64;
            if size > most {
                return Err(CallError::TooLarge { most });
            }
            to.write_all(&data).await.map_err(CallError::Write)?;
        }
        to.flush().await.map_err(CallError::Write)?;
        Ok(size)
    }

    /// What an answer that is none says.
    async fn refusal(&self, response: Response<Incoming>) -> CallError {
        let status = response.status();
        let text = match self.caller.small(response.into_body(), ERROR_BYTES, self.patience.pause).await {
            Ok(text) => text,
            Err(error) => return error,
        };
        let (code, message) = std::str::from_utf8(&text).ok().and_then(said).unwrap_or_default();
        // Some servers say nothing but a status.
        let code = match (code.is_empty(), status) {
            (false, _) => code,
            (true, StatusCode::NOT_FOUND) => "NoSuchKey".to_owned(),
            (true, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) => "AccessDenied".to_owned(),
            (true, status) if status.is_redirection() => "PermanentRedirect".to_owned(),
            (true, status) => format!("Status{}", status.as_u16()),
        };
        let message = if message.is_empty() { format!("the answer's status was {status}") } else { message };
        CallError::Refused { status: status.as_u16(), code, message }
    }
}

/// Code and message of an error document.
fn said(text: &str) -> Option<(String, String)> {
    let document = roxmltree::Document::parse(text).ok()?;
    let member = |name: &str| {
        let node = document.root_element().children().find(|node| node.has_tag_name(name));
        words(node.and_then(|node| node.text()).unwrap_or_default())
    };
    Some((member("Code"), member("Message")))
}

/// Where an object is below the endpoint.
fn path(object: Object<'_>) -> Result<String, CallError> {
    let climbs = |segment: &str| matches!(segment, "." | "..");
    if climbs(object.bucket) || object.bucket.contains('/') || object.key.split('/').any(climbs) {
        let (bucket, key) = (object.bucket, object.key);
        return Err(CallError::Invalid(format!(
            "{bucket}/{key} names no object: `.` or `..` is a part of it"
        )));
    }
    let mut path = format!("/{}/{}", escape(object.bucket, false), escape(object.key, true));
    if let Some(version) = object.version {
        path.push_str("?versionId=");
        path.push_str(&escape(version, false));
    }
    Ok(path)
}

/// Percent-encodes as a signature counts it: all but letters, digits and `-._~`, and slashes only where they part.
fn escape(text: &str, slashes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            b'/' if slashes => escaped.push('/'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_below_its_bucket() {
        let at = |key, version| path(Object { bucket: "b", key, version }).ok();
        assert_eq!(at("a/b c+ü.zip", None).as_deref(), Some("/b/a/b%20c%2B%C3%BC.zip"));
        assert_eq!(at("k?x#y", Some("v/1&")).as_deref(), Some("/b/k%3Fx%23y?versionId=v%2F1%26"));
        assert_eq!(at("..a/...", None).as_deref(), Some("/b/..a/..."));
        for bad in ["..", "a/../b", "./a", "../../admin"] {
            assert_eq!(at(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn an_error_is_read_whatever_it_is() {
        let good = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>The specified key\n does not exist.</Message></Error>";
        let wanted = ("NoSuchKey".to_owned(), "The specified key does not exist.".to_owned());
        assert_eq!(said(good), Some(wanted));
        assert_eq!(said("<Error/>"), Some(Default::default()));
        for bad in ["", "<", "no xml", "<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>"] {
            assert_eq!(said(bad), None, "{bad}");
        }
    }
}
