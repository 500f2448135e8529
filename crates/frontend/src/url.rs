//! Function URLs: functions over plain HTTP, at a name of their own.
//!
//! ```text
//! config    the operations that make, show, change and delete them
//! event     a request as the function gets it
//! answer    what its answer means
//! cors      what browsers are told
//! ```
//!
//! A request is known by the name in its `Host`: `ID.lambda-url.REGION.localhost`, or under any other domain that leads here.
//! All URLs are in memory, so that a request asks the store for nothing.

mod answer;
mod config;
mod cors;
mod event;

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use hearth_keys::Payload;
use hearth_store::{StoreError, UrlRecord};
use hearth_types::{Answer, FunctionId, Piece, Reply, limits};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::json;

use self::answer::Malformed;
use self::cors::Cors;
use self::event::Asked;
use crate::Backend;
use crate::access::{Caller, Checked, Pending};
use crate::body::{Body, full, json as document};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::invoke::{Held, Taken, Wanted, error_outcome, given_trace, whole};
use crate::invoke_streamed::Taking;
use crate::names::Qualifier;
use crate::services::{Client, Target, hide_credentials};
use crate::to_end::ToEnd;

/// Says that a stream begins with metadata.
const WITH_METADATA: &str = "application/vnd.awslambda.http-integration-response";

/// A URL, ready to be used.
#[derive(Debug)]
pub(crate) struct Url {
    function: FunctionId,
    qualifier: String,
    url_id: String,
    signed: bool,
    streamed: bool,
    cors: Option<Cors>,
}

/// All URLs.
#[derive(Debug, Default)]
pub(crate) struct Urls {
    by_id: RwLock<HashMap<String, Arc<Url>>>,
}

impl Url {
    pub(crate) fn of(record: &UrlRecord) -> Self {
        Self {
            function: record.function.clone(),
            qualifier: record.qualifier.clone(),
            url_id: record.url_id.clone(),
            signed: record.signed,
            streamed: record.streamed,
            cors: record.cors.as_ref().and_then(|text| serde_json::from_str(text).ok()),
        }
    }

    fn qualifier(&self) -> Qualifier {
        if self.qualifier.is_empty() { Qualifier::None } else { Qualifier::Alias(self.qualifier.clone()) }
    }
}

impl Urls {
    pub(crate) fn put(&self, url: Url) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(url.url_id.clone(), Arc::new(url));
    }

    /// Forgets those of a function, or of one of its aliases; an empty alias is the function itself.
    pub(crate) fn forget(&self, function: &FunctionId, qualifier: Option<&str>) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.retain(|_, url| {
            url.function != *function || qualifier.is_some_and(|qualifier| url.qualifier != qualifier)
        });
    }

    fn get(&self, url_id: &str) -> Option<Arc<Url>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(url_id).cloned()
    }
}

/// The id in a host name of a URL.
pub(crate) fn id_in(host: &str) -> Option<&str> {
    const PART: &str = "lambda-url.";
    let (id, rest) = host.split_once('.')?;
    rest.get(..PART.len()).is_some_and(|part| part.eq_ignore_ascii_case(PART)).then_some(id)
}

/// A request to a URL, read to its end.
struct Request {
    url: Arc<Url>,
    head: Parts,
    body: Bytes,
    domain: String,
    client: Client,
    caller: Option<Caller>,
}

impl<B: Backend> Core<B> {
    pub(crate) async fn read_urls(&self) -> Result<(), StoreError> {
        for record in self.store.all_urls().await? {
            self.urls.put(Url::of(&record));
        }
        Ok(())
    }

    /// Answers a request to a URL; there is always an answer.
    pub(crate) async fn answer_url(
        self: Arc<Self>,
        (head, body): (Parts, Incoming),
        host: String,
        client: Client,
    ) -> Response<Body> {
        let found = id_in(&host).and_then(|id| self.urls.get(&id.to_ascii_lowercase()));
        let Some(url) = found else {
            return said(StatusCode::NOT_FOUND, "No function has this URL");
        };
        let asked = head.headers.clone();
        let preflight = cors::is_preflight(&head.method, &asked);
        let mut response = if url.cors.is_some() && preflight {
            Response::new(full(Bytes::new()))
        } else {
            let core = Arc::clone(&self);
            core.answer_asked(Arc::clone(&url), (head, body), host, client).await
        };
        if let Some(cors) = &url.cors {
            cors.tell(&asked, preflight, response.headers_mut());
        }
        response
    }

