//! What is taken, what is refused, and in which words.

use serde_json::json;

use super::*;

fn members(value: &Value) -> Members {
    Members::parse(value.to_string().as_bytes()).unwrap()
}

fn base() -> Value {
    json!({"Runtime": "provided.al2023", "Handler": "h", "Role": "r"})
}

fn with(extra: &Value) -> Result<FunctionConfig, ApiError> {
    let mut all = base();
    all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    create("f", &members(&all))
}

#[test]
fn a_new_function_has_lambdas_defaults() {
    let config = with(&json!({})).unwrap();
    assert_eq!((config.memory_mb, config.timeout_seconds, config.ephemeral_mb), (128, 3, 512));
    assert_eq!((config.logging.format.as_str(), config.logging.group.as_str()), ("Text", "/aws/lambda/f"));
    assert_eq!(config.environment, None);
}

#[test]
fn a_change_leaves_what_it_does_not_name() {
    let mut config = with(
        &json!({"Timeout": 9, "Environment": {"Variables": {"AB": "1"}}, "VpcConfig": {"SubnetIds": []}}),
    )
    .unwrap();
    change(&mut config, &members(&json!({"MemorySize": 256}))).unwrap();
    assert_eq!((config.memory_mb, config.timeout_seconds), (256, 9));
    assert_eq!(config.environment.as_ref().unwrap()["AB"], "1");
    assert_eq!(config.passive["VpcConfig"], r#"{"SubnetIds":[]}"#);
    change(&mut config, &members(&json!({"Environment": {}}))).unwrap();
    assert_eq!(config.environment, None);
}

#[test]
fn runtime_and_handler_are_mandatory() {
    for missing in ["Runtime", "Handler"] {
        let mut all = base();
        all.as_object_mut().unwrap().remove(missing);
        let error = create("f", &members(&all)).unwrap_err();
        assert!(error.message.starts_with("Runtime and Handler are mandatory"));
    }
}

#[test]
fn reserved_and_oversized_environments_are_refused() {
    let environment = |variables: Value| with(&json!({"Environment": {"Variables": variables}}));
    let error = environment(json!({"AWS_REGION": "x", "OK": "", "_HANDLER": "y"})).unwrap_err();
    assert_eq!(
        error.message,
        "Lambda was unable to configure your environment variables because the environment variables you have \
         provided contains reserved keys that are currently not supported for modification. Reserved keys used in \
         this request: AWS_REGION, _HANDLER"
    );
    let room = limits::ENVIRONMENT_BYTES - r#"{"AB":""}"#.len();
    assert!(environment(json!({"AB": "x".repeat(room)})).is_ok());
    let error = environment(json!({"AB": "x".repeat(room + 1)})).unwrap_err();
    assert!(error.message.contains("exceeded the 4KB limit"), "{}", error.message);
    assert!(environment(json!({"AB": "a\u{0}b"})).is_err());
}

#[test]
fn settings_that_would_change_meaning_are_refused_by_name() {
    let error = with(&json!({"FileSystemConfigs": [{}]})).unwrap_err();
    assert_eq!(error.message, "Hearth does not have the setting FileSystemConfigs yet");
    assert!(with(&json!({"FileSystemConfigs": [], "ImageConfig": {}})).is_ok());
    assert!(with(&json!({"PackageType": "Image"})).is_err());
    let other = if architecture() == "arm64" { "x86_64" } else { "arm64" };
    assert!(with(&json!({"Architectures": [other]})).is_err());
}

#[test]
fn log_levels_need_json() {
    let config = with(&json!({"LoggingConfig": {"LogFormat": "JSON", "SystemLogLevel": "WARN"}})).unwrap();
    assert_eq!(config.logging.application_level.as_deref(), Some("INFO"));
    assert_eq!(config.logging.system_level.as_deref(), Some("WARN"));
    assert!(with(&json!({"LoggingConfig": {"SystemLogLevel": "WARN"}})).is_err());
}
