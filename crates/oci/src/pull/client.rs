//! One question to a registry: with whom it is, through redirects, and again if it may pass.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, HeaderMap, LOCATION, RANGE, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::auth::{self, Challenge, TokenAnswer};
use super::{PullConfig, PullError};
use crate::Reference;

/// Times that something is asked.
const TRIES: u32 = 5;
/// Places that one is sent to before an answer comes.
const REDIRECTS: usize = 5;
const CONNECT: Duration = Duration::from_secs(10);
/// The longest pause, whatever a registry asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// A token is some kilobytes.
const TOKEN_BYTES: usize = 256 << 10;
const AGENT: &str = concat!("hearth/", env!("CARGO_PKG_VERSION"));
/// Whom `docker.io` really means.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    /// `manifests` or `blobs`.
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    pub(super) accept: &'static str,
    /// The byte to begin with.
    pub(super) from: u64,
}

type Http = HyperClient<HttpsConnector<HttpConnector>, Empty<Bytes>>;

#[derive(Debug)]
pub(super) struct Client {
    /// Made when it is first needed: it reads some hundred certificates, for which no start should wait.
    http: OnceLock<Http>,
    pub(super) config: PullConfig,
    /// `Authorization` by registry and repository; a registry that takes it no more asks anew.
    tokens: Mutex<HashMap<(String, String), String>>,
}

/// Why one try did not do.
enum Problem {
    /// It may pass.
    Passing(PullError, Option<Duration>),
    /// It will not.
    Lasting(PullError),
}

// === impl Client ===

impl Client {
    pub(super) fn new(config: PullConfig) -> Self {
        Self { http: OnceLock::new(), config, tokens: Mutex::default() }
    }

