//! Signatures: the key that is derived from a secret, and what it makes of a canonical request.

use std::fmt;

use http::{HeaderMap, HeaderValue, Method};
use ring::{digest, hmac};

use crate::asked::Asked;
use crate::canonical;

/// The algorithm's name.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What ends a scope.
pub(crate) const TERMINATOR: &str = "aws4_request";

/// SHA-256 of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(&digest::digest(&digest::SHA256, bytes))
    }

    fn from_digest(digest: &digest::Digest) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }

    /// One that was made elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Of 64 lower-case digits.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a signature is good for: a day, a region and a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `20260101`.
    pub date: String,
    /// `us-east-1`.
    pub region: String,
    /// `lambda`.
    pub service: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{TERMINATOR}", self.date, self.region, self.service)
    }
}

/// The key that signs requests of one scope.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Derives it from a secret.
    #[must_use]
    pub fn derive(secret: &str, scope: &Scope) -> Self {
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
        for part in [&*scope.date, &*scope.region, &*scope.service, TERMINATOR] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        Self(key)
    }

    /// Whether `signature` is that of what is to be signed; takes as long whichever byte is wrong.
    pub(crate) fn verify(&self, to_sign: &str, signature: &Hash) -> bool {
        hmac::verify(&self.0, to_sign.as_bytes(), signature.bytes()).is_ok()
    }

    fn sign(&self, to_sign: &str) -> Hash {
        let mut hash = [0; 32];
        hash.copy_from_slice(hmac::sign(&self.0, to_sign.as_bytes()).as_ref());
        Hash(hash)
    }
}

/// Whether two secrets are the same; takes as long wherever they differ.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"the same");
    hmac::verify(&key, other.as_bytes(), hmac::sign(&key, one.as_bytes()).as_ref()).is_ok()
}

/// The text that is signed: `canonical` is a canonical request without its last line, `payload` that line.
pub(crate) fn to_sign(canonical: &str, payload: &str, date: &str, scope: &Scope) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(canonical.as_bytes());
    context.update(payload.as_bytes());
    let hash = Hash::from_digest(&context.finish());
    format!("{ALGORITHM}\n{date}\n{scope}\n{hash}")
}

/// What a client signs with.
#[derive(Clone)]
pub struct Credentials {
    /// The access key's id.
    pub key_id: String,
    /// Its secret.
    pub secret: String,
    /// The session's token, of credentials for a while.
    pub token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// The headers that sign a request for `host`; `target` is its path and query. Those that the request has besides are not signed.
/// `second` is the time, in seconds since 1970. Nothing if that is no time.
#[must_use]
pub fn sign(
    credentials: &Credentials,
    (method, host, target): (&Method, &str, &str),
    payload: &str,
    (region, service): (&str, &str),
    more: &HeaderMap,
    second: i64,
) -> Option<HeaderMap> {
    let date = jiff::Timestamp::from_second(second).ok()?.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut headers = more.clone();
    let mut put =
        |name: &'static str, value: &str| Some(headers.insert(name, HeaderValue::from_str(value).ok()?));
    put("host", host)?;
    put("x-amz-date", &date)?;
    put("x-amz-content-sha256", payload)?;
    if let Some(token) = &credentials.token {
        put("x-amz-security-token", token)?;
    }
    let scope =
        Scope { date: date.get(..8)?.to_owned(), region: region.to_owned(), service: service.to_owned() };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked = Asked { method, path, query, authority: None, headers: &headers };
    let mut signed: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    signed.sort_unstable();
    let canonical = canonical::request(&asked, &signed, None).ok()?;
    let to_sign = to_sign(&canonical, payload, &date, &scope);
    let signature = SigningKey::derive(&credentials.secret, &scope).sign(&to_sign);
    let text = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.key_id,
        signed.join(";")
    );
    headers.insert("authorization", HeaderValue::from_str(&text).ok()?);
    Some(headers)
}
