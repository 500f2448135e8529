//! Policies of functions, versions, aliases and layers: statement by statement, or as a whole.

use hearth_store::{Document, DocumentId, Expect, StoreError};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::body::{Body, empty, json as answer};
use crate::core::Core;
use crate::error::ApiError;
use crate::names::{Named, Qualifier, query_value};
use crate::policy::{self, Draft};
use crate::request::Members;
use crate::service::Call;
use crate::validate::Violations;
use crate::{Backend, layers, shapes};

/// The kind of the documents that hold functions' policies.
pub(crate) const KIND: &str = "policy";
/// Times a change is tried again because somebody else changed the policy in between.
const ATTEMPTS: usize = 16;

type Answer = Result<Response<Body>, ApiError>;

/// What a policy is of: its document, the function that it goes with, and how error texts call it.
struct Owner {
    id: DocumentId,
    function: Option<Named>,
    arn: String,
}

fn nothing() -> ApiError {
    ApiError::not_found("The resource you requested does not exist.")
}

impl<B: Backend> Core<B> {
    pub(crate) async fn add_permission(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::ADD_PERMISSION_REQUEST)?;
        let (named, qualifier) = call.checked_function(violations)?;
        let owner = self.owner(&named, &qualifier).await?;
        let statement = statement(&members, &owner.arn)?;
        let shown = statement.to_string();
        self.edit_policy(&owner, members.text("RevisionId"), |draft| added(draft, &statement)).await?;
        Ok(answer(StatusCode::CREATED, &json!({"Statement": shown})))
    }

    pub(crate) async fn remove_permission(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        violations.text(&call.detail, "statementId", &shapes::NAMESPACED_STATEMENT_ID);
        let revision = query_value(&call.query, "RevisionId");
        let (named, qualifier) = call.checked_function(violations)?;
        let owner = self.owner(&named, &qualifier).await?;
        self.edit_policy(&owner, revision.as_deref(), |draft| removed(draft, &call.detail)).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(crate) async fn get_policy(&self, call: Call) -> Answer {
        let (named, qualifier) = call.qualified_function()?;
        let owner = self.owner(&named, &qualifier).await?;
        self.show_policy(&owner).await
    }

    pub(crate) async fn put_resource_policy(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::PUT_RESOURCE_POLICY_REQUEST)?;
        let owner = self.owner_by_arn(&call, violations).await?;
        let text = members.text("Policy").unwrap_or_default();
        let policy = policy::check(text, &owner.arn)
            .map_err(|what| ApiError::parameter(format!("The policy is malformed: {what}")))?;
        self.edit_policy(&owner, members.text("RevisionId"), |draft| {
            *draft = Draft::of(Some(&policy));
            Ok(())
        })
        .await?;
        self.show_policy(&owner).await
    }

    pub(crate) async fn get_resource_policy(&self, call: Call) -> Answer {
        let owner = self.owner_by_arn(&call, Violations::default()).await?;
        self.show_policy(&owner).await
    }

    pub(crate) async fn delete_resource_policy(&self, call: Call) -> Answer {
        let revision = query_value(&call.query, "RevisionId");
        let mut violations = Violations::default();
        if let Some(revision) = &revision {
            violations.text(revision, "revisionId", &shapes::POLICY_REVISION_ID);
        }
        let owner = self.owner_by_arn(&call, violations).await?;
        let expect = revision.as_deref().map_or(Expect::Anything, Expect::Revision);
        if self.store.delete_document(&owner.id, expect).await.map_err(|error| failed(&error, &owner))? {
            self.denials.note(&owner.id, None);
            return Ok(empty(StatusCode::NO_CONTENT));
        }
        match self.policy(&owner).await? {
            Some(_) => Err(ApiError::precondition()),
            None => Err(nothing()),
        }
    }

    pub(crate) async fn add_layer_permission(&self, call: Call) -> Answer {
        let members = Members::parse(&call.body)?;
        let mut violations = Violations::default();
        violations.body(&members.fields, &shapes::ADD_LAYER_VERSION_PERMISSION_REQUEST)?;
        let owner = self.layer_owner(&call, violations, "AddLayerVersionPermission").await?;
        let text = |name: &str| members.text(name).unwrap_or_default();
        let principal = policy::principal_of(text("Principal")).unwrap_or_default();
        let mut statement = json!({
            "Sid": text("StatementId"),
            "Effect": "Allow",
            "Principal": principal,
            "Action": text("Action"),
            "Resource": owner.arn,
        });
        if let Some(organization) = members.text("OrganizationId") {
            if text("Principal") != "*" {
                return Err(ApiError::parameter("OrganizationId is allowed with the principal * only"));
            }
            statement["Condition"] = json!({"StringEquals": {"aws:PrincipalOrgID": organization}});
        }
        let revision = query_value(&call.query, "RevisionId");
        let kept = self.edit_policy(&owner, revision.as_deref(), |draft| added(draft, &statement)).await?;
        let revision = kept.map(|kept| kept.revision_id);
        let document = json!({"Statement": statement.to_string(), "RevisionId": revision});
        Ok(answer(StatusCode::CREATED, &document))
    }

    pub(crate) async fn remove_layer_permission(&self, call: Call) -> Answer {
        let mut violations = Violations::default();
        violations.text(&call.third, "statementId", &shapes::STATEMENT_ID);
        let revision = query_value(&call.query, "RevisionId");
        let owner = self.layer_owner(&call, violations, "RemoveLayerVersionPermission").await?;
        self.edit_policy(&owner, revision.as_deref(), |draft| removed(draft, &call.third)).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(crate) async fn get_layer_policy(&self, call: Call) -> Answer {
        let owner = self.layer_owner(&call, Violations::default(), "GetLayerVersionPolicy").await?;
        self.show_policy(&owner).await
    }

    async fn owner(&self, named: &Named, qualifier: &Qualifier) -> Result<Owner, ApiError> {
        if *qualifier == Qualifier::Latest {
            return Err(ApiError::parameter("We currently do not support adding policies for $LATEST."));
        }
        self.resolve(&named.id, qualifier).await?;
        let id = function_policy(named, qualifier);
        Ok(Owner { id, function: Some(named.clone()), arn: qualifier.behind(&self.arn(&named.id)) })
    }

    async fn owner_by_arn(&self, call: &Call, mut violations: Violations) -> Result<Owner, ApiError> {
        violations.text(&call.name, "resourceArn", &shapes::POLICY_RESOURCE_ARN);
        violations.finish()?;
        if !call.name.contains(":function:") {
            return Err(ApiError::unsupported("policies of runtimes"));
        }
        let shape = &shapes::NAMESPACED_FUNCTION_NAME;
        let named = call.scope.function(&call.name, shape, &mut Violations::default())?;
        let qualifier = crate::names::Scope::qualifier(&named, None)?;
        self.owner(&named, &qualifier).await
    }

    async fn layer_owner(
        &self,
        call: &Call,
        violations: Violations,
        action: &str,
    ) -> Result<Owner, ApiError> {
        let (name, number) = call.layer_version(violations)?;
        layers::own(call, &name, action)?;
        let found = self.store.layer_version(&name.account, &name.layer, number).await;
        let arn = format!("{}:{number}", name.arn(&self.region));
        match found.map_err(|error| ApiError::store(&error, &arn))? {
            Some(_) => Ok(Owner { id: name.policy(number), function: None, arn }),
            None => Err(ApiError::not_found(format!("Layer version {arn} does not exist."))),
        }
    }

    async fn policy(&self, owner: &Owner) -> Result<Option<Document>, ApiError> {
        self.store.document(&owner.id).await.map_err(|error| failed(&error, owner))
    }

    async fn show_policy(&self, owner: &Owner) -> Answer {
        let policy = self.policy(owner).await?.ok_or_else(nothing)?;
        let document = json!({"Policy": policy.body, "RevisionId": policy.revision_id});
        Ok(answer(StatusCode::OK, &document))
    }

    /// Changes a policy, again if somebody else was faster; one without statements is no more. Answers what is kept.
    async fn edit_policy<F>(
        &self,
        owner: &Owner,
        revision: Option<&str>,
        mut edit: F,
    ) -> Result<Option<Document>, ApiError>
    where
        F: FnMut(&mut Draft) -> Result<(), ApiError> + Send,
    {
        for _ in 0..ATTEMPTS {
            let kept = self.policy(owner).await?;
            let current = kept.as_ref().map(|policy| policy.revision_id.as_str());
            if revision.is_some_and(|wanted| Some(wanted) != current) {
                return Err(ApiError::precondition());
            }
            let mut draft = Draft::of(kept.as_ref().map(|policy| policy.body.as_str()));
            edit(&mut draft)?;
            let expect = current.map_or(Expect::Nothing, Expect::Revision);
            if draft.is_empty() {
                let gone = self.store.delete_document(&owner.id, expect).await;
                if gone.map_err(|error| failed(&error, owner))? || kept.is_none() {
                    self.denials.note(&owner.id, None);
                    return Ok(None);
                }
                continue;
            }
            let body = draft.text();
            if body.len() > policy::BYTES {
                let text = format!(
                    "The final policy size ({}) is bigger than the limit ({}).",
                    body.len(),
                    policy::BYTES
                );
                return Err(ApiError::new(StatusCode::BAD_REQUEST, "PolicyLengthExceededException", text));
            }
            let function = owner.function.as_ref().map(|named| named.id.name.clone());
            let document = Document { id: owner.id.clone(), function, body, revision_id: String::new() };
            let kept =
                self.store.put_document(document, expect).await.map_err(|error| failed(&error, owner))?;
            if let Some(policy) = &kept {
                self.denials.note(&owner.id, Some(&policy.body));
                return Ok(kept);
            }
        }
        Err(ApiError::conflict("The policy was changed by other requests in the meantime; try again"))
    }

    /// Removes what hangs on a version or an alias that is no more.
    pub(crate) async fn forget_policy(&self, named: &Named, qualifier: &Qualifier) {
        let gone = self.store.delete_document(&function_policy(named, qualifier), Expect::Anything).await;
        if let Err(error) = gone {
            tracing::warn!(function = %named.id, %error, "the policy of what was deleted is still kept");
        }
    }
}

