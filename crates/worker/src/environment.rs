//! The variables that processes in an instance see.
//!
//! Source: docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html (reserved and unreserved variables) and
//! .../dg/runtimes-extensions-api.html (those that extensions do not get).

use std::collections::BTreeMap;

use hearth_types::{FunctionSpec, InstanceId, StartReason};

use crate::clock::date;
use crate::launcher::Launch;

/// Where the Runtime API is, seen from inside.
const RUNTIME_API: &str = "127.0.0.1:9001";
/// What extensions are not told.
const NOT_FOR_EXTENSIONS: [&str; 6] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
];

/// The runtime's environment: defaults, then what its kind wants, then the user's, then what nobody may change.
pub(crate) fn for_runtime(
    spec: &FunctionSpec,
    launch: &Launch,
    (instance, reason): (InstanceId, StartReason),
    epoch_ms: u64,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        all.insert(name.to_owned(), value.to_owned());
    };
    set("LANG", "en_US.UTF-8");
    set("TZ", ":UTC");
    set("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin");
    set(
        "LD_LIBRARY_PATH",
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    );
    all.extend(launch.environment.clone());
    all.extend(spec.environment.clone());
    all.extend(reserved(spec, launch, (instance, reason), epoch_ms));
    all
}

fn reserved(
    spec: &FunctionSpec,
    launch: &Launch,
    (instance, reason): (InstanceId, StartReason),
    epoch_ms: u64,
) -> BTreeMap<String, String> {
    let initialization = match reason {
        _ if spec.snap_start => "snap-start",
        StartReason::Provisioned => "provisioned-concurrency",
        StartReason::Request | StartReason::Prewarmed | StartReason::Ahead => "on-demand",
    };
    let name = &spec.revision.version.function.name;
    let version = spec.revision.version.version;
    let (year, month, day) = date(epoch_ms);
    let runtime_dir = launch.environment.get("LAMBDA_RUNTIME_DIR").map_or("/var/runtime", String::as_str);
    let mut all: BTreeMap<String, String> = [
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_string()),
        ("AWS_LAMBDA_FUNCTION_VERSION", version.to_string()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", spec.memory_mb.to_string()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", initialization.to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", format!("{year:04}/{month:02}/{day:02}/[{version}]{instance}")),
        ("AWS_LAMBDA_RUNTIME_API", RUNTIME_API.to_owned()),
        ("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", spec.runtime)),
        ("AWS_REGION", spec.region.clone()),
        ("AWS_DEFAULT_REGION", spec.region.clone()),
        // SDKs refuse to start without any; these are plainly nobody's.
        ("AWS_ACCESS_KEY_ID", "HEARTHPLACEHOLDER".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "hearth-placeholder-no-real-secret".to_owned()),
        ("AWS_SESSION_TOKEN", "hearth-placeholder-no-real-token".to_owned()),
        ("LAMBDA_TASK_ROOT", "/var/task".to_owned()),
        ("LAMBDA_RUNTIME_DIR", runtime_dir.to_owned()),
        ("_HANDLER", spec.handler.clone()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if spec.concurrency.hard > 1 {
        // Its mere presence makes some runtimes concurrent.
        all.insert("AWS_LAMBDA_MAX_CONCURRENCY".to_owned(), spec.concurrency.hard.to_string());
    }
    all
}

/// An extension's environment, out of the runtime's.
pub(crate) fn for_extension(runtime: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = runtime.clone();
    all.retain(|name, _| !NOT_FOR_EXTENSIONS.contains(&name.as_str()));
    all
}
