//! Tenant isolation: functions whose instances each serve one tenant.
//!
//! Source: docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html. A function has it from its creation or never, and
//! then no function URL, no provisioned concurrency, no `SnapStart` and no event source mapping: nobody would say whose
//! their requests are.

use hearth_store::FunctionConfig;
use hearth_types::{FunctionSpec, TenantId};
use hyper::header::HeaderMap;
use serde_json::Value;

use crate::config;
use crate::error::ApiError;
use crate::request::Members;
use crate::shapes;
use crate::tags::Settings;
use crate::validate::Violations;

/// The setting, by which it is also kept.
const SETTING: &str = "TenancyConfig";
/// The header that names a tenant.
const HEADER: &str = "x-amz-tenant-id";

/// Whether a function of this configuration keeps its tenants apart.
pub(crate) fn is_on(config: &FunctionConfig) -> bool {
    config.passive.contains_key(SETTING)
}

/// Takes the setting from the members of a new function.
pub(crate) fn create(config: &mut FunctionConfig, members: &Members) {
    if let Some(value) = members.given(SETTING) {
        config.passive.insert(SETTING.to_owned(), value.to_string());
    }
}

/// Whether the function may become what members have made of it.
///
/// # Errors
/// The setting was to change, or it does not go with another.
pub(crate) fn check(config: &FunctionConfig, members: &Members) -> Result<(), ApiError> {
    let has: Option<Value> = config.passive.get(SETTING).and_then(|text| serde_json::from_str(text).ok());
    if members.given(SETTING).is_some_and(|wanted| Some(wanted) != has.as_ref()) {
        return Err(ApiError::parameter("TenancyConfig cannot be changed once a function is created."));
    }
    match has.is_some() && config::snap_start(config) {
        true => Err(without("SnapStart")),
        false => Ok(()),
    }
}

/// Whether a function can have what serves whoever comes, such as a function URL.
///
/// # Errors
/// It keeps its tenants apart.
pub(crate) fn refuse(config: &FunctionConfig, what: &str) -> Result<(), ApiError> {
    if is_on(config) { Err(without(what)) } else { Ok(()) }
}

/// Whether its tags may be those of a function of this configuration.
///
/// # Errors
/// They make it an HTTP service, and it keeps its tenants apart.
pub(crate) fn check_service(config: &FunctionConfig, settings: &Settings) -> Result<(), ApiError> {
    match settings.http {
        Some(_) => refuse(config, "The tag hearth:http-port"),
        None => Ok(()),
    }
}

fn without(what: &str) -> ApiError {
    ApiError::parameter(format!(
        "{what} is not supported for functions with tenant isolation (TenancyConfig): no request of it would say whose \
         it is."
    ))
}

/// The tenant that a request names.
pub(crate) fn named(headers: &HeaderMap, violations: &mut Violations) -> Option<TenantId> {
    let mut values = headers.get_all(HEADER).iter();
    let first = String::from_utf8_lossy(values.next()?.as_bytes());
    // Several are one list, as HTTP has it, and no list names a tenant.
    let text =
        values.fold(first.into_owned(), |all, value| all + "," + &String::from_utf8_lossy(value.as_bytes()));
    violations.text(&text, "tenantId", &shapes::TENANT_ID);
    text.parse().ok()
}

/// Whether a request names a tenant as its function wants.
///
/// # Errors
/// One is missing, or one too many.
pub(crate) fn match_up(spec: &FunctionSpec, tenant: Option<&TenantId>) -> Result<(), ApiError> {
    match (spec.per_tenant, tenant.is_some()) {
        (true, false) => Err(ApiError::parameter(
            "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.",
        )),
        (false, true) => Err(ApiError::parameter(
            "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and \
             try again.",
        )),
        (true, true) | (false, false) => Ok(()),
    }
}
