//! STS: who is calling, and credentials for a while, which are the caller's key under a role's name.

use hearth_keys::Credentials;
use hyper::StatusCode;
use serde_json::json;

use super::query::{Fault, Form, Outcome};
use crate::Backend;
use crate::access::Caller;
use crate::core::{Core, now_ms};
use crate::render::iso;

/// Seconds that credentials say they are good for, when the caller does not say.
const USUAL_SECONDS: u64 = 3_600;

impl<B: Backend> Core<B> {
    /// Answers an action; nothing if Hearth does not have it.
    pub(super) fn sts(&self, action: &str, form: Form<'_>, caller: &Caller) -> Option<Outcome> {
        let account = &caller.account;
        Some(match action {
            "GetCallerIdentity" => Ok(Some(json!({
                "Arn": caller.arn,
                "UserId": account.as_str(),
                "Account": account.as_str(),
            }))),
            "AssumeRole" => self.assume_role(form, caller),
            _ => return None,
        })
    }

    /// Credentials for a while. They may do what the caller may: roles are kept, and what they allow is not understood.
    fn assume_role(&self, form: Form<'_>, caller: &Caller) -> Outcome {
        let account = &caller.account;
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
        let until = now_ms() / 1_000 + seconds;
        let arn = format!("arn:aws:sts::{account}:assumed-role/{name}/{session}");
        let made = self.gate.session(caller, &arn, until).ok_or_else(|| {
            Fault::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalFailure",
                "the system has no random numbers",
            )
        })?;
        let Credentials { key_id, secret, token } = made;
        Ok(Some(json!({
            "AssumedRoleUser": {"AssumedRoleId": format!("AROA{account}:{session}"), "Arn": arn},
            "Credentials": {
                "AccessKeyId": key_id,
                "SecretAccessKey": secret,
                "SessionToken": token,
                "Expiration": iso(until * 1_000),
            },
        })))
    }
}
