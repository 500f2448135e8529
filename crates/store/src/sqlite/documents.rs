//! Documents as rows.

use hearth_types::AccountId;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params};

use super::rows::{failed, fresh_id};
use crate::{BoxFuture, Document, DocumentId, Documents, Expect, SqliteStore, StoreError};

const SELECT: &str = "SELECT name, function, body, revision_id FROM document WHERE account = ? AND kind = ?";

const INSERT: &str = "INSERT INTO document (account, kind, name, function, body, revision_id) \
    VALUES (:account, :kind, :name, :function, :body, :revision_id) ON CONFLICT (account, kind, name) DO ";

/// [`Expect`] without a borrow, for the thread that does the work.
enum Expected {
    Anything,
    Nothing,
    Revision(String),
}

impl From<Expect<'_>> for Expected {
    fn from(expect: Expect<'_>) -> Self {
        match expect {
            Expect::Anything => Self::Anything,
            Expect::Nothing => Self::Nothing,
            Expect::Revision(id) => Self::Revision(id.to_owned()),
        }
    }
}

impl Documents for SqliteStore {
    fn put_document<'a>(
        &'a self,
        document: Document,
        expect: Expect<'a>,
    ) -> BoxFuture<'a, Result<Option<Document>, StoreError>> {
        let expected = expect.into();
        Box::pin(self.run("write a document", move |connection| put(connection, document, &expected)))
    }

    fn document<'a>(&'a self, id: &'a DocumentId) -> BoxFuture<'a, Result<Option<Document>, StoreError>> {
        let id = id.clone();
        Box::pin(self.run("read a document", move |connection| {
            connection
                .prepare_cached(&format!("{SELECT} AND name = ?"))
                .and_then(|mut statement| {
                    let bounds = params![id.account.as_str(), id.kind, id.name];
                    statement.query_row(bounds, |row| read(row, &id.account, id.kind)).optional()
                })
                .map_err(|error| failed("read a document", error))
        }))
    }

    fn list_documents<'a>(
        &'a self,
        account: &'a AccountId,
        kind: &'static str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>> {
        let (account, after) = (account.clone(), after.to_owned());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Box::pin(self.run("list documents", move |connection| {
            connection
                .prepare_cached(&format!("{SELECT} AND name > ? ORDER BY name LIMIT ?"))
                .and_then(|mut statement| {
                    let bounds = params![account.as_str(), kind, after, limit];
                    statement.query_map(bounds, |row| read(row, &account, kind))?.collect()
                })
                .map_err(|error| failed("list documents", error))
        }))
    }

    fn all_documents(&self, kind: &'static str) -> BoxFuture<'_, Result<Vec<Document>, StoreError>> {
        Box::pin(self.run("list documents", move |connection| {
            let sql = "SELECT account, name, function, body, revision_id FROM document WHERE kind = ? \
                ORDER BY account, name";
            connection
                .prepare_cached(sql)
                .and_then(|mut statement| {
                    let each = |row: &Row<'_>| {
                        let account: String = row.get("account")?;
                        let wrong = |error| {
                            let kind = rusqlite::types::Type::Text;
                            rusqlite::Error::FromSqlConversionFailure(0, kind, Box::new(error))
                        };
                        read(row, &account.parse().map_err(wrong)?, kind)
                    };
                    statement.query_map(params![kind], each)?.collect()
                })
                .map_err(|error| failed("list documents", error))
        }))
    }

    fn delete_document<'a>(
        &'a self,
        id: &'a DocumentId,
        expect: Expect<'a>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let (id, expected) = (id.clone(), expect.into());
        Box::pin(self.run("delete a document", move |connection| {
            let revision = match &expected {
                Expected::Anything => None,
                Expected::Nothing => return Ok(false),
                Expected::Revision(revision) => Some(revision),
            };
            let sql = "DELETE FROM document WHERE account = ? AND kind = ? AND name = ? \
                AND (?4 IS NULL OR revision_id = ?4)";
            connection
                .prepare_cached(sql)
                .and_then(|mut statement| {
                    statement.execute(params![id.account.as_str(), id.kind, id.name, revision])
                })
                .map(|removed| removed > 0)
                .map_err(|error| failed("delete a document", error))
        }))
    }
}

fn put(
    connection: &Connection,
    mut document: Document,
    expected: &Expected,
) -> Result<Option<Document>, StoreError> {
    document.revision_id = fresh_id();
    let replace = "UPDATE SET function = :function, body = :body, revision_id = :revision_id";
    let (sql, before) = match expected {
        Expected::Anything => (format!("{INSERT} {replace}"), None),
        Expected::Nothing => (format!("{INSERT} NOTHING"), None),
        Expected::Revision(before) => {
            let sql = "UPDATE document SET function = :function, body = :body, revision_id = :revision_id \
                WHERE account = :account AND kind = :kind AND name = :name AND revision_id = :before";
            (sql.to_owned(), Some(before))
        }
    };
    let account = document.id.account.as_str();
    let mut bounds: Vec<(&str, &dyn ToSql)> = named_params! {
        ":account": account,
        ":kind": document.id.kind,
        ":name": document.id.name,
        ":function": document.function,
        ":body": document.body,
        ":revision_id": document.revision_id,
    }
    .to_vec();
    if let Some(before) = &before {
        bounds.push((":before", before));
    }
    let written = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.execute(bounds.as_slice()))
        .map_err(|error| missing_function(&document, error))?;
    Ok((written > 0).then_some(document))
}

/// No foreign row is there: the function has been deleted.
fn missing_function(document: &Document, error: rusqlite::Error) -> StoreError {
    match (error.sqlite_error_code(), &document.function) {
        (Some(rusqlite::ErrorCode::ConstraintViolation), Some(name)) => {
            StoreError::NotFound(hearth_types::FunctionId {
                account: document.id.account.clone(),
                name: name.clone(),
            })
        }
        _ => failed("write a document", error),
    }
}

fn read(row: &Row<'_>, account: &AccountId, kind: &'static str) -> rusqlite::Result<Document> {
    Ok(Document {
        id: DocumentId { account: account.clone(), kind, name: row.get("name")? },
        function: row.get("function")?,
        body: row.get("body")?,
        revision_id: row.get("revision_id")?,
    })
}
