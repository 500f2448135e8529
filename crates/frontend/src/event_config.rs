//! How events of a function's qualifier are retried, and where their ends are told: `EventInvokeConfig`.

use hearth_store::{Expected, Setting, SettingKind};
use hearth_types::{FunctionId, limits};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::body::{Body, empty, json as answer};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::{LATEST, Named, Qualifier, Scope, query_value};
use crate::request::Members;
use crate::service::{Call, mark};
use crate::validate::Violations;
use crate::{Backend, shapes};

/// Configurations on one page.
const PAGE: usize = 50;

/// What is configured; what is not, is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventInvokeConfig {
    pub(crate) retries: Option<u32>,
    pub(crate) age_seconds: Option<u32>,
    pub(crate) on_success: Option<String>,
    pub(crate) on_failure: Option<String>,
    pub(crate) modified_ms: u64,
}

impl EventInvokeConfig {
    /// Attempts after the first.
    pub(crate) fn retries(&self) -> u32 {
        self.retries.unwrap_or(limits::RETRY_ATTEMPTS.default)
    }

    /// Age at which an event is given up, seconds.
    pub(crate) fn age(&self) -> u32 {
        self.age_seconds.unwrap_or(limits::EVENT_AGE_SECONDS.default)
    }

    fn shown(&self, arn: &str) -> Value {
        let destination = |arn: &Option<String>| match arn {
            Some(arn) => json!({"Destination": arn}),
            None => json!({}),
        };
        let mut document = json!({
            "LastModified": self.modified_ms / 1_000,
            "FunctionArn": arn,
            "DestinationConfig": {
                "OnSuccess": destination(&self.on_success),
                "OnFailure": destination(&self.on_failure),
            },
        });
        if let Some(retries) = self.retries {
            document["MaximumRetryAttempts"] = retries.into();
        }
        if let Some(age) = self.age_seconds {
            document["MaximumEventAgeInSeconds"] = age.into();
        }
        document
    }
}

/// The key of a qualifier's configuration.
pub(crate) fn key(id: &FunctionId, qualifier: Option<&str>) -> String {
    format!("{}:{}", id.name, qualifier.unwrap_or(LATEST))
}

type Answer = Result<Response<Body>, ApiError>;

/// What a request is about.
struct Subject {
    named: Named,
    key: String,
    arn: String,
}

impl<B: Backend> Core<B> {
    pub(crate) async fn put_event_config(&self, call: Call) -> Answer {
        self.write_event_config(call, false).await
    }

    pub(crate) async fn update_event_config(&self, call: Call) -> Answer {
        self.write_event_config(call, true).await
    }

