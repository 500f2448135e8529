//! What a request says of who signed it, and whether that is true.
//!
//! ```text
//! read ----> whose key? ----> check_scope, check_time ----> verify, with the payload
//! ```
//!
//! A claim keeps what was signed, so that the payload may come later, and be large.

use std::borrow::Cow;

use http::HeaderMap;

use crate::asked::Asked;
use crate::canonical::{self, decode};
use crate::refusal::Refusal;
use crate::sign::{ALGORITHM, Hash, Scope, SigningKey, TERMINATOR, to_sign};

/// Seconds that the sender's clock and this one may be apart, and that a signature in headers is good for.
const SKEW: i64 = 300;
/// Seconds that a signature in a query may be good for: a week.
const LONGEST: i64 = 604_800;
/// Headers that a signature may be over.
const HEADERS: usize = 100;
/// The header that says the payload's hash.
const CONTENT_HASH: &str = "x-amz-content-sha256";

/// What is known of the payload from the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: its hash is part of what was signed.
    Untold,
    /// The hash that it must have.
    Hash(Hash),
    /// It is not signed.
    Unsigned,
}

/// A signature, and what it is said to be over.
#[derive(Clone, Debug)]
pub struct Claim {
    key_id: String,
    token: Option<String>,
    scope: Scope,
    signature: Hash,
    date: String,
    sent: i64,
    /// Seconds that one in a query is good for.
    lives: Option<i64>,
    canonical: String,
    payload: Payload,
}

/// What either place says of a signature, as it is written.
struct Said<'a> {
    credential: Cow<'a, str>,
    signed: Cow<'a, str>,
    signature: Cow<'a, str>,
    date: Cow<'a, str>,
    lives: Option<i64>,
    token: Option<String>,
    content: Option<Cow<'a, str>>,
    without: Option<&'a str>,
}

impl Claim {
    /// Reads what a request says.
    ///
    /// # Errors
    /// It is not signed, or what it says of that cannot be.
    pub fn read(asked: &Asked<'_>) -> Result<Self, Refusal> {
        let header = one(asked.headers, "authorization")?;
        let in_query = parameters(asked.query, "X-Amz-Algorithm").next().is_some();
        let said = match header {
            Some(_) if in_query => {
                let text = "A request is signed in its header 'Authorization' or in its query, not in both.";
                return Err(Refusal::Incomplete(text.to_owned()));
            }
            Some(header) => in_header(header, asked.headers)?,
            None if in_query => in_parameters(asked.query)?,
            None => return Err(Refusal::Missing),
        };
        let (key_id, scope) = credential(&said.credential)?;
        let sent = seconds(&said.date).ok_or_else(|| {
            Refusal::Incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{}'.",
                short(&said.date)
            ))
        })?;
        if said.date.get(..8) != Some(&scope.date) {
            return Err(Refusal::Invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from '{}'.",
                scope.date,
                said.date.get(..8).unwrap_or_default(),
                said.date
            )));
        }
        let signed = signed_headers(&said.signed, asked.headers)?;
        let payload = payload(said.content.as_deref())?;
        Ok(Self {
            key_id: key_id.to_owned(),
            token: said.token,
            signature: Hash::read(&said.signature).ok_or(Refusal::Mismatch)?,
            canonical: canonical::request(asked, &signed, said.without)?,
            date: said.date.into_owned(),
            sent,
            lives: said.lives,
            scope,
            payload,
        })
    }

    /// The id of the key that it is said to be signed with.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The session's token, of credentials for a while.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// What the key is derived for.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What is known of the payload.
    #[must_use]
    pub const fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Whether it is for one of these services, here.
    ///
    /// # Errors
    /// It is not.
    pub fn check_scope(&self, services: &[&str], region: &str) -> Result<(), Refusal> {
        let Scope { service, region: said, .. } = &self.scope;
        if !services.contains(&service.as_str()) {
            let text =
                format!("Credential should be scoped to correct service: '{}'. ", services.join("' or '"));
            return Err(Refusal::Invalid(text));
        }
        // The services that are the same everywhere are signed for as if they were there.
        let is_global = matches!(service.as_str(), "iam" | "sts") && said == "us-east-1";
        if said != region && !is_global {
            let text = format!("Credential should be scoped to a valid region. This one is '{region}'.");
            return Err(Refusal::Invalid(text));
        }
        Ok(())
    }

    /// Whether it is neither old nor of the future at `now`, seconds since 1970.
    ///
    /// # Errors
    /// It is.
    pub fn check_time(&self, now: i64) -> Result<(), Refusal> {
        let at = |second: i64| {
            let time = jiff::Timestamp::from_second(second).unwrap_or_default();
            time.strftime("%Y%m%dT%H%M%SZ").to_string()
        };
        if self.sent > now.saturating_add(SKEW) {
            return Err(Refusal::Invalid(format!(
                "Signature not yet current: {} is still later than {} ({} + 5 min.)",
                self.date,
                at(now.saturating_add(SKEW)),
                at(now)
            )));
        }
        let oldest = now.saturating_sub(self.lives.unwrap_or(SKEW));
        if self.sent < oldest {
            return Err(Refusal::Invalid(format!(
                "Signature expired: {} is now earlier than {} ({} - {} min.)",
                self.date,
                at(oldest),
                at(now),
                self.lives.unwrap_or(SKEW) / 60
            )));
        }
        Ok(())
    }

    /// Whether it can be verified before the payload is there.
    #[must_use]
    pub const fn tells_payload(&self) -> bool {
        !matches!(self.payload, Payload::Untold)
    }

    /// Whether the signature is the key's, over this payload.
    ///
    /// # Errors
    /// It is not.
    pub fn verify(&self, key: &SigningKey, body: &[u8]) -> Result<(), Refusal> {
        match &self.payload {
            Payload::Untold => self.matches(key, &Hash::of(body).to_string()),
            Payload::Hash(hash) => {
                self.matches(key, &hash.to_string())?;
                if *hash == Hash::of(body) { Ok(()) } else { Err(Refusal::Mismatch) }
            }
            Payload::Unsigned => self.matches(key, UNSIGNED),
        }
    }

    /// Whether the signature is the key's, whatever the payload: that is the caller's to check.
    ///
    /// # Errors
    /// It is not, or the head does not tell the payload's hash.
    pub fn verify_head(&self, key: &SigningKey) -> Result<(), Refusal> {
        match &self.payload {
            Payload::Untold => Err(Refusal::Incomplete(format!(
                "A request whose body is passed on as it comes must have the header '{CONTENT_HASH}': the hash of the body, or \
                 {UNSIGNED}."
            ))),
            Payload::Hash(hash) => self.matches(key, &hash.to_string()),
            Payload::Unsigned => self.matches(key, UNSIGNED),
        }
    }

    fn matches(&self, key: &SigningKey, payload: &str) -> Result<(), Refusal> {
        let text = to_sign(&self.canonical, payload, &self.date, &self.scope);
        if key.verify(&text, &self.signature) { Ok(()) } else { Err(Refusal::Mismatch) }
    }
}

