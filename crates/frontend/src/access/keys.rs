//! The keys: all in memory, for every request asks, and each a document in the store with its secret sealed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hearth_keys::{Grant, Scope, Sealer, SigningKey};
use hearth_store::{Document, DocumentId, Expect, Store, StoreError};
use serde::{Deserialize, Serialize};

/// The kind of the documents that hold keys.
const KIND: &str = "access-key";
/// Keys that there may be.
const MOST: usize = 10_000;
/// Scopes whose signing keys are remembered, of each key.
const SCOPES: usize = 4;

/// A key that is ready to be used.
pub(super) struct LiveKey {
    pub(super) id: String,
    pub(super) grant: Grant,
    pub(super) secret: String,
    /// Signing keys that were right lately; those of a day, a region and a service.
    derived: Mutex<Vec<(Scope, SigningKey)>>,
}

/// A key as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    grant: Grant,
    sealed: String,
}

/// Why a key is not made or changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("there are {MOST} keys, which is the most that there may be")]
    TooMany,
    #[error("the system has no random numbers")]
    NoRandom,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl std::fmt::Debug for LiveKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveKey").field("id", &self.id).field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl LiveKey {
    fn new(id: String, grant: Grant, secret: String) -> Arc<Self> {
        Arc::new(Self { id, grant, secret, derived: Mutex::default() })
    }

    /// The key that signs requests of a scope.
    pub(super) fn signing_key(&self, scope: &Scope) -> SigningKey {
        let derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        let known = derived.iter().find(|(known, _)| known == scope).map(|(_, key)| key.clone());
        drop(derived);
        known.unwrap_or_else(|| SigningKey::derive(&self.secret, scope))
    }

    /// Remembers one that was right. What a stranger says is never remembered.
    pub(super) fn remember(&self, scope: &Scope, key: &SigningKey) {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if derived.iter().all(|(known, _)| known != scope) {
            if derived.len() == SCOPES {
                derived.remove(0);
            }
            derived.push((scope.clone(), key.clone()));
        }
    }
}

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_id: RwLock<HashMap<String, Arc<LiveKey>>>,
    /// Held while they change, in the store and here.
    changing: tokio::sync::Mutex<()>,
}

impl Keys {
    /// Reads all that are kept, and answers how many.
    pub(super) async fn load(&self, store: &dyn Store, sealer: &Sealer) -> Result<usize, StoreError> {
        let mut found = HashMap::new();
        for document in store.all_documents(KIND).await? {
            let key = open(&document, sealer).ok_or_else(|| StoreError::Broken {
                context: format!("open the secret of access key {}", document.id.name),
                source: "it was sealed with another key than the one there is: restore that file, or start with --seal-key FILE"
                    .into(),
            })?;
            found.insert(key.id.clone(), key);
        }
        let count = found.len();
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(count)
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<LiveKey>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All of them, in order of when they were made.
    pub(super) fn all(&self) -> Vec<Arc<LiveKey>> {
        let mut all: Vec<_> =
            self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.sort_by(|a, b| (a.grant.created_ms, &a.id).cmp(&(b.grant.created_ms, &b.id)));
        all
    }

    /// Makes one.
    pub(super) async fn create(
        &self,
        store: &dyn Store,
        sealer: &Sealer,
        grant: Grant,
    ) -> Result<Arc<LiveKey>, KeyError> {
        let _changing = self.changing.lock().await;
        if self.by_id.read().unwrap_or_else(PoisonError::into_inner).len() >= MOST {
            return Err(KeyError::TooMany);
        }
        let id = hearth_keys::key_id().ok_or(KeyError::NoRandom)?;
        let secret = hearth_keys::secret().ok_or(KeyError::NoRandom)?;
        let key = LiveKey::new(id, grant, secret);
        self.keep(store, sealer, &key, Expect::Nothing).await?;
        Ok(key)
    }

    /// Switches one on or off; nothing if it is not there.
    pub(super) async fn disable(
        &self,
        store: &dyn Store,
        sealer: &Sealer,
        (id, disabled): (&str, bool),
    ) -> Result<Option<Arc<LiveKey>>, KeyError> {
        let _changing = self.changing.lock().await;
        let Some(key) = self.get(id) else { return Ok(None) };
        let grant = Grant { disabled, ..key.grant.clone() };
        let key = LiveKey::new(key.id.clone(), grant, key.secret.clone());
        self.keep(store, sealer, &key, Expect::Anything).await?;
        Ok(Some(key))
    }

    /// Removes one; false if it is not there.
    pub(super) async fn remove(&self, store: &dyn Store, id: &str) -> Result<bool, KeyError> {
        let _changing = self.changing.lock().await;
        let Some(key) = self.get(id) else { return Ok(false) };
        store.delete_document(&document_id(&key), Expect::Anything).await?;
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(true)
    }

    async fn keep(
        &self,
        store: &dyn Store,
        sealer: &Sealer,
        key: &Arc<LiveKey>,
        expect: Expect<'_>,
    ) -> Result<(), KeyError> {
        let sealed = sealer.seal(&place(&key.id), &key.secret).ok_or(KeyError::NoRandom)?;
        let kept = Kept { grant: key.grant.clone(), sealed: STANDARD.encode(sealed) };
        let body = serde_json::to_string(&kept).map_err(|error| StoreError::Broken {
            context: "write a key".to_owned(),
            source: error.into(),
        })?;
        let document = Document { id: document_id(key), function: None, body, revision_id: String::new() };
        store.put_document(document, expect).await?;
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(key.id.clone(), Arc::clone(key));
        Ok(())
    }
}

fn document_id(key: &LiveKey) -> DocumentId {
    DocumentId { account: key.grant.account.clone(), kind: KIND, name: key.id.as_str().into() }
}

/// Where a key's secret is opened, and no other's.
fn place(id: &str) -> String {
    format!("access key {id}")
}

fn open(document: &Document, sealer: &Sealer) -> Option<Arc<LiveKey>> {
    let kept: Kept = serde_json::from_str(&document.body).ok()?;
    let id = document.id.name.to_string();
    let secret = sealer.open(&place(&id), &STANDARD.decode(kept.sealed).ok()?)?;
    Some(LiveKey::new(id, kept.grant, secret))
}
