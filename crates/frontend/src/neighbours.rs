//! The few calls of Lambda's neighbours that tools for Lambda make: IAM for roles, STS for who is calling, CloudWatch Logs
//! for reading what functions wrote.
//!
//! It is not IAM: a role is kept and given back, its policies are neither understood nor enforced, and there are no users,
//! groups or policies of one's own. It is not STS: the credentials that it hands out are the caller's own key under another name, for a while. It is not CloudWatch
//! Logs: it shows what Hearth keeps of the functions' logs, and nothing else can write there.
//!
//! All three are called by `POST /`. IAM and STS get forms and answer XML (AWS's query protocol); Logs gets and answers
//! JSON, and a header names the operation.

mod iam;
mod logs;
mod query;
mod roles;
mod sts;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use crate::Backend;
use crate::body::{Body, drain};
use crate::core::Core;
use crate::error::ApiError;
use crate::read::eager;
use crate::services::Client;

pub(crate) use self::logs::LOG_READERS;

/// The header that names an operation of Logs.
const TARGET: &str = "x-amz-target";

/// Whether a request is for one of the neighbours.
pub(crate) fn is_for(method: &Method, path: &str) -> bool {
    *method == Method::POST && path == "/"
}

/// What one is told in the service's own form who may not call it.
fn refused(target: Option<&str>, error: &ApiError, client: Client) -> Response<Body> {
    match target {
        Some(_) => logs::refused(error),
        None => query::refused(error, client.request_id),
    }
}

impl<B: Backend> Core<B> {
    /// Answers a request for one of the neighbours, and says which that is.
    pub(crate) async fn neighbour(
        &self,
        head: &Parts,
        body: Incoming,
        client: Client,
    ) -> (&'static str, Response<Body>) {
        let target = head.headers.get(TARGET).and_then(|value| value.to_str().ok());
        let services: &[&str] = if target.is_some() { &["logs"] } else { &["iam", "sts"] };
        let pending = match self.claim(head, client.ip, services) {
            Ok(pending) => pending,
            Err(error) => {
                drain(body, eager(&head.headers)).await;
                return ("Unauthorized", refused(target, &error, client));
            }
        };
        let (body, _share) = match self.read_body("Neighbour", &head.headers, body).await {
            Ok(held) => held,
            Err(error) => return ("Unknown", error.response()),
        };
        let caller = match self.admit(pending, &body) {
            Ok(caller) => caller,
            Err(error) => return ("Unauthorized", refused(target, &error, client)),
        };
        match target {
            Some(target) => ("Logs", self.logs(target, &body, &caller).await),
            None => self.query(&body, &caller, client.request_id).await,
        }
    }
}
