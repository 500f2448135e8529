//! Who calls, and whether they may.
//!
//! ```text
//! head --claim--> Pending --admit, with the body--> Caller --authorized--> whose function is meant
//! ```
//!
//! A server that has keys asks for one at every door: signatures at the APIs and at function URLs, a key's id and secret at the
//! registry. One without keys believes what it is told, which is for one machine alone.
//!
//! | module | what it knows |
//! |---|---|
//! | `said` | what a request says of its sender, believed by servers without keys |
//! | `keys` | the keys, in memory and in the store |
//! | `gate` | whether a request is its key's |
//! | `actions` | what operations are called where rights are given |
//! | `allowed` | whether a caller may do something with a function |
//! | `denials` | which functions deny their own account something |
//! | `admin` | making, showing and removing keys |
//! | `checked` | bodies that are passed on while their hash is checked |

pub(crate) mod actions;
pub(crate) mod admin;
mod allowed;
mod checked;
mod denials;
mod gate;
mod keys;
mod said;

use std::sync::Arc;

use hearth_keys::{Refusal, Sealer};
use hearth_types::AccountId;
use hyper::StatusCode;

use crate::error::ApiError;

pub use self::admin::administer_keys;
pub(crate) use self::checked::Checked;
pub(crate) use self::denials::Denials;
pub(crate) use self::gate::{Gate, Pending};
use self::keys::LiveKey;

/// What an operator decides about who may call.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// Whether keys are asked for even while there are none.
    pub always: bool,
    /// Seals the keys' secrets.
    pub sealer: Sealer,
    /// Failures in a minute that an address may have; zero is no limit.
    pub failures_per_minute: u32,
}

/// Who sends a request, as far as this server asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) account: AccountId,
    /// The key's id, or what stands for it.
    pub(crate) key_id: String,
    /// Who that is, as an ARN.
    pub(crate) arn: String,
    /// The key whose grant counts; nothing where keys are not asked for, and everything is allowed.
    key: Option<Arc<LiveKey>>,
}

impl Caller {
    /// One who is believed.
    fn believed(account: AccountId, key_id: String) -> Self {
        Self { arn: format!("arn:aws:iam::{account}:root"), account, key_id, key: None }
    }

    /// Whether they operate the server.
    pub(crate) fn is_operator(&self) -> bool {
        self.key.as_ref().is_none_or(|key| key.grant.operator)
    }

    /// The key's id, where keys are asked for.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.id.as_str())
    }

    /// Whether the key allows what is of the account as a whole.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check(&self, action: &str) -> Result<(), ApiError> {
        let allowed = self.key.as_ref().is_none_or(|key| key.grant.allows(action, None));
        if allowed { Ok(()) } else { Err(self.denied(action, "*", false)) }
    }

    /// Whether the key allows something with a function.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check_function(
        &self,
        action: &str,
        (owner, name): (&AccountId, &str),
        arn: &str,
    ) -> Result<(), ApiError> {
        let function = Some((owner, name, arn));
        let allowed = self.key.as_ref().is_none_or(|key| key.grant.allows(action, function));
        if allowed { Ok(()) } else { Err(self.denied(action, arn, false)) }
    }

    /// That they may not, because neither their key nor, if it is another account's, the resource's policy says so.
    pub(crate) fn denied(&self, action: &str, resource: &str, by_resource: bool) -> ApiError {
        let kind = if by_resource { "resource" } else { "identity" };
        let text = format!(
            "User: {} is not authorized to perform: {action} on resource: {resource} because no {kind}-based policy allows the \
             {action} action",
            self.arn
        );
        ApiError::new(StatusCode::FORBIDDEN, "AccessDeniedException", text)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::FORBIDDEN,
        };
        Self::new(status, refusal.code(), refusal.to_string())
    }
}
