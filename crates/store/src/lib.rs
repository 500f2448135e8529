//! What must survive: functions with their configuration, code references and tags.
//!
//! One trait, [`Store`], with one test suite that every implementation passes.
//! Soft state (instances, leases) is never kept here: it is rebuilt from the workers.

mod record;
mod sqlite;

pub use record::{
    Change, CodeRef, FunctionConfig, FunctionRecord, LastUpdate, LoggingConfig, NewFunction, State,
    StateReason, UpdateStatus, Usage,
};
pub use sqlite::{OpenError, SqliteStore};

use std::future::Future;
use std::pin::Pin;

use hearth_types::{AccountId, CodeDigest, FunctionId};

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
pub trait Store: Send + Sync + 'static {
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

    /// Removes a function.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the store failed.
    fn delete_function<'a>(&'a self, id: &'a FunctionId) -> BoxFuture<'a, Result<(), StoreError>>;

    /// How many functions an account has, how much code, and how much concurrency is reserved.
    ///
    /// # Errors
    /// The store failed.
    fn usage<'a>(&'a self, account: &'a AccountId) -> BoxFuture<'a, Result<Usage, StoreError>>;

    /// Every archive that some function refers to; all others may be removed.
    ///
    /// # Errors
    /// The store failed.
    fn code_in_use(&self) -> BoxFuture<'_, Result<Vec<CodeDigest>, StoreError>>;
}
