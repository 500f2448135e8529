//! Aliases and what is provisioned as rows.

use hearth_types::{FunctionId, Version};
use rusqlite::{Connection, Row, params};

use super::rows::{begin, commit, failed, fresh_id, function_id};
use crate::{AliasRecord, ProvisionedRecord, StoreError};

const SELECT_ALIAS: &str = "SELECT account, name, alias, version, additional_version, additional_weight, \
    description, revision_id FROM alias WHERE account = ? AND name = ?";

const INSERT_ALIAS: &str = "INSERT INTO alias (account, name, alias, version, additional_version, \
    additional_weight, description, revision_id) VALUES (:account, :name, :alias, :version, :additional_version, \
    :additional_weight, :description, :revision_id) ON CONFLICT DO NOTHING";

const UPDATE_ALIAS: &str = "UPDATE alias SET version = :version, additional_version = :additional_version, \
    additional_weight = :additional_weight, description = :description, revision_id = :revision_id \
    WHERE account = :account AND name = :name AND alias = :alias AND revision_id = :before";

pub(super) fn put_alias(
    connection: &Connection,
    mut record: AliasRecord,
) -> Result<Option<AliasRecord>, StoreError> {
    let before = std::mem::replace(&mut record.revision_id, fresh_id());
    let mut bounds: Vec<(&str, &dyn rusqlite::ToSql)> = Vec::with_capacity(9);
    let account = record.function.account.as_str();
    let version = number(record.version);
    let (additional_version, additional_weight) = record.additional.unzip();
    bounds.push((":account", &account));
    bounds.push((":name", &record.function.name));
    bounds.push((":alias", &record.name));
    bounds.push((":version", &version));
    bounds.push((":additional_version", &additional_version));
    bounds.push((":additional_weight", &additional_weight));
    bounds.push((":description", &record.description));
    bounds.push((":revision_id", &record.revision_id));
    let sql = if before.is_empty() { INSERT_ALIAS } else { UPDATE_ALIAS };
    if !before.is_empty() {
        bounds.push((":before", &before));
    }
    let written = connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(bounds.as_slice()))
        .map_err(|error| missing_or("write an alias", &record.function, error))?;
    Ok((written > 0).then_some(record))
}

/// No foreign row is there: the function has been deleted, or a version of it.
fn missing_or(context: &'static str, function: &FunctionId, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::NotFound(function.clone()),
        _ => failed(context, error),
    }
}

const fn number(version: Version) -> Option<u64> {
    match version {
        Version::Latest => None,
        Version::Published(number) => Some(number),
    }
}

pub(super) fn alias(
    connection: &Connection,
    function: &FunctionId,
    name: &str,
) -> Result<Option<AliasRecord>, StoreError> {
    let bounds: [&dyn rusqlite::ToSql; 3] = [&function.account.as_str(), &function.name, &name];
    Ok(select_aliases(connection, "AND alias = ?", &bounds)?.into_iter().next())
}

pub(super) fn list_aliases(
    connection: &Connection,
    function: &FunctionId,
    version: Option<Version>,
    after: &str,
    limit: usize,
) -> Result<Vec<AliasRecord>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (all, version) = (version.is_none(), version.and_then(number));
    let bounds: [&dyn rusqlite::ToSql; 6] =
        [&function.account.as_str(), &function.name, &after, &all, &version, &limit];
    let condition = "AND alias > ?3 AND (?4 OR version IS ?5 OR (?5 NOTNULL AND additional_version = ?5)) \
        ORDER BY alias LIMIT ?6";
    select_aliases(connection, condition, &bounds)
}

pub(super) fn delete_alias(
    connection: &mut Connection,
    function: &FunctionId,
    name: &str,
) -> Result<bool, StoreError> {
    let transaction = begin(connection)?;
    let removed = transaction
        .execute(
            "DELETE FROM alias WHERE account = ? AND name = ? AND alias = ?",
            params![function.account.as_str(), function.name, name],
        )
        .map_err(|error| failed("delete an alias", error))?;
    delete_provisioned(&transaction, function, name)?;
    super::urls::delete(&transaction, function, name)?;
    commit(transaction)?;
    Ok(removed > 0)
}

fn select_aliases(
    connection: &Connection,
    condition: &str,
    bounds: &[&dyn rusqlite::ToSql],
) -> Result<Vec<AliasRecord>, StoreError> {
    connection
        .prepare_cached(&format!("{SELECT_ALIAS} {condition}"))
        .and_then(|mut statement| statement.query_map(bounds, read_alias)?.collect())
        .map_err(|error| failed("read aliases", error))
}

fn read_alias(row: &Row<'_>) -> rusqlite::Result<AliasRecord> {
    let version: Option<u64> = row.get("version")?;
    let additional: Option<u64> = row.get("additional_version")?;
    Ok(AliasRecord {
        function: function_id(row)?,
        name: row.get("alias")?,
        version: version.map_or(Version::Latest, Version::Published),
        additional: additional.zip(row.get("additional_weight")?),
        description: row.get("description")?,
        revision_id: row.get("revision_id")?,
    })
}

pub(super) fn put_provisioned(connection: &Connection, record: &ProvisionedRecord) -> Result<(), StoreError> {
    let sql = "INSERT INTO provisioned (account, name, qualifier, count, modified_ms) VALUES (?, ?, ?, ?, ?) \
        ON CONFLICT DO UPDATE SET count = excluded.count, modified_ms = excluded.modified_ms";
    let (account, name) = (record.function.account.as_str(), &record.function.name);
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.execute(params![account, name, record.qualifier, record.count, record.modified_ms])
        })
        .map(drop)
        .map_err(|error| missing_or("write what is provisioned", &record.function, error))
}

pub(super) fn provisioned(
    connection: &Connection,
    function: &FunctionId,
) -> Result<Vec<ProvisionedRecord>, StoreError> {
    let sql = "SELECT account, name, qualifier, count, modified_ms FROM provisioned \
        WHERE account = ? AND name = ? ORDER BY qualifier";
    let read = |row: &Row<'_>| {
        Ok(ProvisionedRecord {
            function: function_id(row)?,
            qualifier: row.get("qualifier")?,
            count: row.get("count")?,
            modified_ms: row.get("modified_ms")?,
        })
    };
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_map(params![function.account.as_str(), function.name], read)?.collect()
        })
        .map_err(|error| failed("read what is provisioned", error))
}

pub(super) fn delete_provisioned(
    connection: &Connection,
    function: &FunctionId,
    qualifier: &str,
) -> Result<bool, StoreError> {
    connection
        .prepare_cached("DELETE FROM provisioned WHERE account = ? AND name = ? AND qualifier = ?")
        .and_then(|mut statement| {
            statement.execute(params![function.account.as_str(), function.name, qualifier])
        })
        .map(|removed| removed > 0)
        .map_err(|error| failed("delete what is provisioned", error))
}

pub(super) fn provisioned_functions(connection: &Connection) -> Result<Vec<FunctionId>, StoreError> {
    connection
        .prepare_cached("SELECT DISTINCT account, name FROM provisioned")
        .and_then(|mut statement| statement.query_map([], function_id)?.collect())
        .map_err(|error| failed("list what is provisioned", error))
}
