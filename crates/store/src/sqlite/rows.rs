//! Functions as rows: every statement that the store knows.

use hearth_types::{AccountId, CodeDigest, FunctionId};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, named_params, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::broken;
use crate::{
    Change, CodeRef, FunctionRecord, LastUpdate, NewFunction, Served, State, StateReason, StoreError,
    UpdateStatus, Usage,
};

const SELECT: &str = "SELECT account, name, generation, revision, revision_id, code_digest, code_size, \
    reserved_concurrency, modified_ms, config, status, tags, serving, serving_digest FROM function";

const INSERT: &str = "INSERT INTO function (account, name, generation, revision, revision_id, code_digest, \
    code_size, reserved_concurrency, modified_ms, config, status, tags, unfinished, serving, serving_digest) \
    VALUES (:account, :name, :generation, :revision, :revision_id, :code_digest, \
    :code_size, :reserved_concurrency, :modified_ms, :config, :status, :tags, :unfinished, \
    :serving, :serving_digest) \
    ON CONFLICT (account, name) DO NOTHING";

const UPDATE: &str = "UPDATE function SET generation = :generation, revision = :revision, \
    revision_id = :revision_id, code_digest = :code_digest, code_size = :code_size, \
    reserved_concurrency = :reserved_concurrency, modified_ms = :modified_ms, config = :config, \
    status = :status, tags = :tags, unfinished = :unfinished, \
    serving = :serving, serving_digest = :serving_digest \
    WHERE account = :account AND name = :name";

/// A column that holds JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(text.into())
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// What the `serving` column holds; the archive's digest has a column of its own.
#[derive(Serialize, Deserialize)]
struct Serving<C> {
    revision: u64,
    code_size: u64,
    config: C,
}

/// What the `status` column holds.
#[derive(Serialize, Deserialize)]
struct Status {
    state: State,
    state_reason: Option<StateReason>,
    last_update: LastUpdate,
}

pub(super) fn create(connection: &mut Connection, new: NewFunction) -> Result<FunctionRecord, StoreError> {
    let transaction = begin(connection)?;
    let creating =
        StateReason { code: "Creating".to_owned(), text: "The function is being created.".to_owned() };
    let record = FunctionRecord {
        id: new.id,
        generation: 1,
        revision: next_revision(&transaction)?,
        revision_id: fresh_id(),
        config: new.config,
        code: new.code,
        state: State::Pending,
        state_reason: Some(creating.clone()),
        last_update: LastUpdate { status: UpdateStatus::InProgress, reason: Some(creating) },
        modified_ms: new.now_ms,
        tags: new.tags,
        reserved_concurrency: None,
        serving: None,
    };
    if write(&transaction, INSERT, &record)? == 0 {
        return Err(StoreError::Exists(record.id));
    }
    commit(transaction)?;
    Ok(record)
}

pub(super) fn update(
    connection: &mut Connection,
    mut record: FunctionRecord,
    change: Change,
) -> Result<FunctionRecord, StoreError> {
    let transaction = begin(connection)?;
    check_unchanged(&transaction, &record)?;
    record.generation += 1;
    record.revision_id = fresh_id();
    match change {
        Change::Revision => record.revision = next_revision(&transaction)?,
        Change::Bookkeeping => {}
    }
    write(&transaction, UPDATE, &record)?;
    commit(transaction)?;
    Ok(record)
}

/// Whether a record is still what is kept.
pub(super) fn check_unchanged(
    transaction: &Transaction<'_>,
    record: &FunctionRecord,
) -> Result<(), StoreError> {
    let kept: Option<(u64, u64)> = transaction
        .prepare_cached("SELECT generation, revision FROM function WHERE account = ? AND name = ?")
        .and_then(|mut statement| {
            statement
                .query_row(params![record.id.account.as_str(), record.id.name], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()
        })
        .map_err(|error| failed("read a function's generation", error))?;
    // The revision tells a function from a later one of the same name, whose generations count from one again.
    match kept {
        None => Err(StoreError::NotFound(record.id.clone())),
        Some(kept) if kept != (record.generation, record.revision) => {
            Err(StoreError::Conflict(record.id.clone()))
        }
        Some(_) => Ok(()),
    }
}

pub(super) fn delete(connection: &Connection, id: &FunctionId) -> Result<u64, StoreError> {
    let newest = connection
        .prepare_cached("DELETE FROM function WHERE account = ? AND name = ? RETURNING revision")
        .and_then(|mut statement| {
            statement.query_row(params![id.account.as_str(), id.name], |row| row.get(0)).optional()
        })
        .map_err(|error| failed("delete a function", error))?;
    newest.ok_or_else(|| StoreError::NotFound(id.clone()))
}

pub(super) fn function(
    connection: &Connection,
    id: &FunctionId,
) -> Result<Option<FunctionRecord>, StoreError> {
    let found = select(
        connection,
        "WHERE account = ? AND name = ?",
        params![id.account.as_str(), id.name],
        "read a function",
    )?;
    Ok(found.into_iter().next())
}

pub(super) fn list(
    connection: &Connection,
    account: &AccountId,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<FunctionRecord>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // No name is empty, so all come after the empty one.
    let bounds = params![account.as_str(), after.unwrap_or_default(), limit];
    select(connection, "WHERE account = ? AND name > ? ORDER BY name LIMIT ?", bounds, "list functions")
}

pub(super) fn unfinished(connection: &Connection) -> Result<Vec<FunctionRecord>, StoreError> {
    select(connection, "WHERE unfinished = 1 ORDER BY account, name", [], "list unfinished functions")
}

pub(super) fn tagged(connection: &Connection, key: &str) -> Result<Vec<FunctionRecord>, StoreError> {
    // A key without what a pattern or JSON gives another meaning; what is read more is sorted out.
    let found = select(connection, "WHERE tags LIKE ?", [format!("%\"{key}\"%")], "list tagged functions")?;
    Ok(found.into_iter().filter(|record| record.tags.contains_key(key)).collect())
}

pub(super) fn usage(connection: &Connection, account: &AccountId) -> Result<Usage, StoreError> {
    let sql = "SELECT count(*), coalesce(sum(code_size), 0) \
            + (SELECT coalesce(sum(code_size), 0) FROM version WHERE account = ?1), \
        coalesce(sum(reserved_concurrency), 0), \
        (SELECT coalesce(sum(count), 0) FROM provisioned JOIN function AS owner USING (account, name) \
            WHERE account = ?1 AND owner.reserved_concurrency IS NULL) \
        FROM function WHERE account = ?1";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_row([account.as_str()], |row| {
                Ok(Usage {
                    functions: row.get(0)?,
                    code_bytes: row.get(1)?,
                    reserved_concurrency: row.get(2)?,
                    provisioned_unreserved: row.get(3)?,
                })
            })
        })
        .map_err(|error| failed("sum up an account", error))
}