    fn http(&self) -> std::io::Result<&Http> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let made = HyperClient::builder(TokioExecutor::new()).build(connector);
        Ok(self.http.get_or_init(|| made))
    }

    /// A small answer, read to its end.
    pub(super) async fn small(
        &self,
        reference: &Reference,
        ask: Ask<'_>,
        most: usize,
    ) -> Result<(HeaderMap, Bytes), PullError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (head, body) = self.ask(reference, ask).await?.into_parts();
            match self.body(&reference.host, body, most).await {
                Ok(content) => return Ok((head.headers, content)),
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => self.pause(tries).await,
            }
        }
    }

    async fn body(&self, host: &str, body: Incoming, most: usize) -> Result<Bytes, PullError> {
        let patience = self.config.patience;
        let read = timeout(patience, Limited::new(body, most).collect()).await;
        let late = |_| PullError::Late { host: host.to_owned(), after: patience };
        let broke = |error: Box<dyn std::error::Error + Send + Sync>| PullError::BrokeOff {
            host: host.to_owned(),
            what: "its answer".to_owned(),
            problem: error.to_string(),
        };
        Ok(read.map_err(late)?.map_err(broke)?.to_bytes())
    }

    /// An answer with success in its status; its body is still to come.
    pub(super) async fn ask(
        &self,
        reference: &Reference,
        ask: Ask<'_>,
    ) -> Result<Response<Incoming>, PullError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_once(reference, ask, tries).await {
                Ok(response) => return Ok(response),
                Err(Problem::Lasting(error)) => return Err(error),
                Err(Problem::Passing(error, _)) if tries == TRIES => return Err(error),
                Err(Problem::Passing(error, told)) => {
                    tracing::debug!(image = %reference, %error, tries, "asked again");
                    match told {
                        Some(told) => tokio::time::sleep(told.min(LONGEST_PAUSE)).await,
                        None => self.pause(tries).await,
                    }
                }
            }
        }
    }

    /// Waits before the next try; longer each time.
    pub(super) async fn pause(&self, tries: u32) {
        let pause = self.config.pause.saturating_mul(1 << tries.saturating_sub(1).min(8));
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
    }

    async fn try_once(
        &self,
        reference: &Reference,
        ask: Ask<'_>,
        tries: u32,
    ) -> Result<Response<Incoming>, Problem> {
        let host = &reference.host;
        let key = (host.clone(), reference.repository.clone());
        let known = self.tokens().get(&key).cloned();
        let mut response = self.follow(reference, ask, known.as_deref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let challenge = challenge.filter_map(|value| Challenge::parse(value.to_str().ok()?)).next();
            if let Some(authorization) = self.authorize(reference, challenge).await? {
                self.tokens().insert(key, authorization.clone());
                response = self.follow(reference, ask, Some(&authorization)).await?;
            }
        }
        let what = || format!("{}/{}", reference.repository, ask.name);
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Problem::Lasting(PullError::Denied {
                host: host.clone(),
                repository: reference.repository.clone(),
            })),
            StatusCode::NOT_FOUND => {
                Err(Problem::Lasting(PullError::NotFound { host: host.clone(), what: what() }))
            }
            status => {
                let passes = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
                let error = PullError::Status {
                    host: host.clone(),
                    what: what(),
                    status: status.as_u16(),
                    times: tries,
                };
                let told = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let told = told.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
                Err(if passes { Problem::Passing(error, told) } else { Problem::Lasting(error) })
            }
        }
    }

    /// The answer at the end of a few redirects. Only the registry itself is told who we are.
    async fn follow(
        &self,
        reference: &Reference,
        ask: Ask<'_>,
        authorization: Option<&str>,
    ) -> Result<Response<Incoming>, Problem> {
        let Ask { kind, name, .. } = ask;
        let host = if reference.host == "docker.io" { DOCKER_HUB } else { &reference.host };
        let scheme = if self.is_plain(&reference.host) { "http" } else { "https" };
        let wrong = |problem: &str| {
            let (host, problem) = (reference.host.clone(), problem.to_owned());
            Problem::Lasting(PullError::Redirect { host, problem })
        };
        let first = format!("{scheme}://{host}/v2/{}/{kind}/{name}", reference.repository);
        let mut place: Uri = first.parse().map_err(|_| wrong("to no address"))?;
        let origin = place.authority().cloned();
        for _ in 0..=REDIRECTS {
            let mut request = Request::builder().method(Method::GET).uri(&place).header(USER_AGENT, AGENT);
            request = request.header(ACCEPT, ask.accept);
            if ask.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.from));
            }
            if let Some(authorization) = authorization.filter(|_| place.authority() == origin.as_ref()) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = self.send(&reference.host, request).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| resolve(&place, location));
            let next = next.ok_or_else(|| wrong("to no address"))?;
            let next_host = next.authority().map_or("", |authority| authority.as_str());
            if next.scheme_str() == Some("http") && !self.is_plain(next_host) {
                return Err(wrong("from TLS to a place without it"));
            }
            place = next;
        }
        Err(wrong(&format!("more than {REDIRECTS} times")))
    }

    async fn send(
        &self,
        host: &str,
        request: hyper::http::request::Builder,
    ) -> Result<Response<Incoming>, Problem> {
        let patience = self.config.patience;
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| PullError::Unreachable {
            host: host.to_owned(),
            source,
        };
        let request =
            request.body(Empty::new()).map_err(|error| Problem::Lasting(unreachable(error.into())))?;
        let http = self.http().map_err(|error| {
            let problem = format!("cannot read this machine's certificates: {error}");
            Problem::Lasting(unreachable(problem.into()))
        })?;
        match timeout(patience, http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Problem::Passing(unreachable(Box::new(error)), None)),
            Err(_) => Err(Problem::Passing(PullError::Late { host: host.to_owned(), after: patience }, None)),
        }
    }

    /// What to say to a registry that asks who we are.
    async fn authorize(
        &self,
        reference: &Reference,
        challenge: Option<Challenge>,
    ) -> Result<Option<String>, Problem> {
        let basic = auth::basic(&reference.host).await.map_err(Problem::Lasting)?;
        let (realm, service) = match challenge {
            None => return Ok(None),
            Some(Challenge::Basic) => return Ok(basic),
            Some(Challenge::Bearer { realm, service }) => (realm, service),
        };
        let denied = || {
            let (host, repository) = (reference.host.clone(), reference.repository.clone());
            Problem::Lasting(PullError::Denied { host, repository })
        };
        let mut place = format!("{realm}{}", if realm.contains('?') { '&' } else { '?' });
        if let Some(service) = service {
            place.push_str(&format!("service={}&", encode(&service)));
        }
        place.push_str(&format!("scope={}", encode(&format!("repository:{}:pull", reference.repository))));
        let place: Uri = place.parse().map_err(|_| denied())?;
        let realm_host = place.authority().map_or("", |authority| authority.as_str());
        // A password must not be asked for by somebody in between.
        if place.scheme_str() != Some("https") && !self.is_plain(realm_host) {
            return Err(denied());
        }
        let mut request = Request::builder().uri(place).header(USER_AGENT, AGENT);
        if let Some(basic) = basic {
            request = request.header(AUTHORIZATION, basic);
        }
        let response = self.send(&reference.host, request).await?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let (host, what, status) = (reference.host.clone(), "a token".to_owned(), status.as_u16());
            return Err(Problem::Passing(PullError::Status { host, what, status, times: 1 }, None));
        }
        let body = self.body(&reference.host, response.into_body(), TOKEN_BYTES).await;
        let body = body.map_err(|error| Problem::Passing(error, None))?;
        TokenAnswer::read(&body).map(Some).ok_or_else(denied)
    }

    /// Whether a registry is spoken to without TLS: on the loopback, or because the operator says so.
    fn is_plain(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        let address = name.parse::<std::net::IpAddr>().ok();
        name == "localhost"
            || name.ends_with(".localhost")
            || address.is_some_and(|address| address.is_loopback())
            || self.config.insecure.iter().any(|insecure| insecure == host || insecure == name)
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), String>> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        // Made again when they are asked for.
        if tokens.len() > 1_000 {
            tokens.clear();
        }
        tokens
    }
}

/// A redirect's target, as seen from where it came.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') {
        let place = format!("{}://{}{location}", from.scheme_str()?, from.authority()?);
        return place.parse().ok();
    }
    let uri: Uri = location.parse().ok()?;
    matches!(uri.scheme_str(), Some("http" | "https")).then_some(uri)
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/:".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
