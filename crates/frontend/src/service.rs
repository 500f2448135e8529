//! One request: which operation it is, who it is for, and what goes around every answer.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hearth_types::RequestId;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use tracing::Instrument;
use tracing::field::Empty;

use crate::Backend;
use crate::access::{Checked, Pending};
use crate::body::{Body, drain};
use crate::core::Core;
use crate::download;
use crate::error::ApiError;
use crate::names::{Named, Qualifier, Scope, percent_decode, query_value, query_values};
use crate::neighbours;
use crate::operations::Operation;
use crate::operator;
use crate::read::eager;
use crate::registry;
use crate::request::Members;
use crate::router::Route;
use crate::scheduler;
use crate::services::Client;
use crate::to_end::ToEnd;
use crate::validate::{Shape, Violations};
use crate::{shapes, url};

/// Bytes of a request's head; a longer one is answered with 431.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;

/// A request of the API, read to its end.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) scope: Scope,
    pub(crate) request_id: RequestId,
    /// The first parameter of the path, decoded: the name of a function or the ARN of a resource.
    pub(crate) name: String,
    /// The second parameter of the path, decoded: the name of an alias.
    pub(crate) detail: String,
    /// The third parameter of the path, decoded: the name of a statement.
    pub(crate) third: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// The function that the path names, and which version of it path or query name.
    ///
    /// # Errors
    /// The name is malformed, somebody else's, or contradicted.
    pub(crate) fn qualified_function(&self) -> Result<(Named, Qualifier), ApiError> {
        self.checked_function(Violations::default())
    }

    /// The same, after a check of something else.
    ///
    /// # Errors
    /// The name is malformed, somebody else's, or contradicted; or what else was checked is wrong.
    pub(crate) fn checked_function(
        &self,
        mut violations: Violations,
    ) -> Result<(Named, Qualifier), ApiError> {
        let named = self.scope.function(&self.name, &shapes::NAMESPACED_FUNCTION_NAME, &mut violations)?;
        let qualifier = query_value(&self.query, "Qualifier");
        if let Some(qualifier) = &qualifier {
            let shape = &shapes::NUMERIC_LATEST_PUBLISHED_OR_ALIAS_QUALIFIER;
            violations.text(qualifier, "qualifier", shape);
        }
        violations.finish()?;
        let qualifier = Scope::qualifier(&named, qualifier.as_deref())?;
        Ok((named, qualifier))
    }

    /// The function that the path names, for what no version can do.
    ///
    /// # Errors
    /// The name is malformed, somebody else's, or qualified.
    pub(crate) fn whole_function(&self, mut violations: Violations) -> Result<Named, ApiError> {
        let named = self.scope.function(&self.name, &shapes::FUNCTION_NAME, &mut violations)?;
        violations.finish()?;
        match Scope::qualifier(&named, None)? {
            Qualifier::None | Qualifier::Latest => Ok(named),
            _ => Err(ApiError::parameter(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this \
                 operation. Please specify either a function name or an unqualified function ARN.",
            )),
        }
    }

    /// The function that the path names, after a check of it and the body.
    ///
    /// # Errors
    /// All that is wrong with either.
    pub(crate) fn changed_function(&self, members: &Members, shape: &Shape) -> Result<Named, ApiError> {
        let mut violations = Violations::default();
        violations.body(&members.fields, shape)?;
        self.whole_function(violations)
    }

    /// How many entries a page is to have, at most `most`.
    ///
    /// # Errors
    /// `MaxItems` is not a number; what else is wrong with it goes to `violations`.
    pub(crate) fn page(
        &self,
        shape: &Shape,
        most: usize,
        violations: &mut Violations,
    ) -> Result<usize, ApiError> {
        let Some(text) = query_value(&self.query, "MaxItems") else { return Ok(most) };
        let number: i64 = text.parse().map_err(|_| {
            ApiError::serialization(format!("MaxItems {text:?} can not be converted to an Integer"))
        })?;
        violations.number(number, "maxItems", shape);
        Ok(usize::try_from(number).map_or(most, |number| number.min(most)))
    }

    /// The tags that the query names.
    ///
    /// # Errors
    /// It names none, or one that cannot be; or what else was checked is wrong.
    pub(crate) fn tag_keys(&self, mut violations: Violations) -> Result<Vec<String>, ApiError> {
        let keys = query_values(&self.query, "tagKeys");
        if keys.is_empty() {
            violations.missing("tagKeys");
        }
        for key in &keys {
            violations.text(key, "tagKeys", &shapes::TAG_KEY);
        }
        violations.finish()?;
        Ok(keys)
    }

    /// Where the page before ended.
    ///
    /// # Errors
    /// The marker is none of ours.
    pub(crate) fn marker(&self) -> Result<Option<String>, ApiError> {
        let Some(marker) = query_value(&self.query, "Marker").filter(|marker| !marker.is_empty()) else {
            return Ok(None);
        };
        let wrong =
            || ApiError::parameter("The provided marker is not valid; use the NextMarker of an answer");
        unmark(&marker).map(Some).ok_or_else(wrong)
    }
}

