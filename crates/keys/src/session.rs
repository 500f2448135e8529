//! Credentials for a while. Nothing of them is kept: the token that goes with them is what there is to know, sealed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::seal::Sealer;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The id of the key whose holder asked for it, and whose grant it has.
    pub parent: String,
    /// Its own secret.
    pub secret: String,
    /// Who uses it, as an ARN.
    pub arn: String,
    /// The second since 1970 from which on it is not good.
    pub until: i64,
}

impl Session {
    /// The token that goes with an access key id. Nothing if the system has no random numbers.
    #[must_use]
    pub fn token(&self, key_id: &str, sealer: &Sealer) -> Option<String> {
        let text = serde_json::to_string(self).ok()?;
        Some(URL_SAFE_NO_PAD.encode(sealer.seal(&place(key_id), &text)?))
    }

    /// Reads a token; nothing if it was not made here for this key id.
    #[must_use]
    pub fn read(token: &str, key_id: &str, sealer: &Sealer) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(token).ok()?;
        serde_json::from_str(&sealer.open(&place(key_id), &sealed)?).ok()
    }
}

/// Where tokens are opened, and nothing else that is sealed.
fn place(key_id: &str) -> String {
    format!("session {key_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_for_its_key_only() {
        let sealer = Sealer::random().unwrap();
        let session = Session { parent: "p".into(), secret: "s".into(), arn: "a".into(), until: 7 };
        let token = session.token("k", &sealer).unwrap();
        assert_eq!(Session::read(&token, "k", &sealer), Some(session));
        assert_eq!(Session::read(&token, "l", &sealer), None);
        assert_eq!(Session::read(&token[1..], "k", &sealer), None);
        assert_eq!(Session::read("", "k", &sealer), None);
    }
}
