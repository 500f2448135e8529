//! Invoke: the path that everything else exists for.
//!
//! A warm invocation takes one look into the cache, one lease and one round trip to the instance, and no disk.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_store::State;
use hearth_types::{
    Answer, FunctionId, FunctionSpec, Invocation, InvokeError, Lease, LeaseOutcome, LeaseRequest, Reply,
    RequestId, TenantId, Version,
};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde::de::IgnoredAny;

use crate::Backend;
use crate::body::{Body, empty, full};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::events::New;
use crate::names::Qualifier;
use crate::render::state_word;
use crate::service::Call;
use crate::shapes;
use crate::tenancy;
use crate::validate::Violations;

/// Bytes of a client context, in base64.
const CLIENT_CONTEXT: usize = 3_583;
/// Leases tried when instances are gone before they got the request.
pub(crate) const ATTEMPTS: usize = 3;

/// A lease that is released however the request ends, even by a panic.
pub(crate) struct Held<B: Backend> {
    backend: Arc<B>,
    lease: Option<Lease>,
    outcome: LeaseOutcome,
}

impl<B: Backend> Held<B> {
    pub(crate) const fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// The instance is of no use any more.
    pub(crate) const fn lost(&mut self) {
        self.outcome = LeaseOutcome::InstanceLost;
    }

    /// The instance said whether it can take another request.
    pub(crate) fn reusable(&mut self, reusable: bool) {
        if reusable {
            self.outcome = LeaseOutcome::Reusable;
        }
    }
}

impl<B: Backend> Drop for Held<B> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.backend.release(lease, self.outcome);
        }
    }
}

/// How a caller takes an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Whole,
    Streamed,
}

impl<B: Backend> Core<B> {
    /// Must run to its end: a client that goes away must not end it.
    pub(crate) async fn invoke(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let started = Instant::now();
        let result = self.invoke_inner(call).await;
        let (outcome, answer) = match result {
            Ok(done) => done,
            Err(error) => (error_outcome(&error), Err(error)),
        };
        self.metrics.invoked(outcome, started.elapsed().as_secs_f64());
        answer
    }

    async fn invoke_inner(
        &self,
        call: Call,
    ) -> Result<(&'static str, Result<Response<Body>, ApiError>), ApiError> {
        let (named, qualifier) = call.qualified_function()?;
        let wanted = Wanted::read(&call.headers)?;
        let payload = payload(call.body)?;
        let spec = self.serving(&named.id, &qualifier).await?;
        tenancy::match_up(&spec, wanted.tenant.as_ref())?;
        if wanted.dry_run {
            return Ok(("dry_run", Ok(empty(StatusCode::NO_CONTENT))));
        }
        if wanted.event {
            let event = New { id: named.id, qualifier: qualifier.text(), payload, wanted };
            return Ok(("accepted", self.accept_event(call.request_id, event).await));
        }
        let invocation = wanted.invocation(&spec, &qualifier, call.request_id, payload);
        let version = spec.revision.version.version;
        let (reply, _) = self.run(spec, invocation, Taken::Whole).await?;
        let answer = whole(reply)?;
        let outcome = if answer.error.is_some() { "function_error" } else { "success" };
        Ok((outcome, Ok(response(answer, version))))
    }

    /// The revision that serves what a qualifier leads to.
    pub(crate) async fn serving(
        &self,
        id: &FunctionId,
        qualifier: &Qualifier,
    ) -> Result<Arc<FunctionSpec>, ApiError> {
        let (state, serving) = match qualifier {
            Qualifier::None | Qualifier::Latest => {
                let entry = self.entry(id).await?;
                (entry.state, entry.serving)
            }
            _ => {
                let route = self.routed(id, qualifier).await?;
                let branch = route.pick();
                (branch.state, branch.spec.clone())
            }
        };
        match (state, serving) {
            (State::Active, Some(spec)) => Ok(spec),
            (State::Active, None) => {
                Err(ApiError::internal("The function's record cannot be run by this Hearth"))
            }
            (State::Pending, Some(spec)) if spec.snap_start => Err(ApiError::new(
                StatusCode::CONFLICT,
                "SnapStartNotReadyException",
                "Lambda is initializing your function. It will be ready to invoke once your function state becomes ACTIVE.",
            )),
            (state, _) => Err(ApiError::conflict(format!(
                "The operation cannot be performed at this time. The function is currently in the following state: {}",
                state_word(state)
            ))),
        }
    }

