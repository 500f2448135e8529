//! Documents: what the API is given, keeps whole and gives back, without the store knowing what is in it.
//!
//! A role, a policy, a setting of a function that no other part of Hearth reads: each is a text with a kind and a name,
//! in an account. One that belongs to a function goes with it.

use std::sync::Arc;

use hearth_types::AccountId;

use crate::{BoxFuture, StoreError};

/// What a document is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentId {
    /// Whose it is.
    pub account: AccountId,
    /// What it is: `role`, `policy`, ...
    pub kind: &'static str,
    /// Its name, unique among those of its kind in the account.
    pub name: Arc<str>,
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is called.
    pub id: DocumentId,
    /// The function of the account that it goes with, if any.
    pub function: Option<Arc<str>>,
    /// What it says.
    pub body: String,
    /// A UUID, new with every write.
    pub revision_id: String,
}

/// What must be kept for a document to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect<'a> {
    /// Whatever is.
    Anything,
    /// Nothing of that name.
    Nothing,
    /// The document with this `revision_id`.
    Revision(&'a str),
}

/// The documents of a store.
pub trait Documents: Send + Sync + 'static {
    /// Keeps a document with a fresh `revision_id`, and answers it; nothing if what is kept is not what is expected.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the function that it goes with does not exist, or the store failed.
    fn put_document<'a>(
        &'a self,
        document: Document,
        expect: Expect<'a>,
    ) -> BoxFuture<'a, Result<Option<Document>, StoreError>>;

    /// A document, if it exists.
    ///
    /// # Errors
    /// The store failed.
    fn document<'a>(&'a self, id: &'a DocumentId) -> BoxFuture<'a, Result<Option<Document>, StoreError>>;

    /// At most `limit` documents of a kind in order of their names, those after `after`.
    ///
    /// # Errors
    /// The store failed.
    fn list_documents<'a>(
        &'a self,
        account: &'a AccountId,
        kind: &'static str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>>;

    /// Every document of a kind, of all accounts: of what is kept in memory, and has its number bounded by who writes it.
    ///
    /// # Errors
    /// The store failed.
    fn all_documents(&self, kind: &'static str) -> BoxFuture<'_, Result<Vec<Document>, StoreError>>;

    /// Removes a document if what is kept is what is expected; answers whether it was there and is gone.
    ///
    /// # Errors
    /// The store failed.
    fn delete_document<'a>(
        &'a self,
        id: &'a DocumentId,
        expect: Expect<'a>,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;
}