/// The marker of the page after `name`.
pub(crate) fn mark(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

pub(crate) fn unmark(marker: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(marker).ok()?).ok()
}

impl<B: Backend> Core<B> {
    /// Answers a request; there is always an answer.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Client,
    ) -> Response<Body> {
        if let Some(response) = self.challenges.response(request.method(), request.uri().path()) {
            return response;
        }
        let request_id = RequestId::random();
        let request = match self.for_service(request, Client { request_id, ..client }).await {
            Ok(response) => return response,
            Err(request) => request,
        };
        let span = tracing::info_span!("request", %request_id, operation = Empty, function = Empty, instance = Empty);
        let (operation, result) =
            Arc::clone(&self).route(request, Client { request_id, ..client }).instrument(span.clone()).await;
        span.record("operation", operation);
        let mut response = result.unwrap_or_else(|error| {
            let (status, code) = (error.status.as_u16(), error.code);
            span.in_scope(|| tracing::debug!(status, code, message = error.message, "refused"));
            error.response()
        });
        self.metrics.answered(operation, response.status().as_u16());
        if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
            response.headers_mut().insert("x-amzn-requestid", value);
        }
        response
    }

    /// The answer to a request that is for a service; the request, if it is not.
    async fn for_service(
        &self,
        request: Request<Incoming>,
        client: Client,
    ) -> Result<Response<Body>, Request<Incoming>> {
        let (mut head, body) = request.into_parts();
        let host = host_of(&head).map(str::to_owned);
        let found = self.service(host.as_deref(), &head);
        let Some(mut target) =
            found.filter(|_| host.as_deref().is_none_or(|host| url::id_in(host).is_none()))
        else {
            return Err(Request::from_parts(head, body));
        };
        let opened = match check_head(&head) {
            Ok(()) => self.open_service(&mut target, &mut head, client).await,
            Err(error) => Err(error),
        };
        let response = match opened {
            Ok(payload) => {
                let body = Checked::new(body, &payload);
                self.answer_service(target, (head, body), host, client).await
            }
            Err(error) => error.closing().response(),
        };
        self.metrics.answered("HttpService", response.status().as_u16());
        Ok(response)
    }

    async fn route(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Client,
    ) -> (&'static str, Result<Response<Body>, ApiError>) {
        let (head, body) = request.into_parts();
        if let Err(error) = check_head(&head) {
            return ("Unknown", Err(error));
        }
        let request_id = client.request_id;
        if let Some(host) = host_of(&head).filter(|host| url::id_in(host).is_some()) {
            let host = host.to_owned();
            return ("FunctionUrl", Ok(self.answer_url((head, body), host, client).await));
        }
        if is_of_another_origin(&head) {
            let text = "A page of another origin asked a browser for this, and none may use this API";
            return (
                "Unknown",
                Err(ApiError::new(StatusCode::FORBIDDEN, "AccessDeniedException", text).closing()),
            );
        }
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or(""));
        if let Some(name) = path.strip_prefix(download::PREFIX) {
            return ("Download", self.download(name, query).await);
        }
        if registry::is_mine(path) {
            return ("Registry", Ok(self.registry(head, body, client).await));
        }
        if operator::is_mine(path) {
            return ("Operator", self.answer_operator(&head, body, client).await);
        }
        if neighbours::is_for(&head.method, path) {
            let (service, response) = self.neighbour(&head, body, client).await;
            return (service, Ok(response));
        }
        if scheduler::is_for(path) {
            return ("Scheduler", self.scheduler(&head, body, client).await);
        }
        // What is signed is a path in its normal form: another one could be signed for one operation and mean another.
        if self.gate.asks() && !hearth_keys::is_normal(path) {
            return ("Unknown", Err(unknown(StatusCode::NOT_FOUND, &head)));
        }
        let pending = match self.claim(&head, client.ip, &["lambda"]) {
            Ok(pending) => pending,
            Err(error) => {
                drain(body, eager(&head.headers)).await;
                return ("Unauthorized", Err(error));
            }
        };
        match self.router.route(&head.method, path, query) {
            Route::Operation(operation, ..) if !operation.answered => {
                drain(body, eager(&head.headers)).await;
                (operation.name, Err(ApiError::unsupported(&format!("the operation {}", operation.name))))
            }
            Route::Operation(operation, values) => {
                let [Some(name), Some(detail), Some(third)] = values.map(percent_decode) else {
                    let text = format!("The path is not percent-encoded UTF-8: {path}");
                    return (operation.name, Err(ApiError::content(text)));
                };
                let scope = Scope { region: Arc::clone(&self.region), account: pending.account().clone() };
                let (query, headers) = (query.to_owned(), head.headers);
                let call =
                    Call { scope, request_id, name, detail, third, query, headers, body: Bytes::new() };
                (operation.name, self.call(operation, call, (body, pending)).await)
            }
            Route::WrongMethod => ("Unknown", Err(unknown(StatusCode::METHOD_NOT_ALLOWED, &head))),
            Route::Unknown => ("Unknown", Err(unknown(StatusCode::NOT_FOUND, &head))),
        }
    }

    /// Reads the body, sees who sent it and whether they may, then does the work, which a client that goes away does not end.
    async fn call(
        self: Arc<Self>,
        operation: &'static Operation,
        mut call: Call,
        (body, pending): (Incoming, Pending),
    ) -> Result<Response<Body>, ApiError> {
        let core = Arc::clone(&self);
        let (body, permit) = core.read_body(operation.name, &call.headers, body).await?;
        let caller = self.admit(pending, &body)?;
        call.body = body;
        call.scope = self.authorized(&caller, operation, &call).await?;
        let operation = operation.name;
        // The panic itself has said on stderr what and where it was.
        let broken = |_| {
            tracing::error!(operation, "an operation broke down");
            Err(ApiError::internal("Hearth failed to answer; its log says why"))
        };
        let done = if operation == "Invoke" {
            ToEnd::new(async move { self.invoke(call).await }).await
        } else {
            ToEnd::new(async move { self.dispatch(operation, call).await }).await
        };
        drop(permit);
        done.unwrap_or_else(broken)
    }

    async fn dispatch(
        self: Arc<Self>,
        operation: &'static str,
        call: Call,
    ) -> Result<Response<Body>, ApiError> {
        match operation {
            "InvokeWithResponseStream" => self.invoke_with_response_stream(call).await,
            "CreateFunctionUrlConfig" => self.create_function_url(call).await,
            "UpdateFunctionUrlConfig" => self.update_function_url(call).await,
            "GetFunctionUrlConfig" => self.get_function_url(call).await,
            "ListFunctionUrlConfigs" => self.list_function_urls(call).await,
            "DeleteFunctionUrlConfig" => self.delete_function_url(call).await,
            "InvokeAsync" => self.invoke_async(call).await,
            "PutFunctionEventInvokeConfig" => self.put_event_config(call).await,
            "UpdateFunctionEventInvokeConfig" => self.update_event_config(call).await,
            "GetFunctionEventInvokeConfig" => self.get_event_config(call).await,
            "ListFunctionEventInvokeConfigs" => self.list_event_configs(call).await,
            "DeleteFunctionEventInvokeConfig" => self.delete_event_config(call).await,
            "CreateFunction" => self.create_function(call).await,
            "GetFunction" => self.get_function(call).await,
            "GetFunctionConfiguration" => self.get_function_configuration(call).await,
            "ListFunctions" => self.list_functions(call).await,
            "UpdateFunctionCode" => self.update_function_code(call).await,
            "UpdateFunctionConfiguration" => self.update_function_configuration(call).await,
            "DeleteFunction" => self.delete_function(call).await,
            "GetAccountSettings" => self.get_account_settings(call).await,
            "TagResource" => self.tag_resource(call).await,
            "UntagResource" => self.untag_resource(call).await,
            "ListTags" => self.list_tags(call).await,
            "PutFunctionConcurrency" => self.put_function_concurrency(call).await,
            "GetFunctionConcurrency" => self.get_function_concurrency(call).await,
            "DeleteFunctionConcurrency" => self.delete_function_concurrency(call).await,
            "PublishVersion" => self.publish_version(call).await,
            "ListVersionsByFunction" => self.list_versions(call).await,
            "CreateAlias" => self.create_alias(call).await,
            "UpdateAlias" => self.update_alias(call).await,
            "GetAlias" => self.get_alias(call).await,
            "ListAliases" => self.list_aliases(call).await,
            "DeleteAlias" => self.delete_alias(call).await,
            "PutProvisionedConcurrencyConfig" => self.put_provisioned(call).await,
            "GetProvisionedConcurrencyConfig" => self.get_provisioned(call).await,
            "ListProvisionedConcurrencyConfigs" => self.list_provisioned(call).await,
            "DeleteProvisionedConcurrencyConfig" => self.delete_provisioned(call).await,
            other => self.dispatch_layers_and_settings(other, call).await,
        }
    }

    async fn dispatch_layers_and_settings(
        self: Arc<Self>,
        operation: &'static str,
        call: Call,
    ) -> Result<Response<Body>, ApiError> {
        match operation {
            "PublishLayerVersion" => self.publish_layer_version(call).await,
            "GetLayerVersion" => self.get_layer_version(call).await,
            "GetLayerVersionByArn" => self.get_layer_version_by_arn(call).await,
            "ListLayers" => self.list_layers(call).await,
            "ListLayerVersions" => self.list_layer_versions(call).await,
            "DeleteLayerVersion" => self.delete_layer_version(call).await,
            "AddLayerVersionPermission" => self.add_layer_permission(call).await,
            "RemoveLayerVersionPermission" => self.remove_layer_permission(call).await,
            "GetLayerVersionPolicy" => self.get_layer_policy(call).await,
            "AddPermission" => self.add_permission(call).await,
            "RemovePermission" => self.remove_permission(call).await,
            "GetPolicy" => self.get_policy(call).await,
            "PutResourcePolicy" => self.put_resource_policy(call).await,
            "GetResourcePolicy" => self.get_resource_policy(call).await,
            "DeleteResourcePolicy" => self.delete_resource_policy(call).await,
            "PutRuntimeManagementConfig" => self.put_runtime_management(call).await,
            "GetRuntimeManagementConfig" => self.get_runtime_management(call).await,
            "PutFunctionRecursionConfig" => self.put_recursion(call).await,
            "GetFunctionRecursionConfig" => self.get_recursion(call).await,
            "PutFunctionScalingConfig" => self.put_scaling(call).await,
            "GetFunctionScalingConfig" => self.get_scaling(call).await,
            "CreateCodeSigningConfig" => self.create_code_signing(call).await,
            "GetCodeSigningConfig" => self.get_code_signing(call).await,
            "UpdateCodeSigningConfig" => self.update_code_signing(call).await,
            "DeleteCodeSigningConfig" => self.delete_code_signing(call).await,
            "ListCodeSigningConfigs" => self.list_code_signing(call).await,
            "ListFunctionsByCodeSigningConfig" => self.list_functions_by_code_signing(call).await,
            "PutFunctionCodeSigningConfig" => self.put_function_code_signing(call).await,
            "GetFunctionCodeSigningConfig" => self.get_function_code_signing(call).await,
            "DeleteFunctionCodeSigningConfig" => self.delete_function_code_signing(call).await,
            "CreateEventSourceMapping" => self.create_mapping(call).await,
            "GetEventSourceMapping" => self.get_mapping(call).await,
            "ListEventSourceMappings" => self.list_mappings(call).await,
            "UpdateEventSourceMapping" => self.update_mapping(call).await,
            "DeleteEventSourceMapping" => self.delete_mapping(call).await,
            other => Err(ApiError::unsupported(&format!("the operation {other}"))),
        }
    }
}

