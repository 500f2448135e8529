//! What goes wrong, as Lambda's clients expect to be told.
//!
//! An SDK turns the `x-amzn-errortype` header into an error class and the body's message into its text.

use hearth_store::StoreError;
use hearth_types::Refusal;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value};

use crate::backend::NotAccepted;
use crate::body::{Body, json};

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    reason: Option<&'static str>,
    /// Whether a limit of one tenant says it, which says nothing of the function's others.
    of_one_tenant: bool,
    close: bool,
}

/// Error shapes of the model whose message member is spelled `Message`.
const CAPITAL: [&str; 4] = [
    "ResourceNotFoundException",
    "ServiceException",
    "ResourceInUseException",
    "CodeSigningConfigNotFoundException",
];

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), reason: None, of_one_tenant: false, close: false }
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "SerializationException", message)
    }

    pub(crate) fn parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
    }

    pub(crate) fn content(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "ResourceConflictException", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
    }

    pub(crate) fn function_not_found(arn: &str) -> Self {
        Self::not_found(format!("Function not found: {arn}"))
    }

    pub(crate) fn denied(account: &hearth_types::AccountId, action: &str, resource: &str) -> Self {
        let text = format!(
            "User: arn:aws:iam::{account}:root is not authorized to perform: lambda:{action} on resource: {resource} \
             because no resource-based policy allows the lambda:{action} action"
        );
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", text)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message)
    }

    pub(crate) fn unsupported(what: &str) -> Self {
        let message = format!("Hearth does not have {what} yet");
        Self::new(StatusCode::NOT_IMPLEMENTED, "UnsupportedOperationException", message)
    }

    pub(crate) fn precondition() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API \
             to retrieve the latest Revision Id",
        )
    }

    pub(crate) fn too_large(code: &'static str, limit: usize, operation: &str) -> Self {
        let message = format!("Request must be smaller than {limit} bytes for the {operation} operation");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, message)
    }

    /// The same, after which the connection cannot be used again because some of the request is unread.
    pub(crate) fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    fn throttled(reason: Option<&'static str>, message: impl Into<String>) -> Self {
        let base = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", message);
        Self { reason, ..base }
    }

    /// What a request that gets no slot is told.
    pub(crate) fn refused(refusal: &Refusal, arn: &str) -> Self {
        const CONCURRENT: Option<&str> = Some("ConcurrentInvocationLimitExceeded");
        const RESERVED: Option<&str> = Some("ReservedFunctionConcurrentInvocationLimitExceeded");
        match refusal {
            Refusal::AccountLimit { .. } => Self::throttled(CONCURRENT, "Rate Exceeded."),
            Refusal::FunctionLimit { .. } => Self::throttled(RESERVED, "Rate Exceeded."),
            // Each tenant has a queue of its own.
            Refusal::TenantLimit { .. } | Refusal::QueueFull { .. } => Self {
                of_one_tenant: true,
                ..Self::throttled(CONCURRENT, format!("Rate Exceeded. {}", sentence(refusal)))
            },
            Refusal::NoRoom { .. } | Refusal::TimedOut { .. } => {
                Self::throttled(CONCURRENT, format!("Rate Exceeded. {}", sentence(refusal)))
            }
            Refusal::InitFailing { .. } => {
                Self::throttled(None, format!("Rate Exceeded. {}", sentence(refusal)))
            }
            Refusal::StartFailed { .. } => Self::internal(sentence(refusal)),
            Refusal::Stopping => Self::unavailable(sentence(refusal)),
            Refusal::FunctionDeleted => Self::function_not_found(arn),
        }
    }

    /// What the sender of an event is told that is not taken.
    pub(crate) fn not_accepted(refusal: &NotAccepted) -> Self {
        let text = || format!("Rate Exceeded. {}", capital(&refusal.to_string()));
        match refusal {
            NotAccepted::FunctionFull(_) => {
                Self::throttled(Some("FunctionInvocationRateLimitExceeded"), text())
            }
            NotAccepted::Full(_) | NotAccepted::Stopping => Self::unavailable(text()),
            NotAccepted::DiskFull => {
                Self::unavailable("The disk that holds Hearth's events is full; the event was not accepted")
            }
            NotAccepted::Failed => Self::internal("Hearth's store failed; its log says why"),
        }
    }

    /// What the caller is told when the store failed; the log has the details.
    pub(crate) fn store(error: &StoreError, arn: &str) -> Self {
        match error {
            StoreError::NotFound(_) => Self::function_not_found(arn),
            StoreError::Exists(id) => Self::conflict(format!("Function already exist: {}", id.name)),
            StoreError::Conflict(_) => {
                Self::conflict(format!("The function was changed by another request in the meantime: {arn}"))
            }
            StoreError::DiskFull => {
                tracing::error!(%error, "cannot keep a change");
                Self::internal("The disk that holds Hearth's data is full; nothing was changed")
            }
            StoreError::Broken { .. } => {
                let cause = std::error::Error::source(error).map(ToString::to_string);
                tracing::error!(%error, cause, "the store failed");
                Self::internal("Hearth's store failed; its log says why")
            }
        }
    }

    /// `Reason`, of throttled requests.
    pub(crate) const fn reason(&self) -> Option<&'static str> {
        self.reason
    }

    /// Whether, of a function whose tenants are apart, it says nothing of the others.
    pub(crate) const fn is_of_one_tenant(&self) -> bool {
        self.of_one_tenant
    }

    /// The answer that says it.
    pub(crate) fn response(&self) -> Response<Body> {
        let kind = if self.status.is_server_error() { "Service" } else { "User" };
        let mut document = Map::new();
        if let Some(reason) = self.reason {
            document.insert("Reason".to_owned(), reason.into());
        }
        document.insert("Type".to_owned(), kind.into());
        let member = if CAPITAL.contains(&self.code) { "Message" } else { "message" };
        document.insert(member.to_owned(), self.message.clone().into());
        let mut response = json(self.status, &Value::Object(document));
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(self.code));
        self.advise(&mut response);
        response
    }

    /// Tells a client when to come again, and whether over this connection.
    pub(crate) fn advise(&self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.close {
            headers.insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// A refusal's text as a sentence of its own.
fn sentence(refusal: &Refusal) -> String {
    capital(&refusal.to_string())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn every_refusal_has_its_status_and_reason() {
        let concurrent = Some("ConcurrentInvocationLimitExceeded");
        let reserved = Some("ReservedFunctionConcurrentInvocationLimitExceeded");
        let reason = String::from("r");
        for (refusal, status, expected) in [
            (Refusal::AccountLimit { limit: 1 }, 429, concurrent),
            (Refusal::FunctionLimit { limit: 1 }, 429, reserved),
            (Refusal::TenantLimit { limit: 1 }, 429, concurrent),
            (Refusal::QueueFull { limit: 1 }, 429, concurrent),
            (Refusal::NoRoom { reason: reason.clone() }, 429, concurrent),
            (Refusal::StartFailed { reason }, 500, None),
            (Refusal::TimedOut { waited: Duration::ZERO }, 429, concurrent),
            (Refusal::InitFailing { failures: 3, retry_after: Duration::from_secs(1) }, 429, None),
            (Refusal::FunctionDeleted, 404, None),
            (Refusal::Stopping, 503, None),
        ] {
            let error = ApiError::refused(&refusal, "arn");
            assert_eq!((error.status.as_u16(), error.reason), (status, expected), "{refusal}");
            let retry = error.response().headers().contains_key(RETRY_AFTER);
            assert_eq!(retry, matches!(status, 429 | 503));
        }
    }

    #[tokio::test]
    async fn the_message_is_spelled_as_the_error_shape_spells_it() {
        for (error, expected) in [
            (ApiError::not_found("x"), r#"{"Message":"x","Type":"User"}"#),
            (ApiError::internal("x"), r#"{"Message":"x","Type":"Service"}"#),
            (ApiError::conflict("x"), r#"{"Type":"User","message":"x"}"#),
        ] {
            let response = error.response();
            assert_eq!(response.headers()["x-amzn-errortype"], error.code);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, expected);
        }
    }
}
