//! Event source mappings: queues whose messages functions get.
//!
//! Here they are made, shown, changed and deleted; who receives the messages is the backend's business. Source:
//! docs.aws.amazon.com/lambda/latest/dg/with-sqs.html and .../services-sqs-parameters.html.

mod filter;
mod mapping;
mod pattern;
mod tagged;

use hearth_aws::QueueArn;
use hearth_store::{Expected, Setting, SettingKind, StoreError};
use hearth_types::{AccountId, FunctionId};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

pub use self::filter::Filters;
pub use self::mapping::Mapping;
pub(crate) use self::tagged::is_mapping;
use crate::backend::NoQueue;
use crate::body::{Body, json as answer};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::{Named, Qualifier, Scope, query_value};
use crate::request::Members;
use crate::service::{Call, mark};
use crate::validate::Violations;
use crate::{Backend, shapes, tenancy};

/// Mappings on one page.
const PAGE: usize = 100;
/// Mappings of an account.
const MOST: usize = 1_000;
/// Times a change is tried again because somebody else changed the mapping in between.
const ATTEMPTS: usize = 16;
const KIND: SettingKind = SettingKind::EventSourceMapping;

type Answer = Result<Response<Body>, ApiError>;

fn missing() -> ApiError {
    ApiError::not_found("The resource you requested does not exist.")
}

fn failed(error: &StoreError) -> ApiError {
    ApiError::store(error, "")
}

