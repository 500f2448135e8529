//! Whom a request is for, where a function keeps its callers' customers apart.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest tenant id, characters. Source: `TenantId` of the `lambda/2015-03-31` model, and so its pattern.
pub const TENANT_ID_LENGTH: usize = 256;

/// One of those whose requests an instance never shares with others (`TenantId`). What it means is the function's owner's business.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Arc<str>);

/// A text that names no tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant id is 1 to {TENANT_ID_LENGTH} of the letters, digits and characters ._:/=+-@ and space")]
pub struct InvalidTenantId;

impl TenantId {
    /// The text that the caller gave.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = InvalidTenantId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/=+-@ ".contains(&byte);
        let is_one = (1..=TENANT_ID_LENGTH).contains(&text.len()) && text.bytes().all(allowed);
        if is_one { Ok(Self(text.into())) } else { Err(InvalidTenantId) }
    }
}

impl TryFrom<String> for TenantId {
    type Error = InvalidTenantId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TenantId> for String {
    fn from(id: TenantId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_is_what_the_model_says() {
        let longest = "x".repeat(TENANT_ID_LENGTH);
        for right in ["a", "0", "Blue Tenant", "a.b_c:d/e=f+g-h@i", " ", &longest] {
            assert_eq!(right.parse::<TenantId>().map(|id| id.to_string()).as_deref(), Ok(right));
        }
        for wrong in ["", &"x".repeat(TENANT_ID_LENGTH + 1), "a,b", "a\tb", "a\nb", "é", "a#", "a\0", "*"] {
            assert_eq!(wrong.parse::<TenantId>(), Err(InvalidTenantId), "{wrong:?}");
        }
    }
}