/// Stands for the hash of a payload that is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The only value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::Incomplete(format!("The request has the header '{name}' more than once.")));
    }
    let text = |value: &'a http::HeaderValue| value.to_str().map_err(|_| Refusal::Mismatch);
    first.map(text).transpose()
}

fn in_header<'a>(header: &'a str, headers: &'a HeaderMap) -> Result<Said<'a>, Refusal> {
    let (algorithm, rest) = header.trim().split_once(' ').unwrap_or((header, ""));
    if algorithm != ALGORITHM {
        if algorithm.starts_with("AWS4-") {
            return Err(Refusal::Unsupported("signatures of this algorithm"));
        }
        return Err(Refusal::Incomplete(format!("'Authorization' does not begin with '{ALGORITHM}'.")));
    }
    let mut found: [(&str, Option<&str>); 3] =
        [("Credential", None), ("SignedHeaders", None), ("Signature", None)];
    for pair in rest.split(',') {
        let Some((name, value)) = pair.trim().split_once('=') else {
            return Err(Refusal::Incomplete(format!(
                "'{}' not a valid key=value pair (missing equal-sign) in Authorization header.",
                short(pair.trim())
            )));
        };
        match found.iter_mut().find(|(wanted, _)| *wanted == name) {
            Some((_, place @ None)) => *place = Some(value),
            Some(_) => {
                return Err(Refusal::Incomplete(format!(
                    "Authorization header has '{name}' more than once."
                )));
            }
            None => {}
        }
    }
    let date = one(headers, "x-amz-date")?;
    let mut lacking: Vec<String> = found
        .iter()
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| format!("Authorization header requires '{name}' parameter."))
        .collect();
    if date.is_none() {
        lacking.push("Authorization header requires existence of a 'X-Amz-Date' header.".to_owned());
    }
    let [(_, Some(credential)), (_, Some(signed)), (_, Some(signature))] = found else {
        return Err(Refusal::Incomplete(lacking.join(" ")));
    };
    Ok(Said {
        credential: credential.into(),
        signed: signed.into(),
        signature: signature.into(),
        date: date.ok_or_else(|| Refusal::Incomplete(lacking.join(" ")))?.into(),
        lives: None,
        token: one(headers, "x-amz-security-token")?.map(str::to_owned),
        content: one(headers, CONTENT_HASH)?.map(Into::into),
        without: None,
    })
}

