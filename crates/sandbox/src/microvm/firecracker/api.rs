//! Firecracker's API: HTTP over a socket in its jail. What it answers is bounded, and so is how long it takes.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

/// It does most things within milliseconds; one on a machine that is overloaded is not to be given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// What it takes to write or read a large machine's memory.
const LONG_PATIENCE: Duration = Duration::from_secs(120);
/// Most of an answer's head, and of its body, bytes.
const MAX_HEAD: usize = 8 << 10;
const MAX_BODY: usize = 16 << 10;
/// Most of what it gives as a reason that is passed on, characters.
const MAX_REASON: usize = 400;

/// Why it did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It says no.
    #[error("firecracker refused {path}: {status}: {reason}")]
    Refused {
        /// What was asked.
        path: &'static str,
        /// Its answer's status.
        status: StatusCode,
        /// Why, as it says.
        reason: String,
    },
    /// The connection broke, or what came over it was no answer.
    #[error("firecracker's API broke off at {path}")]
    Broken {
        /// What was asked.
        path: &'static str,
        /// How.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("firecracker did not answer {path} within {} s", patience.as_secs())]
    Late {
        /// What was asked.
        path: &'static str,
        /// How long it had.
        patience: Duration,
    },
}

/// What an answer that says no has in it.
#[derive(Debug, Deserialize)]
struct Fault {
    fault_message: String,
}

/// A connection to it.
#[derive(Debug)]
pub(super) struct Api {
    sender: SendRequest<Full<Bytes>>,
}

// === impl Api ===

impl Api {
    /// Begins to speak over a connected socket.
    pub(super) async fn open(socket: UnixStream) -> Result<Self, ApiError> {
        let broken = |source: hyper::Error| ApiError::Broken { path: "/", source: source.into() };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.map_err(broken)?;
        // Its end is seen by whoever asks next.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Asks for something to be, or to be done.
    pub(super) async fn put(&mut self, path: &'static str, body: &impl Serialize) -> Result<(), ApiError> {
        self.ask(Method::PUT, path, body).await
    }

    /// Asks for something to be changed.
    pub(super) async fn patch(&mut self, path: &'static str, body: &impl Serialize) -> Result<(), ApiError> {
        self.ask(Method::PATCH, path, body).await
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<(), ApiError> {
        let patience = if path.starts_with("/snapshot") { LONG_PATIENCE } else { PATIENCE };
        let answered = tokio::time::timeout(patience, self.exchange(method, path, body)).await;
        let (status, bytes) = answered
            .map_err(|_late| ApiError::Late { path, patience })?
            .map_err(|source| ApiError::Broken { path, source })?;
        if status.is_success() {
            return Ok(());
        }
        Err(ApiError::Refused { path, status, reason: reason(&bytes) })
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let body = serde_json::to_vec(body)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "localhost")
            .header("Content-Type", "application/json")
            .body(Full::from(body))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await?;
        Ok((status, body.to_bytes()))
    }
}

fn reason(body: &[u8]) -> String {
    let said = serde_json::from_slice(body)
        .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |Fault { fault_message }| fault_message);
    said.chars().filter(|letter| !letter.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A VMM that answers whatever it is asked with this: what the API makes of it, and what was asked.
    async fn answered(answer: Vec<u8>) -> (Result<(), ApiError>, String) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let vmm = tokio::spawn(async move {
            let mut heard = vec![0; 4096];
            let count = theirs.read(&mut heard).await.unwrap();
            let _ = theirs.write_all(&answer).await;
            String::from_utf8_lossy(&heard[..count]).into_owned()
        });
        let mut api = Api::open(ours).await.unwrap();
        let outcome = api.put("/actions", &json!({"action_type": "InstanceStart"})).await;
        (outcome, vmm.await.unwrap())
    }

    #[tokio::test]
    async fn what_is_asked_is_asked_as_firecracker_wants_it() {
        let (outcome, heard) = answered(b"HTTP/1.1 204 \r\nServer: Firecracker API\r\n\r\n".to_vec()).await;
        outcome.unwrap();
        assert!(heard.starts_with("PUT /actions HTTP/1.1\r\n"), "{heard}");
        assert!(heard.ends_with("\r\n\r\n{\"action_type\":\"InstanceStart\"}"), "{heard}");
    }

    #[tokio::test]
    async fn a_refusal_says_why_in_bounds() {
        let body = json!({ "fault_message": format!("bad\u{7} {}", "x".repeat(9_000)) }).to_string();
        let answer = format!("HTTP/1.1 400 \r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let Err(ApiError::Refused { status, reason, .. }) = answered(answer.into_bytes()).await.0 else {
            panic!("no refusal")
        };
        assert_eq!((status.as_u16(), reason.len()), (400, MAX_REASON));
        assert!(reason.starts_with("bad x"));
    }

    #[tokio::test]
    async fn what_is_no_answer_or_too_much_of_one_is_an_error() {
        let long = format!("HTTP/1.1 400 \r\nContent-Length: {0}\r\n\r\n{1}", 1 << 20, "x".repeat(1 << 20));
        let head = format!("HTTP/1.1 204 \r\nA: {}\r\n\r\n", "x".repeat(64 << 10));
        for answer in [b"nonsense\r\n\r\n".to_vec(), Vec::new(), long.into_bytes(), head.into_bytes()] {
            let outcome = answered(answer).await.0;
            assert!(matches!(outcome, Err(ApiError::Broken { .. })), "{outcome:?}");
        }
    }
}
