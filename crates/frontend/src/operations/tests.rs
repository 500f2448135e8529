//! The table of operations, and the page of the documentation that is printed from it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hearth_types::Refusal;

use super::*;
use crate::error::ApiError;

/// What an operation that is there does otherwise than in Lambda, or not yet.
const NOTES: [(&str, &str); 25] = [
    (
        "AddLayerVersionPermission",
        "a caller of another account is let in by its account; organizations let nobody in",
    ),
    (
        "AddPermission",
        "kept and given back; callers of other accounts cannot reach a function yet, whatever its policy says",
    ),
    (
        "CreateFunction",
        "code as `ZipFile`, from S3 where the server has an endpoint for it (docs/SETTINGS.md), or `ImageUri` in any registry (docs/IMAGES.md); settings without which a function would not do \
         what its owner expects (`FileSystemConfigs`, ...) are refused by name; `VpcConfig` \
         and `KMSKeyArn` are kept and given back, and do nothing; `DeadLetterConfig` names what an event invoke \
         config may name; `SnapStart` saves versions where \
         instances are micro-VMs, for every runtime; of \
         `CapacityProviderConfig`, `PerExecutionEnvironmentMaxConcurrency` sets the requests at once in an instance, \
         unless the tag `hearth:concurrency` does",
    ),
    (
        "CreateEventSourceMapping",
        "queues of SQS, where the server has an endpoint for them (docs/EVENTS.md); other sources, `KMSKeyArn`, `MetricsConfig`, \
         `LoggingConfig` and `ProvisionedPollerConfig` are refused by name; on as soon as it is made",
    ),
    (
        "CreateFunctionUrlConfig",
        "of functions and aliases, at `ID.lambda-url.REGION.localhost`; `AWS_IAM` takes signatures of who may",
    ),
    (
        "CreateCodeSigningConfig",
        "kept and given back; a zip archive that is sent has no signature, so nothing is checked against it",
    ),
    ("DeleteLayerVersion", "functions that have the version keep it"),
    ("DeleteProvisionedConcurrencyConfig", "also answers 204 when there is nothing to end"),
    ("GetAccountSettings", "`TotalCodeSize` is told, not enforced"),
    (
        "GetFunctionConcurrency",
        "of a function as a whole; a function with no reservation gets an empty answer",
    ),
    ("GetFunction", "`Code.Location` downloads for ten minutes, until the server stops"),
    (
        "Invoke",
        "no `DurableExecutionName` yet; `TenantId` is [SCALING.md](SCALING.md#tenants); `Event` is [EVENTS.md](EVENTS.md); of an alias with weights \
         each version gets its part, evenly spread rather than drawn",
    ),
    (
        "InvokeWithResponseStream",
        "also of functions that do not stream: one `PayloadChunk`; `ErrorCode` is the type that the runtime says in mid-stream, \
         `Unhandled` for an error before the first piece, or Hearth's own (`Sandbox.Timedout`, `Runtime.TruncatedResponse`, ...)",
    ),
    ("ListFunctions", "at most 50 entries a page, as in Lambda; `MasterRegion` is ignored"),
    ("ListTags", "of functions"),
    (
        "PutFunctionEventInvokeConfig",
        "destinations are functions and HTTP endpoints that the operator named; see [EVENTS.md](EVENTS.md)",
    ),
    (
        "PublishVersion",
        "numbers are never given out again, even when the function is deleted and made anew; no `PublishTo`",
    ),
    (
        "PutProvisionedConcurrencyConfig",
        "of an alias whose weights are set later, each version gets its part, to the nearest whole",
    ),
    (
        "PutFunctionScalingConfig",
        "kept and given back; `hearth:concurrency` and provisioned concurrency decide",
    ),
    ("PutRuntimeManagementConfig", "kept and given back; a runtime is the machine's"),
    ("TagResource", "of functions; tags `hearth:*` are settings and are checked"),
    ("UntagResource", "of functions"),
    ("UpdateAlias", "a `RoutingConfig` without weights takes them away; without `RoutingConfig` they stay"),
    (
        "UpdateFunctionCode",
        "as CreateFunction; the old code serves until the new is ready, and if that fails",
    ),
    (
        "UpdateFunctionConfiguration",
        "as CreateFunction; the old one serves until the new is ready, and if that fails",
    ),
];

/// What is answered besides Lambda's own operations.
const NEIGHBOURS: &str = "\
## Lambda's neighbours

At the same address, `POST /`, as far as tools for Lambda need them; anything else is refused by name.

