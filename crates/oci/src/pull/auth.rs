//! Who we are to a registry: what it asks for, and what Docker's configuration has for it.
//!
//! Source: the distribution project's "Token Authentication Specification"; RFC 7235 for the form of a challenge.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;

use crate::PullError;

/// A credential helper that takes longer waits for somebody.
const HELPER: Duration = Duration::from_secs(20);
/// What Docker's configuration calls its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password.
    Basic,
    /// A token from that place, for that service.
    Bearer { realm: String, service: Option<String> },
}

/// A token, as it is sent.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

// === impl Challenge ===

impl Challenge {
    /// Reads a `WWW-Authenticate`.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or_else(|| (header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut values = parameters(rest);
        Some(Self::Bearer { realm: values.remove("realm")?, service: values.remove("service") })
    }
}

/// `name="value", name=value`; a comma in quotes is none.
fn parameters(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(name, value.to_owned());
        rest = after;
    }
    found
}

// === impl TokenAnswer ===

impl TokenAnswer {
    pub(super) fn read(content: &[u8]) -> Option<String> {
        let answer: Self = serde_json::from_slice(content).ok()?;
        let token = answer.token.or(answer.access_token)?;
        (!token.is_empty()).then(|| format!("Bearer {token}"))
    }
}

/// `Authorization` for the name and password that Docker's configuration has for a registry, if it has any.
pub(super) async fn basic(host: &str) -> Result<Option<String>, PullError> {
    let wrong = |problem: String| PullError::Credentials { host: host.to_owned(), problem };
    let server = if host == "docker.io" { DOCKER_HUB.to_owned() } else { host.to_owned() };
    // May start a helper, which may wait for anything.
    let asked = tokio::task::spawn_blocking(move || docker_credential::get_credential(&server));
    let asked = tokio::time::timeout(HELPER, asked).await;
    let asked = asked.map_err(|_| wrong(format!("the credential helper took more than {HELPER:?}")))?;
    match asked.map_err(|error| wrong(error.to_string()))? {
        Ok(DockerCredential::UsernamePassword(name, password)) => {
            Ok(Some(format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))))
        }
        // A refresh token, which only the registry's own way of asking for tokens takes; it is sent as a password there.
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Some(format!("Basic {}", STANDARD.encode(format!("<token>:{token}")))))
        }
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::NoCredentialConfigured
            | CredentialRetrievalError::ConfigReadError,
        ) => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_quotes_commas_and_any_case() {
        let header =
            r#"BEARER realm="https://auth.example/token?a=b",service="r,s",scope="repository:a:pull""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token?a=b".to_owned(),
            service: Some("r,s".to_owned()),
        };
        assert_eq!(Challenge::parse(header), Some(expected));
        assert_eq!(Challenge::parse("Basic realm=x"), Some(Challenge::Basic));
        for none in ["", "Digest realm=\"x\"", "Bearer", "Bearer service=\"x\""] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
    }
}
