//! What a function is to the parts that run it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{AccountId, Egress, HttpService, Isolation, Logging, Runtime};

/// A function of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId {
    /// Who owns it.
    pub account: AccountId,
    /// Its name, unique in the account, at most 64 characters.
    pub name: Arc<str>,
}

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.name)
    }
}

/// A version of a function: the mutable `$LATEST`, or a published number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// `$LATEST`.
    Latest,
    /// A published, immutable version; counts from 1.
    Published(u64),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("$LATEST"),
            Self::Published(number) => number.fmt(f),
        }
    }
}

/// One version of one function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId {
    /// The function.
    pub function: FunctionId,
    /// Which version of it.
    pub version: Version,
}

/// A state of a version's code and configuration. `$LATEST` gets a new revision with every change; instances
/// of an older revision take no more requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevisionId {
    /// The version.
    pub version: VersionId,
    /// Counts up with every change of the function, and never repeats for an account and name, even when the
    /// function is deleted and made again.
    pub number: u64,
}

/// The image that a function is, and how it is started otherwise than its maker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// Where it was, as its owner said.
    pub uri: String,
    /// The same place with the digest of the manifest that it meant.
    pub resolved: String,
    /// Instead of the image's entry point.
    pub entry_point: Option<Vec<String>>,
    /// Instead of the image's command.
    pub command: Option<Vec<String>>,
    /// Instead of the image's working directory.
    pub working_directory: Option<String>,
}

/// The SHA-256 of a zip archive or layer: what its stored form is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodeDigest(pub [u8; 32]);

impl fmt::Display for CodeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CodeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeDigest({self})")
    }
}

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a code digest is 64 lower-case hexadecimal digits")]
pub struct InvalidDigest;

impl FromStr for CodeDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(InvalidDigest),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(InvalidDigest) };
        let mut digest = [0; 32];
        if pairs.len() != digest.len() {
            return Err(InvalidDigest);
        }
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(digest))
    }
}

/// How many requests one instance takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// From here on the manager prefers another or a new instance.
    pub soft: u32,
    /// Never passed.
    pub hard: u32,
    /// Whether the manager lowers the limit of an instance that slows down under load; it moves between 1 and `hard`.
    pub adaptive: bool,
}

impl Concurrency {
    /// Limits that only the load moves an instance away from.
    #[must_use]
    pub const fn new(soft: u32, hard: u32) -> Self {
        Self { soft, hard, adaptive: true }
    }
}

impl Default for Concurrency {
    /// One request an instance, as in Lambda.
    fn default() -> Self {
        Self::new(1, 1)
    }
}

/// How requests of a function wait when no instance has a slot for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// How long a request waits while no instance is on its way for it. An instance that starts is waited for as long
    /// as its start may take.
    pub wait: Duration,
    /// Most requests of one revision that wait while no instance is on its way for them.
    pub depth: u32,
}

impl Default for Queue {
    /// Two seconds, and as many as an account may have in flight.
    fn default() -> Self {
        Self { wait: Duration::from_secs(2), depth: crate::limits::ACCOUNT_CONCURRENCY }
    }
}

/// How long an instance without a request is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeepAlive {
    /// For the idle timeout.
    Fixed,
    /// As long as the function's own idle times say is worth it; for the idle timeout until they say anything.
    Learned,
}

/// Everything that manager, placement and worker need to know of one revision of a function in order to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSpec {
    /// Which function, version and revision this describes.
    pub revision: RevisionId,
    /// The qualified or unqualified ARN, without qualifier.
    pub arn: String,
    /// AWS region that the function believes it is in.
    pub region: String,
    /// Kind of program.
    pub runtime: Runtime,
    /// Handler, as the runtime's client understands it.
    pub handler: String,
    /// The zip archive with the code, or the manifest of the image.
    pub code: CodeDigest,
    /// The archives that are laid over each other in `/opt`, the last on top.
    pub layers: Vec<CodeDigest>,
    /// The image, if it is one.
    pub image: Option<ImageSource>,
    /// Memory of an instance, MiB; the CPU share follows from it.
    pub memory_mb: u32,
    /// Time for one invocation.
    pub timeout: Duration,
    /// Size of `/tmp`, MiB.
    pub ephemeral_mb: u32,
    /// The user's environment variables.
    pub environment: BTreeMap<String, String>,
    /// Driver it must run on; `None` for whichever its worker has.
    pub isolation: Option<Isolation>,
    /// Where its instances may connect to.
    pub egress: Egress,
    /// Requests at once in one instance.
    pub concurrency: Concurrency,
    /// Time an instance may sit idle before it ends.
    pub idle_timeout: Duration,
    /// Whether the manager may find a better time than that.
    pub keep_alive: KeepAlive,
    /// How it is spoken to, if it is a server of its own.
    pub http: Option<HttpService>,
    /// How requests wait for a slot.
    pub queue: Queue,
    /// Whether instances are made from a snapshot that was taken after the init phase (`SnapStart`), where the driver can.
    pub snap_start: bool,
    /// Whether each of its instances serves one tenant and no other (`TenancyConfig`).
    pub per_tenant: bool,
    /// How its log is written.
    pub logging: Logging,
    /// Requests at once over all instances, if the function has a limit of its own; zero switches it off.
    pub reserved_concurrency: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_the_trip_through_its_text() {
        let digest = CodeDigest(std::array::from_fn(|i| u8::try_from(i * 7 % 256).unwrap()));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for wrong in ["", "00", &"0".repeat(63), &"0".repeat(65), &"G".repeat(64), &"A".repeat(64)] {
            assert_eq!(wrong.parse::<CodeDigest>(), Err(InvalidDigest));
        }
    }
}