| service | operations | what it is |
|---|---|---|
| IAM | CreateRole, GetRole, ListRoles, UpdateRole, UpdateRoleDescription, UpdateAssumeRolePolicy, DeleteRole, AttachRolePolicy, \
DetachRolePolicy, ListAttachedRolePolicies, PutRolePolicy, GetRolePolicy, DeleteRolePolicy, ListRolePolicies, TagRole, UntagRole, \
ListRoleTags, ListInstanceProfilesForRole | roles are kept and given back; their policies are neither read nor enforced, and a \
function's role need not exist; a request has at most 1,000 parameters |
| STS | GetCallerIdentity, AssumeRole | of the caller's own account; the credentials are the caller's key under another name, for a while |
| CloudWatch Logs | DescribeLogGroups, DescribeLogStreams, GetLogEvents, FilterLogEvents | the newest 10,000 lines that Hearth \
keeps of each function; and 64 MiB of a group that many functions write to; pages of at most 1 MiB; two calls are answered at \
once, others wait, and after 20 s get ThrottlingException; filter patterns of words and phrases; a stream for each instance |
";

fn table() -> String {
    let mut table = String::from("| operation | request | here | notes |\n|---|---|---|---|\n");
    for operation in &OPERATIONS {
        let query = operation.query.map_or_else(String::new, |query| format!("?{query}"));
        let here = if operation.answered { "yes" } else { "-" };
        let note = NOTES.iter().find(|(name, _)| *name == operation.name).map_or("", |(_, note)| note);
        let (name, method, path) = (operation.name, &operation.method, operation.path);
        writeln!(table, "| {name} | `{method} {path}{query}` | {here} | {note} |").unwrap();
    }
    table
}

fn refusals() -> String {
    let reason = || String::from("...");
    let all = [
        Refusal::AccountLimit { limit: 1_000 },
        Refusal::FunctionLimit { limit: 10 },
        Refusal::TenantLimit { limit: 2_500 },
        Refusal::QueueFull { limit: 100 },
        Refusal::NoRoom { reason: reason() },
        Refusal::StartFailed { reason: reason() },
        Refusal::TimedOut { waited: Duration::from_secs(2) },
        Refusal::InitFailing { failures: 3, retry_after: Duration::from_secs(1) },
        Refusal::FunctionDeleted,
        Refusal::Stopping,
    ];
    let mut table =
        String::from("| why | status | type | `Reason` | `Retry-After` |\n|---|---|---|---|---|\n");
    for refusal in all {
        let error = ApiError::refused(&refusal, "");
        let response = error.response();
        let retry = response.headers().get("retry-after").map_or("-", |value| value.to_str().unwrap());
        let (status, code, reason) = (error.status.as_u16(), error.code, error.reason().unwrap_or("-"));
        writeln!(table, "| {refusal} | {status} | {code} | {reason} | {retry} |").unwrap();
    }
    table
}

fn page() -> String {
    let answered = OPERATIONS.iter().filter(|operation| operation.answered).count();
    format!(
        "# Lambda's API in Hearth\n\n\
         Hearth answers {answered} of the {} operations of Lambda's API, version 2015-03-31, on the wire exactly as the AWS SDKs \
         expect: paths, status codes, member names, error types, pagination. The others answer 501 \
         `UnsupportedOperationException` with a message that names the operation; a path that is none of them answers 404 \
         `UnknownOperationException`.\n\n\
         The caller's account is the access key id if that is twelve digits, else the server's default account; signatures \
         are not checked.\n\n\
         This page is printed from the code: `HEARTH_WRITE_DOCS=1 cargo test -p hearth-frontend the_page` writes it anew, \
         and the same test fails while it is stale.\n\n\
         ## Operations\n\n{}\n\
         ## When an invocation gets no instance\n\n{}\n{NEIGHBOURS}",
        OPERATIONS.len(),
        table(),
        refusals()
    )
}

#[test]
fn the_page_of_the_documentation_says_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/LAMBDA-API.md");
    if std::env::var_os("HEARTH_WRITE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == page(),
        "docs/LAMBDA-API.md is stale: HEARTH_WRITE_DOCS=1 cargo test -p hearth-frontend the_page"
    );
}

#[test]
fn the_table_is_in_order_and_notes_are_of_operations_that_are_there() {
    let names: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
    assert!(names.iter().copied().eq(OPERATIONS.iter().map(|operation| operation.name)));
    for (name, _) in NOTES {
        assert!(OPERATIONS.iter().any(|operation| operation.name == name && operation.answered), "{name}");
    }
}
