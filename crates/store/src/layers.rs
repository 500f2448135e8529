//! Layers: numbered versions of archives that functions have in `/opt`.

use std::sync::Arc;

use hearth_types::{AccountId, CodeDigest};
use serde::{Deserialize, Serialize};

use crate::{BoxFuture, CodeRef, StoreError};

/// A version of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerVersion {
    /// Whose it is.
    pub account: AccountId,
    /// The layer's name.
    pub layer: Arc<str>,
    /// Its number; never given out again, even when all versions are deleted. What is to be published has none yet.
    pub number: u64,
    /// Its archive.
    pub code: CodeRef,
    /// Size of what is in it, bytes.
    pub unzipped: u64,
    /// What else the API shows of it.
    pub about: LayerAbout,
    /// `CreatedDate`, milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// What a version of a layer says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerAbout {
    /// `Description`.
    pub description: String,
    /// `LicenseInfo`.
    pub license: Option<String>,
    /// `CompatibleRuntimes`.
    pub runtimes: Vec<String>,
    /// `CompatibleArchitectures`.
    pub architectures: Vec<String>,
}

/// A layer as a function has it: all that it needs even when the version is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// The version's ARN.
    pub arn: String,
    /// SHA-256 of its archive, in hexadecimal digits.
    digest: String,
    /// Size of the archive, bytes.
    pub size: u64,
}

impl LayerRef {
    /// A version of a layer, by the ARN that it has.
    #[must_use]
    pub fn new(arn: String, code: CodeRef) -> Self {
        Self { arn, digest: code.digest.to_string(), size: code.size }
    }

    /// SHA-256 of its archive; nothing if what is kept is damaged.
    #[must_use]
    pub fn digest(&self) -> Option<CodeDigest> {
        self.digest.parse().ok()
    }
}

/// Which versions are wanted: all, or those that say they are for a runtime or an architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerFilter {
    /// `CompatibleRuntime`.
    pub runtime: Option<String>,
    /// `CompatibleArchitecture`.
    pub architecture: Option<String>,
}

/// The layers of a store.
pub trait Layers: Send + Sync + 'static {
    /// Keeps a new version of a layer, and answers it with its number.
    ///
    /// # Errors
    /// The store failed.
    fn publish_layer(&self, version: LayerVersion) -> BoxFuture<'_, Result<LayerVersion, StoreError>>;

    /// A version of a layer, if it exists.
    ///
    /// # Errors
    /// The store failed.
    fn layer_version<'a>(
        &'a self,
        account: &'a AccountId,
        layer: &'a str,
        number: u64,
    ) -> BoxFuture<'a, Result<Option<LayerVersion>, StoreError>>;

    /// At most `limit` versions of a layer, the newest first, those before number `before`.
    ///
    /// # Errors
    /// The store failed.
    fn list_layer_versions<'a>(
        &'a self,
        account: &'a AccountId,
        layer: &'a str,
        before: u64,
        filter: LayerFilter,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LayerVersion>, StoreError>>;

    /// The newest version of each of at most `limit` layers of an account, in order of their names, those after `after`.
    ///
    /// # Errors
    /// The store failed.
    fn list_layers<'a>(
        &'a self,
        account: &'a AccountId,
        after: &'a str,
        filter: LayerFilter,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LayerVersion>, StoreError>>;

    /// Removes a version of a layer; answers whether it was there. Its archive stays in use while functions have it.
    ///
    /// # Errors
    /// The store failed.
    fn delete_layer_version<'a>(
        &'a self,
        account: &'a AccountId,
        layer: &'a str,
        number: u64,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;
}