/// The document with the policy of a function, a version or an alias.
pub(crate) fn function_policy(named: &Named, qualifier: &Qualifier) -> DocumentId {
    let name = qualifier.behind(&named.id.name).into();
    DocumentId { account: named.id.account.clone(), kind: KIND, name }
}

fn failed(error: &StoreError, owner: &Owner) -> ApiError {
    ApiError::store(error, &owner.arn)
}

fn added(draft: &mut Draft, statement: &Value) -> Result<(), ApiError> {
    if draft.add(statement.clone()) {
        return Ok(());
    }
    let sid = statement.get("Sid").and_then(Value::as_str).unwrap_or_default();
    Err(ApiError::conflict(format!(
        "The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the existing \
         statement."
    )))
}

fn removed(draft: &mut Draft, sid: &str) -> Result<(), ApiError> {
    if draft.remove(sid) {
        return Ok(());
    }
    Err(if draft.is_empty() {
        ApiError::not_found("No policy is associated with the given resource.")
    } else {
        ApiError::not_found(format!("Statement {sid} is not found in resource policy."))
    })
}

/// The statement that AddPermission asks for.
fn statement(members: &Members, arn: &str) -> Result<Value, ApiError> {
    let text = |name: &str| members.text(name).unwrap_or_default();
    let principal = policy::principal_of(text("Principal")).ok_or_else(|| {
        ApiError::parameter("The provided principal was invalid. Please check the principal and try again.")
    })?;
    let mut conditions: Map<String, Value> = Map::new();
    for (member, operator, key) in [
        ("SourceArn", "ArnLike", "AWS:SourceArn"),
        ("SourceAccount", "StringEquals", "AWS:SourceAccount"),
        ("EventSourceToken", "StringEquals", "lambda:EventSourceToken"),
        ("PrincipalOrgID", "StringEquals", "aws:PrincipalOrgID"),
        ("FunctionUrlAuthType", "StringEquals", "lambda:FunctionUrlAuthType"),
    ] {
        if let Some(value) = members.text(member) {
            let keys = conditions.entry(operator.to_owned()).or_insert_with(|| json!({}));
            keys[key] = value.into();
        }
    }
    if let Some(flag) = members.given("InvokedViaFunctionUrl").and_then(Value::as_bool) {
        conditions.insert("Bool".to_owned(), json!({"lambda:InvokedViaFunctionUrl": flag.to_string()}));
    }
    let mut statement = json!({
        "Sid": text("StatementId"),
        "Effect": "Allow",
        "Principal": principal,
        "Action": text("Action"),
        "Resource": arn,
    });
    if !conditions.is_empty() {
        statement["Condition"] = Value::Object(conditions);
    }
    Ok(statement)
}
