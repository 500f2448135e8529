//! Functions made, shown, changed and deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_store::{
    Change, CodeRef, FunctionConfig, FunctionRecord, LastUpdate, NewFunction, Served, State, StateReason,
    StoreError, UpdateStatus,
};
use hearth_types::{AccountId, Version};
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::{Body, empty, json as answer};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::image::{self, Found};
use crate::names::{Named, Qualifier, Scope, query_value};
use crate::request::Members;
use crate::service::{Call, mark};
use crate::tags::{HOSTS, Settings};
use crate::validate::Violations;
use crate::{Backend, config, render, shapes, tenancy, versions};

/// Functions on one page of ListFunctions.
const PAGE: usize = 50;

type Answer = Result<Response<Body>, ApiError>;

impl<B: Backend> Core<B> {
    pub(crate) async fn create_function(self: &Arc<Self>, mut call: Call) -> Answer {
        let mut members = Members::parse(&call.body)?;
        call.body = bytes::Bytes::new();
        let scope = &call.scope;
        let mut violations = Violations::default();
        let name = members.text("FunctionName").unwrap_or_default().to_owned();
        let named = scope.function(&name, &shapes::FUNCTION_NAME, &mut violations)?;
        violations.body(&members.fields, &shapes::CREATE_FUNCTION_REQUEST)?;
        violations.finish()?;
        let arn = scope.arn(&named.id);
        if Scope::qualifier(&named, None)? != Qualifier::None {
            return Err(ApiError::parameter(format!(
                "A new function's name cannot have a qualifier: {name}"
            )));
        }
        let mut config = config::create(&named.id.name, &members)?;
        self.check_dead_letter(scope, &members)?;
        let tags = members.texts("Tags").unwrap_or_default();
        tenancy::check_service(&config, &Settings::read(&tags)?)?;
        let found = self.store.function(&named.id).await.map_err(|error| ApiError::store(&error, &arn))?;
        if found.is_some() {
            return Err(ApiError::store(&StoreError::Exists(named.id), &arn));
        }
        let signing = members.text("CodeSigningConfigArn").filter(|arn| !arn.is_empty()).map(str::to_owned);
        if let Some(arn) = &signing {
            self.check_code_signing(&call, arn).await?;
        }
        let code = members.fields.get("Code").cloned().unwrap_or_default();
        config.layers = self.layers_of(scope, &members).await?.unwrap_or_default();
        let (code, found) = self.take_program(&call, &config, &code, &mut members, "CreateFunction").await?;
        image::set(&mut config, found);
        let new = NewFunction { id: named.id, config, code, tags, now_ms: now_ms() };
        let epoch = self.cache.epoch();
        let kept = self.keep_new(new, &arn).await?;
        self.cache.put(epoch, &kept, &self.region);
        if let Some(arn) = &signing {
            self.give_code_signing(&Named { id: kept.id.clone(), qualifier: None }, arn).await?;
        }
        let document = match members.flag("Publish") {
            false => Ok(render::configuration(&kept, Version::Latest, &arn)),
            true => self.publish(&kept).await.map(|version| {
                let number = Version::Published(version.number);
                render::configuration(&versions::as_record(version, kept.clone()), number, &arn)
            }),
        };
        // Even if the version was not kept, the function was, and has to be made ready.
        self.settle(kept);
        Ok(answer(StatusCode::CREATED, &document?))
    }

    /// Keeps a new function, and gives it the hosts that its tags name once it is kept.
    async fn keep_new(&self, new: NewFunction, arn: &str) -> Result<FunctionRecord, ApiError> {
        let _one_at_a_time = match new.tags.contains_key(HOSTS) {
            true => Some(self.reserving.lock().await),
            false => None,
        };
        self.check_hosts(&new.id, &new.tags)?;
        let kept = self.store.create_function(new).await.map_err(|error| ApiError::store(&error, arn))?;
        self.hosts.set(&kept.id, &kept.tags);
        Ok(kept)
    }

    /// Takes what a function of this configuration runs: an archive that is unpacked and kept, or an image that is found.
    async fn take_program(
        &self,
        call: &Call,
        config: &FunctionConfig,
        source: &Value,
        members: &mut Members,
        operation: &str,
    ) -> Result<(CodeRef, Option<Found>), ApiError> {
        if config.image.is_some() {
            return self.take_image(source, members.zip.is_some(), &call.scope.account, &call.headers).await;
        }
        let code = self.take_code(source, members.zip.take(), operation).await?;
        self.check_sizes(code.digest, &config.layers).await?;
        Ok((code, None))
    }

