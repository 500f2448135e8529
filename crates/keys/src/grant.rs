//! What a key allows: whose it is, and which actions on which functions.

use hearth_types::AccountId;
use serde::{Deserialize, Serialize};

/// Patterns of one kind in a grant.
const PATTERNS: usize = 64;
/// Characters of a pattern, and of a name.
const CHARACTERS: usize = 256;

/// What is kept of a key, besides its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The account that its holder acts for.
    pub account: AccountId,
    /// What its owner calls it.
    #[serde(default)]
    pub name: Option<String>,
    /// Functions that it may be used for; patterns of names, or of ARNs.
    pub functions: Vec<String>,
    /// What may be done: patterns of `service:Action`; without a service, it is Lambda.
    pub actions: Vec<String>,
    /// Whether its holder operates the server: keys, metrics, workers, all accounts' instances.
    #[serde(default)]
    pub operator: bool,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// From when on it is not good.
    #[serde(default)]
    pub expires_ms: Option<u64>,
    /// Whether it is switched off.
    #[serde(default)]
    pub disabled: bool,
}

/// Why a grant makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// There is nothing it allows.
    #[error("a key needs at least one pattern of {0}, and may have {PATTERNS}")]
    Count(&'static str),
    /// A pattern that could never fit.
    #[error("{0:?} is no pattern of {1}")]
    Pattern(String, &'static str),
    /// A name that would not print.
    #[error("a key's name has 1 to {CHARACTERS} letters, digits and any of + = , . @ _ -")]
    Name,
}

impl Grant {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self) -> Result<(), GrantError> {
        for (patterns, what) in [(&self.functions, "functions"), (&self.actions, "actions")] {
            if patterns.is_empty() || patterns.len() > PATTERNS {
                return Err(GrantError::Count(what));
            }
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:*?$".contains(&byte);
            let odd = |pattern: &&String| {
                !(1..=CHARACTERS).contains(&pattern.len()) || !pattern.bytes().all(allowed)
            };
            if let Some(pattern) = patterns.iter().find(odd) {
                return Err(GrantError::Pattern(pattern.chars().take(CHARACTERS).collect(), what));
            }
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
        let is_name = |name: &String| (1..=CHARACTERS).contains(&name.len()) && name.bytes().all(allowed);
        if self.name.as_ref().is_none_or(is_name) { Ok(()) } else { Err(GrantError::Name) }
    }

    /// Whether it is good at `now_ms`.
    #[must_use]
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires| now_ms >= expires)
    }

    /// Whether it allows an action, `lambda:GetFunction`. `function` is a name and an ARN without qualifier; without one, it is of
    /// the account as a whole, which only a grant for all functions is for.
    #[must_use]
    pub fn allows(&self, action: &str, function: Option<(&AccountId, &str, &str)>) -> bool {
        let acts = self.actions.iter().any(|pattern| {
            let whole = if pattern.contains(':') { None } else { Some(format!("lambda:{pattern}")) };
            pattern == "*"
                || like(
                    &whole.unwrap_or_else(|| pattern.clone()).to_ascii_lowercase(),
                    &action.to_ascii_lowercase(),
                )
        });
        acts && self.functions.iter().any(|pattern| match function {
            _ if pattern == "*" => true,
            None => false,
            Some((_, _, arn)) if pattern.starts_with("arn:") => like(pattern, arn),
            // A bare name is one of the key's own account.
            Some((owner, name, _)) => *owner == self.account && like(pattern, name),
        })
    }
}

/// Whether a text has the form of a pattern, in which `*` is any characters and `?` any one. Takes time in proportion to
/// the product of their lengths at most.
#[must_use]
pub fn like(pattern: &str, text: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(functions: &[&str], actions: &[&str]) -> Grant {
        Grant {
            account: "111111111111".parse().unwrap(),
            name: None,
            functions: functions.iter().map(ToString::to_string).collect(),
            actions: actions.iter().map(ToString::to_string).collect(),
            operator: false,
            created_ms: 0,
            expires_ms: None,
            disabled: false,
        }
    }

    #[test]
    fn a_key_does_what_its_patterns_say_to_what_they_name() {
        let (own, other) = ("111111111111".parse().unwrap(), "222222222222".parse().unwrap());
        let mine = |name| Some((&own, name, "arn:aws:lambda:us-east-1:111111111111:function:bill-1"));
        let theirs = Some((&other, "bill-1", "arn:aws:lambda:us-east-1:222222222222:function:bill-1"));
        let key = grant(&["bill-*"], &["Invoke*", "logs:Get*"]);
        assert!(key.allows("lambda:InvokeFunction", mine("bill-1")));
        assert!(key.allows("logs:GetLogEvents", mine("bill-1")));
        assert!(!key.allows("lambda:GetFunction", mine("bill-1")));
        assert!(!key.allows("lambda:InvokeFunction", mine("mail")));
        assert!(!key.allows("lambda:InvokeFunction", None));
        assert!(!key.allows("lambda:InvokeFunction", theirs));
        let foreign = grant(&["arn:aws:lambda:*:222222222222:function:bill-?"], &["lambda:invokefunction"]);
        assert!(foreign.allows("lambda:InvokeFunction", theirs));
        assert!(!foreign.allows("lambda:InvokeFunction", mine("bill-1")));
        let all = grant(&["*"], &["*"]);
        assert!(all.allows("iam:CreateRole", None) && all.allows("lambda:Invoke", theirs));
        assert!(!grant(&["*"], &["lambda:*"]).allows("iam:CreateRole", None));
    }

    #[test]
    fn what_allows_nothing_or_does_not_print_is_refused() {
        assert!(grant(&["*"], &["*"]).check().is_ok());
        for (functions, actions) in
            [(&["*"][..], &[][..]), (&[], &["*"]), (&["a b"], &["*"]), (&["*"], &["a\n"]), (&[""], &["*"])]
        {
            assert!(grant(functions, actions).check().is_err());
        }
        let mut named = grant(&["*"], &["*"]);
        for (name, fits) in [("a.b@c", true), ("", false), ("a b", false), ("é", false)] {
            named.name = Some(name.to_owned());
            assert_eq!(named.check().is_ok(), fits, "{name}");
        }
        named.expires_ms = Some(5);
        assert!(named.has_expired(5) && !named.has_expired(4));
    }
}
