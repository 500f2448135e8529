//! Layers: published, shown, listed and deleted, and given to functions.
//!
//! Source: docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html and .../gettingstarted-limits.html.

use std::sync::Arc;

use hearth_store::{DocumentId, Expect, LayerAbout, LayerFilter, LayerRef, LayerVersion};
use hearth_types::{AccountId, CodeDigest, limits};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::body::{Body, empty, json as answer};
use crate::code::archive_error;
use crate::core::{Core, now_ms};
use crate::error::ApiError;
use crate::names::{Scope, query_value};
use crate::policy::{self, Access};
use crate::request::Members;
use crate::service::{Call, mark};
use crate::validate::Violations;
use crate::{Backend, render, shapes};

/// The kind of the documents that hold layers' policies.
pub(crate) const POLICY: &str = "layer-policy";
/// Layers of one function.
const MOST: usize = 5;
/// Entries on one page.
const PAGE: usize = 50;

type Answer = Result<Response<Body>, ApiError>;

/// A layer as a caller named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerName {
    pub(crate) account: AccountId,
    pub(crate) layer: Arc<str>,
}

impl LayerName {
    pub(crate) fn arn(&self, region: &str) -> String {
        format!("arn:aws:lambda:{region}:{}:layer:{}", self.account, self.layer)
    }

    pub(crate) fn policy(&self, number: u64) -> DocumentId {
        let name = format!("{}:{number}", self.layer).into();
        DocumentId { account: self.account.clone(), kind: POLICY, name }
    }
}

impl Call {
    /// The layer that the path names.
    ///
    /// # Errors
    /// The name is malformed or of another region.
    pub(crate) fn layer(&self, mut violations: Violations) -> Result<LayerName, ApiError> {
        violations.text(&self.name, "layerName", &shapes::LAYER_NAME_OR_ARN);
        violations.finish()?;
        let Some(rest) = self.name.split_once(":lambda:").map(|(_, rest)| rest) else {
            return Ok(LayerName { account: self.scope.account.clone(), layer: self.name.as_str().into() });
        };
        read_arn(&self.scope, rest, &self.name)
    }

    /// The layer and the number of its version that the path names.
    ///
    /// # Errors
    /// Either is malformed.
    pub(crate) fn layer_version(&self, violations: Violations) -> Result<(LayerName, u64), ApiError> {
        let layer = self.layer(violations)?;
        let number: i64 = self.detail.parse().map_err(|_| {
            ApiError::serialization(format!("VersionNumber {:?} can not be converted to a Long", self.detail))
        })?;
        let number = u64::try_from(number).ok().filter(|number| *number > 0);
        let wrong = || ApiError::parameter("Layer Version Cannot be less than 1.");
        Ok((layer, number.ok_or_else(wrong)?))
    }

    fn layer_filter(&self, violations: &mut Violations) -> LayerFilter {
        let mut get = |parameter: &str, path: &str, shape| {
            let value = query_value(&self.query, parameter);
            if let Some(value) = &value {
                violations.text(value, path, shape);
            }
            value
        };
        LayerFilter {
            runtime: get("CompatibleRuntime", "compatibleRuntime", &shapes::RUNTIME),
            architecture: get("CompatibleArchitecture", "compatibleArchitecture", &shapes::ARCHITECTURE),
        }
    }
}

/// Reads what follows `arn:aws:lambda:` in a layer's ARN; a version's number behind it is left alone.
fn read_arn(scope: &Scope, rest: &str, whole: &str) -> Result<LayerName, ApiError> {
    let mut parts = rest.split(':');
    let (region, account, layer) = (parts.next(), parts.next(), parts.nth(1));
    if region != Some(&*scope.region) {
        let text = format!("Layers are not reachable from other regions than their own: {whole}");
        return Err(ApiError::parameter(text));
    }
    let account = account.and_then(|account| account.parse().ok());
    let wrong = || ApiError::parameter(format!("Not the ARN of a layer: {whole}"));
    Ok(LayerName { account: account.ok_or_else(wrong)?, layer: layer.ok_or_else(wrong)?.into() })
}

fn missing() -> ApiError {
    ApiError::not_found("The resource you requested does not exist.")
}

fn failed(error: &hearth_store::StoreError) -> ApiError {
    ApiError::store(error, "")
}

