//! The SQL of events and settings.

use hearth_types::{AccountId, FunctionId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::sqlite::rows::Json;
use crate::{EventHead, EventRecord, Expected, NewEvent, Setting, SettingKind, Target};

/// Numbers that count over all rows.
#[derive(Debug)]
pub(super) struct Counters {
    event: u64,
    generation: u64,
}

impl Counters {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let last = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
        Ok(Self {
            event: last("SELECT coalesce(max(id), 0) FROM event")?,
            generation: last("SELECT coalesce(max(generation), 0) FROM setting")?,
        })
    }
}

pub(super) fn insert(
    connection: &Connection,
    counters: &mut Counters,
    new: &NewEvent,
) -> rusqlite::Result<u64> {
    counters.event += 1;
    let (account, name, qualifier, destination) = match &new.target {
        Target::Function { id, qualifier } => (&id.account, &*id.name, qualifier.as_deref(), None),
        Target::Destination { account, arn } => (account, "", None, Some(arn)),
    };
    connection
        .prepare_cached(
            "INSERT INTO event (id, request_id, account, name, qualifier, destination, accepted_ms, expires_ms, \
             due_ms, failures, context, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
        )?
        .execute(params![
            counters.event,
            new.request_id.to_string(),
            account.as_str(),
            name,
            qualifier,
            destination,
            new.accepted_ms,
            new.expires_ms,
            new.accepted_ms,
            Json(&new.context),
            &new.payload[..],
        ])?;
    Ok(counters.event)
}

pub(super) fn event(connection: &Connection, id: u64) -> rusqlite::Result<Option<EventRecord>> {
    let read = |row: &Row<'_>| {
        let request_id: String = row.get("request_id")?;
        let event = NewEvent {
            request_id: parsed(request_id.parse())?,
            target: target(row)?,
            accepted_ms: row.get("accepted_ms")?,
            expires_ms: row.get("expires_ms")?,
            context: row.get::<_, Json<_>>("context")?.0,
            payload: row.get::<_, Vec<u8>>("payload")?.into(),
        };
        Ok(EventRecord { event, failures: row.get("failures")? })
    };
    connection.prepare_cached("SELECT * FROM event WHERE id = ?")?.query_row([id], read).optional()
}

pub(super) fn heads(
    connection: &Connection,
    after: Option<u64>,
    limit: usize,
) -> rusqlite::Result<Vec<EventHead>> {
    let read = |row: &Row<'_>| {
        Ok(EventHead {
            id: row.get("id")?,
            target: target(row)?,
            bytes: row.get("bytes")?,
            accepted_ms: row.get("accepted_ms")?,
            expires_ms: row.get("expires_ms")?,
            due_ms: row.get("due_ms")?,
            failures: row.get("failures")?,
        })
    };
    let sql = "SELECT id, account, name, qualifier, destination, accepted_ms, expires_ms, due_ms, failures, \
        length(payload) AS bytes FROM event WHERE id > ? ORDER BY id LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // No event has the number zero.
    connection.prepare_cached(sql)?.query_map(params![after.unwrap_or(0), limit], read)?.collect()
}

pub(super) fn postpone(connection: &Connection, id: u64, failures: u32, due_ms: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE event SET failures = ?, due_ms = ? WHERE id = ?")?
        .execute(params![failures, due_ms, id])
        .map(drop)
}

pub(super) fn delete(connection: &Connection, id: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM event WHERE id = ?")?.execute([id]).map(drop)
}

pub(super) fn forget(connection: &Connection, id: &FunctionId) -> rusqlite::Result<()> {
    let (account, name) = (id.account.as_str(), &*id.name);
    connection
        .prepare_cached("DELETE FROM event WHERE account = ? AND name = ?")?
        .execute(params![account, name])?;
    let first = format!("{name}:");
    connection
        .prepare_cached(
            "DELETE FROM setting WHERE kind = ?1 AND account = ?2 AND substr(key, 1, length(?3)) = ?3",
        )?
        .execute(params![SettingKind::EventInvokeConfig as u8, account, first])
        .map(drop)
}

pub(super) fn put(
    connection: &Connection,
    counters: &mut Counters,
    mut setting: Setting,
    expected: Expected,
) -> rusqlite::Result<Option<Setting>> {
    let named = params![setting.kind as u8, setting.account.as_str(), setting.key];
    let found: Option<(u64, u64)> = connection
        .prepare_cached("SELECT generation, mark FROM setting WHERE kind = ? AND account = ? AND key = ?")?
        .query_row(named, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let generation = found.map(|(generation, _)| generation);
    let as_expected = match expected {
        Expected::Any => true,
        Expected::Nothing => generation.is_none(),
        Expected::Generation(wanted) => generation == Some(wanted),
    };
    if !as_expected {
        return Ok(None);
    }
    counters.generation += 1;
    setting.generation = counters.generation;
    setting.mark = found.map_or(setting.mark, |(_, mark)| mark);
    connection
        .prepare_cached(
            "INSERT INTO setting (kind, account, key, generation, mark, body) VALUES (?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET generation = excluded.generation, body = excluded.body",
        )?
        .execute(params![
            setting.kind as u8,
            setting.account.as_str(),
            setting.key,
            setting.generation,
            setting.mark,
            setting.body
        ])?;
    Ok(Some(setting))
}

pub(super) fn delete_setting(
    connection: &Connection,
    kind: SettingKind,
    account: &AccountId,
    key: &str,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("DELETE FROM setting WHERE kind = ? AND account = ? AND key = ?")?
        .execute(params![kind as u8, account.as_str(), key])
        .map(|removed| removed > 0)
}

/// Moves a setting's mark forward; false if that has been done, or the setting is another one now.
pub(super) fn mark(connection: &Connection, setting: &Setting, mark: u64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "UPDATE setting SET mark = ?1 WHERE kind = ?2 AND account = ?3 AND key = ?4 AND generation = ?5 \
             AND mark < ?1",
        )?
        .execute(params![mark, setting.kind as u8, setting.account.as_str(), setting.key, setting.generation])
        .map(|changed| changed > 0)
}

pub(super) fn settings(connection: &Connection) -> rusqlite::Result<Vec<Setting>> {
    let read = |row: &Row<'_>| {
        let (kind, account): (u8, String) = (row.get("kind")?, row.get("account")?);
        let Some(kind) = SettingKind::ALL.into_iter().find(|known| *known as u8 == kind) else {
            return Err(rusqlite::Error::IntegralValueOutOfRange(0, kind.into()));
        };
        Ok(Setting {
            kind,
            account: parsed(account.parse())?,
            key: row.get("key")?,
            generation: row.get("generation")?,
            mark: row.get("mark")?,
            body: row.get("body")?,
        })
    };
    connection.prepare_cached("SELECT * FROM setting")?.query_map([], read)?.collect()
}

fn target(row: &Row<'_>) -> rusqlite::Result<Target> {
    let account: String = row.get("account")?;
    let account = parsed(account.parse::<AccountId>())?;
    Ok(match row.get("destination")? {
        Some(arn) => Target::Destination { account, arn },
        None => {
            let name: String = row.get("name")?;
            let id = FunctionId { account, name: name.into() };
            Target::Function { id, qualifier: row.get("qualifier")? }
        }
    })
}

fn parsed<T, E: std::error::Error + Send + Sync + 'static>(result: Result<T, E>) -> rusqlite::Result<T> {
    result.map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
