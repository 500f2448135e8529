//! Names and secrets that nobody guesses.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

/// Letters and digits that are not taken for each other. 32, so that five bits are one of them.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Characters of a secret, each a letter or a digit.
const SECRET: usize = 40;

/// Fills `bytes`; false if the system has no random numbers.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    SystemRandom::new().fill(bytes).is_ok()
}

/// An id for a key: 20 characters, as AWS's have. Nothing if the system has no random numbers.
#[must_use]
pub fn key_id() -> Option<String> {
    id("HRTH")
}

/// An id for a key that is good for a while.
#[must_use]
pub fn session_key_id() -> Option<String> {
    id("HRTS")
}

fn id(prefix: &str) -> Option<String> {
    let mut random = [0; 16];
    let letters = |random: [u8; 16]| random.map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    fill(&mut random).then(|| prefix.chars().chain(letters(random)).collect())
}

/// A secret of more than 200 random bits, without a character that a shell, an address or a file would take for its own.
#[must_use]
pub fn secret() -> Option<String> {
    let mut secret = String::with_capacity(SECRET);
    while secret.len() < SECRET {
        let mut random = [0; 48];
        if !fill(&mut random) {
            return None;
        }
        let text = URL_SAFE_NO_PAD.encode(random);
        secret.extend(text.chars().filter(char::is_ascii_alphanumeric).take(SECRET - secret.len()));
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_secrets_are_never_the_same_and_plain_to_write() {
        let (one, two) = (secret().unwrap(), secret().unwrap());
        assert!(one != two && one.len() == SECRET && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let id = key_id().unwrap();
        assert!(id.len() == 20 && id.starts_with("HRTH") && id != key_id().unwrap());
        assert!(session_key_id().unwrap().starts_with("HRTS"));
    }
}