impl<B: Backend> Core<B> {
    pub(crate) async fn publish_layer_version(self: &Arc<Self>, mut call: Call) -> Answer {
        let mut members = Members::parse(&call.body)?;
        call.body = bytes::Bytes::new();
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::PUBLISH_LAYER_VERSION_REQUEST)?;
        let name = call.layer(violations)?;
        own(&call, &name, "PublishLayerVersion")?;
        let content = members.fields.get("Content").cloned().unwrap_or_default();
        if members.zip.is_none() && content.as_object().is_none_or(Map::is_empty) {
            return Err(ApiError::parameter("Missing Content"));
        }
        let code = self.take_code(&content, members.zip.take(), "PublishLayerVersion").await?;
        let texts = |name: &str| {
            let list = members.given(name).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let version = LayerVersion {
            account: name.account.clone(),
            layer: Arc::clone(&name.layer),
            number: 0,
            code,
            unzipped: self.unpacked_bytes(vec![code.digest]).await?,
            about: LayerAbout {
                description: members.text("Description").unwrap_or_default().to_owned(),
                license: members.text("LicenseInfo").map(str::to_owned),
                runtimes: texts("CompatibleRuntimes"),
                architectures: texts("CompatibleArchitectures"),
            },
            created_ms: now_ms(),
        };
        let kept = self.store.publish_layer(version).await.map_err(|error| failed(&error))?;
        Ok(answer(StatusCode::CREATED, &self.whole_layer(&kept)))
    }

    pub(crate) async fn get_layer_version(&self, call: Call) -> Answer {
        let (name, number) = call.layer_version(Violations::default())?;
        let version = self.readable_layer(&call.scope, &name, number).await?;
        Ok(answer(StatusCode::OK, &self.whole_layer(&version)))
    }

    pub(crate) async fn get_layer_version_by_arn(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let arn = query_value(&call.query, "Arn").unwrap_or_default();
        violations.text(&arn, "arn", &shapes::LAYER_VERSION_ARN);
        violations.finish()?;
        let version = self.layer_by_arn(&call.scope, &arn).await?;
        Ok(answer(StatusCode::OK, &self.whole_layer(&version)))
    }

