//! Settings of functions that Hearth keeps and gives back: how runtimes are updated, recursion, scaling of managed
//! instances, and which publishers' code is wanted.
//!
//! None of them changes how a function runs here, but that recursion says whether a loop of events is ended. A runtime is the machine's and changes when its operator changes it;
//! there is no signature on code that is sent as a zip archive.

mod signing;

use hearth_store::{Document, DocumentId, Expect};
use hearth_types::FunctionId;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::{Body, json as answer};
use crate::core::Core;
use crate::error::ApiError;
use crate::names::{Named, Qualifier, query_value};
use crate::render::state_word;
use crate::request::Members;
use crate::service::Call;
use crate::validate::Violations;
use crate::{Backend, shapes};

/// Kinds of their documents.
const RUNTIME_MANAGEMENT: &str = "runtime-management";
const RECURSION: &str = "recursion";
const SCALING: &str = "scaling";

type Answer = Result<Response<Body>, ApiError>;

impl<B: Backend> Core<B> {
    pub(crate) async fn put_runtime_management(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::PUT_RUNTIME_MANAGEMENT_CONFIG_REQUEST)?;
        let (named, qualifier) = call.checked_function(violations)?;
        let (on, arn) =
            (members.text("UpdateRuntimeOn").unwrap_or_default(), members.text("RuntimeVersionArn"));
        if (on == "Manual") != arn.is_some() {
            return Err(ApiError::parameter(if on == "Manual" {
                "RuntimeVersionArn is required when UpdateRuntimeOn is Manual"
            } else {
                "RuntimeVersionArn can be given only when UpdateRuntimeOn is Manual"
            }));
        }
        self.version_of(&named, &qualifier).await?;
        let setting = json!({"UpdateRuntimeOn": on, "RuntimeVersionArn": arn});
        self.keep_setting(&named, RUNTIME_MANAGEMENT, &qualifier, &setting).await?;
        Ok(answer(StatusCode::OK, &self.runtime_management(&named, &qualifier, setting)))
    }

    pub(crate) async fn get_runtime_management(&self, call: Call) -> Answer {
        let (named, qualifier) = call.qualified_function()?;
        self.version_of(&named, &qualifier).await?;
        let setting = self.setting(&named, RUNTIME_MANAGEMENT, &qualifier).await?;
        let setting = setting.unwrap_or_else(|| json!({"UpdateRuntimeOn": "Auto"}));
        Ok(answer(StatusCode::OK, &self.runtime_management(&named, &qualifier, setting)))
    }

    fn runtime_management(&self, named: &Named, qualifier: &Qualifier, mut setting: Value) -> Value {
        let arn = self.arn(&named.id);
        let latest = matches!(qualifier, Qualifier::None);
        let arn = if latest { Qualifier::Latest.behind(&arn) } else { qualifier.behind(&arn) };
        setting["FunctionArn"] = arn.into();
        if let Value::Object(members) = &mut setting {
            members.retain(|_, value| !value.is_null());
        }
        setting
    }

    pub(crate) async fn put_recursion(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let named = call.changed_function(&members, &shapes::PUT_FUNCTION_RECURSION_CONFIG_REQUEST)?;
        self.record(&named.id).await?;
        let setting = json!({"RecursiveLoop": members.text("RecursiveLoop")});
        self.keep_setting(&named, RECURSION, &Qualifier::None, &setting).await?;
        Ok(answer(StatusCode::OK, &setting))
    }

    pub(crate) async fn get_recursion(&self, call: Call) -> Answer {
        let named = call.whole_function(Violations::default())?;
        self.record(&named.id).await?;
        let setting = self.setting(&named, RECURSION, &Qualifier::None).await?;
        Ok(answer(StatusCode::OK, &setting.unwrap_or_else(|| json!({"RecursiveLoop": "Terminate"}))))
    }

    /// Whether a function may be run in a loop of events; not if that cannot be found out.
    pub(crate) async fn recursion_allowed(&self, id: &FunctionId) -> bool {
        let named = Named { id: id.clone(), qualifier: None };
        let setting = self.setting(&named, RECURSION, &Qualifier::None).await.ok().flatten();
        setting.is_some_and(|setting| setting["RecursiveLoop"] == "Allow")
    }

    pub(crate) async fn put_scaling(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::PUT_FUNCTION_SCALING_CONFIG_REQUEST)?;
        let (named, qualifier) = scaled(&call, violations)?;
        let (record, _) = self.version_of(&named, &qualifier).await?;
        let config = members.given("FunctionScalingConfig").cloned().unwrap_or_else(|| json!({}));
        let number = |name: &str| config.get(name).and_then(Value::as_u64);
        let (least, most) = (number("MinExecutionEnvironments"), number("MaxExecutionEnvironments"));
        if least.zip(most).is_some_and(|(least, most)| least > most) {
            return Err(ApiError::parameter(
                "MinExecutionEnvironments must not be greater than MaxExecutionEnvironments",
            ));
        }
        self.keep_setting(&named, SCALING, &qualifier, &config).await?;
        Ok(answer(StatusCode::ACCEPTED, &json!({"FunctionState": state_word(record.state)})))
    }

    pub(crate) async fn get_scaling(&self, call: Call) -> Answer {
        let (named, qualifier) = scaled(&call, Violations::default())?;
        self.version_of(&named, &qualifier).await?;
        let mut document = json!({"FunctionArn": qualifier.behind(&self.arn(&named.id))});
        if let Some(setting) = self.setting(&named, SCALING, &qualifier).await? {
            document["RequestedFunctionScalingConfig"] = setting;
        }
        Ok(answer(StatusCode::OK, &document))
    }

    /// That what a qualifier leads to is there.
    async fn version_of(
        &self,
        named: &Named,
        qualifier: &Qualifier,
    ) -> Result<(hearth_store::FunctionRecord, hearth_types::Version), ApiError> {
        self.resolve(&named.id, qualifier).await
    }

    async fn setting(
        &self,
        named: &Named,
        kind: &'static str,
        qualifier: &Qualifier,
    ) -> Result<Option<Value>, ApiError> {
        let kept = self.store.document(&setting_id(named, kind, qualifier)).await;
        let kept = kept.map_err(|error| ApiError::store(&error, &self.arn(&named.id)))?;
        Ok(kept.and_then(|kept| serde_json::from_str(&kept.body).ok()))
    }

    async fn keep_setting(
        &self,
        named: &Named,
        kind: &'static str,
        qualifier: &Qualifier,
        setting: &Value,
    ) -> Result<(), ApiError> {
        let document = Document {
            id: setting_id(named, kind, qualifier),
            function: Some(named.id.name.clone()),
            body: setting.to_string(),
            revision_id: String::new(),
        };
        let kept = self.store.put_document(document, Expect::Anything).await;
        kept.map(drop).map_err(|error| ApiError::store(&error, &self.arn(&named.id)))
    }
}

fn setting_id(named: &Named, kind: &'static str, qualifier: &Qualifier) -> DocumentId {
    // What is not said is the version that changes.
    let qualifier = if *qualifier == Qualifier::Latest { &Qualifier::None } else { qualifier };
    let name = qualifier.behind(&named.id.name).into();
    DocumentId { account: named.id.account.clone(), kind, name }
}

/// The function and the published version whose scaling is meant.
fn scaled(call: &Call, mut violations: Violations) -> Result<(Named, Qualifier), ApiError> {
    match query_value(&call.query, "Qualifier") {
        None => violations.missing("qualifier"),
        Some(text) => violations.text(&text, "qualifier", &shapes::PUBLISHED_FUNCTION_QUALIFIER),
    }
    let (named, qualifier) = call.checked_function(violations)?;
    match qualifier {
        Qualifier::Published(_) => Ok((named, qualifier)),
        _ => Err(ApiError::unsupported("the version $LATEST.PUBLISHED")),
    }
}
