//! Who may call: access keys, signatures of requests, and what a key allows.
//!
//! A request is signed by AWS's Signature Version 4, in its headers or its query. Whoever checks one must hold the key's secret
//! itself, not a hash of it: so secrets are sealed where they are kept, and opened in memory. No I/O and no clock is here; `random`
//! alone asks the system for numbers.
//!
//! | module | what it knows |
//! |---|---|
//! | `asked`, `canonical` | a request as it is signed |
//! | `claim` | what a request says of who signed it, and whether that is true |
//! | `sign` | signatures, for both sides |
//! | `grant` | what a key allows, by patterns |
//! | `seal` | secrets that are kept, sealed |
//! | `session` | credentials for a while, as STS gives them |
//! | `failures` | how often an address may be wrong |
//!
//! Canonical requests are built here and not by AWS's crate `aws-sigv4`: that one decides itself which headers a new request signs, and
//! how its path and query are written; who verifies must take what the sender signed. It is what this crate is tested against.

mod asked;
mod canonical;
mod claim;
mod failures;
mod grant;
mod random;
mod refusal;
mod seal;
mod session;
mod sign;

pub use asked::Asked;
pub use canonical::is_normal;
pub use claim::{Claim, Payload};
pub use failures::Failures;
pub use grant::{Grant, GrantError, like};
pub use random::{key_id, secret, session_key_id};
pub use refusal::Refusal;
pub use seal::Sealer;
pub use session::Session;
pub use sign::{Credentials, Hash, Scope, SigningKey, same, sign};
