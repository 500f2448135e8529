//! The Runtime API and the Extensions API over HTTP, for one connection from a sandbox at a time.
//!
//! Whoever is on the other side is hostile. A connection has one request in hand, a header of at most [`MAX_HEADER`] bytes
//! and a body that is read only after the state machine has agreed to it, so a sandbox holds no more than one
//! answer for each slot in the worker's memory, whatever it sends. How many connections there are is the driver's to bound.

mod body;
mod extensions;
mod refusal;
mod route;
mod streamed;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use hearth_sandbox::Io;
use hearth_types::limits;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::instance::{Instance, NextEvent, Posted};
use crate::protocol::Refusal;
use body::BodyError;
use refusal::refuse;
use route::Route;

/// Largest head of a request, and largest piece of a body in memory at once, bytes.
const MAX_HEADER: usize = 32 << 10;
/// Largest document of an `init/error` or an extension's, bytes.
const MAX_DOCUMENT: usize = 256 << 10;

type Reply = Response<Full<Bytes>>;

/// A connection's side of an instance; it ends with the generation it belongs to.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) instance: Arc<Instance>,
    pub(crate) generation: u32,
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve(caller: Caller, io: Box<dyn Io>) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(&caller, request).await) });
    let served = http1::Builder::new()
        .max_buf_size(MAX_HEADER)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, instance = %caller.instance.id(), "a connection to the Runtime API broke off");
    }
}

async fn answer(caller: &Caller, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    match route::find(request.method(), &path) {
        Route::Next => next(caller).await,
        Route::Response(id) => post(caller, id, false, request).await,
        Route::InvocationError(id) => post(caller, id, true, request).await,
        Route::InitError => init_error(caller, request).await,
        Route::RestoreNext => restore_next(caller).await,
        Route::RestoreError => restore_error(caller, request).await,
        Route::Register => extensions::register(caller, request).await,
        Route::EventNext => extensions::next(caller, &request).await,
        Route::ExtensionInitError => extensions::failed(caller, true, request).await,
        Route::ExtensionExitError => extensions::failed(caller, false, request).await,
        Route::Subscribe(api) => extensions::subscribe(caller, api, request).await,
        Route::WrongMethod => plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed"),
        Route::Unknown => plain(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

async fn next(caller: &Caller) -> Reply {
    let (waiter, event) = oneshot::channel();
    if let Err(refusal) = caller.instance.runtime_next(caller.generation, waiter) {
        return refuse(refusal);
    }
    match event.await {
        Ok(event) => deliver(event),
        // The sandbox is being ended.
        Err(_) => refuse(Refusal::InvalidStateTransition),
    }
}

fn deliver(event: NextEvent) -> Reply {
    let invocation = event.invocation;
    let mut reply = json(StatusCode::OK, invocation.payload);
    let headers = reply.headers_mut();
    let mut set = |name: &'static str, value: String| {
        // What cannot be a header is left out: only a caller's context or trace could be that.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("lambda-runtime-aws-request-id", invocation.request_id.to_string());
    set("lambda-runtime-deadline-ms", event.deadline_ms.to_string());
    set("lambda-runtime-invoked-function-arn", invocation.invoked_arn);
    if let Some(trace) = invocation.trace {
        // The same for those who know it by W3C's name.
        if let Some(parent) = hearth_types::traceparent_of(&trace) {
            set("traceparent", parent);
        }
        set("lambda-runtime-trace-id", trace);
    }
    if let Some(tenant) = invocation.tenant {
        set("lambda-runtime-aws-tenant-id", tenant.into());
    }
    if let Some(context) = invocation.client_context {
        set("lambda-runtime-client-context", context);
    }
    reply
}

/// An answer that is on its way in; it can be made again if it breaks off.
struct Posting<'a> {
    caller: &'a Caller,
    id: Option<hearth_types::RequestId>,
}

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.caller.instance.post_broke_off(self.caller.generation, id);
        }
    }
}

