//! Answers to an authority that asks whether a name leads here: ACME's http-01 (RFC 8555, 8.3).
//!
//! They are given on every listener and whatever the host, before anything else is looked at: the authority asks the name that it is
//! to certify, which is a service's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};

use crate::body::{Body, full};

/// Where an authority asks.
const PREFIX: &str = "/.well-known/acme-challenge/";

/// Answers by their tokens, for as long as an order takes.
#[derive(Debug, Default)]
pub struct Challenges {
    answers: Mutex<HashMap<String, String>>,
}

impl Challenges {
    /// Has a token's question answered.
    pub fn put(&self, token: &str, answer: &str) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(token.to_owned(), answer.to_owned());
    }

    /// Has it answered no more.
    pub fn remove(&self, token: &str) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    /// The response to a request, if it asks for an answer that is here. All others are somebody else's.
    pub(crate) fn response(&self, method: &Method, path: &str) -> Option<Response<Body>> {
        let token = path.strip_prefix(PREFIX).filter(|_| *method == Method::GET)?;
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()?;
        let mut response = Response::new(full(answer.into()));
        *response.status_mut() = StatusCode::OK;
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_put_is_answered_and_only_until_it_is_removed() {
        let challenges = Challenges::default();
        challenges.put("a-token", "a-token.thumbprint");
        let asked = |method: Method, path: &str| challenges.response(&method, path).is_some();
        assert!(asked(Method::GET, "/.well-known/acme-challenge/a-token"));
        assert!(!asked(Method::POST, "/.well-known/acme-challenge/a-token"));
        assert!(!asked(Method::GET, "/.well-known/acme-challenge/"));
        assert!(!asked(Method::GET, "/.well-known/acme-challenge/a-token/"));
        assert!(!asked(Method::GET, "/a-token"));
        challenges.remove("a-token");
        assert!(!asked(Method::GET, "/.well-known/acme-challenge/a-token"));
    }
}
