//! Published versions: made, listed, deleted, and found by whatever qualifier leads to them.

use std::sync::Arc;

use hearth_store::{
    AliasRecord, FunctionRecord, LastUpdate, NewVersion, State, StateReason, StoreError, UpdateStatus,
    VersionRecord,
};
use hearth_types::{FunctionId, RevisionId, Version, VersionId};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::{Body, empty, json as answer};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::{LATEST, Named, Qualifier, Scope};
use crate::request::Members;
use crate::route::{Branch, Route};
use crate::service::{Call, mark};
use crate::spec::{self, Source};
use crate::validate::Violations;
use crate::{Backend, config, render, shapes};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Versions on one page of ListVersionsByFunction.
const PAGE: usize = 50;
/// Times a version is tried to be published again because the function was changed in between.
const ATTEMPTS: usize = 16;

type Answer = Result<Response<Body>, ApiError>;

impl<B: Backend> Core<B> {
    pub(crate) async fn publish_version(self: &Arc<Self>, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let named = call.changed_function(&members, &shapes::PUBLISH_VERSION_REQUEST)?;
        if members.given("PublishTo").is_some() {
            return Err(ApiError::unsupported("the setting PublishTo"));
        }
        let arn = call.scope.arn(&named.id);
        for _ in 0..ATTEMPTS {
            let record = self.record(&named.id).await?;
            check_publishable(&record, &members, &arn)?;
            if let Some(version) = self.try_publish(&record, members.text("Description")).await? {
                return Ok(answer(StatusCode::CREATED, &render(version, record, &arn)));
            }
        }
        Err(busy(&arn))
    }

