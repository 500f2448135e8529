//! The operator's doors, `/metrics` and what is below `/_hearth/`: who may look through which.

use hearth_types::AccountId;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use crate::Backend;
use crate::access::Caller;
use crate::access::admin::PREFIX as KEYS;
use crate::backend::Viewer;
use crate::body::{Body, drain, json};
use crate::core::Core;
use crate::error::ApiError;
use crate::read::eager;
use crate::services::Client;

/// Tells whether the server lives, to everybody.
const HEALTH: &str = "/_hearth/health";
const LOGS: &str = "/_hearth/logs/";
const METRICS: &str = "/metrics";

/// Whether a path is one of them.
pub(crate) fn is_mine(path: &str) -> bool {
    path == METRICS || path.starts_with("/_hearth/")
}

impl<B: Backend> Core<B> {
    /// Answers a request at one of them.
    ///
    /// # Errors
    /// The caller may not.
    pub(crate) async fn answer_operator(
        &self,
        head: &Parts,
        body: Incoming,
        client: Client,
    ) -> Result<Response<Body>, ApiError> {
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        if path == HEALTH {
            let viewer = Viewer { account: AccountId::nobody(), sees_all: false };
            return Ok(self.backend.operator(&head.method, path, query, viewer).await);
        }
        // Collectors of metrics sign nothing, but can say a name and a password.
        let says_password = path == METRICS
            && head.headers.get("authorization").is_some_and(|value| value.as_bytes().starts_with(b"Basic "));
        let (caller, body) = if says_password {
            (self.admit_basic(head, client.ip)?, bytes::Bytes::new())
        } else {
            let pending = match self.claim(head, client.ip, &["lambda"]) {
                Ok(pending) => pending,
                Err(error) => {
                    drain(body, eager(&head.headers)).await;
                    return Err(error);
                }
            };
            let (body, _share) = self.read_body("Operator", &head.headers, body).await?;
            (self.admit(pending, &body)?, body)
        };
        if path == KEYS || path.strip_prefix(KEYS).is_some_and(|rest| rest.starts_with('/')) {
            caller.check_operator(path)?;
            let answered = self.gate.administer(self.store.as_ref(), (&head.method, path, &body)).await?;
            return Ok(json(answered.0, &answered.1));
        }
        self.check_view(&caller, &head.method, path)?;
        let viewer = Viewer { sees_all: caller.is_operator(), account: caller.account };
        Ok(self.backend.operator(&head.method, path, query, viewer).await)
    }

    /// Whether somebody may see, or do, what a path is for.
    fn check_view(&self, caller: &Caller, method: &Method, path: &str) -> Result<(), ApiError> {
        if caller.is_operator() {
            return Ok(());
        }
        if let Some(name) = path.strip_prefix(LOGS) {
            let id = hearth_types::FunctionId { account: caller.account.clone(), name: name.into() };
            return caller.check_function("logs:GetLogEvents", (&id.account, &id.name), &self.arn(&id));
        }
        match (method, path) {
            // What these show is the caller's own.
            (&Method::GET, "/_hearth/ps") => caller.check("hearth:ListInstances"),
            (&Method::GET, "/_hearth/events") => caller.check("hearth:ListEvents"),
            (&Method::GET, "/_hearth/runtimes") => Ok(()),
            _ => caller.check_operator(path),
        }
    }
}