/// Whether a head is one that can be answered.
fn check_head(head: &Parts) -> Result<(), ApiError> {
    if head_bytes(head) > HEAD_BYTES {
        let text = format!("The head of the request is larger than {HEAD_BYTES} bytes");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(ApiError::new(status, "RequestHeaderFieldsTooLargeException", text).closing());
    }
    // Whoever reads another of them than we do would take the request for another's.
    if head.headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(
            ApiError::new(StatusCode::BAD_REQUEST, "BadRequest", "The request has several hosts").closing()
        );
    }
    Ok(())
}

/// Whether a browser sends this for a page that did not come from here. A key is not asked for by `hearth dev`, so any page in
/// the developer's browser could otherwise make functions. Browsers name the page's origin wherever that matters.
fn is_of_another_origin(head: &Parts) -> bool {
    let Some(origin) = head.headers.get(ORIGIN) else { return false };
    let authority = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| head.uri.authority().map(hyper::http::uri::Authority::as_str));
    authority.is_none() || authority != host
}

/// About how much a request's head takes; hyper's own limit is on what it reads at once, which may be some more.
fn head_bytes(head: &Parts) -> usize {
    let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    lines.sum::<usize>() + head.uri.path_and_query().map_or(0, |target| target.as_str().len())
}

/// The name that the client used for this server, without its port.
fn host_of(head: &Parts) -> Option<&str> {
    let host = match head.uri.host() {
        Some(host) => host,
        None => head.headers.get(HOST)?.to_str().ok()?,
    };
    Some(host.rsplit_once(':').map_or(host, |(name, _)| name))
}

fn unknown(status: StatusCode, head: &Parts) -> ApiError {
    let path: String = head.uri.path().chars().take(256).collect();
    let text = format!("Lambda's API has no operation {} {path}", head.method);
    ApiError::new(status, "UnknownOperationException", text)
}
