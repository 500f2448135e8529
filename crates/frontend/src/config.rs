//! From the members of CreateFunction and UpdateFunctionConfiguration to a configuration that can be kept.

use std::collections::BTreeMap;

use hearth_store::{FunctionConfig, LoggingConfig};
use hearth_types::{JsonLog, LogLevel, Logging, limits};
use serde_json::Value;

use crate::error::ApiError;
use crate::image;
use crate::request::{Members, text_map};
use crate::tenancy;

/// Settings that are kept and given back but do nothing here; of the first, the requests at once in an instance count, and the last
/// is what it says.
const PASSIVE: [&str; 5] = [CAPACITY, "VpcConfig", "DeadLetterConfig", "KMSKeyArn", SNAP_START];
const SNAP_START: &str = "SnapStart";
const CAPACITY: &str = "CapacityProviderConfig";
/// Settings without which a function would not do what its owner expects, so they are refused.
const MISSING: [&str; 5] =
    ["FileSystemConfigs", "DurableConfig", "RuntimeConfig", "AcceleratorConfig", "PublishTo"];
/// Environment variables that only the platform sets.
const RESERVED: [&str; 18] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];
const ENVIRONMENT: &str = "Lambda was unable to configure your environment variables because the environment variables you have provided";

/// Whether published versions are to start from a snapshot (`SnapStart.ApplyOn`).
pub(crate) fn snap_start(config: &FunctionConfig) -> bool {
    let value: Option<Value> =
        config.passive.get(SNAP_START).and_then(|text| serde_json::from_str(text).ok());
    value.is_some_and(|value| value["ApplyOn"] == "PublishedVersions")
}

/// The architecture of this machine, which is what functions run on.
pub(crate) const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

/// The configuration of a new function.
///
/// # Errors
/// A combination that the model allows and Lambda or Hearth does not.
pub(crate) fn create(name: &str, members: &Members) -> Result<FunctionConfig, ApiError> {
    let is_image = members.text("PackageType") == Some("Image");
    if !is_image && (members.given("Runtime").is_none() || members.given("Handler").is_none()) {
        return Err(ApiError::parameter(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ));
    }
    let mut config = FunctionConfig {
        description: String::new(),
        role: String::new(),
        image: is_image.then(image::empty),
        runtime: String::new(),
        handler: String::new(),
        memory_mb: limits::MEMORY_MB.default,
        timeout_seconds: limits::TIMEOUT_SECONDS.default,
        ephemeral_mb: limits::EPHEMERAL_MB.default,
        environment: None,
        architecture: architecture().to_owned(),
        tracing_mode: "PassThrough".to_owned(),
        logging: LoggingConfig {
            format: "Text".to_owned(),
            group: format!("/aws/lambda/{name}"),
            application_level: None,
            system_level: None,
        },
        layers: Vec::new(),
        passive: BTreeMap::new(),
    };
    change_architecture(&mut config, members)?;
    tenancy::create(&mut config, members);
    change(&mut config, members)?;
    Ok(config)
}

/// Applies those members that are given.
///
/// # Errors
/// A combination that the model allows and Lambda or Hearth does not.
pub(crate) fn change(config: &mut FunctionConfig, members: &Members) -> Result<(), ApiError> {
    let is_empty = |value: &Value| match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => {
            items.values().all(|value| value.is_null() || *value == Value::Array(Vec::new()))
        }
        _ => false,
    };
    if let Some(name) = MISSING.iter().find(|name| members.given(name).is_some_and(|value| !is_empty(value)))
    {
        return Err(ApiError::unsupported(&format!("the setting {name}")));
    }
    image::change(config, members)?;
    for (name, target) in [
        ("Description", &mut config.description),
        ("Role", &mut config.role),
        ("Runtime", &mut config.runtime),
        ("Handler", &mut config.handler),
    ] {
        if let Some(text) = members.text(name) {
            text.clone_into(target);
        }
    }
    for (name, target) in [("MemorySize", &mut config.memory_mb), ("Timeout", &mut config.timeout_seconds)] {
        *target = members.number(name).unwrap_or(*target);
    }
    let inner = |name: &str, member: &str| members.given(name).and_then(|value| value.get(member)).cloned();
    if let Some(size) = inner("EphemeralStorage", "Size").and_then(|size| size.as_u64()) {
        config.ephemeral_mb = u32::try_from(size).unwrap_or(config.ephemeral_mb);
    }
    if let Some(mode) = inner("TracingConfig", "Mode").and_then(|mode| mode.as_str().map(str::to_owned)) {
        config.tracing_mode = mode;
    }
    if let Some(Value::Object(environment)) = members.given("Environment") {
        let variables = environment.get("Variables").and_then(Value::as_object).map(text_map);
        check_environment(variables.as_ref())?;
        config.environment = variables;
    }
    for name in PASSIVE {
        if let Some(value) = members.given(name) {
            config.passive.insert(name.to_owned(), value.to_string());
        }
    }
    tenancy::check(config, members)?;
    change_logging(&mut config.logging, members.given("LoggingConfig"))
}

