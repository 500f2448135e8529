//! Aliases: names for a version, or for two that share the requests.

use hearth_store::AliasRecord;
use hearth_types::{FunctionId, Version};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::{Body, empty, json as answer};
use crate::core::Core;
use crate::error::ApiError;
use crate::names::{Named, Qualifier, query_value};
use crate::provisioned::UNPUBLISHED;
use crate::request::Members;
use crate::service::{Call, mark};
use crate::validate::Violations;
use crate::{Backend, shapes};

/// Aliases on one page of ListAliases.
const PAGE: usize = 50;

type Answer = Result<Response<Body>, ApiError>;

impl<B: Backend> Core<B> {
    pub(crate) async fn create_alias(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let named = call.changed_function(&members, &shapes::CREATE_ALIAS_REQUEST)?;
        let mut alias = AliasRecord {
            function: named.id.clone(),
            name: members.text("Name").unwrap_or_default().to_owned(),
            version: Version::Latest,
            additional: None,
            description: String::new(),
            revision_id: String::new(),
        };
        let _one_at_a_time = self.reserving.lock().await;
        self.record(&named.id).await?;
        self.change_alias(&mut alias, &members).await?;
        let arn = self.alias_arn(&named.id, &alias.name);
        let kept = self.store.put_alias(alias).await.map_err(|error| ApiError::store(&error, &arn))?;
        self.cache.forget_routes(&named.id);
        let kept = kept.ok_or_else(|| ApiError::conflict(format!("Alias already exists: {arn}")))?;
        Ok(answer(StatusCode::CREATED, &self.shown(&kept)))
    }

