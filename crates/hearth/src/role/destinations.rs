//! Where records of events go that are not functions: HTTP endpoints that the operator has named, and queues of SQS.
//!
//! A tenant names a destination by an ARN, `arn:aws:hearth:::http/NAME`, never by a URL: what this process reaches is for
//! the operator to say.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use hearth_aws::{CallError, QueueArn, Sqs};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::role::mappings::described;

/// Begins the ARNs of HTTP endpoints.
const HTTP: &str = "arn:aws:hearth:::http/";
/// Time for one record to be taken.
const TIME: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read.
const ANSWER: usize = 1 << 20;

/// An endpoint by its name: `NAME=http://HOST[:PORT]/PATH`.
#[derive(Clone, Debug)]
pub(crate) struct HttpDestination {
    name: String,
    uri: Uri,
}

impl FromStr for HttpDestination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, uri) = text.split_once('=').ok_or("it must be NAME=http://HOST/PATH")?;
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
            return Err(format!("{name:?} is no name: letters, digits, - _ . only, 64 at most"));
        }
        let uri: Uri = uri.parse().map_err(|error| format!("{uri:?} is no URL: {error}"))?;
        check_http(&uri)?;
        Ok(Self { name: name.to_owned(), uri })
    }
}

/// Whether an address can be spoken to.
pub(crate) fn check_http(uri: &Uri) -> Result<(), String> {
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(()),
        (Some("https"), _) => {
            Err(format!("{uri} needs TLS, which Hearth does not speak: put a proxy before it"))
        }
        _ => Err(format!("{uri} does not begin with http://")),
    }
}

/// Why something was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// Nobody will ever take it.
    Never(String),
    /// This one another time; others may be taken.
    NotTaken(String),
    /// Nobody is there.
    Unreachable(String),
}

/// All destinations of a server.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    http: BTreeMap<String, Uri>,
    sqs: Option<Sqs>,
}

impl Destinations {
    pub(crate) fn new(http: impl IntoIterator<Item = HttpDestination>, sqs: Option<Sqs>) -> Self {
        Self { http: http.into_iter().map(|one| (one.name, one.uri)).collect(), sqs }
    }

    /// Why nothing can be sent to an ARN, as the end of a sentence that begins with it.
    pub(crate) fn undeliverable(&self, arn: &str) -> Option<String> {
        if let Some(name) = arn.strip_prefix(HTTP) {
            let known = self.http.contains_key(name);
            return (!known).then(|| {
                format!("names no HTTP endpoint of this Hearth: start it with --http-destination {name}=http://...")
            });
        }
        if QueueArn::read(arn).is_some() {
            let why = "names a queue, and this Hearth knows no SQS: start it with --sqs-endpoint http://...";
            return self.sqs.is_none().then(|| why.to_owned());
        }
        Some(format!(
            "cannot be reached: destinations are functions, queues of SQS and HTTP endpoints ({HTTP}NAME)"
        ))
    }

    /// Sends a record.
    pub(crate) async fn send(
        &self,
        arn: &str,
        payload: &Bytes,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), SendError> {
        if let (Some(queue), Some(sqs)) = (QueueArn::read(arn), &self.sqs) {
            let body = String::from_utf8_lossy(payload);
            return send_message(sqs, queue, &body, attributes).await;
        }
        let Some(uri) = arn.strip_prefix(HTTP).and_then(|name| self.http.get(name)) else {
            let why = self.undeliverable(arn).unwrap_or_default();
            return Err(SendError::Unreachable(format!("{arn} {why}")));
        };
        let mut request = Request::builder().method(Method::POST).header("content-type", "application/json");
        for (name, value) in attributes {
            let clean: String = value.chars().filter(|c| !c.is_control()).collect();
            request = request.header(format!("x-hearth-{}", name.to_ascii_lowercase()), clean);
        }
        let (status, answer) = call(uri, request, payload.clone(), TIME).await?;
        let said: String = String::from_utf8_lossy(&answer).chars().take(200).collect();
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(SendError::NotTaken(format!("{status}: {said}")))
            }
            status if status.is_client_error() => Err(SendError::Never(format!("{status}: {said}"))),
            status => Err(SendError::NotTaken(format!("{status}: {said}"))),
        }
    }
}

async fn send_message(
    sqs: &Sqs,
    queue: QueueArn<'_>,
    body: &str,
    attributes: &BTreeMap<String, String>,
) -> Result<(), SendError> {
    let sent = async { sqs.send(&sqs.url(queue).await?, body, attributes).await };
    sent.await.map_err(|error| {
        let text = format!("{}: {}", queue.name, described(&error));
        match &error {
            // It may be made yet.
            _ if error.is_missing_queue() => SendError::NotTaken(text),
            CallError::Refused { status: 400, code, .. } if !code.contains("Throttl") => {
                SendError::Never(text)
            }
            CallError::Unreachable { .. } => SendError::Unreachable(text),
            _ => SendError::NotTaken(text),
        }
    })
}

/// One request over a connection of its own.
async fn call(
    uri: &Uri,
    request: http::request::Builder,
    body: Bytes,
    time: Duration,
) -> Result<(StatusCode, Bytes), SendError> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(80);
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = request.uri(path).header("host", authority).body(Full::new(body));
    let request =
        request.map_err(|error| SendError::Never(format!("the request cannot be made: {error}")))?;
    let late = |what: &str| format!("{uri} {what} within {} s", time.as_secs());
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = match tokio::time::timeout(time, TcpStream::connect((bare, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(SendError::Unreachable(format!("cannot connect to {uri}: {error}"))),
        Err(_) => return Err(SendError::Unreachable(late("took no connection"))),
    };
    let exchange = async {
        let failed = |error: hyper::Error| format!("{uri} did not answer: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let driver = tokio::spawn(connection);
        let answered = async {
            let answer = sender.send_request(request).await.map_err(failed)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER).collect().await;
            Ok((status, body.map_err(|error| format!("{uri} broke its answer off: {error}"))?.to_bytes()))
        };
        let answered = answered.await;
        driver.abort();
        answered
    };
    // A receiver that breaks off at one record may take the next.
    match tokio::time::timeout(time, exchange).await {
        Ok(answered) => answered.map_err(SendError::NotTaken),
        Err(_) => Err(SendError::NotTaken(late("did not answer"))),
    }
}
