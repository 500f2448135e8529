//! From a record to what manager, placement and worker need to know in order to run it.

use std::sync::Arc;
use std::time::Duration;

use hearth_store::{FunctionRecord, StateReason};
use hearth_types::{FunctionSpec, RevisionId, Runtime, Version, VersionId};

use crate::tags::Settings;

/// The spec of a record's code and configuration, or why there can be none.
pub(crate) fn of(record: &FunctionRecord, region: &str) -> Result<Arc<FunctionSpec>, StateReason> {
    let config = &record.config;
    let reason = |code: &str, text: String| StateReason { code: code.to_owned(), text };
    let runtime: Runtime = config.runtime.parse().map_err(|error: hearth_types::ParseRuntimeError| {
        reason("InvalidRuntime", format!("Hearth cannot run this function: {error}"))
    })?;
    let settings =
        Settings::read(&record.tags).map_err(|error| reason("InvalidConfiguration", error.message))?;
    let version = VersionId { function: record.id.clone(), version: Version::Latest };
    Ok(Arc::new(FunctionSpec {
        revision: RevisionId { version, number: record.revision },
        arn: format!("arn:aws:lambda:{region}:{}:function:{}", record.id.account, record.id.name),
        region: region.to_owned(),
        runtime,
        handler: config.handler.clone(),
        code: record.code.digest,
        memory_mb: config.memory_mb,
        timeout: Duration::from_secs(u64::from(config.timeout_seconds)),
        ephemeral_mb: config.ephemeral_mb,
        environment: config.environment.clone().unwrap_or_default(),
        isolation: settings.isolation,
        concurrency: settings.concurrency,
        idle_timeout: settings.idle_timeout,
        keep_alive: settings.keep_alive,
        queue: settings.queue,
        reserved_concurrency: record.reserved_concurrency,
    }))
}

/// The revision that serves, with what the record now says about all revisions alike.
pub(crate) fn adjusted(serving: &FunctionSpec, record: &FunctionRecord) -> Arc<FunctionSpec> {
    let mut spec = serving.clone();
    spec.reserved_concurrency = record.reserved_concurrency;
    if let Ok(settings) = Settings::read(&record.tags) {
        spec.isolation = settings.isolation;
        spec.concurrency = settings.concurrency;
        spec.idle_timeout = settings.idle_timeout;
        spec.keep_alive = settings.keep_alive;
        spec.queue = settings.queue;
    }
    Arc::new(spec)
}
