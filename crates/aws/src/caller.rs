//! One request to a service: signed, sent once, its answer's head awaited.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::USER_AGENT;
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use crate::CallError;

const CONNECT: Duration = Duration::from_secs(5);
const AGENT: &str = concat!("hearth/", env!("CARGO_PKG_VERSION"));
/// Characters of a service's own words that are passed on.
const WORDS: usize = 500;

/// Where a service is: `http://HOST[:PORT]` or `https://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let bare = uri.path_and_query().is_none_or(|path| path == "/");
        match uri.authority() {
            Some(authority) if known && bare && !authority.as_str().contains('@') => {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(format!("{text:?} must be http://HOST or https://HOST, with :PORT behind it or not")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As whom Hearth asks, and where it says it is.
#[derive(Clone)]
pub struct Account {
    credentials: Option<Credentials>,
    region: String,
}

impl Account {
    /// With the access key and its secret; without them requests are not signed.
    #[must_use]
    pub fn new(region: &str, key: Option<(&str, &str)>) -> Self {
        let credentials = key.map(|(key, secret)| Credentials::new(key, secret, None, None, "hearth"));
        Self { credentials, region: region.to_owned() }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.credentials.as_ref().map(Credentials::access_key_id);
        f.debug_struct("Account").field("key", &key).field("region", &self.region).finish()
    }
}

/// Speaks to one service.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    pub(crate) endpoint: Endpoint,
    account: Account,
    service: &'static str,
}

impl Caller {
    pub(crate) fn new(service: &'static str, endpoint: Endpoint, account: Account) -> std::io::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { http, endpoint, account, service })
    }

    /// Sends a request whose path is below the endpoint; answers when the answer's head is there.
    pub(crate) async fn send(
        &self,
        request: hyper::http::request::Builder,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<Response<Incoming>, CallError> {
        let request = request.uri(format!("{}{path}", self.endpoint)).header(USER_AGENT, AGENT);
        let mut request = request
            .body(Full::new(body.clone()))
            .map_err(|error| CallError::Invalid(format!("this cannot be asked for: {error}")))?;
        self.sign(&mut request, &body)?;
        match timeout(patience, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                Err(CallError::Unreachable { endpoint: self.endpoint.to_string(), source: error.into() })
            }
            Err(_) => Err(self.late(patience)),
        }
    }

    fn sign(&self, request: &mut Request<Full<Bytes>>, body: &[u8]) -> Result<(), CallError> {
        let Some(credentials) = &self.account.credentials else { return Ok(()) };
        let failed = |error: &dyn std::error::Error| {
            CallError::Invalid(format!("the request cannot be signed: {error}"))
        };
        let mut settings = SigningSettings::default();
        if self.service == "s3" {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.account.region)
            .name(self.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| failed(&error))?
            .into();
        let instructions = {
            let headers = request.headers().iter();
            let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
            let uri = request.uri().to_string();
            let signable =
                SignableRequest::new(request.method().as_str(), uri, headers, SignableBody::Bytes(body));
            let signable = signable.map_err(|error| failed(&error))?;
            sign(signable, &parameters).map_err(|error| failed(&error))?.into_parts().0
        };
        instructions.apply_to_request_http1x(request);
        Ok(())
    }

    /// The whole of a small answer.
    pub(crate) async fn small(
        &self,
        body: Incoming,
        most: usize,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        match timeout(patience, Limited::new(body, most).collect()).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err(CallError::TooLarge { most: most as u64 })
            }
            Ok(Err(source)) => Err(CallError::BrokeOff { endpoint: self.endpoint.to_string(), source }),
            Err(_) => Err(self.late(patience)),
        }
    }

    pub(crate) fn late(&self, after: Duration) -> CallError {
        CallError::Late { endpoint: self.endpoint.to_string(), after }
    }
}

/// A service's own words, as far as they are passed on.
pub(crate) fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_and_a_host() {
        for good in ["http://127.0.0.1:9000", "https://s3.example.org/", "http://[::1]:1"] {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        for bad in ["", "s3", "ftp://h", "http://", "http://h/path", "http://h?x", "http://u:p@h", "h:80"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let account = Account::new("us-east-1", Some(("key", "very secret")));
        let text = format!("{account:?}");
        assert!(text.contains("key") && !text.contains("secret"), "{text}");
    }
}
