//! Tags of event source mappings.

use std::collections::BTreeMap;

use hyper::{Response, StatusCode};
use serde_json::json;

use super::{ATTEMPTS, Mapping, missing};
use crate::body::{Body, empty, json as answer};
use crate::core::Core;
use crate::error::ApiError;
use crate::request::Members;
use crate::service::Call;
use crate::tags::MOST_TAGS;
use crate::validate::Violations;
use crate::{Backend, shapes};

/// What stands before a mapping's UUID in its ARN.
const KIND: &str = ":event-source-mapping:";

type Answer = Result<Response<Body>, ApiError>;

/// Whether an ARN is one of a mapping.
pub(crate) fn is_mapping(arn: &str) -> bool {
    arn.contains(KIND)
}

/// Whether a mapping may have these.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if tags.len() > MOST_TAGS {
        let count = tags.len();
        let text = format!("A mapping can have at most {MOST_TAGS} tags; this one would have {count}");
        return Err(ApiError::parameter(text));
    }
    match tags.keys().find(|key| key.starts_with("aws:")) {
        Some(key) => Err(ApiError::parameter(format!(
            "The tag key {key:?} is reserved: system tags that start with aws: cannot be set"
        ))),
        None => Ok(()),
    }
}

impl<B: Backend> Core<B> {
    pub(crate) async fn tag_mapping(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::TAG_RESOURCE_REQUEST)?;
        let call = of_mapping(call, violations)?;
        let added = members.texts("Tags").unwrap_or_default();
        self.edit_tags(&call, |mapping| {
            mapping.tags.extend(added.clone());
            check(&mapping.tags)
        })
        .await
    }

    pub(crate) async fn untag_mapping(&self, call: Call) -> Answer {
        let keys = call.tag_keys(Violations::default())?;
        let call = of_mapping(call, Violations::default())?;
        self.edit_tags(&call, |mapping| {
            mapping.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await
    }

    pub(crate) fn list_mapping_tags(&self, call: Call) -> Answer {
        let call = of_mapping(call, Violations::default())?;
        let (_, mapping) = self.kept_mapping(&call)?;
        Ok(answer(StatusCode::OK, &json!({"Tags": mapping.tags})))
    }

    async fn edit_tags<F>(&self, call: &Call, edit: F) -> Answer
    where
        F: Fn(&mut Mapping) -> Result<(), ApiError> + Send + Sync,
    {
        for _ in 0..ATTEMPTS {
            let (setting, mut mapping) = self.kept_mapping(call)?;
            edit(&mut mapping)?;
            if self.put_mapping(setting, &mapping).await? {
                return Ok(empty(StatusCode::NO_CONTENT));
            }
        }
        Err(ApiError::conflict("The mapping was changed by another request in the meantime"))
    }
}

/// The same call, with the mapping's UUID where its ARN was.
fn of_mapping(mut call: Call, mut violations: Violations) -> Result<Call, ApiError> {
    violations.text(&call.name, "resource", &shapes::TAGGABLE_RESOURCE);
    violations.finish()?;
    let here = format!("arn:aws:lambda:{}:{}{KIND}", call.scope.region, call.scope.account);
    call.name = call.name.strip_prefix(&here).ok_or_else(missing)?.to_owned();
    Ok(call)
}