/// The decoded values of a parameter.
fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + use<'a> {
    query.split('&').filter_map(move |pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(found) == name.as_bytes()).then(|| String::from_utf8_lossy(&decode(value)).into_owned())
    })
}

fn in_parameters(query: &str) -> Result<Said<'_>, Refusal> {
    let maybe = |name: &'static str| {
        let mut values = parameters(query, name);
        let first = values.next();
        match values.next() {
            Some(_) => Err(Refusal::Incomplete(format!("The query has '{name}' more than once."))),
            None => Ok(first),
        }
    };
    let must = |name: &'static str| {
        let text = format!(
            "AWS query-string parameters must include '{name}'. Re-examine the query-string parameters."
        );
        maybe(name)?.ok_or(Refusal::Incomplete(text))
    };
    if must("X-Amz-Algorithm")? != ALGORITHM {
        return Err(Refusal::Unsupported("signatures of this algorithm"));
    }
    let lives = must("X-Amz-Expires")?;
    let lives = lives.parse().ok().filter(|lives| (1..=LONGEST).contains(lives)).ok_or_else(|| {
        Refusal::Incomplete(format!("X-Amz-Expires must be a number of seconds from 1 to {LONGEST}."))
    })?;
    Ok(Said {
        credential: must("X-Amz-Credential")?.into(),
        signed: must("X-Amz-SignedHeaders")?.into(),
        signature: must("X-Amz-Signature")?.into(),
        date: must("X-Amz-Date")?.into(),
        lives: Some(lives),
        token: maybe("X-Amz-Security-Token")?,
        content: maybe("X-Amz-Content-Sha256")?.map(Into::into),
        without: Some("X-Amz-Signature"),
    })
}

fn credential(text: &str) -> Result<(&str, Scope), Refusal> {
    let parts: Vec<&str> = text.split('/').collect();
    let [key, date, region, service, end] = parts[..] else {
        return Err(Refusal::Incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'.",
            short(text)
        )));
    };
    if end != TERMINATOR {
        return Err(Refusal::Invalid(format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{}'.",
            short(end)
        )));
    }
    let scope = Scope { date: date.to_owned(), region: region.to_owned(), service: service.to_owned() };
    Ok((key, scope))
}

/// The names that are signed, in order. All that decide what the request is must be among them.
fn signed_headers<'a>(text: &'a str, headers: &HeaderMap) -> Result<Vec<&'a str>, Refusal> {
    let mut names: Vec<&str> = text.split(';').collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    let odd = |name: &&str| name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase());
    if names.iter().any(odd) || names.len() != count || count > HEADERS {
        let text = format!("SignedHeaders must be at most {HEADERS} names in lower case, each once.");
        return Err(Refusal::Incomplete(text));
    }
    let is_signed = |name: &str| names.binary_search(&name).is_ok();
    if !is_signed("host") {
        let text = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
        return Err(Refusal::Invalid(text.to_owned()));
    }
    let decides = |name: &str| name.starts_with("x-amz-");
    if let Some(name) =
        headers.keys().map(http::HeaderName::as_str).find(|name| decides(name) && !is_signed(name))
    {
        return Err(Refusal::Invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
    }
    Ok(names)
}

fn payload(content: Option<&str>) -> Result<Payload, Refusal> {
    match content {
        None => Ok(Payload::Untold),
        Some(UNSIGNED) => Ok(Payload::Unsigned),
        Some(text) if text.starts_with("STREAMING-") => {
            Err(Refusal::Unsupported("payloads that are signed in chunks"))
        }
        Some(text) => Hash::read(text).map(Payload::Hash).ok_or_else(|| {
            Refusal::Invalid(format!(
                "The header '{CONTENT_HASH}' is neither {UNSIGNED} nor a SHA-256 in lower-case digits."
            ))
        }),
    }
}

/// Seconds since 1970 of `20260101T000000Z`.
fn seconds(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let form = bytes.len() == 16 && bytes[8] == b'T' && bytes[15] == b'Z';
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        let digit = |sum: i16, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + i16::from(byte - b'0'));
        digits.iter().try_fold(0, digit)
    };
    let small = |from: usize| number(from, from + 2).and_then(|number| i8::try_from(number).ok());
    if !form {
        return None;
    }
    let date = jiff::civil::Date::new(number(0, 4)?, small(4)?, small(6)?).ok()?;
    let time = jiff::civil::Time::new(small(9)?, small(11)?, small(13)?, 0).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(date.to_datetime(time)).ok()?.as_second())
}

/// As much of what a stranger says as an answer repeats.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

#[cfg(test)]
mod tests;
