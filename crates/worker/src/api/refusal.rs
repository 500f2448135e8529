//! Refusals, in the words and statuses of Lambda's APIs.

use http::StatusCode;

use super::{Reply, json};
use crate::protocol::Refusal;
use crate::telemetry::Api;

/// The answer to a call that is refused.
pub(super) fn refuse(refusal: Refusal) -> Reply {
    let (status, kind, message) = match refusal {
        Refusal::InvalidRequestId => (StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID"),
        Refusal::InvalidStateTransition => {
            (StatusCode::FORBIDDEN, "InvalidStateTransition", "State transition is not allowed")
        }
        Refusal::InvalidRequestFormat => {
            (StatusCode::BAD_REQUEST, "InvalidRequestFormat", "Failed to parse the request")
        }
        Refusal::InvalidExtensionName => {
            (StatusCode::FORBIDDEN, "Extension.InvalidExtensionName", "Invalid Lambda-Extension-Name")
        }
        Refusal::ExtensionAlreadyRegistered => (
            StatusCode::FORBIDDEN,
            "Extension.AlreadyRegistered",
            "Extension with this name already registered",
        ),
        Refusal::InvalidEventType => (
            StatusCode::FORBIDDEN,
            "Extension.InvalidEventType",
            "Events are INVOKE and, for external extensions, SHUTDOWN",
        ),
        Refusal::RegistrationClosed => {
            (StatusCode::FORBIDDEN, "Extension.RegistrationClosed", "Extension registration closed already")
        }
        Refusal::TooManyExtensions => {
            (StatusCode::FORBIDDEN, "Extension.TooManyExtensions", "Extension limit (10) reached")
        }
        Refusal::MissingExtensionIdentifier => (
            StatusCode::FORBIDDEN,
            "Extension.MissingExtensionIdentifier",
            "Missing Lambda-Extension-Identifier header",
        ),
        Refusal::UnknownExtensionIdentifier => {
            (StatusCode::FORBIDDEN, "Extension.UnknownExtensionIdentifier", "Unknown extension identifier")
        }
        Refusal::InvalidExtensionState => (
            StatusCode::FORBIDDEN,
            "Extension.InvalidExtensionState",
            "Not allowed in this state of the extension",
        ),
        Refusal::SubscriptionClosed(api) => {
            let kind = format!("{}.SubscriptionClosed", api.name());
            let message = format!("{} API subscription is closed already", api.name());
            return error(StatusCode::FORBIDDEN, &kind, &message);
        }
    };
    error(status, kind, message)
}

/// The answer to a subscription that is none, with all that is wrong with it.
pub(super) fn invalid_subscription(api: Api, message: &str) -> Reply {
    let kind = match api {
        Api::Telemetry => "ValidationError",
        Api::Logs => "Logs.ValidationError",
    };
    error(StatusCode::BAD_REQUEST, kind, message)
}

/// The answer to a body over its bound.
pub(super) fn too_large(limit: usize) -> Reply {
    let message = format!("Exceeded maximum allowed payload size ({limit} bytes).");
    error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
}

fn error(status: StatusCode, kind: &str, message: &str) -> Reply {
    json(status, serde_json::json!({ "errorMessage": message, "errorType": kind }).to_string().into())
}