    /// Gets slots until an instance has the request, and its answer; with the slot, which is free when that is dropped.
    pub(crate) async fn run(
        &self,
        spec: Arc<FunctionSpec>,
        invocation: Invocation,
        taken: Taken,
    ) -> Result<(Reply, Held<B>), ApiError> {
        if spec.http.is_some() {
            return Err(ApiError::parameter(
                "The function is an HTTP service (tag hearth:http-port): it takes HTTP requests, not invocations",
            ));
        }
        tenancy::match_up(&spec, invocation.tenant.as_ref())?;
        let span = tracing::Span::current();
        span.record("function", tracing::field::display(&spec.revision.version.function));
        let mut attempt = 1;
        loop {
            let request = LeaseRequest { spec: Arc::clone(&spec), tenant: invocation.tenant.clone() };
            let lease = self
                .backend
                .acquire(request)
                .await
                .map_err(|refusal| ApiError::refused(&refusal, &spec.arn))?;
            span.record("instance", tracing::field::display(lease.instance));
            tracing::debug!(cold = lease.cold, "leased");
            let held = self.hold(lease);
            match self.attempt(held, invocation.clone(), taken).await {
                Ok(done) => return Ok(done),
                Err(InvokeError::NotDelivered { reason }) if attempt < ATTEMPTS => {
                    tracing::info!(function = %spec.revision.version.function, reason, attempt, "tried again");
                    attempt += 1;
                }
                Err(InvokeError::NotRestored { timed_out, reason }) => {
                    return Err(not_restored(timed_out, &reason));
                }
                Err(error) => {
                    tracing::warn!(function = %spec.revision.version.function, %error, "an invocation is lost");
                    return Err(ApiError::internal(error.to_string()));
                }
            }
        }
    }

    /// Until the instance says that it can take another request, it is taken for lost.
    pub(crate) fn hold(&self, lease: Lease) -> Held<B> {
        Held { backend: Arc::clone(&self.backend), lease: Some(lease), outcome: LeaseOutcome::InstanceLost }
    }

    async fn attempt(
        &self,
        mut held: Held<B>,
        invocation: Invocation,
        taken: Taken,
    ) -> Result<(Reply, Held<B>), InvokeError> {
        let Some(lease) = &held.lease else {
            return Err(InvokeError::NotDelivered { reason: "no lease".to_owned() });
        };
        let reply = match taken {
            Taken::Whole => Reply::Whole(self.backend.invoke(lease, invocation).await?),
            Taken::Streamed => self.backend.invoke_streamed(lease, invocation).await?,
        };
        if let Reply::Whole(answer) = &reply {
            held.reusable(answer.reusable);
        }
        Ok((reply, held))
    }
}

/// The answer to one who did not ask for a stream.
pub(crate) fn whole(reply: Reply) -> Result<Answer, ApiError> {
    match reply {
        Reply::Whole(answer) => Ok(answer),
        Reply::Streamed(_) => Err(ApiError::internal("The function's answer came as a stream")),
    }
}

/// What the headers ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) dry_run: bool,
    pub(crate) event: bool,
    pub(crate) log_tail: bool,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) client_context: Option<String>,
    pub(crate) trace: Option<String>,
}

