//! Secrets that are kept: sealed with a key that is kept elsewhere (AES-256-GCM).

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::random::fill;

/// Seals, and opens what it sealed.
#[derive(Clone)]
pub struct Sealer(LessSafeKey);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// Bytes of its key.
    pub const BYTES: usize = 32;

    /// One with this key. Nothing if it has not [`Self::BYTES`] bytes.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// One whose key nobody knows: what it seals is opened by nobody else. Nothing if the system has no random numbers.
    #[must_use]
    pub fn random() -> Option<Self> {
        Self::random_key().and_then(|key| Self::new(&key))
    }

    /// A new key.
    #[must_use]
    pub fn random_key() -> Option<[u8; Self::BYTES]> {
        let mut key = [0; Self::BYTES];
        fill(&mut key).then_some(key)
    }

    /// Seals a text for one place: it cannot be opened as if it came from another. Nothing if the system has no random numbers.
    #[must_use]
    pub fn seal(&self, place: &str, text: &str) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        if !fill(&mut nonce) {
            return None;
        }
        let mut sealed = text.as_bytes().to_vec();
        let place = Aad::from(place.as_bytes());
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place, &mut sealed).ok()?;
        Some(nonce.into_iter().chain(sealed).collect())
    }

    /// Opens it; nothing if this sealer did not seal it for this place.
    #[must_use]
    pub fn open(&self, place: &str, sealed: &[u8]) -> Option<String> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let text = self.0.open_in_place(nonce, Aad::from(place.as_bytes()), &mut sealed).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_its_sealer_in_its_place_only() {
        let sealer = Sealer::random().unwrap();
        let sealed = sealer.seal("a", "secret").unwrap();
        assert_eq!(sealer.open("a", &sealed).as_deref(), Some("secret"));
        assert_eq!(sealer.open("b", &sealed), None);
        assert_eq!(Sealer::random().unwrap().open("a", &sealed), None);
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(sealer.open("a", &other), None, "byte {at}");
            assert_eq!(sealer.open("a", &sealed[..at]), None);
        }
        assert_ne!(sealer.seal("a", "secret").unwrap(), sealed);
        assert!(Sealer::new(&[0; 31]).is_none());
    }
}
