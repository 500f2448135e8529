//! Roles as they are kept: a document each.

use std::collections::BTreeMap;

use hearth_store::{Document, DocumentId, Expect};
use hearth_types::AccountId;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::query::Fault;
use crate::Backend;
use crate::core::Core;
use crate::render::iso;

/// The kind of their documents.
const KIND: &str = "role";
/// Times a change is tried again because somebody else changed the role in between.
const ATTEMPTS: usize = 16;

/// What is kept of a role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) id: String,
    pub(super) created_ms: u64,
    pub(super) trust: String,
    pub(super) description: Option<String>,
    pub(super) session_seconds: u32,
    pub(super) tags: BTreeMap<String, String>,
    /// ARNs of policies.
    pub(super) attached: Vec<String>,
    /// Names and texts of policies that are only this role's.
    pub(super) inline: BTreeMap<String, String>,
}

impl Role {
    pub(super) fn arn(&self, account: &AccountId) -> String {
        format!("arn:aws:iam::{account}:role{}{}", self.path, self.name)
    }

    /// `Role` of the API.
    pub(super) fn shown(&self, account: &AccountId) -> Value {
        json!({
            "Path": self.path,
            "RoleName": self.name,
            "RoleId": self.id,
            "Arn": self.arn(account),
            "CreateDate": iso(self.created_ms),
            "AssumeRolePolicyDocument": percent_encode(&self.trust),
            "Description": self.description,
            "MaxSessionDuration": self.session_seconds,
            "Tags": self.shown_tags(),
            "RoleLastUsed": {},
        })
    }

    pub(super) fn shown_tags(&self) -> Value {
        self.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
    }
}

/// As IAM gives back the texts of policies.
pub(super) fn percent_encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// That there is no role of a name.
pub(super) fn no_such(name: &str) -> Fault {
    let text = format!("The role with name {name} cannot be found.");
    Fault::new(StatusCode::NOT_FOUND, "NoSuchEntity", text)
}

fn failed(error: &hearth_store::StoreError) -> Fault {
    tracing::error!(%error, "a role cannot be read or kept");
    let text = "Hearth's store failed; its log says why";
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "ServiceFailure", text)
}

fn document_id(account: &AccountId, name: &str) -> DocumentId {
    DocumentId { account: account.clone(), kind: KIND, name: name.into() }
}

fn read(document: &Document) -> Result<Role, Fault> {
    serde_json::from_str(&document.body).map_err(|error| {
        tracing::error!(%error, role = %document.id.name, "a role is kept in a form that is not known");
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "ServiceFailure", "The role cannot be read")
    })
}

impl<B: Backend> Core<B> {
    pub(super) async fn role(&self, account: &AccountId, name: &str) -> Result<Role, Fault> {
        let found = self.store.document(&document_id(account, name)).await;
        read(&found.map_err(|error| failed(&error))?.ok_or_else(|| no_such(name))?)
    }

    /// At most `limit` roles, those after `after`.
    pub(super) async fn roles(
        &self,
        account: &AccountId,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Role>, Fault> {
        let found = self.store.list_documents(account, KIND, after, limit).await;
        found.map_err(|error| failed(&error))?.iter().map(read).collect()
    }

    pub(super) async fn keep_role(&self, account: &AccountId, role: &Role) -> Result<(), Fault> {
        match self.write_role(account, role, Expect::Nothing).await? {
            true => Ok(()),
            false => {
                let text = format!("Role with name {} already exists.", role.name);
                Err(Fault::new(StatusCode::CONFLICT, "EntityAlreadyExists", text))
            }
        }
    }

    /// Changes a role, again if somebody else was faster.
    pub(super) async fn change_role<F>(
        &self,
        account: &AccountId,
        name: &str,
        mut edit: F,
    ) -> Result<Role, Fault>
    where
        F: FnMut(&mut Role) -> Result<(), Fault> + Send,
    {
        for _ in 0..ATTEMPTS {
            let found = self.store.document(&document_id(account, name)).await;
            let document = found.map_err(|error| failed(&error))?.ok_or_else(|| no_such(name))?;
            let mut role = read(&document)?;
            edit(&mut role)?;
            if self.write_role(account, &role, Expect::Revision(&document.revision_id)).await? {
                return Ok(role);
            }
        }
        let text = "The role was changed by other requests in the meantime; try again";
        Err(Fault::new(StatusCode::CONFLICT, "ConcurrentModification", text))
    }

    pub(super) async fn remove_role(&self, account: &AccountId, name: &str) -> Result<(), Fault> {
        let removed = self.store.delete_document(&document_id(account, name), Expect::Anything).await;
        match removed.map_err(|error| failed(&error))? {
            true => Ok(()),
            false => Err(no_such(name)),
        }
    }

    async fn write_role(&self, account: &AccountId, role: &Role, expect: Expect<'_>) -> Result<bool, Fault> {
        let body = serde_json::to_string(role).map_err(|error| {
            Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "ServiceFailure", error.to_string())
        })?;
        let id = document_id(account, &role.name);
        let document = Document { id, function: None, body, revision_id: String::new() };
        let kept = self.store.put_document(document, expect).await;
        Ok(kept.map_err(|error| failed(&error))?.is_some())
    }
}
