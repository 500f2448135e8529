//! The few calls of Lambda's neighbours that tools for Lambda make: IAM for roles, STS for who is calling, CloudWatch Logs
//! for reading what functions wrote.
//!
//! It is not IAM: a role is kept and given back, its policies are neither understood nor enforced, and there are no users,
//! groups or policies of one's own. It is not STS: the credentials that it hands out are nobody's. It is not CloudWatch
//! Logs: it shows what Hearth keeps of the functions' logs, and nothing else can write there.
//!
//! All three are called by `POST /`. IAM and STS get forms and answer XML (AWS's query protocol); Logs gets and answers
//! JSON, and a header names the operation.

mod iam;
mod logs;
mod query;
mod roles;
mod sts;

use hearth_types::{AccountId, RequestId};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Response};

use crate::Backend;
use crate::body::Body;
use crate::core::Core;

pub(crate) use self::logs::LOG_READERS;

/// The header that names an operation of Logs.
const TARGET: &str = "x-amz-target";

/// Whether a request is for one of the neighbours.
pub(crate) fn is_for(method: &Method, path: &str) -> bool {
    *method == Method::POST && path == "/"
}

impl<B: Backend> Core<B> {
    /// Answers a request for one of the neighbours, and says which that is.
    pub(crate) async fn neighbour(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        account: AccountId,
        request_id: RequestId,
    ) -> (&'static str, Response<Body>) {
        let target = headers.get(TARGET).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (body, _share) = match self.read_body("Neighbour", headers, body).await {
            Ok(held) => held,
            Err(error) => return ("Unknown", error.response()),
        };
        match target {
            Some(target) => ("Logs", self.logs(&target, &body, &account).await),
            None => self.query(&body, &account, request_id).await,
        }
    }
}