/// Requests at once in one instance, if `CapacityProviderConfig` says how many.
pub(crate) fn concurrency(config: &FunctionConfig) -> Option<u32> {
    let capacity: Value = serde_json::from_str(config.passive.get(CAPACITY)?).ok()?;
    let managed = capacity.get("LambdaManagedInstancesCapacityProviderConfig")?;
    u32::try_from(managed.get("PerExecutionEnvironmentMaxConcurrency")?.as_u64()?).ok()
}

/// Applies `Architectures`, which comes with the code.
///
/// # Errors
/// This machine has another one.
pub(crate) fn change_architecture(config: &mut FunctionConfig, members: &Members) -> Result<(), ApiError> {
    let wanted = members.given("Architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    match wanted {
        Some(other) if other != architecture() => Err(ApiError::parameter(format!(
            "This Hearth runs on {} and cannot run functions for {other}; build the code for {} and set \
             Architectures to it",
            architecture(),
            architecture()
        ))),
        _ => {
            architecture().clone_into(&mut config.architecture);
            Ok(())
        }
    }
}

/// How the worker is to write a function's log.
pub(crate) fn logging(config: &LoggingConfig) -> Logging {
    let level =
        |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok()).unwrap_or(LogLevel::Info);
    let json = (config.format == "JSON").then(|| JsonLog {
        application: level(&config.application_level),
        system: level(&config.system_level),
    });
    Logging { group: config.group.clone(), json }
}

fn change_logging(logging: &mut LoggingConfig, change: Option<&Value>) -> Result<(), ApiError> {
    let Some(change) = change else { return Ok(()) };
    let text = |name: &str| change.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(format) = text("LogFormat") {
        logging.format = format;
    }
    if let Some(group) = text("LogGroup") {
        logging.group = group;
    }
    let (application, system) = (text("ApplicationLogLevel"), text("SystemLogLevel"));
    if logging.format == "JSON" {
        let info = || Some("INFO".to_owned());
        logging.application_level = application.or_else(|| logging.application_level.take()).or_else(info);
        logging.system_level = system.or_else(|| logging.system_level.take()).or_else(info);
    } else if application.is_some() || system.is_some() {
        return Err(ApiError::parameter(
            "LogLevel is not supported when LogFormat is set to \"Text\". Remove LogLevel from your request or \
             change the LogFormat to \"JSON\" and try again.",
        ));
    } else {
        (logging.application_level, logging.system_level) = (None, None);
    }
    Ok(())
}

fn check_environment(variables: Option<&BTreeMap<String, String>>) -> Result<(), ApiError> {
    let Some(variables) = variables else { return Ok(()) };
    let reserved: Vec<_> =
        variables.keys().filter(|key| RESERVED.contains(&key.as_str())).map(String::as_str).collect();
    if !reserved.is_empty() {
        return Err(ApiError::parameter(format!(
            "{ENVIRONMENT} contains reserved keys that are currently not supported for modification. Reserved keys \
             used in this request: {}",
            reserved.join(", ")
        )));
    }
    if let Some((key, _)) = variables.iter().find(|(_, value)| value.contains('\0')) {
        return Err(ApiError::parameter(format!(
            "{ENVIRONMENT} contains a NUL character in the value of {key}"
        )));
    }
    let measured = serde_json::to_string(variables).map_or(usize::MAX, |text| text.len());
    if measured > limits::ENVIRONMENT_BYTES {
        return Err(ApiError::parameter(format!(
            "{ENVIRONMENT} exceeded the 4KB limit. String measured: {measured} bytes"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
