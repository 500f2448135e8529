//! Versions as rows.

use hearth_types::{CodeDigest, FunctionId};
use rusqlite::{Connection, Row, Transaction, named_params, params};

use super::aliases;
use super::rows::{Json, begin, check_unchanged, commit, failed, fresh_id, function_id};
use crate::{
    CodeRef, FunctionRecord, NewVersion, State, StateReason, StoreError, UpdateStatus, VersionRecord,
};

const COLUMNS: &str = "SELECT account, name, number, revision, revision_id, code_digest, code_size, modified_ms, \
    config, state, state_reason FROM version";

const INSERT: &str = "INSERT INTO version (account, name, number, revision, revision_id, code_digest, code_size, \
    modified_ms, config, state, state_reason) VALUES (:account, :name, :number, :revision, :revision_id, \
    :code_digest, :code_size, :modified_ms, :config, :state, :state_reason)";

pub(super) fn publish(connection: &mut Connection, new: NewVersion) -> Result<VersionRecord, StoreError> {
    let NewVersion { function, description, pending, now_ms } = new;
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
            UpdateStatus::Successful if pending => State::Pending,
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

pub(super) fn unfinished(connection: &Connection) -> Result<Vec<VersionRecord>, StoreError> {
    connection
        .prepare_cached(&format!("{COLUMNS} WHERE state = ? ORDER BY account, name, number"))
        .and_then(|mut statement| statement.query_map([Json(State::Pending)], read)?.collect())
        .map_err(|error| failed("list unfinished versions", error))
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
    aliases::delete_provisioned(&transaction, function, &number.to_string())?;
    commit(transaction)?;
    Ok(removed > 0)
}

fn select(
    connection: &Connection,
    condition: &str,
    bounds: &[&dyn rusqlite::ToSql],
) -> Result<Vec<VersionRecord>, StoreError> {
    connection
        .prepare_cached(&format!("{COLUMNS} WHERE account = ? AND name = ? {condition}"))
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
