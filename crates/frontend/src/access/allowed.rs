//! Whether a caller may do something with a function: the key's grant, and where the function is another account's its policy too.

use hearth_types::FunctionId;
use hyper::StatusCode;
use serde::Deserialize;

use super::{Caller, actions};
use crate::Backend;
use crate::core::Core;
use crate::error::ApiError;
use crate::names::{Named, Qualifier, Scope, meant, query_value};
use crate::operations::Operation;
use crate::permissions::function_policy;
use crate::policy::{Access, allows, denies};
use crate::service::Call;

/// Operations whose body says which function they are about.
const IN_BODY: [&str; 3] = ["CreateFunction", "CreateEventSourceMapping", "UpdateEventSourceMapping"];

/// What of them says it.
#[derive(Deserialize)]
struct Created {
    #[serde(rename = "FunctionName")]
    name: Option<String>,
}

impl<B: Backend> Core<B> {
    /// For whom names are read in a call: the caller's account, or the function's, if its policy lets the caller in.
    ///
    /// # Errors
    /// The caller may not do that.
    pub(crate) async fn authorized(
        &self,
        caller: &Caller,
        operation: &'static Operation,
        call: &Call,
    ) -> Result<Scope, ApiError> {
        let mut scope = Scope { region: call.scope.region.clone(), account: caller.account.clone() };
        let Some(named) = subject(caller, operation, call) else {
            if caller.key.is_some() {
                caller.check(&actions::of(operation.name))?;
            }
            return Ok(scope);
        };
        let is_own = named.id.account == caller.account;
        if caller.key.is_none() && is_own && self.denials.is_empty() {
            return Ok(scope);
        }
        let action = actions::of(operation.name);
        let arn = scope.arn(&named.id);
        caller.check_function(&action, (&named.id.account, &named.id.name), &arn)?;
        if is_own && !self.denials.is_empty() && !actions::is_of_policies(operation.name) {
            let said = query_value(&call.query, "Qualifier");
            // One that contradicts itself is refused where it is carried out.
            if let Ok(qualifier) = Scope::qualifier(&named, said.as_deref()) {
                self.check_denials(caller, (&action, None), &named, &qualifier).await?;
            }
        }
        if !is_own {
            let said = query_value(&call.query, "Qualifier");
            let qualifier = Scope::qualifier(&named, said.as_deref())?;
            let crosses = actions::crosses(operation.name);
            if !crosses || !self.lets_in(caller, (&action, None), &named, &qualifier).await? {
                return Err(caller.denied(&action, &qualifier.behind(&arn), true));
            }
            scope.account = named.id.account;
        }
        Ok(scope)
    }

    /// Whether a caller may ask a function that is asked by HTTP, by its URL or by its name.
    ///
    /// # Errors
    /// They may not.
    pub(crate) async fn may_ask(
        &self,
        caller: &Caller,
        id: &FunctionId,
        qualifier: &Qualifier,
    ) -> Result<(), ApiError> {
        let (action, arn) = ("lambda:InvokeFunctionUrl", self.arn(id));
        caller.check_function(action, (&id.account, &id.name), &arn)?;
        let named = Named { id: id.clone(), qualifier: None };
        let how = (action, Some("AWS_IAM"));
        if id.account == caller.account {
            return self.check_denials(caller, how, &named, qualifier).await;
        }
        if self.lets_in(caller, how, &named, qualifier).await? {
            return Ok(());
        }
        Err(caller.denied(action, &qualifier.behind(&arn), true))
    }

    /// Whether a function's policy forbids its own account something.
    async fn check_denials(
        &self,
        caller: &Caller,
        (action, url_auth): (&str, Option<&str>),
        named: &Named,
        qualifier: &Qualifier,
    ) -> Result<(), ApiError> {
        let of = if *qualifier == Qualifier::Latest { &Qualifier::None } else { qualifier };
        let id = function_policy(named, of);
        if !self.denials.has(&id) {
            return Ok(());
        }
        let resource = of.behind(&self.arn(&named.id));
        let found = self.store.document(&id).await.map_err(|error| ApiError::store(&error, &resource))?;
        let access =
            Access { account: &caller.account, caller: &caller.arn, action, resource: &resource, url_auth };
        if found.is_some_and(|policy| denies(&policy.body, &access)) {
            let text = format!(
                "User: {} is not authorized to perform: {action} on resource: {resource} with an explicit deny in a \
                 resource-based policy",
                caller.arn
            );
            return Err(ApiError::new(StatusCode::FORBIDDEN, "AccessDeniedException", text));
        }
        Ok(())
    }

    /// Whether a function's policy lets one of another account do something with it. A function that is not there lets nobody.
    async fn lets_in(
        &self,
        caller: &Caller,
        (action, url_auth): (&str, Option<&str>),
        named: &Named,
        qualifier: &Qualifier,
    ) -> Result<bool, ApiError> {
        let arn = self.arn(&named.id);
        // What is said of the function as a whole is said of its newest version.
        let of = if *qualifier == Qualifier::Latest { &Qualifier::None } else { qualifier };
        let found = self.store.document(&function_policy(named, of)).await;
        let policy = found.map_err(|error| ApiError::store(&error, &arn))?;
        let resource = of.behind(&arn);
        let access =
            Access { account: &caller.account, caller: &caller.arn, action, resource: &resource, url_auth };
        Ok(policy.is_some_and(|policy| allows(&policy.body, &access)))
    }
}

/// The function that a call is about, if it is about one.
fn subject(caller: &Caller, operation: &Operation, call: &Call) -> Option<Named> {
    let name = if IN_BODY.contains(&operation.name) {
        // Read only where it matters: it may be most of a hundred megabytes.
        caller.key.as_ref().filter(|key| !key.grant.functions.iter().any(|pattern| pattern == "*"))?;
        serde_json::from_slice::<Created>(&call.body).ok()?.name?
    } else if operation.path.contains("{FunctionName}")
        || operation.path.contains("{Resource") && call.name.contains(":function:")
    {
        call.name.clone()
    } else {
        return None;
    };
    Some(meant(&name, &caller.account))
}
