//! Resource policies: who may do what with a function or a layer. Pure: texts in, a yes or no out.
//!
//! Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html and
//! .../reference_policies_elements_condition_operators.html. What is not understood never allows, and always denies.

use hearth_types::AccountId;
use serde_json::{Map, Value, json};

/// Bytes of a policy.
pub(crate) const BYTES: usize = 20_480;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    /// Whose key the caller has.
    pub(crate) account: &'a AccountId,
    /// `lambda:InvokeFunction` and the like.
    pub(crate) action: &'a str,
    /// The ARN, qualified as the caller qualified it.
    pub(crate) resource: &'a str,
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

/// Whether a statement is about an access; `unknown` is the answer where it says what is not understood.
fn fits(statement: &Value, access: &Access<'_>, unknown: bool) -> bool {
    if ["NotPrincipal", "NotAction", "NotResource"].iter().any(|name| statement.get(name).is_some()) {
        return unknown;
    }
    let texts = |name: &str| entries(statement.get(name)).filter_map(Value::as_str);
    let resource = statement.get("Resource").is_none()
        || texts("Resource").any(|pattern| like(pattern, access.resource));
    let lower = access.action.to_ascii_lowercase();
    principal(statement.get("Principal"), access.account)
        && texts("Action").any(|pattern| like(&pattern.to_ascii_lowercase(), &lower))
        && resource
        && conditions(statement.get("Condition"), access, unknown)
}

/// Whether an account is among the principals. Services are none.
fn principal(principal: Option<&Value>, account: &AccountId) -> bool {
    let named = match principal {
        Some(Value::Object(kinds)) => kinds.get("AWS"),
        other => other,
    };
    let root = format!("arn:aws:iam::{account}:root");
    entries(named)
        .filter_map(Value::as_str)
        .any(|text| text == "*" || text == account.as_str() || text == root)
}

fn conditions(conditions: Option<&Value>, access: &Access<'_>, unknown: bool) -> bool {
    let Some(Value::Object(conditions)) = conditions else { return conditions.is_none() || unknown };
    conditions.iter().all(|(operator, keys)| {
        let Value::Object(keys) = keys else { return unknown };
        keys.iter().all(|(key, wanted)| match key.to_ascii_lowercase().as_str() {
            "aws:principalaccount" | "aws:sourceaccount" => {
                let compare: fn(&str, &str) -> bool = match operator.as_str() {
                    "StringEquals" => |wanted, found| wanted == found,
                    "StringLike" => like,
                    _ => return unknown,
                };
                entries(Some(wanted))
                    .filter_map(Value::as_str)
                    .any(|wanted| compare(wanted, access.account.as_str()))
            }
            // An organization, a source or a token that a caller by key does not have.
            _ => unknown,
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

/// Whether a text has the form of a pattern, in which `*` is any characters and `?` any one. Takes time in proportion to
/// the product of their lengths at most.
pub(crate) fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(b'?') => (at, from) = (at + 1, from + 1),
            Some(byte) if *byte == text[from] => (at, from) = (at + 1, from + 1),
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    (at, from) = (place + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
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
