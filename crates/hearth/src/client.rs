//! The command line's side of a running server: Lambda's API and the operator's.

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hearth_keys::{Credentials, Hash};
use serde_json::Value;
use ureq::http::{HeaderMap, HeaderName, Response, StatusCode};
use ureq::{Agent, Body};

/// Largest answer that is read into memory: the largest payload, with room for its frame.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// A connection to a server on this machine or network that takes longer is not coming.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// As whom one speaks to a server.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// As nobody.
    Nobody,
    /// For an account, which servers without keys believe.
    Account(String),
    /// With a key, in a region.
    Key(Credentials, String),
}

/// A connection to one server.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    identity: Identity,
}

/// An answer that the server gave, of whatever status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).context("the server's answer is not JSON; is it a Hearth?")
    }

    /// The error's type and message, as Lambda's API sends them.
    pub(crate) fn error_text(&self) -> String {
        let kind = self.header("x-amzn-errortype").unwrap_or("error").to_owned();
        let document: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let message = ["message", "Message"].iter().find_map(|key| document[key].as_str());
        let message = message.or_else(|| document["errors"][0]["message"].as_str()).unwrap_or("no message");
        format!("{kind}: {message} (HTTP {})", self.status.as_u16())
    }

    pub(crate) fn into_success(self, what: &str) -> anyhow::Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        bail!("cannot {what}: {}", self.error_text())
    }
}

impl Client {
    pub(crate) fn new(endpoint: &str, identity: Identity) -> anyhow::Result<Self> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !endpoint.starts_with("http://") {
            bail!("endpoint {endpoint:?} must start with http:// (set --endpoint or HEARTH_ENDPOINT)");
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("hearth/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self { agent, endpoint, identity })
    }

    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Reply> {
        read(self.reached(self.authorized(self.agent.get(self.url(path)), ("GET", path), &[], b"")?.call())?)
    }

    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Reply> {
        let request = self.agent.delete(self.url(path));
        read(self.reached(self.authorized(request, ("DELETE", path), &[], b"")?.call())?)
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<Reply> {
        let request = self.authorized(self.agent.post(self.url(path)), ("POST", path), headers, body)?;
        read(self.reached(request.send(body))?)
    }

    /// Whether something is there: an answer without its body.
    pub(crate) fn head(&self, path: &str) -> anyhow::Result<Reply> {
        read(
            self.reached(self.authorized(self.agent.head(self.url(path)), ("HEAD", path), &[], b"")?.call())?,
        )
    }

    pub(crate) fn put(&self, path: &str, media_type: &str, body: &[u8]) -> anyhow::Result<Reply> {
        let headers = [("content-type", media_type)];
        let request = self.authorized(self.agent.put(self.url(path)), ("PUT", path), &headers, body)?;
        read(self.reached(request.send(body))?)
    }

    /// Sends content that need not fit into memory, to the registry.
    pub(crate) fn put_stream(&self, path: &str, mut content: impl Read, size: u64) -> anyhow::Result<Reply> {
        let size = size.to_string();
        let headers = [("content-type", "application/octet-stream"), ("content-length", size.as_str())];
        let request = self.authorized(self.agent.put(self.url(path)), ("PUT", path), &headers, b"")?;
        read(self.reached(request.send(ureq::SendBody::from_reader(&mut content)))?)
    }

    /// The server's name and port, as they are part of an image's name.
    pub(crate) fn authority(&self) -> &str {
        self.endpoint.split("://").last().unwrap_or_default().split('/').next().unwrap_or_default()
    }

    pub(crate) fn put_json(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.put(path, "application/json", body.to_string().as_bytes())
    }

    pub(crate) fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.post(path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// An answer as it comes, for as long as it comes.
    pub(crate) fn stream(&self, path: &str) -> anyhow::Result<impl Read + use<>> {
        let request = self.authorized(self.agent.get(self.url(path)), ("GET", path), &[], b"")?;
        let response = self.reached(request.call())?;
        if !response.status().is_success() {
            let reply = read(response)?;
            bail!("{}", reply.error_text());
        }
        Ok(response.into_body().into_reader())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint)
    }

    /// The request with its headers, and those that say who sends it.
    fn authorized<B>(
        &self,
        mut request: ureq::RequestBuilder<B>,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<ureq::RequestBuilder<B>> {
        let is_registry = path.starts_with("/v2/");
        match &self.identity {
            Identity::Key(key, region) if !is_registry => {
                let signed = self.signed(key, region, (method, path), headers, body)?;
                for (name, value) in &signed {
                    request = request.header(name, value);
                }
                return Ok(request);
            }
            Identity::Key(key, _) => {
                let pair = BASE64.encode(format!("{}:{}", key.key_id, key.secret));
                request = request.header("authorization", format!("Basic {pair}"));
            }
            Identity::Account(account) => {
                request = request.header(
                    "authorization",
                    format!("AWS4-HMAC-SHA256 Credential={account}/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=00"),
                );
            }
            Identity::Nobody => {}
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request)
    }

    fn signed(
        &self,
        key: &Credentials,
        region: &str,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<HeaderMap> {
        let mut more = HeaderMap::new();
        for (name, value) in headers {
            more.insert(name.parse::<HeaderName>()?, value.parse()?);
        }
        let service = if path.starts_with("/schedule") { "scheduler" } else { "lambda" };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
        let second = i64::try_from(now.as_secs()).context("the clock stands too late")?;
        let request = (&method.parse()?, self.authority(), path);
        let payload = Hash::of(body).to_string();
        hearth_keys::sign(key, request, &payload, (region, service), &more, second)
            .context("the request cannot be signed: is the key's id, secret or token one?")
    }

    fn reached(&self, result: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Response<Body>> {
        result.map_err(|error| {
            let advice = "start one with `hearth dev`, or name another with --endpoint or HEARTH_ENDPOINT";
            anyhow::Error::new(error).context(format!("no Hearth answers at {}: {advice}", self.endpoint))
        })
    }
}

fn read(response: Response<Body>) -> anyhow::Result<Reply> {
    let (parts, mut body) = response.into_parts();
    let body =
        body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec().context("the server's answer broke off")?;
    Ok(Reply { status: parts.status, headers: parts.headers, body })
}

/// Percent-encodes a name for one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_keeps_no_character_that_a_path_would_take_for_its_own() {
        assert_eq!(segment("a-b_c"), "a-b_c");
        assert_eq!(segment("../x?y#z:1"), "..%2Fx%3Fy%23z%3A1");
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_refused_with_advice() {
        let error = Client::new("127.0.0.1:9000", Identity::Nobody).unwrap_err().to_string();
        assert!(error.contains("http://") && error.contains("HEARTH_ENDPOINT"), "{error}");
    }
}
