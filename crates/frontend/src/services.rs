//! HTTP services: functions that are servers of their own, reached by their name in `Host` or in the path.
//!
//! What names below `localhost` and paths mean is in `target`; any other host is a service's if its tag `hearth:hosts` says so. A server that has keys
//! asks for one, but at the hosts that a service's owner gave it.
//!
//! A request is passed on as it comes and its response as it is made, in both directions at the pace of who takes it. A client
//! that goes away ends its request: the slot is free, and the service sees its connection close.

mod headers;
mod hosts;
mod passing;
mod target;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hearth_keys::Payload;
use hearth_types::{FunctionId, FunctionSpec, LeaseRequest, RequestId};
use http_body_util::BodyExt;
use hyper::header::{AUTHORIZATION, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Uri, Version};
use serde_json::json;

use self::passing::{Leased, switch};
use crate::Backend;
use crate::access::Checked;
use crate::backend::ForwardError;
use crate::body::{Body, json as document};
use crate::core::Core;
use crate::error::ApiError;
use crate::invoke::ATTEMPTS;
use crate::tags::HOSTS;
use crate::tenancy;

pub(crate) use hosts::{Hosts, read as read_hosts};
pub(crate) use target::Target;

/// Has browsers treat a page as of no origin: below a path it would have that of the API, and its scripts all that the API allows.
const NO_ORIGIN: HeaderValue =
    HeaderValue::from_static("sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts");

/// What is known of a request besides what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) ip: IpAddr,
    pub(crate) request_id: RequestId,
    pub(crate) tls: bool,
}

impl Client {
    /// What the client spoke to Hearth, as `X-Forwarded-Proto` says it.
    pub(crate) const fn proto(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl<B: Backend> Core<B> {
    /// The service that a request is for; nothing if it is for Hearth itself.
    pub(crate) fn service(&self, host: Option<&str>, head: &Parts) -> Option<Target> {
        // Whose it is where only the path says so depends on who asks.
        host.and_then(|host| self.service_at(host))
            .or_else(|| Target::in_path(head.uri.path(), &self.config.default_account))
    }

    /// Sees who asks for a service, and whether they may; answers what the body must be. Where keys are asked for, only a host that
    /// a service's owner gave it is open to all.
    ///
    /// # Errors
    /// They may not.
    pub(crate) async fn open_service(
        &self,
        target: &mut Target,
        head: &mut Parts,
        client: Client,
    ) -> Result<Payload, ApiError> {
        if target.is_published {
            return Ok(Payload::Unsigned);
        }
        let pending = self.claim(head, client.ip, &["lambda"])?;
        if target.prefix > 0 {
            target.function.account = pending.account().clone();
        }
        let (caller, payload) = self.admit_head(pending)?;
        if self.gate.asks() {
            self.may_ask(&caller, &target.function, &target.qualifier).await?;
            hide_credentials(&mut head.headers);
        }
        Ok(payload)
    }

    fn service_at(&self, host: &str) -> Option<Target> {
        let host = host.strip_suffix('.').unwrap_or(host);
        match target::local(host) {
            Some(name) => Target::in_name(name, &self.config.default_account),
            None => self.hosts.get(host),
        }
    }

    /// Whether a function may have the hosts that its tags are going to name. Who asks holds `reserving` until those are its own
    /// ([`Hosts::set`]), or until it is certain that the tags are not kept.
    ///
    /// # Errors
    /// Another function has one of them, or it is not below a domain that the operator has for services: whoever has a host gets
    /// all that is sent to it, and nobody but the operator knows which names lead here for other reasons.
    pub(crate) fn check_hosts(
        &self,
        function: &FunctionId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        let hosts = hosts::of(tags);
        let (domains, own) = (&self.config.service_domains, own_host(&self.config.public_endpoint));
        let mut names = hosts.iter().map(|host| host.name.as_str());
        if let Some(host) = names.find(|host| !is_below(host, domains) || *host == own) {
            let domains = if domains.is_empty() { "none".to_owned() } else { domains.join(", ") };
            let text = format!(
                "The host {host:?} (tag {HOSTS}) is not below a domain that is for services here; those are: {domains}. \
                 The server's operator sets them with --service-domain"
            );
            return Err(ApiError::parameter(text));
        }
        match self.hosts.taken(function, &hosts) {
            None => Ok(()),
            Some(host) => {
                Err(ApiError::conflict(format!("The host {host:?} (tag {HOSTS}) is another function's")))
            }
        }
    }

    /// Answers a request for a service; there is always an answer.
    pub(crate) async fn answer_service(
        &self,
        target: Target,
        (head, body): (Parts, Checked),
        host: Option<String>,
        client: Client,
    ) -> Response<Body> {
        let answered = self.pass(target, (head, body), host, client).await;
        answered.unwrap_or_else(|error| refused(&error))
    }

    async fn pass(
        &self,
        target: Target,
        (head, body): (Parts, Checked),
        host: Option<String>,
        client: Client,
    ) -> Result<Response<Body>, ApiError> {
        let spec = self.serving(&target.function, &target.qualifier).await?;
        if spec.http.is_none() {
            let name = &target.function.name;
            return Err(ApiError::not_found(format!(
                "{name} is no HTTP service: give it the tag hearth:http-port, or a function URL"
            )));
        }
        let mut request = Request::from_parts(head, body);
        let theirs = headers::wants_upgrade(&request).then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let is_buffered = head.version <= Version::HTTP_11;
        let request_id = headers::for_service(&mut head, host.as_deref(), target.prefix, client);
        if let Some(path) = path_behind(&head.uri, target.prefix) {
            head.uri = path;
        }
        let body = body.boxed_unsync();
        let (mut response, held) = self.send(&spec, Request::from_parts(head, body)).await?;
        headers::for_client(&mut response, request_id);
        if target.prefix > 0 {
            response.headers_mut().append(CONTENT_SECURITY_POLICY, NO_ORIGIN);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(theirs) = theirs else {
                return Err(bad_gateway("The service switched protocols without being asked to"));
            };
            switch(theirs, &mut response, held, spec.timeout);
            return Ok(response);
        }
        Ok(response.map(|body| Leased::new(body, held, spec.timeout, is_buffered).boxed_unsync()))
    }

    /// Gets slots until an instance has the request, and its response.
    async fn send(
        &self,
        spec: &Arc<FunctionSpec>,
        mut request: Request<Body>,
    ) -> Result<(Response<Body>, crate::invoke::Held<B>), ApiError> {
        // A request over HTTP says nobody's tenant, and an instance of nobody's would serve all of them.
        tenancy::match_up(spec, None)?;
        let mut attempt = 1;
        loop {
            let acquired = self.backend.acquire(LeaseRequest { spec: Arc::clone(spec), tenant: None }).await;
            let lease = acquired.map_err(|refusal| ApiError::refused(&refusal, &spec.arn))?;
            let mut held = self.hold(lease);
            // Neither a client that goes away nor a response that breaks off says anything about what else is in the instance; if
            // its process has ended, that is seen elsewhere.
            held.reusable(true);
            let Some(lease) = held.lease() else { return Err(bad_gateway("no lease")) };
            match self.backend.forward(lease, request).await {
                Ok(response) => return Ok((response, held)),
                Err(ForwardError::NotDelivered { request: unsent, reason }) if attempt < ATTEMPTS => {
                    tracing::info!(function = %spec.revision.version.function, reason, attempt, "tried again");
                    held.lost();
                    attempt += 1;
                    request = *unsent;
                }
                Err(ForwardError::TimedOut) => {
                    let text = "The service did not respond in time";
                    return Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "GatewayTimeout", text));
                }
                Err(error) => {
                    tracing::info!(function = %spec.revision.version.function, %error, "a request is lost");
                    return Err(bad_gateway("The service gave no response; its log may say why"));
                }
            }
        }
    }
}

