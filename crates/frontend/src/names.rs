//! Who is meant: the account of a caller, and the function that a name, a part of an ARN or an ARN denotes.

use std::sync::Arc;

use hearth_types::{AccountId, FunctionId};
use hyper::StatusCode;

use crate::error::ApiError;
use crate::shapes;
use crate::validate::{Shape, Violations};

/// Characters of a function's bare name.
const NAME_LENGTH: usize = 64;
/// The version that changes.
pub(crate) const LATEST: &str = "$LATEST";

/// Where and for whom names are read.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) region: Arc<str>,
    pub(crate) account: AccountId,
}

/// A function as a caller named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) id: FunctionId,
    /// As given behind the name; the query may give one too.
    pub(crate) qualifier: Option<String>,
}

/// The parts of a name in any of its forms.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    region: Option<&'a str>,
    account: Option<&'a str>,
    name: &'a str,
    qualifier: Option<&'a str>,
}

impl Scope {
    /// The ARN of a function, unqualified.
    pub(crate) fn arn(&self, id: &FunctionId) -> String {
        format!("arn:aws:lambda:{}:{}:function:{}", self.region, id.account, id.name)
    }

    /// Reads a name that came in a path; what is wrong with its form goes to `violations`.
    ///
    /// # Errors
    /// The name is of another account or region.
    pub(crate) fn function(
        &self,
        text: &str,
        shape: &Shape,
        violations: &mut Violations,
    ) -> Result<Named, ApiError> {
        if let Some(name) = self.own_name(text) {
            let id = FunctionId { account: self.account.clone(), name: name.into() };
            return Ok(Named { id, qualifier: None });
        }
        self.function_in_any_form(text, shape, violations)
    }

    /// The same, by the pattern.
    pub(crate) fn function_in_any_form(
        &self,
        text: &str,
        shape: &Shape,
        violations: &mut Violations,
    ) -> Result<Named, ApiError> {
        violations.text(text, "functionName", shape);
        let parts = parts(text);
        if parts.name.chars().count() > NAME_LENGTH {
            let constraint = format!("Member must have length less than or equal to {NAME_LENGTH}");
            violations.note(text, "functionName", &constraint);
        }
        if let Some(region) = parts.region.filter(|region| **region != *self.region) {
            let here = &self.region;
            return Err(ApiError::not_found(format!(
                "Functions from '{region}' are not reachable in this region ('{here}')"
            )));
        }
        let id = FunctionId { account: self.account.clone(), name: parts.name.into() };
        if parts.account.is_some_and(|account| account != self.account.as_str()) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "AccessDeniedException",
                format!("Account {} is not authorized to act on resource: {text}", self.account),
            ));
        }
        Ok(Named { id, qualifier: parts.qualifier.map(str::to_owned) })
    }

    /// The name in `text` if that is a bare name or the ARN of a function that is here: what nearly all requests
    /// have, and a pattern takes as long to check as the rest of a request.
    fn own_name<'a>(&self, text: &'a str) -> Option<&'a str> {
        let of_arn = |arn: &'a str| {
            let rest = arn.strip_prefix(&*self.region)?.strip_prefix(':')?;
            rest.strip_prefix(self.account.as_str())?.strip_prefix(":function:")
        };
        let name = match text.strip_prefix("arn:aws:lambda:") {
            Some(arn) => of_arn(arn)?,
            None => text,
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        ((1..=NAME_LENGTH).contains(&name.len()) && name.bytes().all(allowed)).then_some(name)
    }

    /// Reads the ARN of a function with tags.
    ///
    /// # Errors
    /// It is the ARN of nothing that has tags here.
    pub(crate) fn tagged(&self, arn: &str, violations: &mut Violations) -> Result<FunctionId, ApiError> {
        violations.text(arn, "resource", &shapes::TAGGABLE_RESOURCE);
        if !arn.contains(":function:") {
            std::mem::take(violations).finish()?;
            return Err(ApiError::unsupported(&format!("tags on resources other than functions ({arn})")));
        }
        let named = self.function(arn, &shapes::NAMESPACED_FUNCTION_NAME, &mut Violations::default())?;
        if named.qualifier.is_some() {
            return Err(ApiError::parameter(
                "Tags on function aliases and versions are not supported. Please specify a function ARN.",
            ));
        }
        Ok(named.id)
    }

    /// Which version the caller asked for; the name and the query must not contradict each other.
    ///
    /// # Errors
    /// A contradiction.
    pub(crate) fn qualifier(named: &Named, query: Option<&str>) -> Result<Qualifier, ApiError> {
        let qualifier = match (named.qualifier.as_deref(), query) {
            (Some(own), Some(other)) if own != other => {
                return Err(ApiError::parameter(
                    "The derived qualifier from the function name does not match the specified qualifier.",
                ));
            }
            (own, other) => own.or(other),
        };
        Ok(qualifier.map_or(Qualifier::None, Qualifier::read))
    }

    /// That something does not exist to which a qualifier would lead.
    pub(crate) fn missing(&self, id: &FunctionId, qualifier: &str) -> ApiError {
        let arn = format!("{}:{qualifier}", self.arn(id));
        if qualifier == LATEST || qualifier.bytes().all(|byte| byte.is_ascii_digit()) {
            ApiError::function_not_found(&arn)
        } else {
            ApiError::not_found(format!("Cannot find alias arn: {arn}"))
        }
    }
}