impl<B: Backend> Core<B> {
    pub(crate) async fn create_mapping(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::CREATE_MAPPING_REQUEST)?;
        violations.finish()?;
        let source = members.text("EventSourceArn").unwrap_or_default();
        let queue = own_queue(&call.scope, source)?;
        let mut mapping = Mapping::of(source);
        mapping.change(&members)?;
        mapping.tags = members.texts("Tags").unwrap_or_default();
        tagged::check(&mapping.tags)?;
        self.give_function(&call.scope, members.text("FunctionName").unwrap_or_default(), &mut mapping)
            .await?;
        self.check_queue(&call.scope, source, queue, &mapping).await?;
        mapping.modified_ms = now_ms();
        let _one_at_a_time = self.mapping.lock().await;
        let account = &call.scope.account;
        let others = self.backend.events().settings(KIND, account, "", "", MOST + 1);
        if others.len() >= MOST {
            return Err(ApiError::parameter(format!(
                "An account can have at most {MOST} event source mappings."
            )));
        }
        let same = others.iter().find(|setting| {
            Mapping::read(&setting.body).is_some_and(|other| {
                (&other.source, &other.function, &other.qualifier)
                    == (&mapping.source, &mapping.function, &mapping.qualifier)
            })
        });
        if let Some(other) = same {
            return Err(ApiError::conflict(format!(
                "An event source mapping with SQS arn (\" {source} \") and function (\" {} \") already exists. Please update \
                 or delete the existing mapping with UUID {}",
                mapping.function, other.key
            )));
        }
        let setting = Setting {
            kind: KIND,
            account: account.clone(),
            key: Uuid::new_v4().to_string(),
            generation: 0,
            mark: 0,
            body: serde_json::to_string(&mapping).unwrap_or_default(),
        };
        let key = setting.key.clone();
        let kept = self.backend.events().put_setting(setting, Expected::Nothing).await;
        kept.map_err(|error| failed(&error))?;
        self.backend.mappings_changed();
        Ok(answer(StatusCode::ACCEPTED, &self.shown_mapping(&call.scope, &key, &mapping)))
    }

    pub(crate) async fn get_mapping(&self, call: Call) -> Answer {
        let (_, mapping) = self.kept_mapping(&call)?;
        Ok(answer(StatusCode::OK, &self.shown_mapping(&call.scope, &call.name, &mapping)))
    }

    pub(crate) async fn list_mappings(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let limit = call.page(&shapes::MAX_LIST_ITEMS, PAGE, &mut violations)?;
        let source = query_value(&call.query, "EventSourceArn").filter(|text| !text.is_empty());
        if let Some(source) = &source {
            violations.text(source, "eventSourceArn", &shapes::ARN);
        }
        let named = match query_value(&call.query, "FunctionName").filter(|text| !text.is_empty()) {
            Some(text) => {
                Some(call.scope.function(&text, &shapes::NAMESPACED_FUNCTION_NAME, &mut violations)?)
            }
            None => None,
        };
        violations.finish()?;
        let after = call.marker()?.unwrap_or_default();
        let wanted = |mapping: &Mapping| {
            source.as_ref().is_none_or(|source| *source == mapping.source)
                && named.as_ref().is_none_or(|named| {
                    *named.id.name == *mapping.function
                        && (named.qualifier.is_none() || named.qualifier == mapping.qualifier)
                })
        };
        let all = self.backend.events().settings(KIND, &call.scope.account, "", &after, MOST);
        let mut found: Vec<_> = all
            .into_iter()
            .filter_map(|setting| Some((Mapping::read(&setting.body)?, setting.key)))
            .filter(|(mapping, _)| wanted(mapping))
            .take(limit + 1)
            .collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let shown = found.iter().map(|(mapping, key)| self.shown_mapping(&call.scope, key, mapping));
        let mut page = json!({"EventSourceMappings": shown.collect::<Vec<_>>()});
        if let Some((_, last)) = found.last().filter(|_| more) {
            page["NextMarker"] = mark(last).into();
        }
        Ok(answer(StatusCode::OK, &page))
    }

    pub(crate) async fn update_mapping(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::UPDATE_MAPPING_REQUEST)?;
        violations.finish()?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (setting, mut mapping) = self.kept_mapping(&call)?;
            mapping.change(&members)?;
            if let Some(name) = members.text("FunctionName") {
                self.give_function(&call.scope, name, &mut mapping).await?;
            }
            mapping.modified_ms = now_ms();
            if self.put_mapping(setting, &mapping).await? {
                self.backend.mappings_changed();
                let document = self.shown_mapping(&call.scope, &call.name, &mapping);
                return Ok(answer(StatusCode::ACCEPTED, &document));
            }
            if attempt == ATTEMPTS {
                return Err(ApiError::conflict("The mapping was changed by another request in the meantime"));
            }
        }
    }

    pub(crate) async fn delete_mapping(&self, call: Call) -> Answer {
        let (setting, mapping) = self.kept_mapping(&call)?;
        let deleted = self.backend.events().delete_setting(KIND, &setting.account, &setting.key).await;
        if !deleted.map_err(|error| failed(&error))? {
            return Err(missing());
        }
        self.backend.mappings_changed();
        let mut document = self.shown_mapping(&call.scope, &call.name, &mapping);
        document["State"] = "Deleting".into();
        Ok(answer(StatusCode::ACCEPTED, &document))
    }

    /// Keeps a mapping unless somebody changed it since it was read; whether it is kept.
    async fn put_mapping(&self, before: Setting, mapping: &Mapping) -> Result<bool, ApiError> {
        let expected = Expected::Generation(before.generation);
        let body = serde_json::to_string(mapping).unwrap_or_default();
        let kept = self.backend.events().put_setting(Setting { body, ..before }, expected).await;
        Ok(kept.map_err(|error| failed(&error))?.is_some())
    }

    fn kept_mapping(&self, call: &Call) -> Result<(Setting, Mapping), ApiError> {
        let mut violations = Violations::default();
        violations.text(&call.name, "uUID", &shapes::UUID_STRING);
        violations.finish()?;
        let kept = self.backend.events().setting(KIND, &call.scope.account, &call.name.to_ascii_lowercase());
        let kept = kept.ok_or_else(missing)?;
        let mapping = Mapping::read(&kept.body).ok_or_else(|| {
            ApiError::internal(
                "The mapping's record cannot be read by this Hearth: delete it and make it anew",
            )
        })?;
        Ok((kept, mapping))
    }

    /// Notes which function a mapping is for, which must be there.
    async fn give_function(&self, scope: &Scope, name: &str, mapping: &mut Mapping) -> Result<(), ApiError> {
        let mut violations = Violations::default();
        let named = scope.function(name, &shapes::NAMESPACED_FUNCTION_NAME, &mut violations)?;
        violations.finish()?;
        let Named { id, qualifier } = named;
        let read = qualifier.as_deref().map_or(Qualifier::None, Qualifier::read);
        let found = self.resolve(&id, &read).await.map_err(|error| match error.status {
            StatusCode::NOT_FOUND => ApiError::parameter("Function does not exist"),
            _ => error,
        })?;
        tenancy::refuse(&found.0.config, "An event source mapping")?;
        mapping.function = id.name.to_string();
        mapping.qualifier = qualifier;
        Ok(())
    }

    /// Whether the queue is there, and hides its messages for as long as the function may take.
    async fn check_queue(
        &self,
        scope: &Scope,
        source: &str,
        queue: QueueArn<'_>,
        mapping: &Mapping,
    ) -> Result<(), ApiError> {
        let hidden = self.backend.find_queue(queue).await.map_err(|error| match error {
            NoQueue::Missing => ApiError::parameter(format!(
                "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error \
                 Message: The specified queue does not exist: {source}"
            )),
            NoQueue::NoService => {
                ApiError::unsupported("an SQS to get messages from: start it with --sqs-endpoint URL")
            }
            NoQueue::Failed(why) => ApiError::unavailable(format!("The queue {source} cannot be asked: {why}")),
        })?;
        let id = FunctionId { account: scope.account.clone(), name: mapping.function.as_str().into() };
        let timeout = self.record(&id).await?.config.timeout_seconds;
        if hidden < timeout {
            return Err(ApiError::parameter(format!(
                "Queue visibility timeout: {hidden} seconds is less than Function timeout: {timeout} seconds"
            )));
        }
        Ok(())
    }

    fn shown_mapping(&self, scope: &Scope, key: &str, mapping: &Mapping) -> Value {
        let id = FunctionId { account: scope.account.clone(), name: mapping.function.as_str().into() };
        let arn = scope.arn(&id);
        let arn = mapping.qualifier.as_ref().map_or_else(|| arn.clone(), |name| format!("{arn}:{name}"));
        let mut document = mapping.shown(&arn);
        document["UUID"] = key.into();
        document["EventSourceMappingArn"] = mapping_arn(scope, key).into();
        if let Some(result) = self.backend.mapping_result(&scope.account, key) {
            document["LastProcessingResult"] = result.into();
        }
        document
    }
}

fn mapping_arn(scope: &Scope, key: &str) -> String {
    format!("arn:aws:lambda:{}:{}:event-source-mapping:{key}", scope.region, scope.account)
}

/// The queue that an ARN names, if it is one of the caller's.
fn own_queue<'a>(scope: &Scope, source: &'a str) -> Result<QueueArn<'a>, ApiError> {
    if source.is_empty() {
        return Err(ApiError::parameter("Unrecognized event source."));
    }
    let Some(queue) = QueueArn::read(source) else {
        let what = format!("event sources other than queues of SQS ({source})");
        return Err(ApiError::unsupported(&what));
    };
    owns_queue(&scope.account, &scope.region, queue)
        .then_some(queue)
        .ok_or_else(|| ApiError::parameter(format!("The queue {source} is of another account or region.")))
}

/// Whether a queue is an account's own: Hearth asks for all accounts with one key, so it has to look.
pub(crate) fn owns_queue(account: &AccountId, region: &str, queue: QueueArn<'_>) -> bool {
    queue.owner == account.as_str() && queue.region == region
}
