//! Making, showing, switching off and removing keys: `/_hearth/keys`, for operators.

use std::sync::Arc;

use hearth_keys::{Grant, Sealer};
use hearth_store::Store;
use hearth_types::AccountId;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::keys::{KeyError, LiveKey};
use super::{AccessConfig, Caller, Gate};
use crate::core::now_ms;
use crate::error::ApiError;

/// Where keys are.
pub(crate) const PREFIX: &str = "/_hearth/keys";

/// What is said of a new key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    account: AccountId,
    name: Option<String>,
    functions: Vec<String>,
    actions: Vec<String>,
    #[serde(default)]
    operator: bool,
    expires_ms: Option<u64>,
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::TooMany => {
                Self::new(StatusCode::BAD_REQUEST, "LimitExceededException", error.to_string())
            }
            KeyError::NoRandom => Self::internal(error.to_string()),
            KeyError::Store(error) => Self::store(&error, "access key"),
        }
    }
}

/// Does in a store that no server uses what a server does at `/_hearth/keys`; answers what it would.
///
/// # Errors
/// What the server would say.
pub async fn administer_keys(
    store: &dyn Store,
    sealer: Sealer,
    (method, path, body): (&Method, &str, &[u8]),
) -> Result<Value, String> {
    let gate = Gate::new(AccessConfig { always: true, sealer, failures_per_minute: 0 });
    gate.load(store).await.map_err(|error| with_cause(&error))?;
    let answered = gate.administer(store, (method, path, body)).await;
    answered.map(|(_, document)| document).map_err(|error| error.message)
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

impl Gate {
    /// Answers a request below [`PREFIX`] of somebody who operates the server.
    ///
    /// # Errors
    /// It makes no sense, or the store failed.
    pub(crate) async fn administer(
        &self,
        store: &dyn Store,
        (method, path, body): (&Method, &str, &[u8]),
    ) -> Result<(StatusCode, Value), ApiError> {
        let rest = path.strip_prefix(PREFIX).unwrap_or_default().trim_matches('/');
        let (id, verb) = rest.split_once('/').unwrap_or((rest, ""));
        match (method, id, verb) {
            (&Method::GET, "", "") => {
                let keys: Vec<Value> = self.keys.all().iter().map(shown).collect();
                Ok((StatusCode::OK, json!({"keys": keys, "required": self.asks()})))
            }
            (&Method::POST, "", "") => self.create_key(store, body).await,
            (&Method::POST, id, "disable" | "enable") => {
                let change = (id, verb == "disable");
                let changed = self.keys.disable(store, &self.sealer, change).await?;
                Ok((StatusCode::OK, shown(&changed.ok_or_else(|| no_key(id))?)))
            }
            (&Method::DELETE, id, "") if !id.is_empty() => {
                if self.keys.remove(store, id).await? {
                    return Ok((StatusCode::OK, json!({"access_key_id": id})));
                }
                Err(no_key(id))
            }
            _ => {
                let text =
                    "keys take GET and POST, and one of them POST .../disable, POST .../enable and DELETE";
                Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowedException", text))
            }
        }
    }

    async fn create_key(&self, store: &dyn Store, body: &[u8]) -> Result<(StatusCode, Value), ApiError> {
        let wanted: Wanted =
            serde_json::from_slice(body).map_err(|error| ApiError::validation(error.to_string()))?;
        let grant = Grant {
            account: wanted.account,
            name: wanted.name,
            functions: wanted.functions,
            actions: wanted.actions,
            operator: wanted.operator,
            created_ms: now_ms(),
            expires_ms: wanted.expires_ms,
            disabled: false,
        };
        grant.check().map_err(|error| ApiError::validation(error.to_string()))?;
        if grant.has_expired(now_ms()) {
            return Err(ApiError::validation("the key would have expired before it is made"));
        }
        if !grant.operator && !self.asks() {
            let text = "the first key must be an operator's: from then on keys are asked for, and nobody could make others";
            return Err(ApiError::validation(text));
        }
        let key = self.keys.create(store, &self.sealer, grant).await?;
        if !self.asks() {
            tracing::info!("there is a key now: from here on every request must be signed with one");
            self.close();
        }
        tracing::info!(key = key.id, account = %key.grant.account, operator = key.grant.operator, "made a key");
        let mut document = shown(&key);
        document["secret_access_key"] = key.secret.as_str().into();
        Ok((StatusCode::CREATED, document))
    }
}

impl Caller {
    /// Whether they operate the server.
    ///
    /// # Errors
    /// They do not.
    pub(crate) fn check_operator(&self, path: &str) -> Result<(), ApiError> {
        if self.is_operator() {
            return Ok(());
        }
        let text = format!("{} is not authorized to use {path}: its key is not an operator's", self.arn);
        Err(ApiError::new(StatusCode::FORBIDDEN, "AccessDeniedException", text))
    }
}

fn shown(key: &Arc<LiveKey>) -> Value {
    let grant = &key.grant;
    let state = if grant.disabled {
        "disabled"
    } else if grant.has_expired(now_ms()) {
        "expired"
    } else {
        "active"
    };
    json!({
        "access_key_id": key.id,
        "account": grant.account.as_str(),
        "name": grant.name,
        "functions": grant.functions,
        "actions": grant.actions,
        "operator": grant.operator,
        "created_ms": grant.created_ms,
        "expires_ms": grant.expires_ms,
        "state": state,
    })
}

fn no_key(id: &str) -> ApiError {
    let id: String = id.chars().take(64).collect();
    ApiError::not_found(format!("There is no key {id:?}"))
}
