//! A record as Lambda's API shows it.

use hearth_store::{FunctionRecord, State, StateReason, UpdateStatus};
use hearth_types::Version;
use serde_json::{Map, Value, json};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// `FunctionConfiguration` as lists have it: Lambda leaves the state out of them.
pub(crate) fn listed(record: &FunctionRecord, version: Version, arn: &str) -> Value {
    let mut document = configuration(record, version, arn);
    if let Value::Object(members) = &mut document {
        members.retain(|name, _| !name.starts_with("State") && !name.starts_with("LastUpdate"));
    }
    document
}

/// `FunctionConfiguration` of a version. `arn` is qualified if the caller qualified the function.
pub(crate) fn configuration(record: &FunctionRecord, version: Version, arn: &str) -> Value {
    let config = &record.config;
    let mut document = json!({
        "FunctionName": &*record.id.name,
        "FunctionArn": arn,
        "Runtime": config.runtime,
        "Role": config.role,
        "Handler": config.handler,
        "CodeSize": record.code.size,
        "Description": config.description,
        "Timeout": config.timeout_seconds,
        "MemorySize": config.memory_mb,
        "LastModified": timestamp(record.modified_ms),
        "CodeSha256": STANDARD.encode(record.code.digest.0),
        "Version": version.to_string(),
        "TracingConfig": {"Mode": config.tracing_mode},
        "RevisionId": record.revision_id,
        "State": state_word(record.state),
        "LastUpdateStatus": update_word(record.last_update.status),
        "PackageType": "Zip",
        "Architectures": [config.architecture],
        "EphemeralStorage": {"Size": config.ephemeral_mb},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": config.logging.format, "LogGroup": config.logging.group},
    });
    if let Value::Object(members) = &mut document {
        add_optional(members, record, version);
    }
    document
}

fn add_optional(members: &mut Map<String, Value>, record: &FunctionRecord, version: Version) {
    let config = &record.config;
    if let Some(variables) = config.environment.as_ref().filter(|variables| !variables.is_empty()) {
        members.insert("Environment".to_owned(), json!({"Variables": variables}));
    }
    if let Some(Value::Object(logging)) = members.get_mut("LoggingConfig") {
        let levels = [
            ("ApplicationLogLevel", &config.logging.application_level),
            ("SystemLogLevel", &config.logging.system_level),
        ];
        for (name, level) in levels {
            if let Some(level) = level {
                logging.insert(name.to_owned(), level.as_str().into());
            }
        }
    }
    if !config.layers.is_empty() {
        let layers = config.layers.iter().map(|layer| json!({"Arn": layer.arn, "CodeSize": layer.size}));
        members.insert("Layers".to_owned(), layers.collect());
    }
    for (name, text) in &config.passive {
        let Ok(mut value) = serde_json::from_str::<Value>(text) else { continue };
        if let Value::Object(object) = &mut value {
            match name.as_str() {
                "VpcConfig" => drop(object.insert("VpcId".to_owned(), "".into())),
                "SnapStart" => {
                    let published = matches!(version, Version::Published(_)) && record.state == State::Active;
                    let on = published && crate::config::snap_start(config);
                    let status = if on { "On" } else { "Off" };
                    object.insert("OptimizationStatus".to_owned(), status.into());
                }
                _ => {}
            }
        }
        // An empty text or object is how such a setting is taken away.
        if value != "" && value != json!({}) {
            members.insert(name.clone(), value);
        }
    }
    if let Some(image) = &config.image {
        crate::image::show(image, record.code, members);
    }
    add_reason(members, "StateReason", record.state_reason.as_ref());
    add_reason(members, "LastUpdateStatusReason", record.last_update.reason.as_ref());
}

fn add_reason(members: &mut Map<String, Value>, name: &str, reason: Option<&StateReason>) {
    if let Some(reason) = reason {
        members.insert(name.to_owned(), reason.text.as_str().into());
        members.insert(format!("{name}Code"), reason.code.as_str().into());
    }
}

/// The value of `State`.
pub(crate) const fn state_word(state: State) -> &'static str {
    match state {
        State::Pending => "Pending",
        State::Active => "Active",
        State::Failed => "Failed",
    }
}

const fn update_word(status: UpdateStatus) -> &'static str {
    match status {
        UpdateStatus::InProgress => "InProgress",
        UpdateStatus::Successful => "Successful",
        UpdateStatus::Failed => "Failed",
    }
}

/// `2026-01-31T12:34:56.789+0000`.
pub(crate) fn timestamp(unix_ms: u64) -> String {
    format!("{}.{:03}+0000", until_seconds(unix_ms), unix_ms % 1_000)
}

/// `2026-01-31T12:34:56.789Z`, as function URLs have it.
pub(crate) fn universal(unix_ms: u64) -> String {
    format!("{}.{:03}Z", until_seconds(unix_ms), unix_ms % 1_000)
}

/// `2026-01-31T12:34:56+0000`, as what is provisioned has it.
pub(crate) fn whole_seconds(unix_ms: u64) -> String {
    until_seconds(unix_ms) + "+0000"
}

/// `2026-01-31T12:34:56Z`, as Lambda's neighbours have it.
pub(crate) fn iso(unix_ms: u64) -> String {
    until_seconds(unix_ms) + "Z"
}

/// `2026/01/31`, as in the names of log streams.
pub(crate) fn date(unix_ms: u64) -> String {
    let (year, month, day) = civil(unix_ms / 86_400_000);
    format!("{year:04}/{month:02}/{day:02}")
}

fn until_seconds(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since 1970-01-01, by Howard Hinnant's `civil_from_days`.
pub(crate) const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_in_lambdas_form() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000+0000"),
            (951_782_400_123, "2000-02-29T00:00:00.123+0000"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999+0000"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000+0000"),
        ] {
            assert_eq!(timestamp(ms), expected);
        }
    }
}
