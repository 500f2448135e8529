//! Versions, aliases and what is provisioned as rows: the statements for all that hangs on a function.

use hearth_types::{CodeDigest, FunctionId, Version};
use rusqlite::{Connection, Row, Transaction, named_params, params};

use super::rows::{Json, begin, check_unchanged, commit, failed, fresh_id, function_id};
use crate::{
    AliasRecord, CodeRef, FunctionRecord, NewVersion, ProvisionedRecord, State, StateReason, StoreError,
    UpdateStatus, VersionRecord,
};

const SELECT: &str = "SELECT account, name, number, revision, revision_id, code_digest, code_size, modified_ms, \
    config, state, state_reason FROM version WHERE account = ? AND name = ?";

const INSERT: &str = "INSERT INTO version (account, name, number, revision, revision_id, code_digest, code_size, \
    modified_ms, config, state, state_reason) VALUES (:account, :name, :number, :revision, :revision_id, \
    :code_digest, :code_size, :modified_ms, :config, :state, :state_reason)";

const SELECT_ALIAS: &str = "SELECT account, name, alias, version, additional_version, additional_weight, \
    description, revision_id FROM alias WHERE account = ? AND name = ?";

const INSERT_ALIAS: &str = "INSERT INTO alias (account, name, alias, version, additional_version, \
    additional_weight, description, revision_id) VALUES (:account, :name, :alias, :version, :additional_version, \
    :additional_weight, :description, :revision_id) ON CONFLICT DO NOTHING";

const UPDATE_ALIAS: &str = "UPDATE alias SET version = :version, additional_version = :additional_version, \
    additional_weight = :additional_weight, description = :description, revision_id = :revision_id \
    WHERE account = :account AND name = :name AND alias = :alias AND revision_id = :before";

pub(super) fn publish(connection: &mut Connection, new: NewVersion) -> Result<VersionRecord, StoreError> {
    let NewVersion { function, description, now_ms } = new;
    let transaction = begin(connection)?;
    check_unchanged(&transaction, &function)?;
    let mut config = function.config.clone();
    if let Some(description) = description {
        config.description = description;
    }
    let bounds: [&dyn rusqlite::ToSql; 2] = [&function.id.account.as_str(), &function.id.name];
    let last = select(&transaction, "ORDER BY number DESC LIMIT 1", &bounds);
    let same = |last: &VersionRecord| {
        last.revision == function.revision || (last.code == function.code && last.config == config)
    };
    if let Some(last) = last?.into_iter().next().filter(same) {
        return Ok(last);
    }
    let FunctionRecord { id, revision, code, state, state_reason, .. } = function;
    let record = VersionRecord {
        number: next_number(&transaction, &id)?,
        function: id,
        revision,
        revision_id: fresh_id(),
        config,
        code,
        modified_ms: now_ms,
        state: match function.last_update.status {
            UpdateStatus::InProgress => State::Pending,
            UpdateStatus::Failed => State::Failed,
            UpdateStatus::Successful => state,
        },
        state_reason: function.last_update.reason.or(state_reason),
    };
    insert(&transaction, &record)?;
    commit(transaction)?;
    Ok(record)
}

fn insert(transaction: &Transaction<'_>, record: &VersionRecord) -> Result<usize, StoreError> {
    transaction
        .prepare_cached(INSERT)
        .and_then(|mut statement| {
            statement.execute(named_params! {
                ":account": record.function.account.as_str(),
                ":name": record.function.name,
                ":number": record.number,
                ":revision": record.revision,
                ":revision_id": record.revision_id,
                ":code_digest": record.code.digest.0,
                ":code_size": record.code.size,
                ":modified_ms": record.modified_ms,
                ":config": Json(&record.config),
                ":state": Json(record.state),
                ":state_reason": Json(&record.state_reason),
            })
        })
        .map_err(|error| failed("write a version", error))
}

fn next_number(transaction: &Transaction<'_>, function: &FunctionId) -> Result<u64, StoreError> {
    let sql = "INSERT INTO version_counter (account, name, value) VALUES (?, ?, 1) \
        ON CONFLICT (account, name) DO UPDATE SET value = value + 1 RETURNING value";
    transaction
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_row(params![function.account.as_str(), function.name], |row| row.get(0))
        })
        .map_err(|error| failed("count a version", error))
}

pub(super) fn settle(
    connection: &Connection,
    function: &FunctionId,
    revision: u64,
    state: State,
    reason: Option<&StateReason>,
) -> Result<(), StoreError> {
    let sql = "UPDATE version SET state = ?, state_reason = ? \
        WHERE account = ? AND name = ? AND revision = ? AND state = ?";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            let (account, name) = (function.account.as_str(), &function.name);
            let bounds = params![Json(state), Json(reason), account, name, revision, Json(State::Pending)];
            statement.execute(bounds)
        })
        .map(drop)
        .map_err(|error| failed("note a version's state", error))
}

pub(super) fn version(
    connection: &Connection,
    function: &FunctionId,
    number: u64,
) -> Result<Option<VersionRecord>, StoreError> {
    let Ok(number) = i64::try_from(number) else { return Ok(None) };
    let bounds: [&dyn rusqlite::ToSql; 3] = [&function.account.as_str(), &function.name, &number];
    Ok(select(connection, "AND number = ?", &bounds)?.into_iter().next())
}

pub(super) fn list(
    connection: &Connection,
    function: &FunctionId,
    after: u64,
    limit: usize,
) -> Result<Vec<VersionRecord>, StoreError> {
    let (after, limit) = (i64::try_from(after).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    let bounds: [&dyn rusqlite::ToSql; 4] = [&function.account.as_str(), &function.name, &after, &limit];
    select(connection, "AND number > ? ORDER BY number LIMIT ?", &bounds)
}

pub(super) fn delete(
    connection: &mut Connection,
    function: &FunctionId,
    number: u64,
) -> Result<bool, StoreError> {
    let Ok(key) = i64::try_from(number) else { return Ok(false) };
    let (account, name) = (function.account.as_str(), &function.name);
    let transaction = begin(connection)?;
    let removed = transaction
        .execute(
            "DELETE FROM version WHERE account = ? AND name = ? AND number = ?",
            params![account, name, key],
        )
        .map_err(|error| failed("delete a version", error))?;
    delete_provisioned(&transaction, function, &number.to_string())?;
    commit(transaction)?;
    Ok(removed > 0)
}

fn select(
    connection: &Connection,
    condition: &str,
    bounds: &[&dyn rusqlite::ToSql],
) -> Result<Vec<VersionRecord>, StoreError> {
    connection
        .prepare_cached(&format!("{SELECT} {condition}"))
        .and_then(|mut statement| statement.query_map(bounds, read)?.collect())
        .map_err(|error| failed("read versions", error))
}

fn read(row: &Row<'_>) -> rusqlite::Result<VersionRecord> {
    Ok(VersionRecord {
        function: function_id(row)?,
        number: row.get("number")?,
        revision: row.get("revision")?,
        revision_id: row.get("revision_id")?,
        config: row.get::<_, Json<_>>("config")?.0,
        code: CodeRef { digest: CodeDigest(row.get("code_digest")?), size: row.get("code_size")? },
        modified_ms: row.get("modified_ms")?,
        state: row.get::<_, Json<_>>("state")?.0,
        state_reason: row.get::<_, Json<_>>("state_reason")?.0,
    })
}

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
