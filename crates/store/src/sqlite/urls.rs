//! Function URLs as rows.

use hearth_types::FunctionId;
use rusqlite::{Connection, Row, params};

use super::rows::{failed, function_id};
use crate::{StoreError, UrlRecord};

const COLUMNS: &str = "account, name, qualifier, url_id, signed, streamed, cors, created_ms, modified_ms";

pub(super) fn put(connection: &Connection, record: &UrlRecord) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO function_url ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account, name, qualifier) \
         DO UPDATE SET signed = excluded.signed, streamed = excluded.streamed, cors = excluded.cors, \
         modified_ms = excluded.modified_ms"
    );
    let UrlRecord { function, qualifier, url_id, signed, streamed, cors, created_ms, modified_ms } = record;
    let account = function.account.as_str();
    let row =
        params![account, function.name, qualifier, url_id, signed, streamed, cors, created_ms, modified_ms];
    connection.prepare_cached(&sql).and_then(|mut statement| statement.execute(row)).map(drop).map_err(
        |error| {
            match error.sqlite_error_code() {
                // No foreign row is there: the function has been deleted.
                Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::NotFound(function.clone()),
                _ => failed("write a function URL", error),
            }
        },
    )
}

pub(super) fn of(connection: &Connection, function: &FunctionId) -> Result<Vec<UrlRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM function_url WHERE account = ? AND name = ? ORDER BY qualifier");
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            statement.query_map(params![function.account.as_str(), function.name], read)?.collect()
        })
        .map_err(|error| failed("read function URLs", error))
}

pub(super) fn all(connection: &Connection) -> Result<Vec<UrlRecord>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM function_url"))
        .and_then(|mut statement| statement.query_map([], read)?.collect())
        .map_err(|error| failed("read function URLs", error))
}

pub(super) fn delete(
    connection: &Connection,
    function: &FunctionId,
    qualifier: &str,
) -> Result<bool, StoreError> {
    connection
        .prepare_cached("DELETE FROM function_url WHERE account = ? AND name = ? AND qualifier = ?")
        .and_then(|mut statement| {
            statement.execute(params![function.account.as_str(), function.name, qualifier])
        })
        .map(|removed| removed > 0)
        .map_err(|error| failed("delete a function URL", error))
}

fn read(row: &Row<'_>) -> rusqlite::Result<UrlRecord> {
    Ok(UrlRecord {
        function: function_id(row)?,
        qualifier: row.get("qualifier")?,
        url_id: row.get("url_id")?,
        signed: row.get("signed")?,
        streamed: row.get("streamed")?,
        cors: row.get("cors")?,
        created_ms: row.get("created_ms")?,
        modified_ms: row.get("modified_ms")?,
    })
}
