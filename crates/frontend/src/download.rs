//! `Code.Location`: links that let whoever has one download one archive for ten minutes.
//!
//! A link is signed with a key that lives as long as the process, so links end with it.

use hearth_types::CodeDigest;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::Backend;
use crate::body::{Body, stream};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::query_value;

/// Where archives are, followed by the digest.
pub(crate) const PREFIX: &str = "/_hearth/code/";
/// How long a link works.
const SECONDS: u64 = 600;
/// Bytes read from disk at once.
const PIECE: usize = 64 * 1024;

/// Signs links.
pub(crate) struct Signer {
    key: [u8; 32],
}

impl Signer {
    /// A signer that nobody can imitate.
    pub(crate) fn random() -> Self {
        let mut hash = Sha256::new();
        for _ in 0..3 {
            hash.update(uuid::Uuid::new_v4().as_bytes());
        }
        Self { key: hash.finalize().into() }
    }

    /// HMAC-SHA-256 (RFC 2104) of what a link says, in hexadecimal digits.
    fn sign(&self, digest: CodeDigest, expires: u64) -> String {
        let padded = |pad: u8| {
            let mut block = [pad; 64];
            block.iter_mut().zip(self.key).for_each(|(byte, key)| *byte ^= key);
            block
        };
        let message = format!("{digest}\n{expires}");
        let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
        let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
        CodeDigest(outer.into()).to_string()
    }

    /// Whether a link was made here and still works at `now`, in seconds.
    fn accepts(&self, digest: CodeDigest, expires: u64, signature: &str, now: u64) -> bool {
        let expected = self.sign(digest, expires);
        // Every byte is compared, so that time tells nothing about how many are right.
        let wrong = expected.bytes().zip(signature.bytes()).fold(0, |wrong, (a, b)| wrong | (a ^ b));
        expected.len() == signature.len() && wrong == 0 && now <= expires
    }
}

impl<B: Backend> Core<B> {
    /// A link to an archive.
    pub(crate) fn location(&self, digest: CodeDigest) -> String {
        let expires = now_ms() / 1_000 + SECONDS;
        let signature = self.signer.sign(digest, expires);
        let endpoint = self.config.public_endpoint.trim_end_matches('/');
        format!("{endpoint}{PREFIX}{digest}?expires={expires}&signature={signature}")
    }

    /// Follows a link.
    ///
    /// # Errors
    /// It is not ours, is too old, or the archive is gone.
    pub(crate) async fn download(&self, name: &str, query: &str) -> Result<Response<Body>, ApiError> {
        let denied = || {
            let text = "The link is not valid or has expired; GetFunction gives a new one";
            ApiError::new(StatusCode::FORBIDDEN, "AccessDeniedException", text)
        };
        let digest: CodeDigest = name.parse().map_err(|_| denied())?;
        let expires = query_value(query, "expires").and_then(|text| text.parse().ok()).ok_or_else(denied)?;
        let signature = query_value(query, "signature").unwrap_or_default();
        if !self.signer.accepts(digest, expires, &signature, now_ms() / 1_000) {
            return Err(denied());
        }
        let gone = |error| {
            tracing::warn!(%digest, %error, "cannot open an archive for download");
            ApiError::not_found("The archive is no longer kept")
        };
        let mut file = tokio::fs::File::open(self.images.archive_path(digest)).await.map_err(gone)?;
        let size = file.metadata().await.map_err(gone)?.len();
        let (sender, pieces) = mpsc::channel(2);
        tokio::spawn(async move {
            let mut left = size;
            while left > 0 {
                let mut piece = bytes::BytesMut::with_capacity(PIECE);
                match file.read_buf(&mut piece).await {
                    Ok(read @ 1..) if sender.send(piece.freeze()).await.is_ok() => {
                        left = left.saturating_sub(read as u64);
                    }
                    // The body ends short of its announced length, which the client notices.
                    _ => return,
                }
            }
        });
        let mut response = Response::new(stream(pieces));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
        response.headers_mut().insert(CONTENT_LENGTH, size.into());
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_works_for_its_archive_until_it_expires() {
        let signer = Signer::random();
        let digest = CodeDigest([7; 32]);
        let signature = signer.sign(digest, 100);
        assert!(signer.accepts(digest, 100, &signature, 100));
        assert!(!signer.accepts(digest, 100, &signature, 101));
        assert!(!signer.accepts(digest, 101, &signature, 100));
        assert!(!signer.accepts(CodeDigest([8; 32]), 100, &signature, 100));
        assert!(!signer.accepts(digest, 100, &signature[..63], 100));
        assert!(!signer.accepts(digest, 100, "", 100));
        assert!(!Signer::random().accepts(digest, 100, &signature, 100));
    }

    #[test]
    fn the_signature_is_hmac_sha256() {
        // From Python: hmac.new(bytes(range(32)), ("00" * 32 + "\n5").encode(), "sha256").hexdigest()
        let signer = Signer { key: std::array::from_fn(|i| u8::try_from(i).unwrap()) };
        assert_eq!(
            signer.sign(CodeDigest([0; 32]), 5),
            "0ecdad3199c35585fa7da5f67287a1eb943377817cf24a47cfad440d5b246f45"
        );
    }
}