async fn post(caller: &Caller, id: &str, is_error: bool, request: Request<Incoming>) -> Reply {
    let id = match caller.instance.begin_post(caller.generation, id) {
        Ok(id) => id,
        Err(refusal) => return refuse(refusal),
    };
    let mut posting = Posting { caller, id: Some(id) };
    let is_streamed = !is_error && streamed::is(&request);
    if is_streamed
        && let Some(pieces) =
            caller.instance.begin_stream(caller.generation, id, streamed::content_type(&request))
    {
        posting.id = None;
        return streamed::pass_on(caller, id, request.into_body(), pieces).await;
    }
    let read = body::read_whole(request.into_body(), limits::RESPONSE_BYTES).await;
    let (posted, too_large) = match read {
        Ok((body, _)) if is_error => (Posted::Error(body), false),
        Ok((_, Some(trailers))) if is_streamed && streamed::failed(&trailers) => {
            (Posted::Error(streamed::error_of(&trailers).details), false)
        }
        Ok((body, _)) => (Posted::Response(body), false),
        Err(BodyError::TooLarge) => (Posted::TooLarge(limits::RESPONSE_BYTES), true),
        Err(BodyError::BrokeOff) => return refuse(Refusal::InvalidRequestFormat),
    };
    posting.id = None;
    match caller.instance.complete_post(caller.generation, id, posted) {
        Err(refusal) => refuse(refusal),
        Ok(()) if too_large => refusal::too_large(limits::RESPONSE_BYTES),
        Ok(()) => accepted(),
    }
}

async fn init_error(caller: &Caller, request: Request<Incoming>) -> Reply {
    let kind = error_type(request.headers()).unwrap_or_else(|| "Runtime.Unknown".to_owned());
    match body::read(request.into_body(), MAX_DOCUMENT).await {
        Err(BodyError::TooLarge) => refusal::too_large(MAX_DOCUMENT),
        Err(BodyError::BrokeOff) => refuse(Refusal::InvalidRequestFormat),
        Ok(document) => match caller.instance.runtime_init_error(caller.generation, kind, document) {
            Ok(()) => accepted(),
            Err(refusal) => refuse(refusal),
        },
    }
}

/// Answered where there is nothing to wait for: in a sandbox that was made from a snapshot, and where none is taken.
async fn restore_next(caller: &Caller) -> Reply {
    let (waiter, restored) = oneshot::channel();
    match caller.instance.runtime_restore_next(caller.generation, waiter) {
        Ok(false) => json(StatusCode::OK, Bytes::from_static(b"{}")),
        Ok(true) => {
            // The conversation ends with the snapshot; the next one begins with this request again.
            let _ = restored.await;
            refuse(Refusal::InvalidStateTransition)
        }
        Err(refusal) => refuse(refusal),
    }
}

async fn restore_error(caller: &Caller, request: Request<Incoming>) -> Reply {
    let kind = error_type(request.headers()).unwrap_or_else(|| "Runtime.Unknown".to_owned());
    match body::read(request.into_body(), MAX_DOCUMENT).await {
        Err(BodyError::TooLarge) => refusal::too_large(MAX_DOCUMENT),
        Err(BodyError::BrokeOff) => refuse(Refusal::InvalidRequestFormat),
        Ok(document) => match caller.instance.runtime_restore_error(caller.generation, kind, document) {
            Ok(()) => accepted(),
            Err(refusal) => refuse(refusal),
        },
    }
}

/// What the caller says its error is called; only letters that cannot disturb a log line.
fn error_type(headers: &HeaderMap) -> Option<String> {
    let header = |name| headers.get(name)?.to_str().ok();
    let kind = header("lambda-runtime-function-error-type")
        .or_else(|| header("lambda-extension-function-error-type"))?;
    let kind: String = kind
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        .take(128)
        .collect();
    (!kind.is_empty()).then_some(kind)
}

fn accepted() -> Reply {
    json(StatusCode::ACCEPTED, Bytes::from_static(b"{\"status\":\"OK\"}\n"))
}

fn json(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn plain(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *reply.status_mut() = status;
    reply
}