    pub(crate) async fn update_alias(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::UPDATE_ALIAS_REQUEST)?;
        let named = named_alias(&call, violations)?;
        let arn = self.alias_arn(&named.id, &call.detail);
        let _one_at_a_time = self.reserving.lock().await;
        self.record(&named.id).await?;
        let failed = |error| ApiError::store(&error, &arn);
        let found = self.store.alias(&named.id, &call.detail).await.map_err(failed)?;
        let mut alias = found.ok_or_else(|| ApiError::not_found(format!("Alias not found: {arn}")))?;
        if members.text("RevisionId").is_some_and(|wanted| wanted != alias.revision_id) {
            return Err(ApiError::precondition());
        }
        self.change_alias(&mut alias, &members).await?;
        let provisioned = self.store.provisioned(&named.id).await.map_err(failed)?;
        if alias.version == Version::Latest && provisioned.iter().any(|one| one.qualifier == alias.name) {
            return Err(ApiError::parameter(UNPUBLISHED));
        }
        let before = self.plan(&named.id).await?;
        let kept = self.store.put_alias(alias).await.map_err(failed)?;
        self.cache.forget_routes(&named.id);
        let kept = kept.ok_or_else(ApiError::precondition)?;
        self.provision(&named.id, &before).await?;
        Ok(answer(StatusCode::OK, &self.shown(&kept)))
    }

    pub(crate) async fn get_alias(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        violations.text(&call.detail, "name", &shapes::ALIAS);
        // The alias's own ARN names its function, too.
        let named = call.scope.function(&call.name, &shapes::FUNCTION_NAME, &mut violations)?;
        let named = match named.qualifier.as_deref() == Some(call.detail.as_str()) {
            true => violations.finish().map(|()| named)?,
            false => call.whole_function(violations)?,
        };
        self.record(&named.id).await?;
        let alias = self.alias(&named.id, &call.detail).await?;
        Ok(answer(StatusCode::OK, &self.shown(&alias)))
    }

    pub(crate) async fn list_aliases(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let limit = call.page(&shapes::MAX_LIST_ITEMS, PAGE, &mut violations)?;
        let version = query_value(&call.query, "FunctionVersion");
        if let Some(version) = &version {
            violations.text(version, "functionVersion", &shapes::VERSION);
        }
        let named = call.whole_function(violations)?;
        let after = call.marker()?.unwrap_or_default();
        self.record(&named.id).await?;
        let version = version.map(|text| read_version(&text).unwrap_or(Version::Published(0)));
        let listed = self.store.list_aliases(&named.id, version, &after, limit + 1).await;
        let mut aliases = listed.map_err(|error| ApiError::store(&error, &self.arn(&named.id)))?;
        let more = aliases.len() > limit;
        aliases.truncate(limit);
        let mut document =
            json!({"Aliases": aliases.iter().map(|alias| self.shown(alias)).collect::<Vec<_>>()});
        if let Some(last) = aliases.last().filter(|_| more) {
            document["NextMarker"] = mark(&last.name).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    /// One that is not there is deleted already.
    pub(crate) async fn delete_alias(&self, call: Call) -> Answer {
        let named = named_alias(&call, Violations::default())?;
        let _one_at_a_time = self.reserving.lock().await;
        self.record(&named.id).await?;
        let before = self.plan(&named.id).await?;
        let deleted = self.store.delete_alias(&named.id, &call.detail).await;
        deleted.map_err(|error| ApiError::store(&error, &self.arn(&named.id)))?;
        self.cache.forget_routes(&named.id);
        self.urls.forget(&named.id, Some(&call.detail));
        let alias = Qualifier::Alias(call.detail);
        self.forget_policy(&named, &alias).await;
        self.forget_event_config(&named.id, &alias).await;
        self.provision(&named.id, &before).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Applies what is given of version, routing and description.
    async fn change_alias(&self, alias: &mut AliasRecord, members: &Members) -> Result<(), ApiError> {
        if let Some(text) = members.text("FunctionVersion") {
            alias.version = read_version(text)
                .ok_or_else(|| self.scope(&alias.function).missing(&alias.function, text))?;
        }
        if let Some(description) = members.text("Description") {
            description.clone_into(&mut alias.description);
        }
        if let Some(routing) = members.given("RoutingConfig") {
            alias.additional = self.additional(&alias.function, routing)?;
        }
        if let Version::Published(number) = alias.version {
            self.version(&alias.function, number).await?;
        }
        let Some((number, _)) = alias.additional else { return Ok(()) };
        if alias.version == Version::Latest {
            let text = "$LATEST is not supported for an alias pointing to more than 1 version";
            return Err(ApiError::parameter(text));
        }
        if alias.version == Version::Published(number) {
            return Err(ApiError::parameter(format!(
                "Invalid function version {number}. Function version {number} is already included in routing \
                 configuration."
            )));
        }
        self.version(&alias.function, number).await.map(drop)
    }

    /// The other version, and its weight.
    fn additional(&self, function: &FunctionId, routing: &Value) -> Result<Option<(u64, f64)>, ApiError> {
        let weights = routing.get("AdditionalVersionWeights").and_then(Value::as_object);
        let Some((text, weight)) = weights.and_then(|weights| weights.iter().next()) else { return Ok(None) };
        if weights.is_some_and(|weights| weights.len() > 1) {
            return Err(ApiError::parameter(
                "Number of items in AdditionalVersionWeights cannot be greater than 1",
            ));
        }
        let shown = weight.to_string();
        let weight = weight.as_f64().filter(|weight| (0.0..=1.0).contains(weight));
        let weight = weight.ok_or_else(|| {
            let mut violations = Violations::default();
            let constraint = "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, \
                              Member must have value greater than or equal to 0.0, Member must not be null]";
            let path = "routingConfig.additionalVersionWeights";
            violations.note(&format!("{{{text}={shown}}}"), path, constraint);
            violations.finish().err().unwrap_or_else(|| ApiError::validation(constraint))
        })?;
        match read_version(text) {
            Some(Version::Published(number)) => Ok(Some((number, weight))),
            _ => Err(self.scope(function).missing(function, text)),
        }
    }

    fn alias_arn(&self, function: &FunctionId, alias: &str) -> String {
        format!("{}:{alias}", self.arn(function))
    }

    /// `AliasConfiguration`.
    fn shown(&self, alias: &AliasRecord) -> Value {
        let mut document = json!({
            "AliasArn": self.alias_arn(&alias.function, &alias.name),
            "Name": alias.name,
            "FunctionVersion": alias.version.to_string(),
            "Description": alias.description,
            "RevisionId": alias.revision_id,
        });
        if let Some((number, weight)) = alias.additional {
            document["RoutingConfig"] = json!({"AdditionalVersionWeights": {number.to_string(): weight}});
        }
        document
    }
}

/// The function and the alias that a path names.
fn named_alias(call: &Call, mut violations: Violations) -> Result<Named, ApiError> {
    violations.text(&call.detail, "name", &shapes::ALIAS);
    call.whole_function(violations)
}

/// A version as the shape has it; nothing if there can be none of that name.
fn read_version(text: &str) -> Option<Version> {
    match Qualifier::read(text) {
        Qualifier::Latest => Some(Version::Latest),
        Qualifier::Published(number) => Some(Version::Published(number)),
        _ => None,
    }
}