    async fn write_event_config(&self, call: Call, update: bool) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::EVENT_INVOKE_CONFIG_REQUEST)?;
        let subject = self.event_subject(&call, violations).await?;
        let before = self.kept_event_config(&subject);
        let mut config = match (update, before) {
            (false, _) => EventInvokeConfig::default(),
            (true, Some(config)) => config,
            (true, None) => return Err(no_config(&subject.arn)),
        };
        let (retries, age) =
            (members.number("MaximumRetryAttempts"), members.number("MaximumEventAgeInSeconds"));
        let destinations = members.given("DestinationConfig");
        if retries.is_none() && age.is_none() && destinations.is_none() {
            return Err(ApiError::parameter(
                "You must specify at least one of error handling or destination setting.",
            ));
        }
        config.retries = retries.or(config.retries);
        config.age_seconds = age.or(config.age_seconds);
        for (name, kept) in [("OnSuccess", &mut config.on_success), ("OnFailure", &mut config.on_failure)] {
            let Some(member) = destinations.and_then(|all| all.get(name)) else { continue };
            let arn = member.get("Destination").and_then(Value::as_str).unwrap_or_default();
            if !arn.is_empty() {
                self.destination(&call.scope, arn)?;
            }
            *kept = (!arn.is_empty()).then(|| arn.to_owned());
        }
        config.modified_ms = now_ms();
        let document = Setting {
            kind: SettingKind::EventInvokeConfig,
            account: subject.named.id.account.clone(),
            key: subject.key,
            generation: 0,
            mark: 0,
            body: serde_json::to_string(&config).unwrap_or_default(),
        };
        let put = self.backend.events().put_setting(document, Expected::Any).await;
        put.map_err(|error| ApiError::store(&error, &subject.arn))?;
        Ok(answer(StatusCode::OK, &config.shown(&subject.arn)))
    }

    pub(crate) async fn get_event_config(&self, call: Call) -> Answer {
        let subject = self.event_subject(&call, Violations::default()).await?;
        match self.kept_event_config(&subject) {
            Some(config) => Ok(answer(StatusCode::OK, &config.shown(&subject.arn))),
            None => Err(no_config(&subject.arn)),
        }
    }

    pub(crate) async fn list_event_configs(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let limit = call.page(&shapes::MAX_EVENT_CONFIG_ITEMS, PAGE, &mut violations)?;
        let named = call.whole_function(violations)?;
        let after = call.marker()?.unwrap_or_default();
        self.record(&named.id).await?;
        let (prefix, arn) = (format!("{}:", named.id.name), call.scope.arn(&named.id));
        let (kind, account) = (SettingKind::EventInvokeConfig, &named.id.account);
        let mut found = self.backend.events().settings(kind, account, &prefix, &after, limit + 1);
        let more = found.len() > limit;
        found.truncate(limit);
        let shown = |document: &Setting| {
            let config: EventInvokeConfig = serde_json::from_str(&document.body).unwrap_or_default();
            let qualifier = document.key.strip_prefix(&prefix).unwrap_or_default();
            config.shown(&format!("{arn}:{qualifier}"))
        };
        let mut page = json!({"FunctionEventInvokeConfigs": found.iter().map(shown).collect::<Vec<_>>()});
        if let Some(last) = found.last().filter(|_| more) {
            page["NextMarker"] = mark(&last.key).into();
        }
        Ok(answer(StatusCode::OK, &page))
    }

    pub(crate) async fn delete_event_config(&self, call: Call) -> Answer {
        let subject = self.event_subject(&call, Violations::default()).await?;
        let (kind, account) = (SettingKind::EventInvokeConfig, &subject.named.id.account);
        let deleted = self.backend.events().delete_setting(kind, account, &subject.key).await;
        match deleted.map_err(|error| ApiError::store(&error, &subject.arn))? {
            true => Ok(empty(StatusCode::NO_CONTENT)),
            false => Err(no_config(&subject.arn)),
        }
    }

    /// The qualifier that a request is about, which must be there.
    async fn event_subject(&self, call: &Call, mut violations: Violations) -> Result<Subject, ApiError> {
        let named = call.scope.function(&call.name, &shapes::NAMESPACED_FUNCTION_NAME, &mut violations)?;
        let text = query_value(&call.query, "Qualifier");
        if let Some(text) = &text {
            let shape = &shapes::NUMERIC_LATEST_PUBLISHED_OR_ALIAS_QUALIFIER;
            violations.text(text, "qualifier", shape);
        }
        violations.finish()?;
        let qualifier = match Scope::qualifier(&named, text.as_deref())? {
            Qualifier::None => Qualifier::Latest,
            other => other,
        };
        self.resolve(&named.id, &qualifier).await?;
        let key = key(&named.id, qualifier.text().as_deref());
        let arn = qualifier.behind(&call.scope.arn(&named.id));
        Ok(Subject { named, key, arn })
    }

    /// Drops the configuration of a qualifier that is gone. What fails here, the next start does.
    pub(crate) async fn forget_event_config(&self, id: &FunctionId, qualifier: &Qualifier) {
        let key = key(id, qualifier.text().as_deref());
        let kind = SettingKind::EventInvokeConfig;
        if let Err(error) = self.backend.events().delete_setting(kind, &id.account, &key).await {
            tracing::warn!(function = %id, %error, "how events of what was deleted are retried is still kept");
        }
    }

    fn kept_event_config(&self, subject: &Subject) -> Option<EventInvokeConfig> {
        let (kind, account) = (SettingKind::EventInvokeConfig, &subject.named.id.account);
        let document = self.backend.events().setting(kind, account, &subject.key)?;
        serde_json::from_str(&document.body).ok()
    }
}

fn no_config(arn: &str) -> ApiError {
    ApiError::not_found(format!("The function {arn} doesn't have an EventInvokeConfig"))
}