/// Which version of a function is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Qualifier {
    /// It is not said.
    None,
    /// `$LATEST`, by name.
    Latest,
    /// A published version.
    Published(u64),
    /// An alias, or what cannot be a version.
    Alias(String),
}

impl Qualifier {
    pub(crate) fn read(text: &str) -> Self {
        match text.parse() {
            _ if text == LATEST => Self::Latest,
            // No number is written in two ways.
            Ok(number) if !text.starts_with(['0', '+']) => Self::Published(number),
            _ => Self::Alias(text.to_owned()),
        }
    }

    /// As a caller says it; nothing if it is not said.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Latest => Some(LATEST.to_owned()),
            Self::Published(number) => Some(number.to_string()),
            Self::Alias(alias) => Some(alias.clone()),
        }
    }

    /// `arn` with this behind it.
    pub(crate) fn behind(&self, arn: &str) -> String {
        match self {
            Self::None => arn.to_owned(),
            Self::Latest => format!("{arn}:{LATEST}"),
            Self::Published(number) => format!("{arn}:{number}"),
            Self::Alias(alias) => format!("{arn}:{alias}"),
        }
    }
}

/// Takes a name apart: `[arn:aws:lambda:][REGION:][ACCOUNT:][function:]NAME[:QUALIFIER]`.
fn parts(text: &str) -> Parts<'_> {
    let mut region = None;
    let mut account = None;
    let mut pieces = text.split(':').peekable();
    if pieces.peek() == Some(&"arn") {
        // "arn", the partition, "lambda".
        let _ = pieces.nth(2);
    }
    let several = text.contains(':');
    if several && let Some(piece) = pieces.next_if(|piece| looks_like_region(piece)) {
        region = Some(piece);
    }
    let is_account = |piece: &&str| piece.len() == 12 && piece.bytes().all(|b| b.is_ascii_digit());
    if several
        && text.split(':').count() > 2
        && let Some(piece) = pieces.next_if(is_account)
    {
        account = Some(piece);
    }
    if several {
        let _ = pieces.next_if_eq(&"function");
    }
    Parts { region, account, name: pieces.next().unwrap_or(""), qualifier: pieces.next() }
}

fn looks_like_region(piece: &str) -> bool {
    let mut words = piece.split('-');
    let digit = words.next_back();
    digit.is_some_and(|d| d.len() == 1 && d.bytes().all(|b| b.is_ascii_digit()))
        && words.clone().count() >= 2
        && words.all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
}

/// The function that a name in any form means for one who acts for `account`, whoever's it is. Its form is checked elsewhere.
pub(crate) fn meant(text: &str, account: &AccountId) -> Named {
    let parts = parts(text);
    let owner = parts.account.and_then(|owner| owner.parse().ok()).unwrap_or_else(|| account.clone());
    let id = FunctionId { account: owner, name: parts.name.into() };
    Named { id, qualifier: parts.qualifier.map(str::to_owned) }
}

/// Undoes percent-encoding; nothing if it is malformed or not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
            let (high, low) = (digit()?, digit()?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// Undoes the encoding of forms, in which a plus is a space.
pub(crate) fn form_decode(text: &str) -> Option<String> {
    percent_decode(&text.replace('+', " "))
}

/// All values of a query parameter, decoded.
pub(crate) fn query_values(query: &str, name: &str) -> Vec<String> {
    query
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(key)? == name).then(|| form_decode(value))?
        })
        .collect()
}

/// The first value of a query parameter, decoded.
pub(crate) fn query_value(query: &str, name: &str) -> Option<String> {
    if query.is_empty() { None } else { query_values(query, name).into_iter().next() }
}

#[cfg(test)]
mod tests;
