//! Resource policies: who may do what with a function or a layer. Pure: texts in, a yes or no out.
//!
//! Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html and
//! .../reference_policies_elements_condition_operators.html. What is not understood never allows, and always denies.

use hearth_keys::like;
use hearth_types::AccountId;
use serde_json::{Map, Value, json};

/// Bytes of a policy.
pub(crate) const BYTES: usize = 20_480;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    /// Whose key the caller has.
    pub(crate) account: &'a AccountId,
    /// Who that is, as an ARN.
    pub(crate) caller: &'a str,
    /// `lambda:InvokeFunction` and the like.
    pub(crate) action: &'a str,
    /// The ARN, qualified as the caller qualified it.
    pub(crate) resource: &'a str,
    /// How a function URL asks who calls, if it comes by one.
    pub(crate) url_auth: Option<&'a str>,
}

/// Whether a policy lets somebody of another account than the resource's do something.
pub(crate) fn allows(policy: &str, access: &Access<'_>) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
    let mut allowed = false;
    for statement in entries(policy.get("Statement")) {
        match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => allowed |= fits(statement, access, false),
            _ if fits(statement, access, true) => return false,
            _ => {}
        }
    }
    allowed
}

/// Whether a policy forbids somebody something, whoever they are.
pub(crate) fn denies(policy: &str, access: &Access<'_>) -> bool {
    let policy = serde_json::from_str::<Value>(policy).unwrap_or_default();
    let denied = |statement: &Value| {
        statement.get("Effect").and_then(Value::as_str) != Some("Allow") && fits(statement, access, true)
    };
    entries(policy.get("Statement")).any(denied)
}

/// Whether a policy forbids anybody anything.
pub(crate) fn has_denials(policy: &str) -> bool {
    let policy = serde_json::from_str::<Value>(policy).unwrap_or_default();
    let denied = |statement: &Value| statement.get("Effect").and_then(Value::as_str) != Some("Allow");
    entries(policy.get("Statement")).any(denied)
}

/// Whether a statement is about an access; `unknown` is the answer where it says what is not understood.
fn fits(statement: &Value, access: &Access<'_>, unknown: bool) -> bool {
    if ["NotPrincipal", "NotAction", "NotResource"].iter().any(|name| statement.get(name).is_some()) {
        return unknown;
    }
    let texts = |name: &str| entries(statement.get(name)).filter_map(Value::as_str);
    let resource = statement.get("Resource").is_none()
        || texts("Resource").any(|pattern| like(pattern, access.resource));
    let lower = access.action.to_ascii_lowercase();
    principal(statement.get("Principal"), access)
        && texts("Action").any(|pattern| like(&pattern.to_ascii_lowercase(), &lower))
        && resource
        && conditions(statement.get("Condition"), access, unknown)
}

/// Whether a caller, or their account, is among the principals. Services are none.
fn principal(principal: Option<&Value>, access: &Access<'_>) -> bool {
    let account = access.account;
    let named = match principal {
        Some(Value::Object(kinds)) => kinds.get("AWS"),
        other => other,
    };
    let root = format!("arn:aws:iam::{account}:root");
    entries(named)
        .filter_map(Value::as_str)
        .any(|text| text == "*" || text == account.as_str() || text == root || text == access.caller)
}

fn conditions(conditions: Option<&Value>, access: &Access<'_>, unknown: bool) -> bool {
    let Some(Value::Object(conditions)) = conditions else { return conditions.is_none() || unknown };
    conditions.iter().all(|(operator, keys)| {
        let Value::Object(keys) = keys else { return unknown };
        keys.iter().all(|(key, wanted)| {
            let found = match key.to_ascii_lowercase().as_str() {
                "aws:principalaccount" | "aws:sourceaccount" => access.account.as_str(),
                "lambda:functionurlauthtype" => access.url_auth.unwrap_or_default(),
                // An organization, a source or a token that a caller by key does not have.
                _ => return unknown,
            };
            let compare: fn(&str, &str) -> bool = match operator.as_str() {
                "StringEquals" => |wanted, found| wanted == found,
                "StringLike" => like,
                _ => return unknown,
            };
            entries(Some(wanted)).filter_map(Value::as_str).any(|wanted| compare(wanted, found))
        })
    })
}

/// A value, or each entry of it if it is a list.
fn entries(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    match value {
        Some(Value::Array(list)) => list.iter().collect::<Vec<_>>(),
        Some(value) => vec![value],
        None => Vec::new(),
    }
    .into_iter()
}

/// `Principal` of a statement, from what AddPermission is given; nothing if that is nonsense.
pub(crate) fn principal_of(text: &str) -> Option<Value> {
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if text == "*" {
        return Some("*".into());
    }
    if is_account(text) {
        return Some(json!({"AWS": format!("arn:aws:iam::{text}:root")}));
    }
    if let Some(rest) = text.strip_prefix("arn:") {
        let mut parts = rest.split(':');
        let known = matches!(parts.nth(1), Some("iam" | "sts"));
        let account = parts.nth(1).is_some_and(is_account);
        return (known && account && parts.next().is_some_and(|last| !last.is_empty()))
            .then(|| json!({"AWS": text}));
    }
    let service = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        text.contains('.') && text.bytes().all(allowed) && !text.starts_with('.') && !text.ends_with('.')
    };
    service(text).then(|| json!({"Service": text}))
}