    /// Whether the function is a server of its own, which gets the request as it is.
    async fn is_service(&self, url: &Url) -> bool {
        let serving = self.serving(&url.function, &url.qualifier()).await;
        serving.is_ok_and(|spec| spec.http.is_some())
    }

    async fn answer_asked(
        self: Arc<Self>,
        url: Arc<Url>,
        (mut head, body): (Parts, Incoming),
        domain: String,
        client: Client,
    ) -> Response<Body> {
        let pending = match url.signed.then(|| self.claim_signed(&head, client.ip)).transpose() {
            Ok(pending) => pending,
            Err(error) => return forbidden(&error),
        };
        if self.is_service(&url).await {
            let target = Target::of(url.function.clone(), url.qualifier());
            let payload = match self.admitted_to_service(&url, &mut head, pending).await {
                Ok(payload) => payload,
                Err(error) => return forbidden(&error),
            };
            let body = Checked::new(body, &payload);
            return self.answer_service(target, (head, body), Some(domain), client).await;
        }
        let (body, permit) = match self.read_body("FunctionUrl", &head.headers, body).await {
            Ok(read) => read,
            Err(error) => return refused(&error),
        };
        let caller = match self.admitted(&url, &mut head, (pending, &body)).await {
            Ok(caller) => caller,
            Err(error) => return forbidden(&error),
        };
        let core = Arc::clone(&self);
        let work = async move {
            let started = Instant::now();
            let request = Request { url, head, body, domain, client, caller };
            let (outcome, response) = match core.invoke_url(request).await {
                Ok(done) => done,
                Err(error) => (error_outcome(&error), refused(&error)),
            };
            core.metrics.invoked(outcome, started.elapsed().as_secs_f64());
            response
        };
        // A client that goes away does not end it.
        let done = ToEnd::new(work).await;
        drop(permit);
        done.unwrap_or_else(|_| {
            tracing::error!("a request to a function URL broke down");
            said(StatusCode::INTERNAL_SERVER_ERROR, "Hearth failed to answer; its log says why")
        })
    }

    /// Who sends a request to a URL that asks; they may.
    async fn admitted(
        &self,
        url: &Url,
        head: &mut Parts,
        (pending, body): (Option<Pending>, &[u8]),
    ) -> Result<Option<Caller>, ApiError> {
        let Some(pending) = pending else { return Ok(None) };
        let caller = self.admit(pending, body)?;
        self.may_ask_url(&caller, url, head).await?;
        Ok(Some(caller))
    }

    /// The same, where the body is passed on as it comes; answers what it must be.
    async fn admitted_to_service(
        &self,
        url: &Url,
        head: &mut Parts,
        pending: Option<Pending>,
    ) -> Result<Payload, ApiError> {
        let Some(pending) = pending else { return Ok(Payload::Unsigned) };
        let (caller, payload) = self.admit_head(pending)?;
        self.may_ask_url(&caller, url, head).await?;
        Ok(payload)
    }

    async fn may_ask_url(&self, caller: &Caller, url: &Url, head: &mut Parts) -> Result<(), ApiError> {
        self.may_ask(caller, &url.function, &url.qualifier()).await?;
        if self.gate.asks() {
            hide_credentials(&mut head.headers);
        }
        Ok(())
    }

    async fn invoke_url(&self, request: Request) -> Result<(&'static str, Response<Body>), ApiError> {
        let url = &request.url;
        let qualifier = url.qualifier();
        let spec = self.serving(&url.function, &qualifier).await?;
        let payload = request.event();
        if payload.len() > limits::SYNC_PAYLOAD_BYTES {
            let limit = limits::SYNC_PAYLOAD_BYTES;
            return Err(ApiError::too_large("RequestTooLargeException", limit, "InvokeFunction"));
        }
        let wanted = Wanted { trace: given_trace(&request.head.headers), ..Wanted::default() };
        let invocation = wanted.invocation(&spec, &qualifier, request.client.request_id, payload);
        let taken = if url.streamed { Taken::Streamed } else { Taken::Whole };
        let (reply, held) = self.run(spec, invocation, taken).await?;
        Ok(match reply {
            Reply::Streamed(answer) => {
                let kind = answer.content_type.clone();
                ("success", streamed(Taking::new(answer, held), kind).await)
            }
            Reply::Whole(answer) => {
                drop::<Held<B>>(held);
                buffered(whole(Reply::Whole(answer))?, url.streamed)
            }
        })
    }
}

