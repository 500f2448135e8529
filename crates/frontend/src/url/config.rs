//! The operations on function URLs.

use hearth_store::{StoreError, UrlRecord};
use hearth_types::FunctionId;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::Url;
use crate::body::{Body, empty, json as answer};
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::{Named, Qualifier, Scope, query_value};
use crate::render::universal;
use crate::request::Members;
use crate::service::{Call, mark};
use crate::validate::Violations;
use crate::{Backend, shapes, tenancy};

/// URLs on one page.
const PAGE: usize = 50;

type Answer = Result<Response<Body>, ApiError>;

impl<B: Backend> Core<B> {
    pub(crate) async fn create_function_url(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::CREATE_FUNCTION_URL_REQUEST)?;
        let (named, qualifier) = of_call(&call, violations)?;
        let _one_at_a_time = self.reserving.lock().await;
        self.check_url_target(&named.id, &qualifier).await?;
        if self.find_url(&named.id, &qualifier).await?.is_some() {
            let arn = self.url_arn(&named.id, &qualifier);
            let text = format!(
                "Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig exists \
                 for this Lambda function"
            );
            return Err(ApiError::conflict(text));
        }
        let now = now_ms();
        let mut record = UrlRecord {
            function: named.id,
            qualifier,
            url_id: uuid::Uuid::new_v4().simple().to_string(),
            signed: false,
            streamed: false,
            cors: None,
            created_ms: now,
            modified_ms: now,
        };
        change(&mut record, &members)?;
        self.keep_url(&record).await?;
        Ok(answer(StatusCode::CREATED, &self.shown_url(&record, false)))
    }

    pub(crate) async fn update_function_url(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::UPDATE_FUNCTION_URL_REQUEST)?;
        let (named, qualifier) = of_call(&call, violations)?;
        let _one_at_a_time = self.reserving.lock().await;
        let mut record = self.url_of(&named.id, &qualifier).await?;
        change(&mut record, &members)?;
        record.modified_ms = now_ms();
        self.keep_url(&record).await?;
        Ok(answer(StatusCode::OK, &self.shown_url(&record, true)))
    }

    pub(crate) async fn get_function_url(&self, call: Call) -> Answer {
        let (named, qualifier) = of_call(&call, Violations::default())?;
        let record = self.url_of(&named.id, &qualifier).await?;
        Ok(answer(StatusCode::OK, &self.shown_url(&record, true)))
    }

    pub(crate) async fn list_function_urls(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let limit = call.page(&shapes::MAX_ITEMS, PAGE, &mut violations)?;
        let named = call.whole_function(violations)?;
        // With something in front, for a name may be empty and a marker may not.
        let after = call.marker()?.map(|marker| marker.trim_start_matches('/').to_owned());
        self.record(&named.id).await?;
        let kept = self.store.urls(&named.id).await.map_err(|error| self.url_error(&error, &named.id))?;
        let rest = kept.into_iter().filter(|one| after.as_ref().is_none_or(|after| one.qualifier > *after));
        let mut page: Vec<_> = rest.take(limit + 1).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let shown: Vec<_> = page.iter().map(|record| self.shown_url(record, true)).collect();
        let mut document = json!({"FunctionUrlConfigs": shown});
        if let Some(last) = page.last().filter(|_| more) {
            document["NextMarker"] = mark(&format!("/{}", last.qualifier)).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    pub(crate) async fn delete_function_url(&self, call: Call) -> Answer {
        let (named, qualifier) = of_call(&call, Violations::default())?;
        let _one_at_a_time = self.reserving.lock().await;
        self.url_of(&named.id, &qualifier).await?;
        let deleted = self.store.delete_url(&named.id, &qualifier).await;
        deleted.map_err(|error| self.url_error(&error, &named.id))?;
        self.urls.forget(&named.id, Some(&qualifier));
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Whether there is something that a URL can lead to.
    async fn check_url_target(&self, id: &FunctionId, qualifier: &str) -> Result<(), ApiError> {
        tenancy::refuse(&self.record(id).await?.config, "A function URL")?;
        if !qualifier.is_empty() {
            self.alias(id, qualifier).await?;
        }
        Ok(())
    }

    async fn find_url(&self, id: &FunctionId, qualifier: &str) -> Result<Option<UrlRecord>, ApiError> {
        let kept = self.store.urls(id).await.map_err(|error| self.url_error(&error, id))?;
        Ok(kept.into_iter().find(|record| record.qualifier == qualifier))
    }

    async fn url_of(&self, id: &FunctionId, qualifier: &str) -> Result<UrlRecord, ApiError> {
        self.record(id).await?;
        let missing = || ApiError::not_found("The resource you requested does not exist.");
        self.find_url(id, qualifier).await?.ok_or_else(missing)
    }

    async fn keep_url(&self, record: &UrlRecord) -> Result<(), ApiError> {
        let kept = self.store.put_url(record.clone()).await;
        kept.map_err(|error| self.url_error(&error, &record.function))?;
        self.urls.put(Url::of(record));
        Ok(())
    }

    fn url_error(&self, error: &StoreError, id: &FunctionId) -> ApiError {
        ApiError::store(error, &self.arn(id))
    }

    fn url_arn(&self, id: &FunctionId, qualifier: &str) -> String {
        let arn = self.arn(id);
        if qualifier.is_empty() { arn } else { format!("{arn}:{qualifier}") }
    }

    /// `FunctionUrlConfig`.
    fn shown_url(&self, record: &UrlRecord, modified: bool) -> Value {
        let mut document = json!({
            "FunctionUrl": self.url_address(&record.url_id),
            "FunctionArn": self.url_arn(&record.function, &record.qualifier),
            "AuthType": if record.signed { "AWS_IAM" } else { "NONE" },
            "CreationTime": universal(record.created_ms),
            "InvokeMode": if record.streamed { "RESPONSE_STREAM" } else { "BUFFERED" },
        });
        if modified {
            document["LastModifiedTime"] = universal(record.modified_ms).into();
        }
        if let Some(cors) = record.cors.as_ref().and_then(|cors| serde_json::from_str(cors).ok()) {
            document["Cors"] = cors;
        }
        document
    }

    /// Where a URL is reached: at the address that clients of the API use, by another name.
    fn url_address(&self, url_id: &str) -> String {
        let endpoint = &self.config.public_endpoint;
        let (scheme, rest) = endpoint.split_once("://").unwrap_or(("http", endpoint));
        let port = rest.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{scheme}://{url_id}.lambda-url.{}.localhost{port}/", self.region)
    }
}

/// The function and the alias that a call means; no alias is an empty one.
fn of_call(call: &Call, mut violations: Violations) -> Result<(Named, String), ApiError> {
    let named = call.scope.function(&call.name, &shapes::FUNCTION_NAME, &mut violations)?;
    let qualifier = query_value(&call.query, "Qualifier");
    if let Some(qualifier) = &qualifier {
        violations.text(qualifier, "qualifier", &shapes::FUNCTION_URL_QUALIFIER);
    }
    violations.finish()?;
    match Scope::qualifier(&named, qualifier.as_deref())? {
        Qualifier::None => Ok((named, String::new())),
        Qualifier::Alias(alias) => Ok((named, alias)),
        Qualifier::Latest | Qualifier::Published(_) => {
            Err(ApiError::parameter("Function URLs are of functions and aliases. Versions have none."))
        }
    }
}

/// Applies what is given.
fn change(record: &mut UrlRecord, members: &Members) -> Result<(), ApiError> {
    if let Some(kind) = members.text("AuthType") {
        record.signed = kind == "AWS_IAM";
    }
    if let Some(mode) = members.text("InvokeMode") {
        record.streamed = mode == "RESPONSE_STREAM";
    }
    let Some(cors) = members.given("Cors").and_then(Value::as_object) else { return Ok(()) };
    let methods = cors.get("AllowMethods").and_then(Value::as_array).into_iter().flatten();
    for method in methods.filter_map(Value::as_str) {
        const KNOWN: [&str; 7] = ["*", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        if !KNOWN.contains(&method) {
            return Err(ApiError::validation(format!(
                "1 validation error detected: Value '[{method}]' at 'cors.allowMethods' failed to satisfy constraint: \
                 Member must satisfy constraint: [Member must satisfy enum value set: [{}]]",
                KNOWN.join(", ")
            )));
        }
    }
    let cors = Value::Object(cors.clone());
    // An empty one takes away what was there.
    let is_empty = cors.as_object().is_some_and(serde_json::Map::is_empty);
    record.cors = (!is_empty).then(|| cors.to_string());
    Ok(())
}
