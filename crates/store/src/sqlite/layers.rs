//! Layers as rows.

use hearth_types::{AccountId, CodeDigest};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::rows::{Json, begin, commit, failed};
use crate::{BoxFuture, CodeRef, LayerFilter, LayerVersion, Layers, SqliteStore, StoreError};

const COLUMNS: &str = "layer, number, code_digest, code_size, unzipped, about, created_ms";
/// `?2` is a runtime and `?3` an architecture, or null for any.
const FILTER: &str = "(?2 IS NULL OR EXISTS (SELECT 1 FROM json_each(about, '$.runtimes') WHERE value = ?2)) \
    AND (?3 IS NULL OR EXISTS (SELECT 1 FROM json_each(about, '$.architectures') WHERE value = ?3))";

impl Layers for SqliteStore {
    fn publish_layer(&self, version: LayerVersion) -> BoxFuture<'_, Result<LayerVersion, StoreError>> {
        Box::pin(self.run("publish a layer", move |connection| publish(connection, version)))
    }

    fn layer_version<'a>(
        &'a self,
        account: &'a AccountId,
        layer: &'a str,
        number: u64,
    ) -> BoxFuture<'a, Result<Option<LayerVersion>, StoreError>> {
        let (account, layer) = (account.clone(), layer.to_owned());
        let number = i64::try_from(number).unwrap_or(0);
        Box::pin(self.run("read a layer", move |connection| {
            let sql =
                format!("SELECT {COLUMNS} FROM layer_version WHERE account = ? AND layer = ? AND number = ?");
            connection
                .prepare_cached(&sql)
                .and_then(|mut statement| {
                    let bounds = params![account.as_str(), layer, number];
                    statement.query_row(bounds, |row| read(row, &account)).optional()
                })
                .map_err(|error| failed("read a layer", error))
        }))
    }

    fn list_layer_versions<'a>(
        &'a self,
        account: &'a AccountId,
        layer: &'a str,
        before: u64,
        filter: LayerFilter,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LayerVersion>, StoreError>> {
        let (account, layer) = (account.clone(), layer.to_owned());
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        Box::pin(self.run("list versions of a layer", move |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM layer_version WHERE account = ?1 AND layer = ?4 AND number < ?5 AND {FILTER} \
                 ORDER BY number DESC LIMIT ?6"
            );
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let LayerFilter { runtime, architecture } = filter;
            let bounds = params![account.as_str(), runtime, architecture, layer, before, limit];
            select(connection, &sql, bounds, &account)
        }))
    }

    fn list_layers<'a>(
        &'a self,
        account: &'a AccountId,
        after: &'a str,
        filter: LayerFilter,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LayerVersion>, StoreError>> {
        let (account, after) = (account.clone(), after.to_owned());
        Box::pin(self.run("list layers", move |connection| {
            // Beside max(), SQLite takes the other columns from the row that has the maximum.
            let sql = format!(
                "SELECT {COLUMNS}, max(number) FROM layer_version WHERE account = ?1 AND layer > ?4 AND {FILTER} \
                 GROUP BY layer ORDER BY layer LIMIT ?5"
            );
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let LayerFilter { runtime, architecture } = filter;
            let bounds = params![account.as_str(), runtime, architecture, after, limit];
            select(connection, &sql, bounds, &account)
        }))
    }

    fn delete_layer_version<'a>(
        &'a self,
        account: &'a AccountId,
        layer: &'a str,
        number: u64,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let (account, layer) = (account.clone(), layer.to_owned());
        let number = i64::try_from(number).unwrap_or(0);
        Box::pin(self.run("delete a layer", move |connection| {
            connection
                .prepare_cached("DELETE FROM layer_version WHERE account = ? AND layer = ? AND number = ?")
                .and_then(|mut statement| statement.execute(params![account.as_str(), layer, number]))
                .map(|removed| removed > 0)
                .map_err(|error| failed("delete a layer", error))
        }))
    }
}

fn publish(connection: &mut Connection, mut version: LayerVersion) -> Result<LayerVersion, StoreError> {
    let transaction = begin(connection)?;
    let sql = "INSERT INTO layer_counter (account, layer, value) VALUES (?, ?, 1) \
        ON CONFLICT (account, layer) DO UPDATE SET value = value + 1 RETURNING value";
    version.number = transaction
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_row(params![version.account.as_str(), version.layer], |row| row.get(0))
        })
        .map_err(|error| failed("count a version of a layer", error))?;
    let sql = "INSERT INTO layer_version (account, layer, number, code_digest, code_size, unzipped, about, created_ms) \
        VALUES (:account, :layer, :number, :code_digest, :code_size, :unzipped, :about, :created_ms)";
    transaction
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.execute(named_params! {
                ":account": version.account.as_str(),
                ":layer": version.layer,
                ":number": version.number,
                ":code_digest": version.code.digest.0,
                ":code_size": version.code.size,
                ":unzipped": version.unzipped,
                ":about": Json(&version.about),
                ":created_ms": version.created_ms,
            })
        })
        .map_err(|error| failed("write a layer", error))?;
    commit(transaction)?;
    Ok(version)
}

/// Archives of layers: those of versions that are there, and those that functions and their versions have.
pub(super) fn code_in_use(connection: &Connection) -> Result<Vec<CodeDigest>, StoreError> {
    let sql = "SELECT lower(hex(code_digest)) FROM layer_version \
        UNION SELECT json_extract(layer.value, '$.digest') FROM function, json_each(config, '$.layers') AS layer \
        UNION SELECT json_extract(layer.value, '$.digest') FROM version, json_each(config, '$.layers') AS layer \
        UNION SELECT json_extract(layer.value, '$.digest') FROM function, \
            json_each(serving, '$.config.layers') AS layer WHERE serving IS NOT NULL";
    let texts: Vec<Option<String>> = connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(|error| failed("list layers in use", error))?;
    Ok(texts.into_iter().flatten().filter_map(|text| text.parse().ok()).collect())
}

fn select(
    connection: &Connection,
    sql: &str,
    bounds: impl rusqlite::Params,
    account: &AccountId,
) -> Result<Vec<LayerVersion>, StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_map(bounds, |row| read(row, account))?.collect())
        .map_err(|error| failed("list layers", error))
}

fn read(row: &Row<'_>, account: &AccountId) -> rusqlite::Result<LayerVersion> {
    Ok(LayerVersion {
        account: account.clone(),
        layer: row.get("layer")?,
        number: row.get("number")?,
        code: CodeRef { digest: CodeDigest(row.get("code_digest")?), size: row.get("code_size")? },
        unzipped: row.get("unzipped")?,
        about: row.get::<_, Json<_>>("about")?.0,
        created_ms: row.get("created_ms")?,
    })
}
