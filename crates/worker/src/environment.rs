//! The variables that processes in an instance see.
//!
//! Source: docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html (reserved and unreserved variables) and
//! .../dg/runtimes-extensions-api.html (those that extensions do not get).

use std::collections::BTreeMap;

use hearth_types::{FunctionSpec, InstanceId, RuntimeFamily, StartReason, limits};

use crate::clock::date;
use crate::launcher::{Launch, LaunchAhead};

/// Where the Runtime API is, seen from inside.
const RUNTIME_API: &str = "127.0.0.1:9001";
/// Tells a runtime's client to wait until it hears on its standard input which function it is for; for no function to set.
/// Its value is room for a function's own variables, where the kernel keeps what a process was started with.
const WAIT: &str = "HEARTH_WAIT_FOR_FUNCTION";
/// That room: the most that a function may set, and Lambda's own.
const ROOM: usize = limits::ENVIRONMENT_BYTES + (12 << 10);
/// Variables that are read as a process starts, by the loader, the C library, Python, Node.js and their clients: by name, and
/// by the beginning of the name. All else a client takes over later.
const READ_AT_START: [&str; 8] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_FORMAT",
    "AWS_LAMBDA_LOG_LEVEL",
    "GCONV_PATH",
    "LANG",
    "LANGUAGE",
    "LOCPATH",
    "NLSPATH",
];
const READ_AT_START_PREFIXES: [&str; 11] =
    ["GLIBC_", "ICU_", "LC_", "LD_", "MALLOC_", "NODE_", "OPENSSL_", "PYTHON", "SSL_", "TZ", "UV_"];
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
    let mut all = defaults();
    // An image says for itself where its things are.
    if spec.image.is_some() {
        all.retain(|name, _| name == "TZ");
    }
    all.extend(launch.environment.clone());
    all.extend(spec.environment.clone());
    all.remove(WAIT);
    all.extend(reserved(spec, launch, (instance, reason), epoch_ms));
    all
}

/// What a runtime starts with that is not told its function yet.
pub(crate) fn ahead(launch: &LaunchAhead) -> BTreeMap<String, String> {
    let mut all = defaults();
    all.extend(launch.environment.clone());
    all.insert(WAIT.to_owned(), " ".repeat(ROOM));
    all
}

/// Whether a process that started with `before` is as one that started with `wanted`, once it has taken over the rest.
pub(crate) fn starts_alike(before: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    let read_at_start = |name: &str| {
        READ_AT_START.contains(&name) || READ_AT_START_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    before
        .keys()
        .chain(wanted.keys())
        .filter(|name| read_at_start(name))
        .all(|name| before.get(name) == wanted.get(name))
}

/// Lambda's word for why an instance is made.
pub(crate) fn initialization_type(spec: &FunctionSpec, reason: StartReason) -> &'static str {
    match reason {
        _ if spec.snap_start => "snap-start",
        StartReason::Provisioned => "provisioned-concurrency",
        StartReason::Request | StartReason::Prewarmed | StartReason::Ahead => "on-demand",
    }
}

fn defaults() -> BTreeMap<String, String> {
    [
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        (
            "LD_LIBRARY_PATH",
            "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn reserved(
    spec: &FunctionSpec,
    launch: &Launch,
    (instance, reason): (InstanceId, StartReason),
    epoch_ms: u64,
) -> BTreeMap<String, String> {
    let name = &spec.revision.version.function.name;
    let version = spec.revision.version.version;
    let (year, month, day) = date(epoch_ms);
    let runtime_dir = launch.environment.get("LAMBDA_RUNTIME_DIR").map_or("/var/runtime", String::as_str);
    let handler = match &spec.image {
        Some(_) => launch.environment.get("_HANDLER").cloned().unwrap_or_default(),
        None => spec.handler.clone(),
    };
    let log_group = match spec.logging.group.as_str() {
        "" => format!("/aws/lambda/{name}"),
        group => group.to_owned(),
    };
    let mut all: BTreeMap<String, String> = [
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_string()),
        ("AWS_LAMBDA_FUNCTION_VERSION", version.to_string()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", spec.memory_mb.to_string()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", initialization_type(spec, reason).to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", log_group),
        ("AWS_LAMBDA_LOG_STREAM_NAME", format!("{year:04}/{month:02}/{day:02}/[{version}]{instance}")),
        ("AWS_LAMBDA_RUNTIME_API", RUNTIME_API.to_owned()),
        // No daemon listens there: what is sent is lost, which SDKs take better than an address that is missing.
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".to_owned()),
        ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000".to_owned()),
        ("AWS_REGION", spec.region.clone()),
        ("AWS_DEFAULT_REGION", spec.region.clone()),
        // SDKs refuse to start without any; these are plainly nobody's.
        ("AWS_ACCESS_KEY_ID", "HEARTHPLACEHOLDER".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "hearth-placeholder-no-real-secret".to_owned()),
        ("AWS_SESSION_TOKEN", "hearth-placeholder-no-real-token".to_owned()),
        ("LAMBDA_TASK_ROOT", "/var/task".to_owned()),
        ("LAMBDA_RUNTIME_DIR", runtime_dir.to_owned()),
        ("_HANDLER", handler),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    // Not defined for what is an operating system alone.
    if spec.runtime.family() != RuntimeFamily::Provided {
        all.insert("AWS_EXECUTION_ENV".to_owned(), format!("AWS_Lambda_{}", spec.runtime));
    }
    if let Some(log) = spec.logging.json {
        all.insert("AWS_LAMBDA_LOG_FORMAT".to_owned(), "JSON".to_owned());
        all.insert("AWS_LAMBDA_LOG_LEVEL".to_owned(), log.application.to_string());
    }
    if let Some(service) = &spec.http {
        all.insert("PORT".to_owned(), service.port.to_string());
    }
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
