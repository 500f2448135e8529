//! Code signing: configurations, and which function has which. Nothing is checked against them: code that comes as a zip
//! archive has no signature that could be.

use std::collections::BTreeMap;

use hearth_store::{Document, DocumentId, Expect};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::body::{Body, empty, json as answer};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::{Named, Qualifier};
use crate::render;
use crate::request::Members;
use crate::service::{Call, mark};
use crate::validate::Violations;
use crate::{Backend, shapes};

/// Kinds of documents: a configuration, and the ARN of the one that a function has.
const CONFIG: &str = "code-signing-config";
const OF_FUNCTION: &str = "code-signing";
/// Entries on one page.
const PAGE: usize = 50;

type Answer = Result<Response<Body>, ApiError>;

/// What is kept of a configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    description: Option<String>,
    publishers: Value,
    policy: String,
    modified_ms: u64,
    tags: BTreeMap<String, String>,
}

fn missing(arn: &str) -> ApiError {
    ApiError::not_found(format!("The code signing configuration cannot be found: {arn}"))
}

fn failed(error: &hearth_store::StoreError) -> ApiError {
    ApiError::store(error, "")
}

impl<B: Backend> Core<B> {
    pub(crate) async fn create_code_signing(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::CREATE_CODE_SIGNING_CONFIG_REQUEST)?;
        violations.finish()?;
        let mut config = Config {
            description: None,
            publishers: Value::Null,
            policy: "Warn".to_owned(),
            modified_ms: now_ms(),
            tags: members.texts("Tags").unwrap_or_default(),
        };
        change(&mut config, &members);
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("csc-{}", &random[..17]);
        self.keep_code_signing(&call, &name, &config, Expect::Nothing).await?;
        let shown = self.shown_code_signing(&call, &name, &config);
        Ok(answer(StatusCode::CREATED, &json!({"CodeSigningConfig": shown})))
    }

    pub(crate) async fn get_code_signing(&self, call: Call) -> Answer {
        let name = call.code_signing(Violations::default())?;
        let (_, config) = self.code_signing(&call, &name).await?;
        let shown = self.shown_code_signing(&call, &name, &config);
        Ok(answer(StatusCode::OK, &json!({"CodeSigningConfig": shown})))
    }

    pub(crate) async fn update_code_signing(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::UPDATE_CODE_SIGNING_CONFIG_REQUEST)?;
        let name = call.code_signing(violations)?;
        let (revision, mut config) = self.code_signing(&call, &name).await?;
        change(&mut config, &members);
        config.modified_ms = now_ms();
        self.keep_code_signing(&call, &name, &config, Expect::Revision(&revision)).await?;
        let shown = self.shown_code_signing(&call, &name, &config);
        Ok(answer(StatusCode::OK, &json!({"CodeSigningConfig": shown})))
    }

    pub(crate) async fn delete_code_signing(&self, call: Call) -> Answer {
        let name = call.code_signing(Violations::default())?;
        self.code_signing(&call, &name).await?;
        if !self.functions_of_code_signing(&call, &call.name).await?.is_empty() {
            let text = "Cannot delete the code signing configuration: functions have it.";
            return Err(ApiError::conflict(text));
        }
        let gone = self.store.delete_document(&config_id(&call, &name), Expect::Anything).await;
        gone.map_err(|error| failed(&error))?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(crate) async fn list_code_signing(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let limit = call.page(&shapes::MAX_LIST_ITEMS, PAGE, &mut violations)?;
        violations.finish()?;
        let after = call.marker()?.unwrap_or_default();
        let listed = self.store.list_documents(&call.scope.account, CONFIG, &after, limit + 1).await;
        let mut configs = listed.map_err(|error| failed(&error))?;
        let more = configs.len() > limit;
        configs.truncate(limit);
        let shown = configs.iter().filter_map(|kept| {
            Some(self.shown_code_signing(&call, &kept.id.name, &serde_json::from_str(&kept.body).ok()?))
        });
        let mut document = json!({"CodeSigningConfigs": shown.collect::<Vec<_>>()});
        if let Some(last) = configs.last().filter(|_| more) {
            document["NextMarker"] = mark(&last.id.name).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    pub(crate) async fn list_functions_by_code_signing(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let limit = call.page(&shapes::MAX_LIST_ITEMS, PAGE, &mut violations)?;
        let name = call.code_signing(violations)?;
        self.code_signing(&call, &name).await?;
        let after = call.marker()?.unwrap_or_default();
        let mut functions = self.functions_of_code_signing(&call, &call.name).await?;
        functions.retain(|function| **function > *after);
        let more = functions.len() > limit;
        functions.truncate(limit);
        let prefix = format!("arn:aws:lambda:{}:{}:function", self.region, call.scope.account);
        let arns: Vec<_> = functions.iter().map(|function| format!("{prefix}:{function}")).collect();
        let mut document = json!({"FunctionArns": arns});
        if let Some(last) = functions.last().filter(|_| more) {
            document["NextMarker"] = mark(last).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    pub(crate) async fn put_function_code_signing(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let named = call.changed_function(&members, &shapes::PUT_FUNCTION_CODE_SIGNING_CONFIG_REQUEST)?;
        self.record(&named.id).await?;
        let arn = members.text("CodeSigningConfigArn").unwrap_or_default();
        self.check_code_signing(&call, arn).await?;
        self.give_code_signing(&named, arn).await?;
        Ok(answer(StatusCode::OK, &json!({"CodeSigningConfigArn": arn, "FunctionName": &*named.id.name})))
    }

    /// That there is a configuration.
    ///
    /// # Errors
    /// There is none.
    pub(crate) async fn check_code_signing(&self, call: &Call, arn: &str) -> Result<(), ApiError> {
        let name = arn.rsplit(':').next().unwrap_or_default();
        let own = *arn == config_arn(call, name);
        let found = if own { self.code_signing(call, name).await.map(drop) } else { Err(missing(arn)) };
        found.map_err(|error| match error.status {
            StatusCode::NOT_FOUND => {
                let text = format!("The code signing configuration cannot be found: {arn}");
                ApiError::new(StatusCode::NOT_FOUND, "CodeSigningConfigNotFoundException", text)
            }
            _ => error,
        })
    }

    /// Notes that a function has a configuration.
    ///
    /// # Errors
    /// The function is gone, or the store failed.
    pub(crate) async fn give_code_signing(&self, named: &Named, arn: &str) -> Result<(), ApiError> {
        self.keep_setting(named, OF_FUNCTION, &Qualifier::None, &json!(arn)).await
    }

    pub(crate) async fn get_function_code_signing(&self, call: Call) -> Answer {
        let (named, _) = call.qualified_function()?;
        self.record(&named.id).await?;
        let arn = self.setting(&named, OF_FUNCTION, &Qualifier::None).await?;
        let arn = arn
            .ok_or_else(|| ApiError::not_found("The function does not have a code signing configuration"))?;
        Ok(answer(StatusCode::OK, &json!({"CodeSigningConfigArn": arn, "FunctionName": &*named.id.name})))
    }

    pub(crate) async fn delete_function_code_signing(&self, call: Call) -> Answer {
        let named = call.whole_function(Violations::default())?;
        self.record(&named.id).await?;
        let id = super::setting_id(&named, OF_FUNCTION, &Qualifier::None);
        self.store.delete_document(&id, Expect::Anything).await.map_err(|error| failed(&error))?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    async fn code_signing(&self, call: &Call, name: &str) -> Result<(String, Config), ApiError> {
        let kept = self.store.document(&config_id(call, name)).await.map_err(|error| failed(&error))?;
        let kept = kept.ok_or_else(|| missing(&config_arn(call, name)))?;
        let config = serde_json::from_str(&kept.body).map_err(|error| {
            tracing::error!(%error, name, "a code signing configuration is kept in a form that is not known");
            ApiError::internal("The code signing configuration cannot be read")
        })?;
        Ok((kept.revision_id, config))
    }

    async fn keep_code_signing(
        &self,
        call: &Call,
        name: &str,
        config: &Config,
        expect: Expect<'_>,
    ) -> Result<(), ApiError> {
        let body = serde_json::to_string(config).map_err(|error| ApiError::internal(error.to_string()))?;
        let document =
            Document { id: config_id(call, name), function: None, body, revision_id: String::new() };
        match self.store.put_document(document, expect).await.map_err(|error| failed(&error))? {
            Some(_) => Ok(()),
            None => Err(ApiError::conflict("The code signing configuration was changed by another request")),
        }
    }

    /// The functions that have a configuration, in order of their names.
    async fn functions_of_code_signing(&self, call: &Call, arn: &str) -> Result<Vec<String>, ApiError> {
        let (mut found, mut after, wanted) = (Vec::new(), String::new(), json!(arn).to_string());
        loop {
            let page = self.store.list_documents(&call.scope.account, OF_FUNCTION, &after, PAGE).await;
            let page = page.map_err(|error| failed(&error))?;
            let Some(last) = page.last() else { return Ok(found) };
            last.id.name.as_ref().clone_into(&mut after);
            let having = page.into_iter().filter(|kept| kept.body == wanted);
            found.extend(having.map(|kept| kept.id.name.to_string()));
        }
    }

    fn shown_code_signing(&self, call: &Call, name: &str, config: &Config) -> Value {
        let mut document = json!({
            "CodeSigningConfigId": name,
            "CodeSigningConfigArn": config_arn(call, name),
            "AllowedPublishers": config.publishers,
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": config.policy},
            "LastModified": render::timestamp(config.modified_ms),
        });
        if let Some(description) = &config.description {
            document["Description"] = description.as_str().into();
        }
        document
    }
}

impl Call {
    /// The configuration whose ARN the path has.
    fn code_signing(&self, mut violations: Violations) -> Result<String, ApiError> {
        violations.text(&self.name, "codeSigningConfigArn", &shapes::CODE_SIGNING_CONFIG_ARN);
        violations.finish()?;
        let name = self.name.rsplit(':').next().unwrap_or_default();
        if self.name == config_arn(self, name) { Ok(name.to_owned()) } else { Err(missing(&self.name)) }
    }
}

fn change(config: &mut Config, members: &Members) {
    if let Some(description) = members.text("Description") {
        config.description = Some(description.to_owned());
    }
    if let Some(publishers) = members.given("AllowedPublishers") {
        config.publishers = publishers.clone();
    }
    let policies = members.given("CodeSigningPolicies");
    let policy = policies.and_then(|policies| policies.get("UntrustedArtifactOnDeployment"));
    if let Some(policy) = policy.and_then(Value::as_str) {
        policy.clone_into(&mut config.policy);
    }
}

fn config_id(call: &Call, name: &str) -> DocumentId {
    DocumentId { account: call.scope.account.clone(), kind: CONFIG, name: name.into() }
}

fn config_arn(call: &Call, name: &str) -> String {
    format!("arn:aws:lambda:{}:{}:code-signing-config:{name}", call.scope.region, call.scope.account)
}