    /// Keeps a version of a function as `record` has it, whatever tags and the like are by now.
    ///
    /// # Errors
    /// The function's code or configuration was changed, the function deleted, or the store failed.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        record: &FunctionRecord,
    ) -> Result<VersionRecord, ApiError> {
        let mut current = record.clone();
        for _ in 0..ATTEMPTS {
            if let Some(version) = self.try_publish(&current, None).await? {
                return Ok(version);
            }
            current = self.record(&record.id).await?;
            if current.revision != record.revision {
                break;
            }
        }
        Err(busy(&self.arn(&record.id)))
    }

    /// The version; nothing if the record was changed in between.
    async fn try_publish(
        self: &Arc<Self>,
        record: &FunctionRecord,
        description: Option<&str>,
    ) -> Result<Option<VersionRecord>, ApiError> {
        let description = description.map(str::to_owned);
        let pending = config::snap_start(&record.config);
        let new = NewVersion { function: record.clone(), description, pending, now_ms: now_ms() };
        match self.store.publish_version(new).await {
            Ok(version) => {
                let function_is_ready = record.last_update.status == UpdateStatus::Successful;
                if pending && function_is_ready && version.state == State::Pending {
                    self.settle_version(version.clone());
                }
                Ok(Some(version))
            }
            Err(StoreError::Conflict(_)) => Ok(None),
            Err(error) => Err(ApiError::store(&error, &self.arn(&record.id))),
        }
    }

    /// Notes for versions that were published before their revision was ready what came of it; those that start from a
    /// snapshot are now made ready themselves.
    pub(crate) async fn settle_versions(
        self: &Arc<Self>,
        record: &FunctionRecord,
        failure: Option<&StateReason>,
    ) {
        if failure.is_some() || !config::snap_start(&record.config) {
            return self.note_version(&record.id, record.revision, failure.cloned()).await;
        }
        match self.store.unfinished_versions().await {
            Ok(versions) => {
                let own = |version: &VersionRecord| {
                    version.function == record.id && version.revision == record.revision
                };
                versions.into_iter().filter(own).for_each(|version| self.settle_version(version));
            }
            Err(error) => tracing::warn!(function = %record.id, %error, "its versions stay Pending"),
        }
    }

    /// Makes a version ready in the background and notes what came of it.
    pub(crate) fn settle_version(self: &Arc<Self>, version: VersionRecord) {
        let core = Arc::clone(self);
        tokio::spawn(async move {
            let id = &version.function;
            let prepared = match core.record(id).await {
                Ok(record) => match spec::of(&record, Source::published(&version), &core.region) {
                    Ok(spec) => core.prepare(spec).await,
                    Err(reason) => Err(reason),
                },
                // The function is gone, and its versions with it.
                Err(_) => return,
            };
            tracing::info!(function = %id, version = version.number, ?prepared, "version made ready");
            core.note_version(id, version.revision, prepared.err()).await;
        });
    }

    async fn note_version(&self, id: &FunctionId, revision: u64, failure: Option<StateReason>) {
        let state = if failure.is_none() { State::Active } else { State::Failed };
        let noted = self.store.settle_versions(id, revision, state, failure).await;
        if let Err(error) = noted {
            tracing::warn!(function = %id, %error, "the state of its versions is not kept");
        }
        self.cache.forget_routes(id);
    }

    pub(crate) async fn list_versions(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let limit = call.page(&shapes::MAX_LIST_ITEMS, PAGE, &mut violations)?;
        let named = call.whole_function(violations)?;
        let after = match call.marker()? {
            None => None,
            Some(text) => Some(text.parse::<u64>().map_err(|_| {
                ApiError::parameter("The provided marker is not valid; use the NextMarker of an answer")
            })?),
        };
        let record = self.record(&named.id).await?;
        let arn = call.scope.arn(&named.id);
        let listed = self.store.list_versions(&named.id, after.unwrap_or(0), limit + 1).await;
        let listed = listed.map_err(|error| ApiError::store(&error, &arn))?;
        // The version that changes comes first.
        let latest =
            after.is_none().then(|| render::listed(&record, Version::Latest, &format!("{arn}:{LATEST}")));
        let room = limit - usize::from(latest.is_some());
        let last = listed.len().min(room).checked_sub(1).map_or(0, |at| listed[at].number);
        let more = listed.len() > room;
        let published = listed.into_iter().take(room).map(|version| {
            let (number, arn) = (Version::Published(version.number), format!("{arn}:{}", version.number));
            render::listed(&as_record(version, record.clone()), number, &arn)
        });
        let mut document = json!({"Versions": latest.into_iter().chain(published).collect::<Vec<_>>()});
        if more {
            document["NextMarker"] = mark(&last.to_string()).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    /// A page of all versions of all functions. The marker is a function's name, a colon, and the number of the version
    /// that was last, zero for `$LATEST`.
    pub(crate) async fn list_all_versions(&self, scope: &Scope, after: &str, limit: usize) -> Answer {
        let failed = |error| ApiError::store(&error, "");
        let (name, number) = after.split_once(':').unwrap_or_default();
        let mut shown = Vec::with_capacity(limit + 1);
        let mut next = if after.is_empty() {
            None
        } else {
            let id = FunctionId { account: scope.account.clone(), name: name.into() };
            self.store
                .function(&id)
                .await
                .map_err(failed)?
                .map(|record| (record, number.parse().unwrap_or(0)))
        };
        let mut last_name = name.to_owned();
        while shown.len() <= limit {
            if let Some((record, number)) = next.take() {
                let listed = self.store.list_versions(&record.id, number, limit + 1 - shown.len()).await;
                for version in listed.map_err(failed)? {
                    let (number, arn) =
                        (version.number, format!("{}:{}", scope.arn(&record.id), version.number));
                    let record = as_record(version, record.clone());
                    let document = render::listed(&record, Version::Published(number), &arn);
                    shown.push((format!("{}:{number}", record.id.name), document));
                }
                continue;
            }
            let listed = self.store.list_functions(&scope.account, Some(&last_name), 1).await;
            let Some(record) = listed.map_err(failed)?.pop() else { break };
            record.id.name.as_ref().clone_into(&mut last_name);
            let arn = format!("{}:{LATEST}", scope.arn(&record.id));
            shown.push((format!("{last_name}:0"), render::listed(&record, Version::Latest, &arn)));
            next = Some((record, 0));
        }
        let more = shown.len() > limit;
        shown.truncate(limit);
        let marker = shown.last().filter(|_| more).map(|(marker, _)| mark(marker));
        let functions: Vec<_> = shown.into_iter().map(|(_, document)| document).collect();
        let mut document = json!({"Functions": functions});
        if let Some(marker) = marker {
            document["NextMarker"] = marker.into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    /// Deletes one version of a function; one that is not there is deleted already.
    pub(crate) async fn delete_version(&self, id: &FunctionId, number: u64) -> Answer {
        let failed = |error| ApiError::store(&error, &self.arn(id));
        let _one_at_a_time = self.reserving.lock().await;
        self.record(id).await?;
        let Some(version) = self.store.version(id, number).await.map_err(failed)? else {
            return Ok(empty(StatusCode::NO_CONTENT));
        };
        let wanted = Some(Version::Published(number));
        let aliases = self.store.list_aliases(id, wanted, "", PAGE).await.map_err(failed)?;
        if !aliases.is_empty() {
            let names: Vec<_> = aliases.iter().map(|alias| alias.name.as_str()).collect();
            return Err(ApiError::conflict(format!(
                "Unable to delete version because the following aliases reference it: [{}]",
                names.join(", ")
            )));
        }
        let before = self.plan(id).await?;
        self.store.delete_version(id, number).await.map_err(failed)?;
        let named = Named { id: id.clone(), qualifier: None };
        self.forget_policy(&named, &Qualifier::Published(number)).await;
        self.forget_event_config(id, &Qualifier::Published(number)).await;
        self.cache.forget_routes(id);
        if before.contains_key(&number) {
            let record = self.record(id).await?;
            if let Ok(spec) = spec::of(&record, Source::published(&version), &self.region) {
                self.backend.provision(spec, 0);
            }
        }
        // Its instances are of no use any more, as if a newer revision had come.
        let version_id = VersionId { function: id.clone(), version: Version::Published(number) };
        self.backend.revision_replaced(&RevisionId { version: version_id, number: version.revision + 1 });
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// What a qualifier leads to: a function's record, with what the version has for its own, and which version.
    ///
    /// # Errors
    /// There is no such function, version or alias, or the store failed.
    pub(crate) async fn resolve(
        &self,
        id: &FunctionId,
        qualifier: &Qualifier,
    ) -> Result<(FunctionRecord, Version), ApiError> {
        let record = self.record(id).await?;
        let version = match qualifier {
            Qualifier::None | Qualifier::Latest => Version::Latest,
            Qualifier::Published(number) => Version::Published(*number),
            Qualifier::Alias(name) => self.alias(id, name).await?.version,
        };
        match version {
            Version::Latest => Ok((record, version)),
            Version::Published(number) => Ok((as_record(self.version(id, number).await?, record), version)),
        }
    }

    /// A version.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub(crate) async fn version(&self, id: &FunctionId, number: u64) -> Result<VersionRecord, ApiError> {
        let found = self.store.version(id, number).await;
        let found = found.map_err(|error| ApiError::store(&error, &self.arn(id)))?;
        found.ok_or_else(|| self.scope(id).missing(id, &number.to_string()))
    }

    /// An alias.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub(crate) async fn alias(&self, id: &FunctionId, name: &str) -> Result<AliasRecord, ApiError> {
        let found = self.store.alias(id, name).await;
        let found = found.map_err(|error| ApiError::store(&error, &self.arn(id)))?;
        found.ok_or_else(|| self.scope(id).missing(id, name))
    }

    /// Where an invocation with this qualifier goes; from memory if it was asked before.
    ///
    /// # Errors
    /// There is no such function, version or alias, or the store failed.
    pub(crate) async fn routed(
        &self,
        id: &FunctionId,
        qualifier: &Qualifier,
    ) -> Result<Arc<Route>, ApiError> {
        if let Some(route) = self.cache.route(id, qualifier) {
            return Ok(route);
        }
        let epoch = self.cache.epoch();
        let record = self.record(id).await?;
        self.cache.put(epoch, &record, &self.region);
        let (version, additional) = match qualifier {
            Qualifier::None | Qualifier::Latest => (Version::Latest, None),
            Qualifier::Published(number) => (Version::Published(*number), None),
            Qualifier::Alias(name) => {
                let alias = self.alias(id, name).await?;
                (alias.version, alias.additional)
            }
        };
        let main = self.branch(&record, version).await?;
        let additional = match additional {
            None => None,
            Some((number, weight)) => Some((self.branch(&record, Version::Published(number)).await?, weight)),
        };
        let route = Arc::new(Route::new(main, additional, uuid::Uuid::new_v4().as_u64_pair().0));
        self.cache.put_route(epoch, &record, qualifier.clone(), Arc::clone(&route));
        Ok(route)
    }

    async fn branch(&self, record: &FunctionRecord, version: Version) -> Result<Branch, ApiError> {
        match version {
            Version::Latest => {
                let entry = crate::cache::Entry::of(record, &self.region);
                Ok(Branch { state: entry.state, spec: entry.serving })
            }
            Version::Published(number) => {
                let published = self.version(&record.id, number).await?;
                let spec = spec::of(record, Source::published(&published), &self.region).ok();
                Ok(Branch { state: published.state, spec })
            }
        }
    }
}

fn busy(arn: &str) -> ApiError {
    ApiError::conflict(format!("The function was changed by another request in the meantime: {arn}"))
}

/// `FunctionConfiguration` of a new version.
pub(crate) fn render(version: VersionRecord, function: FunctionRecord, arn: &str) -> Value {
    let number = version.number;
    render::configuration(
        &as_record(version, function),
        Version::Published(number),
        &format!("{arn}:{number}"),
    )
}

/// A version as if it were a function of its own; what is one for all versions is `function`'s.
pub(crate) fn as_record(version: VersionRecord, function: FunctionRecord) -> FunctionRecord {
    let status = match version.state {
        State::Pending => UpdateStatus::InProgress,
        State::Active => UpdateStatus::Successful,
        State::Failed => UpdateStatus::Failed,
    };
    FunctionRecord {
        revision: version.revision,
        revision_id: version.revision_id,
        config: version.config,
        code: version.code,
        state: version.state,
        last_update: LastUpdate { status, reason: version.state_reason.clone() },
        state_reason: version.state_reason,
        modified_ms: version.modified_ms,
        serving: None,
        ..function
    }
}

/// Whether a version can be made of a record, and is the one that the caller wants.
fn check_publishable(record: &FunctionRecord, members: &Members, arn: &str) -> Result<(), ApiError> {
    crate::functions::check_changeable(record, members, arn)?;
    if record.last_update.status != UpdateStatus::Successful {
        return Err(ApiError::conflict(format!(
            "The operation cannot be performed at this time. The last update failed for resource: {arn}"
        )));
    }
    let digest = match &record.config.image {
        Some(_) => record.code.digest.to_string(),
        None => STANDARD.encode(record.code.digest.0),
    };
    match members.text("CodeSha256").filter(|wanted| !wanted.is_empty() && *wanted != digest) {
        None => Ok(()),
        Some(wanted) => Err(ApiError::parameter(format!(
            "CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({digest}). Please try again \
             with the CodeSHA256 in $LATEST."
        ))),
    }
}