impl Request {
    fn event(&self) -> Bytes {
        let (ip, request_id) = (self.client.ip.to_string(), self.client.request_id.to_string());
        let caller = self.caller.as_ref();
        let caller = caller.map(|caller| (caller.account.as_str(), &*caller.key_id, &*caller.arn));
        let asked = Asked {
            url_id: &self.url.url_id,
            domain: &self.domain,
            source_ip: &ip,
            request_id: &request_id,
            caller,
            now_ms: now_ms(),
        };
        let mut event = event::of(&self.head, &self.body, asked);
        let port = self.head.headers.get("host").and_then(|host| host.to_str().ok()?.rsplit_once(':'));
        if let Some(headers) = event.get_mut("headers").and_then(serde_json::Value::as_object_mut) {
            headers.insert("x-forwarded-for".to_owned(), ip.into());
            headers.insert("x-forwarded-proto".to_owned(), self.client.proto().into());
            headers.insert(
                "x-forwarded-port".to_owned(),
                port.map_or(if self.client.tls { "443" } else { "80" }, |(_, port)| port).into(),
            );
        }
        event.to_string().into()
    }
}

/// The response to a whole answer.
fn buffered(answer: Answer, as_it_is: bool) -> (&'static str, Response<Body>) {
    if answer.error.is_some() {
        return ("function_error", said(StatusCode::BAD_GATEWAY, "Internal Server Error"));
    }
    let read = if as_it_is { Ok(Response::new(answer.payload)) } else { answer::whole(&answer.payload) };
    match read {
        Ok(response) => ("success", response.map(full)),
        Err(error) => ("function_error", malformed(&error)),
    }
}

/// The response to a stream, as soon as its head is there: with this type, or from the metadata that the type says it begins with.
async fn streamed(mut taking: Taking, kind: Option<String>) -> Response<Body> {
    if kind.as_deref() != Some(WITH_METADATA) {
        let mut response = Response::new(());
        let kind = kind.and_then(|kind| HeaderValue::try_from(kind).ok());
        let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        response.headers_mut().insert(CONTENT_TYPE, kind);
        return response.map(|()| Streaming { start: Bytes::new(), taking }.boxed_unsync());
    }
    let (mut start, mut searched) = (BytesMut::new(), 0);
    loop {
        match taking.next().await {
            Some(Piece::Data(data)) => start.extend_from_slice(&data),
            Some(Piece::End(_)) | None => {
                return said(StatusCode::BAD_GATEWAY, "Internal Server Error");
            }
        }
        match answer::metadata(&start, searched) {
            Ok(None) => searched = start.len(),
            Ok(Some((response, body))) => {
                let start = start.freeze().slice(body..);
                return response.map(|()| Streaming { start, taking }.boxed_unsync());
            }
            Err(error) => return malformed(&error),
        }
    }
}

/// The body of a streamed response. It breaks off where the function failed, so that no client takes it for whole.
struct Streaming {
    start: Bytes,
    taking: Taking,
}

impl HttpBody for Streaming {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.start.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.start)))));
        }
        let Poll::Ready(piece) = self.taking.poll_next(context) else { return Poll::Pending };
        Poll::Ready(match piece {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::End(end)) => {
                end.error.map(|error| Err(io::Error::other(format!("the function failed: {}", error.kind))))
            }
            None => None,
        })
    }
}

/// An answer of Hearth's own.
fn said(status: StatusCode, text: &str) -> Response<Body> {
    document(status, &json!({"Message": text}))
}

/// Whatever is wrong with a signature or a policy is said in one way, as AWS does.
fn forbidden(error: &ApiError) -> Response<Body> {
    match error.status {
        StatusCode::FORBIDDEN => {
            tracing::debug!(code = error.code, reason = error.message, "refused at a function URL");
            said(StatusCode::FORBIDDEN, "Forbidden")
        }
        _ => refused(error),
    }
}

fn refused(error: &ApiError) -> Response<Body> {
    let mut response = said(error.status, &error.message);
    error.advise(&mut response);
    response
}

fn malformed(error: &Malformed) -> Response<Body> {
    tracing::debug!(%error, "an answer to a function URL is no HTTP response");
    said(StatusCode::BAD_GATEWAY, "Internal Server Error")
}