    pub(crate) async fn list_layers(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let filter = call.layer_filter(&mut violations);
        let limit = call.page(&shapes::MAX_LAYER_LIST_ITEMS, PAGE, &mut violations)?;
        violations.finish()?;
        let after = call.marker()?.unwrap_or_default();
        let listed = self.store.list_layers(&call.scope.account, &after, filter, limit + 1).await;
        let mut layers = listed.map_err(|error| failed(&error))?;
        let more = layers.len() > limit;
        layers.truncate(limit);
        let shown = layers.iter().map(|version| {
            let arn = layer_of(version).arn(&self.region);
            json!({"LayerName": &*version.layer, "LayerArn": arn, "LatestMatchingVersion": self.listed_layer(version)})
        });
        let mut document = json!({"Layers": shown.collect::<Vec<_>>()});
        if let Some(last) = layers.last().filter(|_| more) {
            document["NextMarker"] = mark(&last.layer).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    pub(crate) async fn list_layer_versions(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        let filter = call.layer_filter(&mut violations);
        let limit = call.page(&shapes::MAX_LAYER_LIST_ITEMS, PAGE, &mut violations)?;
        let name = call.layer(violations)?;
        own(&call, &name, "ListLayerVersions")?;
        let before = match call.marker()? {
            None => u64::MAX,
            Some(text) => text.parse().map_err(|_| {
                ApiError::parameter("The provided marker is not valid; use the NextMarker of an answer")
            })?,
        };
        let listed =
            self.store.list_layer_versions(&name.account, &name.layer, before, filter, limit + 1).await;
        let mut versions = listed.map_err(|error| failed(&error))?;
        let more = versions.len() > limit;
        versions.truncate(limit);
        let shown: Vec<_> = versions.iter().map(|version| self.listed_layer(version)).collect();
        let mut document = json!({"LayerVersions": shown});
        if let Some(last) = versions.last().filter(|_| more) {
            document["NextMarker"] = mark(&last.number.to_string()).into();
        }
        Ok(answer(StatusCode::OK, &document))
    }

    /// One that is not there is deleted already. Functions that have it keep it.
    pub(crate) async fn delete_layer_version(&self, call: Call) -> Answer {
        let (name, number) = call.layer_version(Violations::default())?;
        own(&call, &name, "DeleteLayerVersion")?;
        let deleted = self.store.delete_layer_version(&name.account, &name.layer, number).await;
        deleted.map_err(|error| failed(&error))?;
        let policy = self.store.delete_document(&name.policy(number), Expect::Anything).await;
        policy.map_err(|error| failed(&error))?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// The layers that a request gives a function, if it says so.
    ///
    /// # Errors
    /// Too many, two of the same, or one that is not there.
    pub(crate) async fn layers_of(
        &self,
        scope: &Scope,
        members: &Members,
    ) -> Result<Option<Vec<LayerRef>>, ApiError> {
        let Some(list) = members.given("Layers").and_then(Value::as_array) else { return Ok(None) };
        if list.len() > MOST {
            return Err(ApiError::parameter(format!("Cannot reference more than {MOST} layers.")));
        }
        let mut layers: Vec<LayerRef> = Vec::with_capacity(list.len());
        for arn in list.iter().filter_map(Value::as_str) {
            let name = |arn: &str| arn.rsplit_once(':').map(|(layer, _)| layer.to_owned());
            if let Some(same) = layers.iter().find(|layer| name(&layer.arn) == name(arn)) {
                return Err(ApiError::parameter(format!(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. \
                     {} and {arn} are versions of the same layer.",
                    same.arn
                )));
            }
            let version = self.layer_by_arn(scope, arn).await.map_err(|error| match error.status {
                StatusCode::NOT_FOUND => ApiError::parameter(format!("Layer version {arn} does not exist.")),
                _ => error,
            })?;
            layers.push(LayerRef::new(arn.to_owned(), version.code));
        }
        Ok(Some(layers))
    }

    /// Refuses what is too large together.
    ///
    /// # Errors
    /// Code and layers unpack to more than a function may have, or cannot be measured.
    pub(crate) async fn check_sizes(&self, code: CodeDigest, layers: &[LayerRef]) -> Result<(), ApiError> {
        if layers.is_empty() {
            return Ok(());
        }
        let digests = layers.iter().filter_map(LayerRef::digest).chain([code]).collect();
        let bytes = self.unpacked_bytes(digests).await?;
        if bytes > limits::UNZIPPED_BYTES {
            return Err(ApiError::parameter(format!(
                "Function code combined with layers exceeds the maximum allowed size of {} bytes. The actual size is \
                 {bytes} bytes.",
                limits::UNZIPPED_BYTES
            )));
        }
        Ok(())
    }

    async fn unpacked_bytes(&self, digests: Vec<CodeDigest>) -> Result<u64, ApiError> {
        let images = Arc::clone(&self.images);
        let measured = tokio::task::spawn_blocking(move || {
            digests.into_iter().map(|digest| images.unpacked_bytes(digest)).sum()
        });
        let bytes: Result<u64, _> = measured.await.map_err(|error| {
            tracing::error!(%error, "the measuring of an archive broke down");
            ApiError::internal("Hearth failed while it measured the archive; its log says why")
        })?;
        bytes.map_err(|error| archive_error(&error))
    }

    async fn layer_by_arn(&self, scope: &Scope, arn: &str) -> Result<LayerVersion, ApiError> {
        let rest = arn.split_once(":lambda:").map_or("", |(_, rest)| rest);
        let name = read_arn(scope, rest, arn)?;
        let number = arn.rsplit(':').next().and_then(|number| number.parse().ok());
        self.readable_layer(scope, &name, number.ok_or_else(missing)?).await
    }

    /// A version of a layer that the caller may read: its own, or one whose policy says so.
    async fn readable_layer(
        &self,
        scope: &Scope,
        name: &LayerName,
        number: u64,
    ) -> Result<LayerVersion, ApiError> {
        if name.account != scope.account {
            let arn = format!("{}:{number}", name.arn(&self.region));
            let kept = self.store.document(&name.policy(number)).await.map_err(|error| failed(&error))?;
            let caller = format!("arn:aws:iam::{}:root", scope.account);
            let access = Access {
                account: &scope.account,
                caller: &caller,
                action: "lambda:GetLayerVersion",
                resource: &arn,
                url_auth: None,
            };
            if !kept.is_some_and(|policy| policy::allows(&policy.body, &access)) {
                return Err(ApiError::denied(&scope.account, "GetLayerVersion", &arn));
            }
        }
        let found = self.store.layer_version(&name.account, &name.layer, number).await;
        found.map_err(|error| failed(&error))?.ok_or_else(missing)
    }

    /// `PublishLayerVersionResponse`, which is that of the readers, too.
    fn whole_layer(&self, version: &LayerVersion) -> Value {
        let mut document = self.listed_layer(version);
        document["LayerArn"] = layer_of(version).arn(&self.region).into();
        document["Description"] = version.about.description.as_str().into();
        document["Content"] = json!({
            "Location": self.location(version.code.digest),
            "CodeSha256": STANDARD.encode(version.code.digest.0),
            "CodeSize": version.code.size,
        });
        document
    }

    /// `LayerVersionsListItem`.
    fn listed_layer(&self, version: &LayerVersion) -> Value {
        let about = &version.about;
        let mut document = json!({
            "LayerVersionArn": format!("{}:{}", layer_of(version).arn(&self.region), version.number),
            "Version": version.number,
            "CreatedDate": render::timestamp(version.created_ms),
        });
        for (name, list) in
            [("CompatibleRuntimes", &about.runtimes), ("CompatibleArchitectures", &about.architectures)]
        {
            if !list.is_empty() {
                document[name] = json!(list);
            }
        }
        if let Some(license) = &about.license {
            document["LicenseInfo"] = license.as_str().into();
        }
        if !about.description.is_empty() {
            document["Description"] = about.description.as_str().into();
        }
        document
    }
}

/// Only its owner may do that with a layer.
pub(crate) fn own(call: &Call, name: &LayerName, action: &str) -> Result<(), ApiError> {
    if name.account == call.scope.account {
        return Ok(());
    }
    Err(ApiError::denied(&call.scope.account, action, &name.arn(&call.scope.region)))
}

fn layer_of(version: &LayerVersion) -> LayerName {
    LayerName { account: version.account.clone(), layer: Arc::clone(&version.layer) }
}