impl Wanted {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let mut violations = Violations::default();
        let invocation_type = text("x-amz-invocation-type").unwrap_or_default();
        if !invocation_type.is_empty() {
            violations.text(&invocation_type, "invocationType", &shapes::INVOCATION_TYPE);
        }
        let log_type = text("x-amz-log-type").unwrap_or_default();
        if !log_type.is_empty() {
            violations.text(&log_type, "logType", &shapes::LOG_TYPE);
        }
        let tenant = tenancy::named(headers, &mut violations);
        violations.finish()?;
        if headers.contains_key("x-amz-durable-execution-name") {
            return Err(ApiError::unsupported("durable executions (DurableExecutionName)"));
        }
        Ok(Self {
            dry_run: invocation_type == "DryRun",
            event: invocation_type == "Event",
            log_tail: log_type == "Tail",
            tenant,
            client_context: text("x-amz-client-context").map(|text| client_context(&text)).transpose()?,
            trace: given_trace(headers),
        })
    }
}

impl Wanted {
    /// What the instance is asked, on behalf of a caller who named its function so.
    pub(crate) fn invocation(
        self,
        spec: &FunctionSpec,
        qualifier: &Qualifier,
        request_id: RequestId,
        payload: Bytes,
    ) -> Invocation {
        Invocation {
            request_id,
            payload,
            invoked_arn: qualifier.behind(&spec.arn),
            tenant: self.tenant,
            client_context: self.client_context,
            trace: Some(self.trace.unwrap_or_else(|| new_trace(request_id))),
            wants_log_tail: self.log_tail,
        }
    }
}

fn client_context(encoded: &str) -> Result<String, ApiError> {
    if encoded.len() > CLIENT_CONTEXT {
        return Err(ApiError::content(format!(
            "Client context must be no more than {CLIENT_CONTEXT} bytes when base64-encoded."
        )));
    }
    let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded
        .filter(|text| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok())
        .ok_or_else(|| ApiError::content("Client context must be a valid Base64-encoded JSON object."))
}

/// An instance could not be restored from its version's snapshot.
fn not_restored(timed_out: bool, reason: &str) -> ApiError {
    if timed_out {
        let text = "Lambda couldn't restore the snapshot within the timeout limit.";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "SnapStartTimeoutException", text)
    } else {
        let text = format!("{reason}. For more information, check the function's log.");
        ApiError::new(StatusCode::BAD_REQUEST, "SnapStartException", text)
    }
}

/// The event as the function gets it.
pub(crate) fn payload(body: Bytes) -> Result<Bytes, ApiError> {
    if body.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    let wrong = |error: String| ApiError::content(format!("Could not parse request body into json: {error}"));
    let text = std::str::from_utf8(&body).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| wrong(error.to_string()))?;
    Ok(body)
}

/// The trace that a request is part of: X-Ray's header, or else W3C's, in X-Ray's form.
pub(crate) fn given_trace(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("x-amzn-trace-id").map(str::to_owned).or_else(|| text("traceparent").and_then(hearth_types::xray_of))
}

/// A trace header for a request that came without one; its random part is that of the request's id.
pub(crate) fn new_trace(request_id: RequestId) -> String {
    let mut random = request_id.to_string();
    random.retain(|digit| digit != '-');
    format!("Root=1-{:08x}-{};Parent={};Sampled=0", now_ms() / 1_000, &random[..24], &random[16..])
}

/// The value of the header that says which version ran.
pub(crate) fn executed(version: Version) -> HeaderValue {
    match version {
        Version::Latest => HeaderValue::from_static("$LATEST"),
        Version::Published(number) => HeaderValue::from(number),
    }
}

fn response(answer: Answer, version: Version) -> Response<Body> {
    let mut response = Response::new(full(answer.payload));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-amz-executed-version", executed(version));
    if let Some(error) = answer.error {
        headers.insert("x-amz-function-error", HeaderValue::from_static(error.as_str()));
    }
    if let Some(tail) = answer.log_tail
        && let Ok(value) = HeaderValue::from_str(&STANDARD.encode(&tail))
    {
        headers.insert("x-amz-log-result", value);
    }
    response
}

pub(crate) fn error_outcome(error: &ApiError) -> &'static str {
    match error.status {
        StatusCode::TOO_MANY_REQUESTS => "throttled",
        status if status.is_server_error() => "platform_error",
        _ => "rejected",
    }
}

#[cfg(test)]
mod tests;