    /// Finds the image of a request.
    async fn take_image(
        &self,
        source: &Value,
        has_zip: bool,
        account: &AccountId,
        headers: &HeaderMap,
    ) -> Result<(CodeRef, Option<Found>), ApiError> {
        let given = |name: &str| source.get(name).is_some_and(|value| !value.is_null());
        if has_zip || given("S3Bucket") || given("S3Key") {
            return Err(ApiError::parameter(
                "Please don't provide ZipFile, S3Bucket or S3Key when the function's PackageType is Image.",
            ));
        }
        let Some(uri) = source.get("ImageUri").and_then(Value::as_str) else {
            return Err(ApiError::parameter(
                "Please provide ImageUri when the function's PackageType is Image.",
            ));
        };
        let found = self.find_image(uri, account, headers).await?;
        Ok((found.code, Some(found)))
    }

    pub(crate) async fn get_function(&self, call: Call) -> Answer {
        let (named, qualifier) = call.qualified_function()?;
        let (record, version) = self.resolve(&named.id, &qualifier).await?;
        let arn = qualifier.behind(&call.scope.arn(&named.id));
        let mut document = json!({
            "Configuration": render::configuration(&record, version, &arn),
            "Code": match &record.config.image {
                Some(image) => image::location(image),
                None => json!({"RepositoryType": "S3", "Location": self.location(record.code.digest)}),
            },
        });
        if !record.tags.is_empty() {
            document["Tags"] = json!(record.tags);
        }
        if let Some(reserved) = record.reserved_concurrency {
            document["Concurrency"] = json!({"ReservedConcurrentExecutions": reserved});
        }
        Ok(answer(StatusCode::OK, &document))
    }

    pub(crate) async fn get_function_configuration(&self, call: Call) -> Answer {
        let (named, qualifier) = call.qualified_function()?;
        let (record, version) = self.resolve(&named.id, &qualifier).await?;
        let arn = qualifier.behind(&call.scope.arn(&named.id));
        Ok(answer(StatusCode::OK, &render::configuration(&record, version, &arn)))
    }

