//! The Extensions API over HTTP, and the Telemetry and Logs APIs, which are extensions' as well.

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::body::{self, BodyError};
use super::{Caller, MAX_DOCUMENT, Reply, accepted, error_type, json, refusal, refuse};
use crate::instance::NotSubscribed;
use crate::protocol::{ExtensionEvent, Refusal, Registration};
use crate::telemetry::Api;

/// Largest registration, bytes.
const MAX_REGISTRATION: usize = 4 << 10;
/// Largest subscription to telemetry, bytes.
const MAX_SUBSCRIPTION: usize = 16 << 10;
/// Longest name of an extension, bytes.
const MAX_NAME: usize = 128;

#[derive(Deserialize)]
struct RegisterDocument {
    #[serde(default)]
    events: Vec<String>,
}

fn header<'a>(request: &'a Request<Incoming>, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

pub(super) async fn register(caller: &Caller, request: Request<Incoming>) -> Reply {
    let name = header(&request, "lambda-extension-name").to_owned();
    if name.is_empty() || name.len() > MAX_NAME {
        return refuse(Refusal::InvalidExtensionName);
    }
    let wants_account = header(&request, "lambda-extension-accept-feature")
        .split(',')
        .any(|feature| feature.trim() == "accountId");
    let document = match body::read(request.into_body(), MAX_REGISTRATION).await {
        Ok(body) => serde_json::from_slice::<RegisterDocument>(&body).ok(),
        Err(BodyError::TooLarge) => return refusal::too_large(MAX_REGISTRATION),
        Err(BodyError::BrokeOff) => None,
    };
    let Some(document) = document else { return refuse(Refusal::InvalidRequestFormat) };
    let mut events = Vec::new();
    for event in &document.events {
        events.push(match event.as_str() {
            "INVOKE" => ExtensionEvent::Invoke,
            "SHUTDOWN" => ExtensionEvent::Shutdown,
            _ => return refuse(Refusal::InvalidEventType),
        });
    }
    let id = uuid::Uuid::new_v4().to_string();
    let identifier = HeaderValue::try_from(&id);
    if let Err(refusal) = caller.instance.register(caller.generation, Registration { name, events }, id) {
        return refuse(refusal);
    }
    let spec = caller.instance.spec();
    let version = &spec.revision.version;
    let mut answer = serde_json::json!({
        "functionName": &*version.function.name,
        "functionVersion": version.version.to_string(),
        "handler": spec.handler,
    });
    if wants_account && let Some(answer) = answer.as_object_mut() {
        answer.insert("accountId".to_owned(), version.function.account.as_str().into());
    }
    let mut reply = json(StatusCode::OK, answer.to_string().into());
    if let Ok(identifier) = identifier {
        reply.headers_mut().insert("lambda-extension-identifier", identifier);
    }
    reply
}

pub(super) async fn subscribe(caller: &Caller, api: Api, request: Request<Incoming>) -> Reply {
    let id = header(&request, "lambda-extension-identifier").to_owned();
    let document = match body::read(request.into_body(), MAX_SUBSCRIPTION).await {
        Ok(document) => document,
        Err(BodyError::TooLarge) => return refusal::too_large(MAX_SUBSCRIPTION),
        Err(BodyError::BrokeOff) => return refuse(Refusal::InvalidRequestFormat),
    };
    match caller.instance.subscribe(caller.generation, &id, (api, &document)) {
        Ok(()) => json(StatusCode::OK, Bytes::from_static(b"\"OK\"")),
        Err(NotSubscribed::Refused(refusal)) => refuse(refusal),
        Err(NotSubscribed::Invalid(message)) => refusal::invalid_subscription(api, &message),
    }
}

pub(super) async fn next(caller: &Caller, request: &Request<Incoming>) -> Reply {
    let id = header(request, "lambda-extension-identifier");
    let (waiter, event) = oneshot::channel();
    if let Err(refusal) = caller.instance.extension_next(caller.generation, id, waiter) {
        return refuse(refusal);
    }
    match event.await {
        Ok(event) => {
            let mut reply = json(StatusCode::OK, event);
            let event_id = uuid::Uuid::new_v4().to_string();
            if let Ok(value) = HeaderValue::try_from(event_id) {
                reply.headers_mut().insert("lambda-extension-event-identifier", value);
            }
            reply
        }
        Err(_) => refuse(Refusal::InvalidExtensionState),
    }
}

pub(super) async fn failed(caller: &Caller, in_init: bool, request: Request<Incoming>) -> Reply {
    let id = header(&request, "lambda-extension-identifier").to_owned();
    let default = if in_init { "Extension.InitError" } else { "Extension.ExitError" };
    let kind = error_type(request.headers()).unwrap_or_else(|| default.to_owned());
    if let Err(BodyError::TooLarge) = body::read(request.into_body(), MAX_DOCUMENT).await {
        return refusal::too_large(MAX_DOCUMENT);
    }
    match caller.instance.extension_failed(caller.generation, &id, in_init, kind) {
        Ok(()) => accepted(),
        Err(refusal) => refuse(refusal),
    }
}
