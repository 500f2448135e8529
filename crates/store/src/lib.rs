//! What must survive: functions with their configuration, code references and tags, their versions, aliases
//! and what is provisioned for them; and documents that the API keeps whole.
//!
//! One trait, [`Store`], with one test suite that every implementation passes. Events, and what is configured of them,
//! have a trait of their own, [`EventStore`]: they come by the thousand and go again.
//! Soft state (instances, leases) is never kept here: it is rebuilt from the workers.

mod documents;
mod events;
mod layers;
mod record;
mod sqlite;

pub use documents::{Document, DocumentId, Documents, Expect};
pub use events::{
    EventContext, EventHead, EventRecord, EventStore, Expected, NewEvent, Setting, SettingKind, Target,
};
pub use layers::{LayerAbout, LayerFilter, LayerRef, LayerVersion, Layers};
pub use record::{
    AliasRecord, Change, CodeRef, FunctionConfig, FunctionRecord, LastUpdate, LoggingConfig, NewFunction,
    NewVersion, ProvisionedRecord, Served, State, StateReason, UpdateStatus, UrlRecord, Usage, VersionRecord,
};
pub use sqlite::{GroupCommit, OpenError, SqliteEvents, SqliteStore};

use std::future::Future;
use std::pin::Pin;

use hearth_types::{AccountId, CodeDigest, FunctionId, Version};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A function of that name exists.
    #[error("function {0} exists")]
    Exists(FunctionId),
    /// No function of that name exists.
    #[error("function {0} does not exist")]
    NotFound(FunctionId),
    /// The record was changed since it was read.
    #[error("function {0} was changed by somebody else")]
    Conflict(FunctionId),
    /// The disk is full.
    #[error("the disk that holds the store is full")]
    DiskFull,
    /// The store itself failed.
    #[error("the store failed: {context}")]
    Broken {
        /// What was being done.
        context: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The durable part of Hearth. What a call has answered `Ok` survives a crash at any later moment.
pub trait Store: Documents + Layers {
    /// Keeps a new function: state Pending and last update InProgress, both because it is being created; a fresh
    /// revision.
    ///
    /// # Errors
    /// [`StoreError::Exists`], or the store failed.
    fn create_function(&self, new: NewFunction) -> BoxFuture<'_, Result<FunctionRecord, StoreError>>;

    /// A function's record, if it exists.
    ///
    /// # Errors
    /// The store failed.
    fn function<'a>(
        &'a self,
        id: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<FunctionRecord>, StoreError>>;

    /// At most `limit` functions of an account in order of their names, those after `after`.
    ///
    /// # Errors
    /// The store failed.
    fn list_functions<'a>(
        &'a self,
        account: &'a AccountId,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<FunctionRecord>, StoreError>>;

    /// Functions of all accounts that are Pending or whose last update is InProgress: work to take up again at start.
    ///
    /// # Errors
    /// The store failed.
    fn unfinished_functions(&self) -> BoxFuture<'_, Result<Vec<FunctionRecord>, StoreError>>;

    /// Replaces a record if its `generation` is still that of `record`; answers what is now kept, with the next
    /// generation, a fresh `revision_id`, and a fresh `revision` if `change` replaces instances.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], or the store failed.
    fn update_function(
        &self,
        record: FunctionRecord,
        change: Change,
    ) -> BoxFuture<'_, Result<FunctionRecord, StoreError>>;

    /// Removes a function with its versions, aliases and provisioned concurrency; answers the number of its newest revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the store failed.
    fn delete_function<'a>(&'a self, id: &'a FunctionId) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// How many functions an account has, how much code, and how much concurrency is reserved.
    ///
    /// # Errors
    /// The store failed.
    fn usage<'a>(&'a self, account: &'a AccountId) -> BoxFuture<'a, Result<Usage, StoreError>>;

    /// Every archive that some function, version or layer refers to; all others may be removed.
    ///
    /// # Errors
    /// The store failed.
    fn code_in_use(&self) -> BoxFuture<'_, Result<Vec<CodeDigest>, StoreError>>;

    /// Every function with reserved concurrency, of all accounts, and how much.
    ///
    /// # Errors
    /// The store failed.
    fn reservations(&self) -> BoxFuture<'_, Result<Vec<(FunctionId, u32)>, StoreError>>;

    /// Every function with a tag of that key, of all accounts.
    ///
    /// # Errors
    /// The store failed.
    fn tagged_functions(&self, key: &'static str) -> BoxFuture<'_, Result<Vec<FunctionRecord>, StoreError>>;

    /// Every version that is Pending, of all accounts.
    ///
    /// # Errors
    /// The store failed.
    fn unfinished_versions(&self) -> BoxFuture<'_, Result<Vec<VersionRecord>, StoreError>>;

    /// Keeps a new version of a function, in the state that the function is in, or Pending if it asks for that; or, if the function's code and
    /// configuration are what they were when its last version was published, answers that one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] if the function was changed since it was read, or the store
    /// failed.
    fn publish_version(&self, new: NewVersion) -> BoxFuture<'_, Result<VersionRecord, StoreError>>;

    /// Notes for the Pending versions of a function that were published from `revision` whether they can run.
    ///
    /// # Errors
    /// The store failed.
    fn settle_versions<'a>(
        &'a self,
        function: &'a FunctionId,
        revision: u64,
        state: State,
        reason: Option<StateReason>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// A version, if it exists.
    ///
    /// # Errors
    /// The store failed.
    fn version<'a>(
        &'a self,
        function: &'a FunctionId,
        number: u64,
    ) -> BoxFuture<'a, Result<Option<VersionRecord>, StoreError>>;

    /// At most `limit` versions of a function in order of their numbers, those after `after`.
    ///
    /// # Errors
    /// The store failed.
    fn list_versions<'a>(
        &'a self,
        function: &'a FunctionId,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<VersionRecord>, StoreError>>;

    /// Removes a version, and what is provisioned for it; answers whether it was there.
    ///
    /// # Errors
    /// The store failed; so it does while an alias means that version.
    fn delete_version<'a>(
        &'a self,
        function: &'a FunctionId,
        number: u64,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Keeps an alias with a fresh `revision_id`, instead of the one of its name whose `revision_id` is that of
    /// `record`, or as a new one if that is empty. Nothing if that one is not there, or a new one's name is taken.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the function or a version that the alias means does not exist, or the store failed.
    fn put_alias(&self, record: AliasRecord) -> BoxFuture<'_, Result<Option<AliasRecord>, StoreError>>;

    /// An alias, if it exists.
    ///
    /// # Errors
    /// The store failed.
    fn alias<'a>(
        &'a self,
        function: &'a FunctionId,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<AliasRecord>, StoreError>>;

    /// At most `limit` aliases of a function in order of their names, those after `after`; only those that mean
    /// `version`, alone or with another, if it is given.
    ///
    /// # Errors
    /// The store failed.
    fn list_aliases<'a>(
        &'a self,
        function: &'a FunctionId,
        version: Option<Version>,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<AliasRecord>, StoreError>>;

    /// Removes an alias, and what is provisioned for it; answers whether it was there.
    ///
    /// # Errors
    /// The store failed.
    fn delete_alias<'a>(
        &'a self,
        function: &'a FunctionId,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Keeps how much is provisioned for a qualifier, instead of what was kept before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the function does not exist, or the store failed.
    fn put_provisioned(&self, record: ProvisionedRecord) -> BoxFuture<'_, Result<(), StoreError>>;

    /// All that is provisioned for a function, in order of the qualifiers.
    ///
    /// # Errors
    /// The store failed.
    fn provisioned<'a>(
        &'a self,
        function: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Vec<ProvisionedRecord>, StoreError>>;

    /// Ends what is provisioned for a qualifier; answers whether anything was.
    ///
    /// # Errors
    /// The store failed.
    fn delete_provisioned<'a>(
        &'a self,
        function: &'a FunctionId,
        qualifier: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Keeps a function URL, instead of the one that its qualifier had.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the function does not exist, or the store failed.
    fn put_url(&self, record: UrlRecord) -> BoxFuture<'_, Result<(), StoreError>>;

    /// All URLs of a function, in order of their qualifiers.
    ///
    /// # Errors
    /// The store failed.
    fn urls<'a>(&'a self, function: &'a FunctionId) -> BoxFuture<'a, Result<Vec<UrlRecord>, StoreError>>;

    /// Every function URL, of all accounts.
    ///
    /// # Errors
    /// The store failed.
    fn all_urls(&self) -> BoxFuture<'_, Result<Vec<UrlRecord>, StoreError>>;

    /// Ends a function URL; answers whether there was one.
    ///
    /// # Errors
    /// The store failed.
    fn delete_url<'a>(
        &'a self,
        function: &'a FunctionId,
        qualifier: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Every function for which something is provisioned, of all accounts.
    ///
    /// # Errors
    /// The store failed.
    fn provisioned_functions(&self) -> BoxFuture<'_, Result<Vec<FunctionId>, StoreError>>;
}
