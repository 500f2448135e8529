//! What is kept of a function.

use std::collections::BTreeMap;

use hearth_types::{CodeDigest, FunctionId, ImageSource, Version};
use serde::{Deserialize, Serialize};

use crate::LayerRef;

/// What a caller may configure of a function, in the words of Lambda's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionConfig {
    /// `Description`.
    pub description: String,
    /// `Role`, an ARN; kept and given back, not used.
    pub role: String,
    /// The image, if `PackageType` is `Image`; such a function has neither runtime nor handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// `Runtime`, an identifier that the API's model knows; whether Hearth runs it is decided when it is prepared.
    pub runtime: String,
    /// `Handler`.
    pub handler: String,
    /// `MemorySize`, MiB.
    pub memory_mb: u32,
    /// `Timeout`, seconds.
    pub timeout_seconds: u32,
    /// `EphemeralStorage.Size`, MiB.
    pub ephemeral_mb: u32,
    /// `Environment.Variables`; `None` if never given.
    pub environment: Option<BTreeMap<String, String>>,
    /// `Architectures`.
    pub architecture: String,
    /// `TracingConfig.Mode`.
    pub tracing_mode: String,
    /// `LoggingConfig`.
    pub logging: LoggingConfig,
    /// `Layers`, in the order that they are laid over each other.
    #[serde(default)]
    pub layers: Vec<LayerRef>,
    /// Settings that Hearth keeps and gives back without acting on them (`VpcConfig`, `DeadLetterConfig`, `KMSKeyArn`, ...),
    /// by their name in the API, as JSON text.
    pub passive: BTreeMap<String, String>,
}

/// `LoggingConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggingConfig {
    /// `LogFormat`: `Text` or `JSON`.
    pub format: String,
    /// `LogGroup`.
    pub group: String,
    /// `ApplicationLogLevel`, JSON format only.
    pub application_level: Option<String>,
    /// `SystemLogLevel`, JSON format only.
    pub system_level: Option<String>,
}

/// The archive or image that a function's code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRef {
    /// SHA-256 of the archive, or of the image's manifest.
    pub digest: CodeDigest,
    /// Size of the archive, or of the image's layers as they came, bytes.
    pub size: u64,
}

/// `State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Accepted, not yet ready to run.
    Pending,
    /// Ready to run.
    Active,
    /// Cannot run.
    Failed,
}

/// `LastUpdateStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateStatus {
    /// Being prepared; the revision before it serves.
    InProgress,
    /// Serves.
    Successful,
    /// Cannot serve.
    Failed,
}

/// Why a state is what it is: a code of the API's list, and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReason {
    /// `StateReasonCode` or `LastUpdateStatusReasonCode`.
    pub code: String,
    /// `StateReason` or `LastUpdateStatusReason`.
    pub text: String,
}

/// What came of the last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUpdate {
    /// `LastUpdateStatus`.
    pub status: UpdateStatus,
    /// Set while InProgress and when Failed.
    pub reason: Option<StateReason>,
}

/// A function that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFunction {
    /// Its account and name.
    pub id: FunctionId,
    /// Its configuration.
    pub config: FunctionConfig,
    /// Its code, already stored.
    pub code: CodeRef,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Now, milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// A function as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRecord {
    /// Its account and name.
    pub id: FunctionId,
    /// Counts every write of this record; the token for compare-and-swap.
    pub generation: u64,
    /// Counts changes that replace instances, never repeats in a store.
    pub revision: u64,
    /// `RevisionId`: a UUID, new with every write.
    pub revision_id: String,
    /// Its configuration.
    pub config: FunctionConfig,
    /// Its code.
    pub code: CodeRef,
    /// Whether it can run.
    pub state: State,
    /// Set while Pending and when Failed.
    pub state_reason: Option<StateReason>,
    /// What came of the last change.
    pub last_update: LastUpdate,
    /// `LastModified`, milliseconds since the Unix epoch.
    pub modified_ms: u64,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Reserved concurrency, if any.
    pub reserved_concurrency: Option<u32>,
    /// What answers instead of the above, while that is being made ready and when it cannot be.
    pub serving: Option<Served>,
}

/// An earlier revision that still answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its `revision`.
    pub revision: u64,
    /// Its configuration.
    pub config: FunctionConfig,
    /// Its code.
    pub code: CodeRef,
}

/// A version that is to be published from a function's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVersion {
    /// The function as it was read.
    pub function: FunctionRecord,
    /// The version's own description, if not the function's.
    pub description: Option<String>,
    /// Whether it is Pending until [`crate::Store::settle_versions`] says otherwise, however ready the function is.
    pub pending: bool,
    /// Now, milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// A published version: what a function was at some moment, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRecord {
    /// Its function.
    pub function: FunctionId,
    /// Its number; never given out again, even when the function is deleted and made anew.
    pub number: u64,
    /// The revision of the function that it was published from.
    pub revision: u64,
    /// `RevisionId`, a UUID.
    pub revision_id: String,
    /// Its configuration.
    pub config: FunctionConfig,
    /// Its code.
    pub code: CodeRef,
    /// `LastModified`, milliseconds since the Unix epoch.
    pub modified_ms: u64,
    /// Whether it can run: what its revision's state is, Pending until that is known.
    pub state: State,
    /// Set while Pending and when Failed.
    pub state_reason: Option<StateReason>,
}

/// A name for a version of a function, or for two of which each gets a share of the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct AliasRecord {
    /// Its function.
    pub function: FunctionId,
    /// Its name.
    pub name: String,
    /// The version that it means.
    pub version: Version,
    /// Another version, and which part of the requests, from 0 to 1, goes to that.
    pub additional: Option<(u64, f64)>,
    /// `Description`.
    pub description: String,
    /// `RevisionId`: a UUID, new with every write.
    pub revision_id: String,
}

/// How many instances of a version, or of what an alias means, are kept ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionedRecord {
    /// The function.
    pub function: FunctionId,
    /// A version's number, or an alias.
    pub qualifier: String,
    /// Requests at once that they must be ready for.
    pub count: u32,
    /// `LastModified`, milliseconds since the Unix epoch.
    pub modified_ms: u64,
}

/// Where a function is reached over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlRecord {
    /// The function.
    pub function: FunctionId,
    /// An alias, or empty for `$LATEST`.
    pub qualifier: String,
    /// What its host name begins with; never given out again.
    pub url_id: String,
    /// Whether requests must be signed (`AuthType` `AWS_IAM`).
    pub signed: bool,
    /// Whether answers are streamed (`InvokeMode` `RESPONSE_STREAM`).
    pub streamed: bool,
    /// `Cors`, as JSON text.
    pub cors: Option<String>,
    /// `CreationTime`, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// `LastModifiedTime`, milliseconds since the Unix epoch.
    pub modified_ms: u64,
}

/// What an update is about, and so what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Code or configuration: instances of the revision before are replaced.
    Revision,
    /// State, tags, reserved concurrency: instances stay.
    Bookkeeping,
}

/// What an account uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Functions.
    pub functions: u64,
    /// Bytes of their archives and those of their versions.
    pub code_bytes: u64,
    /// Sum of reserved concurrency.
    pub reserved_concurrency: u64,
    /// Sum of provisioned concurrency over functions without reserved concurrency.
    pub provisioned_unreserved: u64,
}
