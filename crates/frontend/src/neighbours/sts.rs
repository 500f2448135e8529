//! STS: who is calling, and credentials of a role, which are nobody's.

use hearth_types::AccountId;
use hyper::StatusCode;
use serde_json::json;

use super::query::{Fault, Form, Outcome};
use crate::Backend;
use crate::core::{Core, now_ms};
use crate::render::iso;

/// Seconds that credentials say they are good for, when the caller does not say.
const USUAL_SECONDS: u64 = 3_600;

impl<B: Backend> Core<B> {
    /// Answers an action; nothing if Hearth does not have it.
    pub(super) fn sts(&self, action: &str, form: Form<'_>, account: &AccountId) -> Option<Outcome> {
        Some(match action {
            "GetCallerIdentity" => Ok(Some(json!({
                "Arn": format!("arn:aws:iam::{account}:root"),
                "UserId": account.as_str(),
                "Account": account.as_str(),
            }))),
            "AssumeRole" => assume_role(form, account),
            _ => return None,
        })
    }
}

/// Credentials whose key is the caller's own account, so that who uses them acts for the same account as before.
fn assume_role(form: Form<'_>, account: &AccountId) -> Outcome {
    let role = form.need("RoleArn", 2_048)?;
    let session = form.need("RoleSessionName", 64)?;
    let own = format!("arn:aws:iam::{account}:role/");
    let Some(name) = role.strip_prefix(&own).and_then(|path| path.rsplit('/').next()) else {
        let text = format!("{account} is not authorized to perform: sts:AssumeRole on resource: {role}");
        return Err(Fault::new(StatusCode::FORBIDDEN, "AccessDenied", text));
    };
    let seconds = match form.get("DurationSeconds") {
        None => USUAL_SECONDS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|seconds| (900..=43_200).contains(seconds))
            .ok_or_else(|| Fault::invalid("DurationSeconds must be a number from 900 to 43200"))?,
    };
    Ok(Some(json!({
        "AssumedRoleUser": {
            "AssumedRoleId": format!("AROA{account}:{session}"),
            "Arn": format!("arn:aws:sts::{account}:assumed-role/{name}/{session}"),
        },
        "Credentials": {
            "AccessKeyId": account.as_str(),
            "SecretAccessKey": "hearth-placeholder-no-real-secret",
            "SessionToken": "hearth-placeholder-no-real-token",
            "Expiration": iso(now_ms() + seconds * 1_000),
        },
    })))
}
