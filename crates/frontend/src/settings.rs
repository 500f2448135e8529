//! What can be set on a function without making a new revision of it, and the account's limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_store::Change;
use hearth_types::{FunctionId, limits};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::Backend;
use crate::body::{Body, empty, json as answer};
use crate::core::Core;
use crate::error::ApiError;
use crate::mappings::is_mapping;
use crate::request::Members;
use crate::service::Call;
use crate::shapes;
use crate::tags::{HOSTS, Settings};
use crate::tenancy;
use crate::validate::Violations;

/// Lambda's limit for all code of an account; told, not enforced.
const TOTAL_CODE_BYTES: u64 = 80_530_636_800;

type Answer = Result<Response<Body>, ApiError>;

impl<B: Backend> Core<B> {
    pub(crate) async fn get_account_settings(&self, call: Call) -> Answer {
        let usage = self.store.usage(&call.scope.account).await;
        let usage = usage.map_err(|error| ApiError::store(&error, ""))?;
        let all = u64::from(self.config.account_concurrency);
        let document = json!({
            "AccountLimit": {
                "TotalCodeSize": TOTAL_CODE_BYTES,
                "CodeSizeUnzipped": limits::UNZIPPED_BYTES,
                "CodeSizeZipped": limits::ZIP_BYTES,
                "ConcurrentExecutions": all,
                "UnreservedConcurrentExecutions": all.saturating_sub(usage.reserved_concurrency),
            },
            "AccountUsage": {"TotalCodeSize": usage.code_bytes, "FunctionCount": usage.functions},
        });
        Ok(answer(StatusCode::OK, &document))
    }

    pub(crate) async fn tag_resource(&self, call: Call) -> Answer {
        if is_mapping(&call.name) {
            return self.tag_mapping(call).await;
        }
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        let id = call.scope.tagged(&call.name, &mut violations)?;
        violations.body(&members.fields, &shapes::TAG_RESOURCE_REQUEST)?;
        violations.finish()?;
        let added = members.texts("Tags").unwrap_or_default();
        let one_at_a_time = match added.contains_key(HOSTS) {
            true => Some(self.reserving.lock().await),
            false => None,
        };
        self.change_tags(&id, |tags| tags.extend(added.clone())).await?;
        drop(one_at_a_time);
        self.provision_again(&id).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(crate) async fn untag_resource(&self, call: Call) -> Answer {
        if is_mapping(&call.name) {
            return self.untag_mapping(call).await;
        }
        let mut violations = Violations::default();
        let id = call.scope.tagged(&call.name, &mut violations)?;
        let keys = call.tag_keys(violations)?;
        let one_at_a_time = match keys.iter().any(|key| key == HOSTS) {
            true => Some(self.reserving.lock().await),
            false => None,
        };
        self.change_tags(&id, |tags| tags.retain(|key, _| !keys.contains(key))).await?;
        drop(one_at_a_time);
        self.provision_again(&id).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Changes a function's tags, and gives it the hosts that they name once they are kept. Whoever changes the tag with hosts holds
    /// `reserving`; another change of tags leaves the hosts as they are.
    async fn change_tags(
        &self,
        id: &FunctionId,
        mut change: impl FnMut(&mut BTreeMap<String, String>) + Send,
    ) -> Result<(), ApiError> {
        let mut before = None;
        let kept = self
            .modify(id, Change::Bookkeeping, |record| {
                before = record.tags.get(HOSTS).cloned();
                change(&mut record.tags);
                tenancy::check_service(&record.config, &Settings::read(&record.tags)?)?;
                self.check_hosts(&record.id, &record.tags)
            })
            .await?;
        if before.as_ref() != kept.tags.get(HOSTS) {
            self.hosts.set(id, &kept.tags);
        }
        Ok(())
    }

    pub(crate) async fn list_tags(&self, call: Call) -> Answer {
        if is_mapping(&call.name) {
            return self.list_mapping_tags(call);
        }
        let mut violations = Violations::default();
        let id = call.scope.tagged(&call.name, &mut violations)?;
        violations.finish()?;
        let record = self.record(&id).await?;
        Ok(answer(StatusCode::OK, &json!({"Tags": record.tags})))
    }

    pub(crate) async fn put_function_concurrency(self: &Arc<Self>, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let named = call.changed_function(&members, &shapes::PUT_FUNCTION_CONCURRENCY_REQUEST)?;
        let wanted = members.number("ReservedConcurrentExecutions").unwrap_or(0);
        let _one_at_a_time = self.reserving.lock().await;
        let current = self.record(&named.id).await?;
        let usage = self.store.usage(&call.scope.account).await;
        let usage = usage.map_err(|error| ApiError::store(&error, ""))?;
        let provisioned = self.store.provisioned(&named.id).await;
        let provisioned = provisioned.map_err(|error| ApiError::store(&error, ""))?;
        let provisioned: u64 = provisioned.iter().map(|config| u64::from(config.count)).sum();
        if u64::from(wanted) < provisioned {
            return Err(ApiError::parameter(format!(
                "Specified ReservedConcurrentExecutions {wanted} should not be lower than function's total \
                 provisioned concurrency [{provisioned}]."
            )));
        }
        let others = match current.reserved_concurrency {
            Some(own) => usage.provisioned_unreserved + usage.reserved_concurrency.saturating_sub(own.into()),
            None => usage.provisioned_unreserved.saturating_sub(provisioned) + usage.reserved_concurrency,
        };
        let least = u64::from(limits::UNRESERVED_CONCURRENCY);
        let all = u64::from(self.config.account_concurrency);
        if wanted > 0 && others + u64::from(wanted) + least > all {
            return Err(ApiError::parameter(format!(
                "Specified ReservedConcurrentExecutions for function decreases account's \
                 UnreservedConcurrentExecution below its minimum value of [{least}]."
            )));
        }
        self.modify(&named.id, Change::Bookkeeping, |record| {
            record.reserved_concurrency = Some(wanted);
            Ok(())
        })
        .await?;
        self.backend.concurrency_reserved(&named.id, Some(wanted));
        self.provision_again(&named.id).await?;
        Ok(answer(StatusCode::OK, &json!({"ReservedConcurrentExecutions": wanted})))
    }

    pub(crate) async fn get_function_concurrency(&self, call: Call) -> Answer {
        let named = call.whole_function(Violations::default())?;
        let document = match self.record(&named.id).await?.reserved_concurrency {
            Some(reserved) => json!({"ReservedConcurrentExecutions": reserved}),
            None => json!({}),
        };
        Ok(answer(StatusCode::OK, &document))
    }

    pub(crate) async fn delete_function_concurrency(&self, call: Call) -> Answer {
        let named = call.whole_function(Violations::default())?;
        let _one_at_a_time = self.reserving.lock().await;
        self.modify(&named.id, Change::Bookkeeping, |record| {
            record.reserved_concurrency = None;
            Ok(())
        })
        .await?;
        self.backend.concurrency_reserved(&named.id, None);
        self.provision_again(&named.id).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }
}
