//! Events: taken now, run later, as often as it needs.
//!
//! Here is what a caller says and what a function's configuration means; when an event runs is decided elsewhere, by
//! whoever calls [`crate::Frontend::run_event`].

use bytes::Bytes;
use hearth_aws::QueueArn;
use hearth_store::{EventContext, NewEvent, SettingKind, Target};
use hearth_types::{Answer, FunctionId, RequestId, Version, limits};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::Backend;
use crate::body::{Body, empty};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::event_config::{self, EventInvokeConfig};
use crate::invoke::{Taken, Wanted, new_trace, payload, whole};
use crate::mappings::owns_queue;
use crate::names::{Qualifier, Scope};
use crate::request::Members;
use crate::service::Call;
use crate::tenancy;

/// One attempt to run a function with an event.
#[derive(Clone, Debug)]
pub struct EventCall {
    /// The event's id, the same at each attempt.
    pub request_id: RequestId,
    /// Which function.
    pub function: FunctionId,
    /// Which version, as the caller said it.
    pub qualifier: Option<String>,
    /// What came with it.
    pub context: EventContext,
    /// The event.
    pub payload: Bytes,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum EventRun {
    /// The function answered, well or not.
    Answered {
        /// What.
        answer: Answer,
        /// Which version did.
        version: Version,
    },
    /// It did not get the event, nor would it get another: no slot.
    Refused {
        /// Why.
        reason: String,
    },
    /// What was named of it cannot run now, which says nothing of its other versions and tenants.
    NotReady {
        /// Why.
        reason: String,
    },
    /// It may have got it.
    Lost {
        /// Why that is not known.
        reason: String,
    },
    /// There is no such function any more.
    Gone,
}

/// How events are retried, and where their ends are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// Age at which an event is given up, seconds.
    pub age_seconds: u32,
    /// The ARN that successes are told to.
    pub on_success: Option<String>,
    /// The ARN that failures are told to.
    pub on_failure: Option<String>,
    /// The queue that events that failed go to.
    pub dead_letter: Option<String>,
    /// The function's ARN, with the qualifier.
    pub arn: String,
}

/// An event that a caller sent.
pub(crate) struct New {
    pub(crate) id: FunctionId,
    pub(crate) qualifier: Option<String>,
    pub(crate) payload: Bytes,
    pub(crate) wanted: Wanted,
}

impl<B: Backend> Core<B> {
    /// `InvokeAsync`, which Lambda deprecated: the same queue by another name.
    pub(crate) async fn invoke_async(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let (named, qualifier) = call.qualified_function()?;
        let wanted = Wanted::read(&call.headers)?;
        let payload = payload(call.body)?;
        let spec = self.serving(&named.id, &qualifier).await?;
        tenancy::match_up(&spec, wanted.tenant.as_ref())?;
        let event = New { id: named.id, qualifier: qualifier.text(), payload, wanted };
        self.accept_event(call.request_id, event).await
    }

    /// Answers once the event is on disk.
    pub(crate) async fn accept_event(
        &self,
        request_id: RequestId,
        new: New,
    ) -> Result<Response<Body>, ApiError> {
        if new.payload.len() > limits::ASYNC_PAYLOAD_BYTES {
            let code = "RequestTooLargeException";
            return Err(ApiError::too_large(code, limits::ASYNC_PAYLOAD_BYTES, "InvokeFunction"));
        }
        let age = self.event_config(&new.id, new.qualifier.as_deref()).age();
        let accepted_ms = now_ms();
        let event = NewEvent {
            request_id,
            target: Target::Function { id: new.id, qualifier: new.qualifier },
            accepted_ms,
            expires_ms: accepted_ms + u64::from(age) * 1_000,
            context: EventContext {
                trace: Some(new.wanted.trace.unwrap_or_else(|| new_trace(request_id))),
                client_context: new.wanted.client_context,
                tenant: new.wanted.tenant,
                ..EventContext::default()
            },
            payload: new.payload,
        };
        self.backend.accept(event).await.map_err(|refusal| ApiError::not_accepted(&refusal))?;
        Ok(empty(StatusCode::ACCEPTED))
    }

    /// Runs a function with an event, once.
    pub(crate) async fn run_event(&self, call: EventCall) -> EventRun {
        let qualifier = call.qualifier.as_deref().map_or(Qualifier::None, Qualifier::read);
        let spec = match self.serving(&call.function, &qualifier).await {
            Ok(spec) => spec,
            Err(error) if error.status == StatusCode::NOT_FOUND => return EventRun::Gone,
            Err(error) => return EventRun::NotReady { reason: error.message },
        };
        let EventContext { client_context, trace, tenant, .. } = call.context;
        let has_tenant = tenant.is_some();
        let wanted = Wanted { client_context, trace, tenant, ..Wanted::default() };
        let invocation = wanted.invocation(&spec, &qualifier, call.request_id, call.payload);
        let version = spec.revision.version.version;
        let ran = self.run(spec, invocation, Taken::Whole).await.and_then(|(reply, _)| whole(reply));
        match ran {
            Ok(answer) => EventRun::Answered { answer, version },
            Err(error) => failed(error, has_tenant),
        }
    }