    pub(crate) async fn list_functions(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let version = query_value(&call.query, "FunctionVersion");
        if let Some(version) = &version {
            violations.text(version, "functionVersion", &shapes::FUNCTION_VERSION);
        }
        let limit = call.page(&shapes::MAX_LIST_ITEMS, PAGE, &mut violations)?;
        violations.finish()?;
        let after = call.marker()?;
        if version.is_some() {
            return self.list_all_versions(&call.scope, after.as_deref().unwrap_or_default(), limit).await;
        }
        let listed = self.store.list_functions(&call.scope.account, after.as_deref(), limit + 1).await;
        let mut records = listed.map_err(|error| ApiError::store(&error, ""))?;
        let more = records.len() > limit;
        records.truncate(limit);
        let shown =
            |record: &FunctionRecord| render::listed(record, Version::Latest, &call.scope.arn(&record.id));
        let mut document = json!({"Functions": records.iter().map(shown).collect::<Vec<_>>()});
        if let Some(last) = records.last().filter(|_| more) {
            document["NextMarker"] = mark(&last.id.name).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    pub(crate) async fn update_function_code(self: &Arc<Self>, mut call: Call) -> Answer {
        let mut members = Members::parse(&call.body)?;
        call.body = bytes::Bytes::new();
        let named = call.changed_function(&members, &shapes::UPDATE_FUNCTION_CODE_REQUEST)?;
        let mut current = self.record(&named.id).await?;
        check_changeable(&current, &members, &call.scope.arn(&named.id))?;
        config::change_architecture(&mut current.config, &members)?;
        let source = Value::Object(members.fields.clone());
        let operation = "UpdateFunctionCode";
        let (code, found) =
            self.take_program(&call, &current.config, &source, &mut members, operation).await?;
        if members.flag("DryRun") {
            current.code = code;
            image::set(&mut current.config, found);
            let arn = call.scope.arn(&named.id);
            return Ok(answer(StatusCode::OK, &render::configuration(&current, Version::Latest, &arn)));
        }
        self.replace(&call, &named, &members, |record| {
            record.code = code;
            image::set(&mut record.config, found.clone());
            config::change_architecture(&mut record.config, &members)
        })
        .await
    }

    pub(crate) async fn update_function_configuration(self: &Arc<Self>, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let named = call.changed_function(&members, &shapes::UPDATE_FUNCTION_CONFIGURATION_REQUEST)?;
        self.check_dead_letter(&call.scope, &members)?;
        let layers = self.layers_of(&call.scope, &members).await?;
        if let Some(layers) = &layers {
            let record = self.record(&named.id).await?;
            self.check_sizes(record.code.digest, layers).await?;
        }
        self.replace(&call, &named, &members, |record| {
            if let Some(layers) = &layers {
                record.config.layers.clone_from(layers);
            }
            config::change(&mut record.config, &members)
        })
        .await
    }

    /// Makes a new revision, which serves when it is ready.
    async fn replace<F>(
        self: &Arc<Self>,
        call: &Call,
        named: &Named,
        members: &Members,
        mut edit: F,
    ) -> Answer
    where
        F: FnMut(&mut FunctionRecord) -> Result<(), ApiError> + Send,
    {
        let arn = call.scope.arn(&named.id);
        let change = |record: &mut FunctionRecord| {
            check_changeable(record, members, &arn)?;
            // The revision that serves goes on serving until the new one can.
            let served = (record.last_update.status == UpdateStatus::Successful).then(|| Served {
                revision: record.revision,
                config: record.config.clone(),
                code: record.code,
            });
            edit(record)?;
            record.serving = served.or_else(|| record.serving.take());
            record.modified_ms = now_ms();
            let reason = StateReason {
                code: "Creating".to_owned(),
                text: "The function is being created.".to_owned(),
            };
            record.last_update = LastUpdate { status: UpdateStatus::InProgress, reason: Some(reason) };
            Ok(())
        };
        let kept = self.modify(&named.id, Change::Revision, change).await?;
        let document = match members.flag("Publish") {
            false => Ok(render::configuration(&kept, Version::Latest, &arn)),
            true => self.publish(&kept).await.map(|version| versions::render(version, kept.clone(), &arn)),
        };
        self.settle(kept);
        Ok(answer(StatusCode::OK, &document?))
    }

    pub(crate) async fn delete_function(&self, call: Call) -> Answer {
        let (named, qualifier) = call.qualified_function()?;
        let arn = call.scope.arn(&named.id);
        match qualifier {
            Qualifier::None => {}
            Qualifier::Latest => {
                let text = "$LATEST version cannot be deleted without deleting the function.";
                return Err(ApiError::parameter(text));
            }
            Qualifier::Published(number) => return self.delete_version(&named.id, number).await,
            Qualifier::Alias(_) => {
                return Err(ApiError::parameter("Deletion of aliases is not currently supported."));
            }
        }
        let _one_at_a_time = self.reserving.lock().await;
        let newest = self.store.delete_function(&named.id).await;
        let newest = newest.map_err(|error| ApiError::store(&error, &arn))?;
        self.cache.remove(&named.id);
        self.urls.forget(&named.id, None);
        self.hosts.set(&named.id, &BTreeMap::new());
        self.backend.function_deleted(&named.id, newest);
        let forgotten = self.backend.forget_events(&named.id).await;
        forgotten.map_err(|error| ApiError::store(&error, &arn))?;
        self.backend.concurrency_reserved(&named.id, None);
        Ok(empty(StatusCode::NO_CONTENT))
    }
}

/// Whether a record may get a new revision now.
pub(crate) fn check_changeable(
    record: &FunctionRecord,
    members: &Members,
    arn: &str,
) -> Result<(), ApiError> {
    if members.text("RevisionId").is_some_and(|wanted| wanted != record.revision_id) {
        return Err(ApiError::precondition());
    }
    if record.state == State::Pending {
        return Err(ApiError::conflict(
            "The operation cannot be performed at this time. The function is currently in the following state: \
             Pending",
        ));
    }
    if record.last_update.status == UpdateStatus::InProgress {
        return Err(ApiError::conflict(format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {arn}"
        )));
    }
    Ok(())
}