/// What a statement may say.
const MEMBERS: [&str; 6] = ["Sid", "Effect", "Principal", "Action", "Resource", "Condition"];

/// Whether a text is a policy of the resource `arn`; what it is when written plainly, or what is wrong with it.
pub(crate) fn check(text: &str, arn: &str) -> Result<String, String> {
    let policy: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let version = policy.get("Version").map_or(Some("2012-10-17"), Value::as_str);
    if !matches!(version, Some("2012-10-17" | "2008-10-17")) {
        return Err("its Version is neither 2012-10-17 nor 2008-10-17".to_owned());
    }
    if let Some(member) = policy.keys().find(|name| !["Version", "Id", "Statement"].contains(&name.as_str()))
    {
        return Err(format!("a policy has no {member:?}"));
    }
    let statements = match policy.get("Statement") {
        Some(Value::Array(list)) if !list.is_empty() => list.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => return Err("it has no Statement".to_owned()),
    };
    let mut names: Vec<&str> = Vec::new();
    for statement in statements {
        let Value::Object(members) = statement else { return Err("a statement is no object".to_owned()) };
        check_statement(members, arn)?;
        if let Some(name) = members.get("Sid").and_then(Value::as_str) {
            if names.contains(&name) {
                return Err(format!("several statements are called {name:?}"));
            }
            names.push(name);
        }
    }
    Ok(Value::Object(policy).to_string())
}

fn check_statement(members: &Map<String, Value>, arn: &str) -> Result<(), String> {
    if let Some(member) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(format!("a statement has no {member:?} here"));
    }
    if !matches!(members.get("Effect").and_then(Value::as_str), Some("Allow" | "Deny")) {
        return Err("each statement must have the Effect Allow or Deny".to_owned());
    }
    if let Some(lacking) = ["Principal", "Action"].iter().find(|name| !members.contains_key(**name)) {
        return Err(format!("a statement has no {lacking}"));
    }
    let is_name = |kind: &str, name: &Value| {
        name.as_str().is_some_and(|name| {
            kind != "AWS" || principal_of(name).is_some_and(|found| found.get("Service").is_none())
        })
    };
    let is_known = match members.get("Principal") {
        Some(Value::String(text)) => text == "*",
        Some(Value::Object(kinds)) => kinds.iter().all(|(kind, names)| {
            ["AWS", "Service", "Federated"].contains(&kind.as_str())
                && entries(Some(names)).all(|name| is_name(kind, name))
        }),
        _ => false,
    };
    if !is_known {
        return Err("a Principal is *, or accounts, users or services under AWS or Service".to_owned());
    }
    let is_action = |action: &Value| {
        action.as_str().is_some_and(|text| text == "*" || text.to_ascii_lowercase().starts_with("lambda:"))
    };
    if entries(members.get("Action")).next().is_none() || !entries(members.get("Action")).all(is_action) {
        return Err("an Action is * or one of lambda:".to_owned());
    }
    let is_own = |resource: &Value| resource.as_str().is_some_and(|text| text == "*" || like(text, arn));
    if !entries(members.get("Resource")).all(is_own) {
        return Err(format!("a Resource is not {arn}, which the policy is of"));
    }
    match members.get("Condition") {
        None => Ok(()),
        Some(Value::Object(operators)) if operators.values().all(Value::is_object) => Ok(()),
        Some(_) => Err("a Condition is an object of objects".to_owned()),
    }
}

/// A policy that is being changed.
#[derive(Debug)]
pub(crate) struct Draft {
    /// All but the statements.
    members: Map<String, Value>,
    statements: Vec<Value>,
}

impl Draft {
    /// Takes up what is kept, or begins anew.
    pub(crate) fn of(kept: Option<&str>) -> Self {
        let kept = kept.and_then(|text| serde_json::from_str::<Map<_, _>>(text).ok());
        let new = || {
            Map::from_iter([("Version".to_owned(), "2012-10-17".into()), ("Id".to_owned(), "default".into())])
        };
        let mut members = kept.unwrap_or_else(new);
        let statements = match members.remove("Statement") {
            Some(Value::Array(list)) => list,
            other => other.into_iter().collect(),
        };
        Self { members, statements }
    }

    /// Adds a statement; false if one of its name is there.
    pub(crate) fn add(&mut self, statement: Value) -> bool {
        let taken = self.statements.iter().any(|one| one.get("Sid") == statement.get("Sid"));
        if !taken {
            self.statements.push(statement);
        }
        !taken
    }

    /// Removes a statement by its name; false if there is none.
    pub(crate) fn remove(&mut self, sid: &str) -> bool {
        let before = self.statements.len();
        self.statements.retain(|one| one.get("Sid").and_then(Value::as_str) != Some(sid));
        self.statements.len() < before
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    pub(crate) fn text(mut self) -> String {
        self.members.insert("Statement".to_owned(), Value::Array(self.statements));
        Value::Object(self.members).to_string()
    }
}

#[cfg(test)]
mod tests;
