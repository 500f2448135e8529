//! Why a signature is not taken, in AWS's words.

/// Why a request is not taken for its signer's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not signed.
    #[error("Missing Authentication Token")]
    Missing,
    /// What it says of its signature is not whole.
    #[error("{0}")]
    Incomplete(String),
    /// It says something that cannot be, or that is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// The key is none, or may not be used.
    #[error("The security token included in the request is invalid.")]
    Unrecognized,
    /// The key, or the credentials for a while, are no longer good.
    #[error("The security token included in the request is expired")]
    Expired,
    /// The signature is another one.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
         signing method. Consult the service documentation for details."
    )]
    Mismatch,
    /// It is signed in a way that is not known here.
    #[error(
        "Hearth does not take {0}: sign with AWS4-HMAC-SHA256 and the hash of the whole payload, as clients of Lambda do"
    )]
    Unsupported(&'static str),
}

impl Refusal {
    /// AWS's name for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::Invalid(_) | Self::Mismatch => "InvalidSignatureException",
            Self::Unrecognized => "UnrecognizedClientException",
            Self::Expired => "ExpiredTokenException",
            Self::Unsupported(_) => "UnsupportedSignatureException",
        }
    }
}
