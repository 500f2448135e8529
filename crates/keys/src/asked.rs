//! A request as its signature sees it.

use http::request::Parts;
use http::{HeaderMap, Method};

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path, as it was sent.
    pub path: &'a str,
    /// Its query, as it was sent; empty without one.
    pub query: &'a str,
    /// The authority of its target, if it has one: it wins over the header `Host`, here as where the request is answered.
    pub authority: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

impl<'a> Asked<'a> {
    /// The same of a request that came.
    #[must_use]
    pub fn of(head: &'a Parts) -> Self {
        Self {
            method: &head.method,
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            authority: head.uri.authority().map(http::uri::Authority::as_str),
            headers: &head.headers,
        }
    }
}