    /// What is configured for events of a qualifier.
    pub(crate) fn event_config(&self, id: &FunctionId, qualifier: Option<&str>) -> EventInvokeConfig {
        let key = event_config::key(id, qualifier);
        let found = self.backend.events().setting(SettingKind::EventInvokeConfig, &id.account, &key);
        found.and_then(|document| serde_json::from_str(&document.body).ok()).unwrap_or_default()
    }

    /// That, and the function's dead-letter queue.
    pub(crate) async fn event_policy(&self, id: &FunctionId, qualifier: Option<&str>) -> EventPolicy {
        let config = self.event_config(id, qualifier);
        let read = qualifier.map_or(Qualifier::Latest, Qualifier::read);
        let record = self.resolve(id, &read).await.ok().map(|(record, _)| record);
        let dead_letter = record
            .and_then(|record| record.config.passive.get("DeadLetterConfig").cloned())
            .and_then(|text| serde_json::from_str::<Value>(&text).ok())
            .and_then(|value| Some(value.get("TargetArn")?.as_str()?.to_owned()))
            .filter(|arn| !arn.is_empty());
        EventPolicy {
            retries: config.retries(),
            age_seconds: config.age(),
            arn: read.behind(&self.arn(id)),
            on_success: config.on_success,
            on_failure: config.on_failure,
            dead_letter,
        }
    }

    /// Whether events can go to the dead-letter queue that a request names.
    pub(crate) fn check_dead_letter(&self, scope: &Scope, members: &Members) -> Result<(), ApiError> {
        let config = members.given("DeadLetterConfig");
        match config.and_then(|config| config.get("TargetArn")).and_then(Value::as_str) {
            None | Some("") => Ok(()),
            Some(arn) => self.destination(scope, arn),
        }
    }

    /// Whether records can be sent to `arn`.
    ///
    /// # Errors
    /// It is somebody else's, or nothing can be sent there.
    pub(crate) fn destination(&self, scope: &Scope, arn: &str) -> Result<(), ApiError> {
        let wrong = |why: &str| {
            ApiError::parameter(format!("The provided destination config is invalid: {arn} {why}"))
        };
        if arn.starts_with("arn:aws:lambda:") {
            let mut violations = crate::validate::Violations::default();
            let named = scope.function(arn, &crate::shapes::NAMESPACED_FUNCTION_NAME, &mut violations)?;
            violations.finish()?;
            return match Scope::qualifier(&named, None) {
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
        }
        let queue = QueueArn::read(arn);
        if queue.is_some_and(|queue| !owns_queue(&scope.account, &scope.region, queue)) {
            return Err(wrong("is a queue of another account or region"));
        }
        match self.backend.undeliverable(arn) {
            Some(why) => Err(wrong(&why)),
            None => Ok(()),
        }
    }
}

/// What it means for the function's other events that one got no answer.
fn failed(error: ApiError, has_tenant: bool) -> EventRun {
    let is_alone = has_tenant && error.is_of_one_tenant();
    match error.status {
        StatusCode::NOT_FOUND => EventRun::Gone,
        StatusCode::INTERNAL_SERVER_ERROR => EventRun::Lost { reason: error.message },
        StatusCode::SERVICE_UNAVAILABLE => EventRun::Refused { reason: error.message },
        // A limit has a name; an init phase that fails is the version's own, some limits are the tenant's.
        StatusCode::TOO_MANY_REQUESTS if error.reason().is_some() && !is_alone => {
            EventRun::Refused { reason: error.message }
        }
        _ => EventRun::NotReady { reason: error.message },
    }
}

#[cfg(test)]
mod tests {
    use hearth_types::Refusal;

    use super::*;

    #[test]
    fn a_limit_that_one_tenant_meets_stops_no_other_tenants_events() {
        let all = [
            (Refusal::TenantLimit { limit: 1 }, true),
            (Refusal::QueueFull { limit: 1 }, true),
            (Refusal::FunctionLimit { limit: 1 }, false),
            (Refusal::AccountLimit { limit: 1 }, false),
            (Refusal::NoRoom { reason: String::new() }, false),
        ];
        for (refusal, waits_alone) in all {
            let run = failed(ApiError::refused(&refusal, "arn"), true);
            assert_eq!(matches!(run, EventRun::NotReady { .. }), waits_alone, "{refusal}");
            assert_eq!(matches!(run, EventRun::Refused { .. }), !waits_alone, "{refusal}");
        }
        // Without tenants the one queue is everybody's.
        let run = failed(ApiError::refused(&Refusal::QueueFull { limit: 1 }, "arn"), false);
        assert!(matches!(run, EventRun::Refused { .. }));
    }
}
