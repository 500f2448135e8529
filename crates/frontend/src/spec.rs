//! From a record to what manager, placement and worker need to know in order to run it.

use std::sync::Arc;
use std::time::Duration;

use hearth_store::{FunctionConfig, FunctionRecord, StateReason, VersionRecord};
use hearth_types::{CodeDigest, Concurrency, FunctionSpec, RevisionId, Runtime, Version, VersionId};

use crate::config;
use crate::tags::{self, Settings};
use crate::tenancy;

/// What differs from revision to revision; the rest is the function's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    version: Version,
    revision: u64,
    config: &'a FunctionConfig,
    code: CodeDigest,
}

impl<'a> Source<'a> {
    /// The newest revision.
    pub(crate) fn newest(record: &'a FunctionRecord) -> Self {
        let FunctionRecord { revision, config, code, .. } = record;
        Self { version: Version::Latest, revision: *revision, config, code: code.digest }
    }

    /// The revision that answers: the newest, unless that is being made ready or cannot be.
    pub(crate) fn serving(record: &'a FunctionRecord) -> Self {
        match &record.serving {
            None => Self::newest(record),
            Some(served) => Self {
                version: Version::Latest,
                revision: served.revision,
                config: &served.config,
                code: served.code.digest,
            },
        }
    }

    /// A published version.
    pub(crate) fn published(version: &'a VersionRecord) -> Self {
        let VersionRecord { number, revision, config, code, .. } = version;
        Self { version: Version::Published(*number), revision: *revision, config, code: code.digest }
    }
}

/// The spec of one revision of a function, or why there can be none.
pub(crate) fn of(
    record: &FunctionRecord,
    source: Source<'_>,
    region: &str,
) -> Result<Arc<FunctionSpec>, StateReason> {
    let Source { version, revision, config, code } = source;
    let reason = |code: &str, text: String| StateReason { code: code.to_owned(), text };
    let runtime = match &config.image {
        Some(_) => Ok(Runtime::image()),
        None => config.runtime.parse::<Runtime>(),
    };
    let runtime = runtime
        .map_err(|error| reason("InvalidRuntime", format!("Hearth cannot run this function: {error}")))?;
    let settings =
        Settings::read(&record.tags).map_err(|error| reason("InvalidConfiguration", error.message))?;
    // Hearth's own tag says more, so it is the one that holds.
    let concurrency = match config::concurrency(config) {
        Some(most) if !record.tags.contains_key(tags::CONCURRENCY) => Concurrency::new(most, most),
        _ => settings.concurrency,
    };
    // What is saved is a runtime that waits for the Runtime API, which a service never calls.
    let snap_start =
        settings.http.is_none() && matches!(version, Version::Published(_)) && config::snap_start(config);
    let version = VersionId { function: record.id.clone(), version };
    Ok(Arc::new(FunctionSpec {
        revision: RevisionId { version, number: revision },
        arn: format!("arn:aws:lambda:{region}:{}:function:{}", record.id.account, record.id.name),
        region: region.to_owned(),
        runtime,
        handler: config.handler.clone(),
        code,
        image: config.image.clone(),
        memory_mb: config.memory_mb,
        timeout: Duration::from_secs(u64::from(config.timeout_seconds)),
        ephemeral_mb: config.ephemeral_mb,
        environment: config.environment.clone().unwrap_or_default(),
        isolation: settings.isolation,
        egress: settings.egress,
        layers: config.layers.iter().filter_map(hearth_store::LayerRef::digest).collect(),
        snap_start,
        per_tenant: tenancy::is_on(config),
        concurrency,
        idle_timeout: settings.idle_timeout,
        keep_alive: settings.keep_alive,
        http: settings.http,
        queue: settings.queue,
        logging: config::logging(&config.logging),
        reserved_concurrency: record.reserved_concurrency,
    }))
}