pub(super) fn code_in_use(connection: &Connection) -> Result<Vec<CodeDigest>, StoreError> {
    let sql = "SELECT code_digest FROM function UNION SELECT code_digest FROM version \
        UNION SELECT serving_digest FROM function WHERE serving_digest IS NOT NULL";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_map([], |row| row.get(0).map(CodeDigest))?.collect())
        .map_err(|error| failed("list code in use", error))
}

pub(super) fn reservations(connection: &Connection) -> Result<Vec<(FunctionId, u32)>, StoreError> {
    let sql =
        "SELECT account, name, reserved_concurrency FROM function WHERE reserved_concurrency IS NOT NULL";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((function_id(row)?, row.get(2)?)))?.collect()
        })
        .map_err(|error| failed("list reservations", error))
}

fn select(
    connection: &Connection,
    condition: &str,
    bounds: impl rusqlite::Params,
    context: &'static str,
) -> Result<Vec<FunctionRecord>, StoreError> {
    connection
        .prepare_cached(&format!("{SELECT} {condition}"))
        .and_then(|mut statement| statement.query_map(bounds, read)?.collect())
        .map_err(|error| failed(context, error))
}

fn read(row: &Row<'_>) -> rusqlite::Result<FunctionRecord> {
    let serving = match (row.get::<_, Option<Json<Serving<_>>>>("serving")?, row.get("serving_digest")?) {
        (Some(Json(Serving { revision, code_size, config })), Some(digest)) => {
            let code = CodeRef { digest: CodeDigest(digest), size: code_size };
            Some(Served { revision, config, code })
        }
        _ => None,
    };
    let Json(Status { state, state_reason, last_update }) = row.get("status")?;
    Ok(FunctionRecord {
        id: function_id(row)?,
        generation: row.get("generation")?,
        revision: row.get("revision")?,
        revision_id: row.get("revision_id")?,
        config: row.get::<_, Json<_>>("config")?.0,
        code: CodeRef { digest: CodeDigest(row.get("code_digest")?), size: row.get("code_size")? },
        state,
        state_reason,
        last_update,
        modified_ms: row.get("modified_ms")?,
        tags: row.get::<_, Json<_>>("tags")?.0,
        reserved_concurrency: row.get("reserved_concurrency")?,
        serving,
    })
}

/// The function that a row's `account` and `name` are of.
pub(super) fn function_id(row: &Row<'_>) -> rusqlite::Result<FunctionId> {
    let account: String = row.get("account")?;
    let account = account.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(FunctionId { account, name: row.get("name")? })
}

fn write(transaction: &Transaction<'_>, sql: &str, record: &FunctionRecord) -> Result<usize, StoreError> {
    let status = Status {
        state: record.state,
        state_reason: record.state_reason.clone(),
        last_update: record.last_update.clone(),
    };
    let serving = record.serving.as_ref();
    let serving_json = serving.map(|served| {
        Json(Serving { revision: served.revision, code_size: served.code.size, config: &served.config })
    });
    let unfinished = record.state == State::Pending || record.last_update.status == UpdateStatus::InProgress;
    transaction
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.execute(named_params! {
                ":account": record.id.account.as_str(),
                ":name": record.id.name,
                ":generation": record.generation,
                ":revision": record.revision,
                ":revision_id": record.revision_id,
                ":code_digest": record.code.digest.0,
                ":code_size": record.code.size,
                ":reserved_concurrency": record.reserved_concurrency,
                ":modified_ms": record.modified_ms,
                ":config": Json(&record.config),
                ":status": Json(status),
                ":tags": Json(&record.tags),
                ":unfinished": unfinished,
                ":serving": serving_json,
                ":serving_digest": serving.map(|served| served.code.digest.0),
            })
        })
        .map_err(|error| failed("write a function", error))
}

/// Drawn in the transaction that uses it, from a counter that outlives every function.
fn next_revision(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    transaction
        .prepare_cached("UPDATE counter SET value = value + 1 WHERE name = 'revision' RETURNING value")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(|error| failed("count a revision", error))
}

pub(super) fn fresh_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub(super) fn begin(connection: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| failed("begin a transaction", error))
}

pub(super) fn commit(transaction: Transaction<'_>) -> Result<(), StoreError> {
    transaction.commit().map_err(|error| failed("commit", error))
}

pub(super) fn failed(context: &'static str, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::DiskFull,
        _ => broken(context, error),
    }
}
