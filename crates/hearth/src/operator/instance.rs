//! What is asked of one instance: to be suspended, to go on, to end.

use hearth_frontend::Body;
use hearth_types::{InstanceId, InstanceState};
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::{error, json_answer};
use crate::role::{ManagerShell, Wish};

/// `POST` suspends or resumes, `DELETE` ends; all answer at once, and /_hearth/ps says what came of it.
pub(super) fn ask(manager: &ManagerShell, method: &Method, rest: &str) -> Response<Body> {
    let (name, verb) = rest.split_once('/').unwrap_or((rest, ""));
    let wish = match (method, verb) {
        (&Method::POST, "suspend") => Wish::Suspend,
        (&Method::POST, "resume") => Wish::Resume,
        (&Method::DELETE, "") => Wish::Terminate,
        _ => {
            let text = "an instance takes POST .../suspend, POST .../resume and DELETE";
            return error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowedException", text);
        }
    };
    let before = name.parse().ok().and_then(|instance: InstanceId| manager.wish(instance, wish));
    let Some(before) = before else {
        let text = "there is no such instance; /_hearth/ps lists them";
        return error(StatusCode::NOT_FOUND, "ResourceNotFoundException", text);
    };
    let can = match (wish, before) {
        (Wish::Suspend, InstanceState::Idle | InstanceState::Hibernating) => true,
        (Wish::Resume, InstanceState::Idle | InstanceState::Hibernating | InstanceState::Busy) => true,
        (Wish::Suspend | Wish::Resume, _) => false,
        (Wish::Terminate, _) => true,
    };
    if can {
        return json_answer(&json!({ "instance": name, "before": before.as_str() }));
    }
    let text = format!(
        "the instance is {}: one that is idle can be suspended, and one that has started and does not end goes on",
        before.as_str()
    );
    error(StatusCode::CONFLICT, "ResourceConflictException", &text)
}