/// Takes away what a function must not see of a request that was signed for Hearth: it could ask again in its sender's name.
pub(crate) fn hide_credentials(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    headers.remove("x-amz-security-token");
}

/// The host that the server says it is.
fn own_host(endpoint: &str) -> &str {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn is_below(host: &str, domains: &[String]) -> bool {
    domains.iter().any(|domain| {
        host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

fn bad_gateway(text: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "BadGateway", text)
}

/// What is left of a target when the first bytes of its path are taken away.
fn path_behind(uri: &Uri, prefix: usize) -> Option<Uri> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let rest = target.get(prefix..)?;
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    rest.parse().ok()
}

/// An answer of Hearth's own.
fn refused(error: &ApiError) -> Response<Body> {
    let mut response = document(error.status, &json!({"message": error.message}));
    error.advise(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_below_the_operators_domains() {
        let domains = ["apps.example".to_owned()];
        assert!(is_below("apps.example", &domains) && is_below("a.apps.example", &domains));
        assert!(!is_below("xapps.example", &domains) && !is_below("example", &domains));
        assert!(!is_below("a.apps.example", &[]));
        assert_eq!(own_host("http://hearth.example:9000"), "hearth.example");
    }

    #[test]
    fn a_path_loses_what_is_hearths() {
        for (target, prefix, expected) in [
            ("/_/f/a/b?c=d", 4, "/a/b?c=d"),
            ("/_/f", 4, "/"),
            ("/_/f/", 4, "/"),
            ("/_/f?x", 4, "/?x"),
            ("http://f.localhost/a?b", 0, "/a?b"),
            ("/_/f//evil.example/", 4, "//evil.example/"),
        ] {
            assert_eq!(
                path_behind(&target.parse().unwrap(), prefix).unwrap().to_string(),
                expected,
                "{target}"
            );
        }
    }
}
