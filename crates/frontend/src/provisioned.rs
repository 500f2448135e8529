//! Provisioned concurrency: instances of a version that are ready before anybody asks.
//!
//! It is kept by qualifier, and told to the backend by version: the sum of what the version itself has and of what
//! comes to it from aliases.

mod plan;

use hearth_store::{FunctionRecord, ProvisionedRecord, State};
use hearth_types::{FunctionId, Version, limits};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use self::plan::share;
use crate::backend::Provisioned;
use crate::body::{Body, empty, json as answer};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::{Named, Qualifier, Scope, query_value};
use crate::render::{state_word, whole_seconds};
use crate::request::Members;
use crate::service::{Call, mark};
use crate::spec::{self, Source};
use crate::validate::Violations;
use crate::{Backend, shapes, tenancy};

/// What is said of `$LATEST`, which can be had ready by no number of instances: it changes.
pub(crate) const UNPUBLISHED: &str =
    "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
/// Entries on one page.
const PAGE: usize = 50;
/// More aliases than these of one function are not counted in.
const MOST_ALIASES: usize = 10_000;

type Answer = Result<Response<Body>, ApiError>;

impl<B: Backend> Core<B> {
    pub(crate) async fn put_provisioned(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::PUT_PROVISIONED_CONCURRENCY_REQUEST)?;
        let (named, qualifier) = qualified(&call, violations, UNPUBLISHED)?;
        let id = &named.id;
        let count = members.number("ProvisionedConcurrentExecutions").unwrap_or(1);
        let _one_at_a_time = self.reserving.lock().await;
        let record = self.record(id).await?;
        tenancy::refuse(&record.config, "Provisioned concurrency")?;
        let kept =
            self.store.provisioned(id).await.map_err(|error| ApiError::store(&error, &self.arn(id)))?;
        self.check_target(id, &qualifier, &kept).await?;
        let text = qualifier_text(&qualifier);
        let other = kept.iter().filter(|one| one.qualifier != text).map(|one| one.count);
        self.check_sum(&record, &kept, other.fold(count, u32::saturating_add)).await?;
        let before = self.plan(id).await?;
        let new = ProvisionedRecord { function: id.clone(), qualifier: text, count, modified_ms: now_ms() };
        let put = self.store.put_provisioned(new.clone()).await;
        put.map_err(|error| ApiError::store(&error, &self.arn(id)))?;
        self.provision(id, &before).await?;
        Ok(answer(StatusCode::ACCEPTED, &self.shown_provisioned(&record, &new).await?))
    }

    pub(crate) async fn get_provisioned(&self, call: Call) -> Answer {
        let (named, qualifier) = qualified(&call, Violations::default(), NEITHER)?;
        let (record, _) = self.resolve(&named.id, &qualifier).await?;
        let text = qualifier_text(&qualifier);
        let kept = self.store.provisioned(&named.id).await;
        let kept = kept.map_err(|error| ApiError::store(&error, &self.arn(&named.id)))?;
        let Some(config) = kept.into_iter().find(|one| one.qualifier == text) else {
            let text = "No Provisioned Concurrency Config found for this function";
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "ProvisionedConcurrencyConfigNotFoundException",
                text,
            ));
        };
        Ok(answer(StatusCode::OK, &self.shown_provisioned(&record, &config).await?))
    }

    pub(crate) async fn list_provisioned(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let limit = call.page(&shapes::MAX_PROVISIONED_ITEMS, PAGE, &mut violations)?;
        let named = call.whole_function(violations)?;
        let after = call.marker()?.unwrap_or_default();
        let record = self.record(&named.id).await?;
        let arn = call.scope.arn(&named.id);
        let kept = self.store.provisioned(&named.id).await.map_err(|error| ApiError::store(&error, &arn))?;
        let mut page: Vec<_> = kept.into_iter().filter(|one| one.qualifier > after).take(limit + 1).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let mut shown = Vec::with_capacity(page.len());
        for config in &page {
            let mut item = self.shown_provisioned(&record, config).await?;
            item["FunctionArn"] = format!("{arn}:{}", config.qualifier).into();
            shown.push(item);
        }
        let mut document = json!({"ProvisionedConcurrencyConfigs": shown});
        if let Some(last) = page.last().filter(|_| more) {
            document["NextMarker"] = mark(&last.qualifier).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    pub(crate) async fn delete_provisioned(&self, call: Call) -> Answer {
        let (named, qualifier) = qualified(&call, Violations::default(), NEITHER)?;
        let _one_at_a_time = self.reserving.lock().await;
        self.resolve(&named.id, &qualifier).await?;
        let before = self.plan(&named.id).await?;
        let deleted = self.store.delete_provisioned(&named.id, &qualifier_text(&qualifier)).await;
        deleted.map_err(|error| ApiError::store(&error, &self.arn(&named.id)))?;
        self.provision(&named.id, &before).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Whether instances can be had ready for what a qualifier leads to.
    async fn check_target(
        &self,
        id: &FunctionId,
        qualifier: &Qualifier,
        kept: &[ProvisionedRecord],
    ) -> Result<(), ApiError> {
        let has = |text: &str| kept.iter().any(|one| one.qualifier == text);
        let (target, version) = self.resolve(id, qualifier).await?;
        if version == Version::Latest {
            return Err(ApiError::parameter(UNPUBLISHED));
        }
        if let Qualifier::Alias(name) = qualifier {
            if self.alias(id, name).await?.additional.is_some() {
                let text = "Alias with weights can not be used with Provisioned Concurrency";
                return Err(ApiError::parameter(text));
            }
            if has(&version.to_string()) {
                return Err(ApiError::conflict(
                    "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
                ));
            }
        } else {
            let aliases = self.store.list_aliases(id, Some(version), "", MOST_ALIASES).await;
            let aliases = aliases.map_err(|error| ApiError::store(&error, &self.arn(id)))?;
            if aliases.iter().any(|alias| has(&alias.name)) {
                return Err(ApiError::conflict("Version is pointed by a Provisioned Concurrency alias"));
            }
        }
        match target.state {
            State::Active => Ok(()),
            state => Err(ApiError::conflict(format!(
                "The operation cannot be performed at this time. The function is currently in the following state: {}",
                state_word(state)
            ))),
        }
    }

    /// Whether a function may have `total` provisioned over all its versions.
    async fn check_sum(
        &self,
        record: &FunctionRecord,
        kept: &[ProvisionedRecord],
        total: u32,
    ) -> Result<(), ApiError> {
        if let Some(reserved) = record.reserved_concurrency {
            return if total <= reserved {
                Ok(())
            } else {
                Err(ApiError::parameter(
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution \
                     for function",
                ))
            };
        }
        let usage =
            self.store.usage(&record.id.account).await.map_err(|error| ApiError::store(&error, ""))?;
        let own: u64 = kept.iter().map(|one| u64::from(one.count)).sum();
        let taken = usage.reserved_concurrency + usage.provisioned_unreserved.saturating_sub(own);
        let left = u64::from(self.config.account_concurrency).saturating_sub(taken);
        let least = u64::from(limits::UNRESERVED_CONCURRENCY);
        if u64::from(total) > left {
            return Err(ApiError::parameter(format!(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{left}]."
            )));
        }
        if u64::from(total) + least > left {
            return Err(ApiError::parameter(format!(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below \
                 its minimum value of [{least}]."
            )));
        }
        Ok(())
    }

    /// A config with how far it has come.
    async fn shown_provisioned(
        &self,
        record: &FunctionRecord,
        config: &ProvisionedRecord,
    ) -> Result<Value, ApiError> {
        let plan = self.plan(&config.function).await?;
        let mut sum = Provisioned::default();
        for (number, count) in self.parts(config).await? {
            let version = self.version(&config.function, number).await?;
            let Ok(spec) = spec::of(record, Source::published(&version), &self.region) else { continue };
            let now = self.backend.provisioned(&spec.revision);
            let all = plan.get(&number).copied().unwrap_or(count);
            sum.allocated += share(now.allocated, count, all);
            sum.available += share(now.available, count, all);
            sum.failure = sum.failure.or(now.failure);
        }
        let ready = sum.allocated >= config.count;
        let status = match &sum.failure {
            _ if ready => "READY",
            Some(_) => "FAILED",
            None => "IN_PROGRESS",
        };
        let mut document = json!({
            "RequestedProvisionedConcurrentExecutions": config.count,
            "AllocatedProvisionedConcurrentExecutions": sum.allocated,
            "AvailableProvisionedConcurrentExecutions": sum.available,
            "Status": status,
            "LastModified": whole_seconds(config.modified_ms),
        });
        if let Some(failure) = sum.failure.filter(|_| !ready) {
            document["StatusReason"] = failure.into();
        }
        Ok(document)
    }
}

/// What is said of `$LATEST` to who asks about it.
const NEITHER: &str = "The function resource provided must be an alias or a published version.";

/// The function and the version or alias that a request is about; `latest` is what is said of `$LATEST`.
fn qualified(call: &Call, mut violations: Violations, latest: &str) -> Result<(Named, Qualifier), ApiError> {
    let named = call.scope.function(&call.name, &shapes::FUNCTION_NAME, &mut violations)?;
    let query = query_value(&call.query, "Qualifier");
    match &query {
        Some(query) => violations.text(query, "qualifier", &shapes::QUALIFIER),
        None if named.qualifier.is_none() => violations.missing("qualifier"),
        None => {}
    }
    violations.finish()?;
    match Scope::qualifier(&named, query.as_deref())? {
        Qualifier::None | Qualifier::Latest => Err(ApiError::parameter(latest)),
        qualifier => Ok((named, qualifier)),
    }
}

fn qualifier_text(qualifier: &Qualifier) -> String {
    match qualifier {
        Qualifier::Published(number) => number.to_string(),
        Qualifier::Alias(name) => name.clone(),
        Qualifier::None | Qualifier::Latest => String::new(),
    }
}
