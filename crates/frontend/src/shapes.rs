//! What Lambda takes: the shapes of the requests that Hearth answers, from botocore's `lambda/2015-03-31` model.
//!
//! Where Lambda's documented limits are narrower than the model's, the limits of `hearth_types` stand here.

mod mappings;
mod more;

use hearth_types::limits;

pub(crate) use self::mappings::*;
pub(crate) use self::more::*;
use crate::validate::{Field, Shape};

const fn may(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, shape, required: false }
}

const fn must(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, shape, required: true }
}

/// The fields of both; their count, which is the sum, must be given.
const fn join<const A: usize, const B: usize, const SUM: usize>(
    first: [Field; A],
    second: [Field; B],
) -> [Field; SUM] {
    assert!(A + B == SUM, "the count of fields is wrong");
    let mut all = [first[0]; SUM];
    let mut at = 0;
    while at < SUM {
        all[at] = if at < A { first[at] } else { second[at - A] };
        at += 1;
    }
    all
}

pub(crate) static FUNCTION_NAME: Shape = Shape::Text {
    min: 1,
    max: 140,
    pattern: r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?",
    secret: false,
};
#[rustfmt::skip]
pub(crate) static RUNTIME: Shape = Shape::Enum(&[
    "nodejs", "nodejs4.3", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x",
    "nodejs16.x", "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x", "java8", "java8.al2",
    "java11", "java17", "java21", "java25", "python2.7", "python3.6", "python3.7", "python3.8",
    "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14", "dotnetcore1.0",
    "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1", "dotnet6", "dotnet8", "dotnet10", "nodejs4.3-edge",
    "go1.x", "ruby2.5", "ruby2.7", "ruby3.2", "ruby3.3", "ruby3.4", "ruby4.0", "provided", "provided.al2",
    "provided.al2023", "nodejs26.x", "python3.15", "java8.al2023", "java11.al2023", "java17.al2023",
    "custom"
]);
static ROLE_ARN: Shape = Shape::Text {
    min: 0,
    max: 10000,
    pattern: r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    secret: false,
};
static HANDLER: Shape = Shape::Text { min: 0, max: 128, pattern: r"[^\s]+", secret: false };
static BLOB: Shape = Shape::Text { min: 0, max: usize::MAX, pattern: "", secret: true };
static S3_BUCKET: Shape = Shape::Text { min: 3, max: 63, pattern: r"[0-9A-Za-z\.\-_]*", secret: false };
static S3_KEY: Shape = Shape::Text { min: 1, max: 1024, pattern: "", secret: false };
static S3_OBJECT_VERSION: Shape = Shape::Text { min: 1, max: 1024, pattern: "", secret: false };
static S3_OBJECT_STORAGE_MODE: Shape = Shape::Enum(&["COPY", "REFERENCE"]);
static STRING: Shape = Shape::Text { min: 0, max: usize::MAX, pattern: "", secret: false };
static KMS_KEY_ARN: Shape =
    Shape::Text { min: 0, max: 10000, pattern: r"(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()", secret: false };
static FUNCTION_CODE: Shape = Shape::Structure(&[
    may("ZipFile", &BLOB),
    may("S3Bucket", &S3_BUCKET),
    may("S3Key", &S3_KEY),
    may("S3ObjectVersion", &S3_OBJECT_VERSION),
    may("S3ObjectStorageMode", &S3_OBJECT_STORAGE_MODE),
    may("ImageUri", &STRING),
    may("SourceKMSKeyArn", &KMS_KEY_ARN),
]);
static DESCRIPTION: Shape = Shape::Text { min: 0, max: 256, pattern: "", secret: false };
static TIMEOUT: Shape =
    Shape::Integer { min: limits::TIMEOUT_SECONDS.min as i64, max: limits::TIMEOUT_SECONDS.max as i64 };
static MEMORY_SIZE: Shape =
    Shape::Integer { min: limits::MEMORY_MB.min as i64, max: limits::MEMORY_MB.max as i64 };
static BOOLEAN: Shape = Shape::Boolean;
static FUNCTION_VERSION_LATEST_PUBLISHED: Shape = Shape::Enum(&["LATEST_PUBLISHED"]);
static SUBNET_ID: Shape = Shape::Text { min: 0, max: 1024, pattern: r"subnet-[0-9a-z]*", secret: false };
static SUBNET_IDS: Shape = Shape::List { min: 0, max: 16, member: &SUBNET_ID };
static SECURITY_GROUP_ID: Shape =
    Shape::Text { min: 0, max: 1024, pattern: r"sg-[0-9a-zA-Z]*", secret: false };
static SECURITY_GROUP_IDS: Shape = Shape::List { min: 0, max: 5, member: &SECURITY_GROUP_ID };
static NULLABLE_BOOLEAN: Shape = Shape::Boolean;
static VPC_CONFIG: Shape = Shape::Structure(&[
    may("SubnetIds", &SUBNET_IDS),
    may("SecurityGroupIds", &SECURITY_GROUP_IDS),
    may("Ipv6AllowedForDualStack", &NULLABLE_BOOLEAN),
]);
static PACKAGE_TYPE: Shape = Shape::Enum(&["Zip", "Image"]);
static RESOURCE_ARN: Shape =
    Shape::Text { min: 0, max: 10000, pattern: r"(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()", secret: false };
static DEAD_LETTER_CONFIG: Shape = Shape::Structure(&[may("TargetArn", &RESOURCE_ARN)]);
static ENVIRONMENT_VARIABLE_NAME: Shape =
    Shape::Text { min: 0, max: usize::MAX, pattern: r"[a-zA-Z]([a-zA-Z0-9_])+", secret: true };
static ENVIRONMENT_VARIABLE_VALUE: Shape = Shape::Text { min: 0, max: usize::MAX, pattern: "", secret: true };
static ENVIRONMENT_VARIABLES: Shape =
    Shape::Map { key: &ENVIRONMENT_VARIABLE_NAME, value: &ENVIRONMENT_VARIABLE_VALUE, secret: true };
static ENVIRONMENT: Shape = Shape::Structure(&[may("Variables", &ENVIRONMENT_VARIABLES)]);
static TRACING_MODE: Shape = Shape::Enum(&["Active", "PassThrough"]);
static TRACING_CONFIG: Shape = Shape::Structure(&[may("Mode", &TRACING_MODE)]);
pub(crate) static TAG_KEY: Shape = Shape::Tag { min: 1, max: 128 };
static TAG_VALUE: Shape = Shape::Tag { min: 0, max: 256 };
pub(crate) static TAGS: Shape = Shape::Map { key: &TAG_KEY, value: &TAG_VALUE, secret: false };
pub(crate) static LAYER_VERSION_ARN: Shape = Shape::Text {
    min: 1,
    max: 2048,
    pattern: r"((arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+))",
    secret: false,
};
static LAYER_LIST: Shape = Shape::List { min: 0, max: usize::MAX, member: &LAYER_VERSION_ARN };
static FILE_SYSTEM_ARN: Shape = Shape::Text {
    min: 0,
    max: 256,
    pattern: r"arn:aws[a-zA-Z-]*:elasticfilesystem:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:access-point/fsap-[a-f0-9]{17}$|^arn:aws[-a-z]*:s3files:[0-9a-z-:]+:file-system/fs-[0-9a-f]{17,40}/access-point/fsap-[0-9a-f]{17,40}",
    secret: false,
};
static LOCAL_MOUNT_PATH: Shape =
    Shape::Text { min: 0, max: 160, pattern: r"/mnt/[a-zA-Z0-9-_.]+", secret: false };
static DIRECT_S3_READ: Shape = Shape::Enum(&["ENABLED", "DISABLED", "AUTO"]);
static S3_FILES_CONFIG: Shape = Shape::Structure(&[may("DirectS3Read", &DIRECT_S3_READ)]);
static FILE_SYSTEM_CONFIG: Shape = Shape::Structure(&[
    must("Arn", &FILE_SYSTEM_ARN),
    must("LocalMountPath", &LOCAL_MOUNT_PATH),
    may("S3FilesConfig", &S3_FILES_CONFIG),
]);
static FILE_SYSTEM_CONFIG_LIST: Shape = Shape::List { min: 0, max: 1, member: &FILE_SYSTEM_CONFIG };
pub(crate) static CODE_SIGNING_CONFIG_ARN: Shape = Shape::Text {
    min: 0,
    max: 200,
    pattern: r"arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:code-signing-config:csc-[a-z0-9]{17}",
    secret: false,
};
static STRING_LIST: Shape = Shape::List { min: 0, max: 1500, member: &STRING };
static WORKING_DIRECTORY: Shape = Shape::Text { min: 0, max: 1000, pattern: "", secret: false };
static IMAGE_CONFIG: Shape = Shape::Structure(&[
    may("EntryPoint", &STRING_LIST),
    may("Command", &STRING_LIST),
    may("WorkingDirectory", &WORKING_DIRECTORY),
]);
pub(crate) static ARCHITECTURE: Shape = Shape::Enum(&["x86_64", "arm64"]);
static ARCHITECTURES_LIST: Shape = Shape::List { min: 1, max: 1, member: &ARCHITECTURE };
static EPHEMERAL_STORAGE_SIZE: Shape =
    Shape::Integer { min: limits::EPHEMERAL_MB.min as i64, max: limits::EPHEMERAL_MB.max as i64 };
static EPHEMERAL_STORAGE: Shape = Shape::Structure(&[must("Size", &EPHEMERAL_STORAGE_SIZE)]);
static SNAP_START_APPLY_ON: Shape = Shape::Enum(&["PublishedVersions", "None"]);
static SNAP_START: Shape = Shape::Structure(&[may("ApplyOn", &SNAP_START_APPLY_ON)]);
static LOG_FORMAT: Shape = Shape::Enum(&["JSON", "Text"]);
static APPLICATION_LOG_LEVEL: Shape = Shape::Enum(&["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]);
static SYSTEM_LOG_LEVEL: Shape = Shape::Enum(&["DEBUG", "INFO", "WARN"]);
static LOG_GROUP: Shape = Shape::Text { min: 1, max: 512, pattern: r"[\.\-_/#A-Za-z0-9]+", secret: false };
static LOGGING_CONFIG: Shape = Shape::Structure(&[
    may("LogFormat", &LOG_FORMAT),
    may("ApplicationLogLevel", &APPLICATION_LOG_LEVEL),
    may("SystemLogLevel", &SYSTEM_LOG_LEVEL),
    may("LogGroup", &LOG_GROUP),
]);
static TENANT_ISOLATION_MODE: Shape = Shape::Enum(&["PER_TENANT"]);
static TENANCY_CONFIG: Shape = Shape::Structure(&[must("TenantIsolationMode", &TENANT_ISOLATION_MODE)]);
static CAPACITY_PROVIDER_ARN: Shape = Shape::Text {
    min: 1,
    max: 140,
    pattern: r"arn:aws[a-zA-Z-]*:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:capacity-provider:[a-zA-Z0-9-_]+",
    secret: false,
};
static PER_EXECUTION_ENVIRONMENT_MAX_CONCURRENCY: Shape = Shape::Integer { min: 1, max: 1600 };
static EXECUTION_ENVIRONMENT_MEMORY_GI_B_PER_V_CPU: Shape = Shape::Number;
static LAMBDA_MANAGED_INSTANCES_CAPACITY_PROVIDER_CONFIG: Shape = Shape::Structure(&[
    must("CapacityProviderArn", &CAPACITY_PROVIDER_ARN),
    may("PerExecutionEnvironmentMaxConcurrency", &PER_EXECUTION_ENVIRONMENT_MAX_CONCURRENCY),
    may("ExecutionEnvironmentMemoryGiBPerVCpu", &EXECUTION_ENVIRONMENT_MEMORY_GI_B_PER_V_CPU),
]);
static CAPACITY_PROVIDER_CONFIG: Shape = Shape::Structure(&[must(
    "LambdaManagedInstancesCapacityProviderConfig",
    &LAMBDA_MANAGED_INSTANCES_CAPACITY_PROVIDER_CONFIG,
)]);
static RETENTION_PERIOD_IN_DAYS: Shape = Shape::Integer { min: 1, max: 90 };
static EXECUTION_TIMEOUT: Shape = Shape::Integer { min: 1, max: 31622400 };
static DURABLE_CONFIG: Shape = Shape::Structure(&[
    may("KMSKeyArn", &KMS_KEY_ARN),
    may("RetentionPeriodInDays", &RETENTION_PERIOD_IN_DAYS),
    may("ExecutionTimeout", &EXECUTION_TIMEOUT),
]);
static FUNCTION_RUNTIME_ARN: Shape = Shape::Text {
    min: 48,
    max: 2048,
    pattern: r"arn:[a-z-]+:lambda:[a-z0-9-]+:\d{12}:runtime/.+",
    secret: false,
};
static FUNCTION_RUNTIME_ALIAS: Shape = Shape::Text { min: 1, max: 128, pattern: "", secret: false };
static FUNCTION_RUNTIME_CONFIG: Shape = Shape::Structure(&[
    must("RuntimeArn", &FUNCTION_RUNTIME_ARN),
    must("RuntimeAlias", &FUNCTION_RUNTIME_ALIAS),
]);
static ACCELERATOR_MEMORY_GB: Shape = Shape::Integer { min: 0, max: i32::MAX as i64 };
static ACCELERATOR_CONFIG: Shape = Shape::Structure(&[must("AcceleratorMemorySize", &ACCELERATOR_MEMORY_GB)]);
/// What CreateFunction and UpdateFunctionConfiguration both take.
const CONFIGURATION: [Field; 20] = [
    may("Runtime", &RUNTIME),
    may("Handler", &HANDLER),
    may("Description", &DESCRIPTION),
    may("Timeout", &TIMEOUT),
    may("MemorySize", &MEMORY_SIZE),
    may("VpcConfig", &VPC_CONFIG),
    may("DeadLetterConfig", &DEAD_LETTER_CONFIG),
    may("Environment", &ENVIRONMENT),
    may("KMSKeyArn", &KMS_KEY_ARN),
    may("TracingConfig", &TRACING_CONFIG),
    may("Layers", &LAYER_LIST),
    may("FileSystemConfigs", &FILE_SYSTEM_CONFIG_LIST),
    may("ImageConfig", &IMAGE_CONFIG),
    may("EphemeralStorage", &EPHEMERAL_STORAGE),
    may("SnapStart", &SNAP_START),
    may("LoggingConfig", &LOGGING_CONFIG),
    may("CapacityProviderConfig", &CAPACITY_PROVIDER_CONFIG),
    may("DurableConfig", &DURABLE_CONFIG),
    may("RuntimeConfig", &FUNCTION_RUNTIME_CONFIG),
    may("AcceleratorConfig", &ACCELERATOR_CONFIG),
];
/// `CreateFunctionRequest`.
pub(crate) static CREATE_FUNCTION_REQUEST: Shape = Shape::Structure(&join::<_, _, 29>(
    [
        must("Role", &ROLE_ARN),
        must("Code", &FUNCTION_CODE),
        may("Publish", &BOOLEAN),
        may("PublishTo", &FUNCTION_VERSION_LATEST_PUBLISHED),
        may("PackageType", &PACKAGE_TYPE),
        may("Tags", &TAGS),
        may("CodeSigningConfigArn", &CODE_SIGNING_CONFIG_ARN),
        may("Architectures", &ARCHITECTURES_LIST),
        may("TenancyConfig", &TENANCY_CONFIG),
    ],
    CONFIGURATION,
));
/// `UpdateFunctionCodeRequest`.
pub(crate) static UPDATE_FUNCTION_CODE_REQUEST: Shape = Shape::Structure(&[
    may("ZipFile", &BLOB),
    may("S3Bucket", &S3_BUCKET),
    may("S3Key", &S3_KEY),
    may("S3ObjectVersion", &S3_OBJECT_VERSION),
    may("S3ObjectStorageMode", &S3_OBJECT_STORAGE_MODE),
    may("ImageUri", &STRING),
    may("Architectures", &ARCHITECTURES_LIST),
    may("Publish", &BOOLEAN),
    may("PublishTo", &FUNCTION_VERSION_LATEST_PUBLISHED),
    may("DryRun", &BOOLEAN),
    may("RevisionId", &STRING),
    may("SourceKMSKeyArn", &KMS_KEY_ARN),
]);
/// `UpdateFunctionConfigurationRequest`.
pub(crate) static UPDATE_FUNCTION_CONFIGURATION_REQUEST: Shape =
    Shape::Structure(&join::<_, _, 22>([may("Role", &ROLE_ARN), may("RevisionId", &STRING)], CONFIGURATION));
/// `PublishVersionRequest`.
pub(crate) static PUBLISH_VERSION_REQUEST: Shape = Shape::Structure(&[
    may("CodeSha256", &STRING),
    may("Description", &DESCRIPTION),
    may("RevisionId", &STRING),
    may("PublishTo", &FUNCTION_VERSION_LATEST_PUBLISHED),
]);
/// `Alias`.
pub(crate) static ALIAS: Shape =
    Shape::Text { min: 1, max: 128, pattern: r"(?!^[0-9]+$)([a-zA-Z0-9-_]+)", secret: false };
/// `VersionWithLatestPublished`.
pub(crate) static VERSION: Shape =
    Shape::Text { min: 1, max: 1024, pattern: r"(\$LATEST(\.PUBLISHED)?|[0-9]+)", secret: false };
static ADDITIONAL_VERSION: Shape = Shape::Text { min: 1, max: 1024, pattern: "[0-9]+", secret: false };
static WEIGHT: Shape = Shape::Number;
static ADDITIONAL_VERSION_WEIGHTS: Shape =
    Shape::Map { key: &ADDITIONAL_VERSION, value: &WEIGHT, secret: false };
static ALIAS_ROUTING_CONFIGURATION: Shape =
    Shape::Structure(&[may("AdditionalVersionWeights", &ADDITIONAL_VERSION_WEIGHTS)]);
/// `CreateAliasRequest`.
pub(crate) static CREATE_ALIAS_REQUEST: Shape = Shape::Structure(&[
    must("Name", &ALIAS),
    must("FunctionVersion", &VERSION),
    may("Description", &DESCRIPTION),
    may("RoutingConfig", &ALIAS_ROUTING_CONFIGURATION),
]);
/// `UpdateAliasRequest`.
pub(crate) static UPDATE_ALIAS_REQUEST: Shape = Shape::Structure(&[
    may("FunctionVersion", &VERSION),
    may("Description", &DESCRIPTION),
    may("RoutingConfig", &ALIAS_ROUTING_CONFIGURATION),
    may("RevisionId", &STRING),
]);
static POSITIVE_INTEGER: Shape = Shape::Integer { min: 1, max: i32::MAX as i64 };
/// `PutProvisionedConcurrencyConfigRequest`.
pub(crate) static PUT_PROVISIONED_CONCURRENCY_REQUEST: Shape =
    Shape::Structure(&[must("ProvisionedConcurrentExecutions", &POSITIVE_INTEGER)]);
/// `Qualifier`.
pub(crate) static QUALIFIER: Shape =
    Shape::Text { min: 1, max: 128, pattern: "(|[a-zA-Z0-9$_-]+)", secret: false };
/// `MaxProvisionedConcurrencyConfigListItems`.
pub(crate) static MAX_PROVISIONED_ITEMS: Shape = Shape::Integer { min: 1, max: 50 };
static RESERVED_CONCURRENT_EXECUTIONS: Shape = Shape::Integer { min: 0, max: i32::MAX as i64 };
/// `PutFunctionConcurrencyRequest`.
pub(crate) static PUT_FUNCTION_CONCURRENCY_REQUEST: Shape =
    Shape::Structure(&[must("ReservedConcurrentExecutions", &RESERVED_CONCURRENT_EXECUTIONS)]);
static URL_AUTH_TYPE: Shape = Shape::Enum(&["NONE", "AWS_IAM"]);
static INVOKE_MODE: Shape = Shape::Enum(&["BUFFERED", "RESPONSE_STREAM"]);
static CORS_HEADER: Shape = Shape::Text { min: 0, max: 1024, pattern: ".*", secret: false };
static CORS_METHOD: Shape = Shape::Text { min: 0, max: 6, pattern: ".*", secret: false };
static CORS_ORIGIN: Shape = Shape::Text { min: 1, max: 253, pattern: ".*", secret: false };
static CORS_HEADERS: Shape = Shape::List { min: 0, max: 100, member: &CORS_HEADER };
static CORS_METHODS: Shape = Shape::List { min: 0, max: 6, member: &CORS_METHOD };
static CORS_ORIGINS: Shape = Shape::List { min: 0, max: 100, member: &CORS_ORIGIN };
static CORS_MAX_AGE: Shape = Shape::Integer { min: 0, max: 86_400 };
static CORS: Shape = Shape::Structure(&[
    may("AllowCredentials", &BOOLEAN),
    may("AllowHeaders", &CORS_HEADERS),
    may("AllowMethods", &CORS_METHODS),
    may("AllowOrigins", &CORS_ORIGINS),
    may("ExposeHeaders", &CORS_HEADERS),
    may("MaxAge", &CORS_MAX_AGE),
]);
/// `CreateFunctionUrlConfigRequest`.
pub(crate) static CREATE_FUNCTION_URL_REQUEST: Shape = Shape::Structure(&[
    must("AuthType", &URL_AUTH_TYPE),
    may("Cors", &CORS),
    may("InvokeMode", &INVOKE_MODE),
]);
/// `UpdateFunctionUrlConfigRequest`.
pub(crate) static UPDATE_FUNCTION_URL_REQUEST: Shape =
    Shape::Structure(&[may("AuthType", &URL_AUTH_TYPE), may("Cors", &CORS), may("InvokeMode", &INVOKE_MODE)]);
/// `FunctionUrlQualifier`.
pub(crate) static FUNCTION_URL_QUALIFIER: Shape =
    Shape::Text { min: 1, max: 128, pattern: r"((?!^\d+$)^[0-9a-zA-Z-_]+$)", secret: false };
/// `MaxItems`.
pub(crate) static MAX_ITEMS: Shape = Shape::Integer { min: 1, max: 50 };
/// `TagResourceRequest`.
pub(crate) static TAG_RESOURCE_REQUEST: Shape = Shape::Structure(&[must("Tags", &TAGS)]);
/// `NamespacedFunctionName`.
pub(crate) static NAMESPACED_FUNCTION_NAME: Shape = Shape::Text {
    min: 1,
    max: 256,
    pattern: r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
    secret: false,
};
/// `NumericLatestPublishedOrAliasQualifier`.
pub(crate) static NUMERIC_LATEST_PUBLISHED_OR_ALIAS_QUALIFIER: Shape =
    Shape::Text { min: 1, max: 128, pattern: r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+", secret: false };
/// `TaggableResource`.
pub(crate) static TAGGABLE_RESOURCE: Shape = Shape::Text {
    min: 1,
    max: 10000,
    pattern: r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|(capacity-provider|network-connector):[a-zA-Z0-9-_]{1,64})",
    secret: false,
};
/// `InvocationType`.
pub(crate) static INVOCATION_TYPE: Shape = Shape::Enum(&["Event", "RequestResponse", "DryRun"]);
/// `TenantId`.
pub(crate) static TENANT_ID: Shape = Shape::Text {
    min: 1,
    max: hearth_types::TENANT_ID_LENGTH,
    pattern: r"[a-zA-Z0-9\._:\/=+\-@ ]+",
    secret: false,
};
/// `LogType`.
pub(crate) static LOG_TYPE: Shape = Shape::Enum(&["None", "Tail"]);
static DESTINATION_ARN: Shape = Shape::Text {
    min: 0,
    max: 350,
    pattern: r"$|kafka://([^.]([a-zA-Z0-9\-_.]{0,248}))|arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)",
    secret: false,
};
static DESTINATION: Shape = Shape::Structure(&[may("Destination", &DESTINATION_ARN)]);
pub(crate) static DESTINATION_CONFIG: Shape =
    Shape::Structure(&[may("OnSuccess", &DESTINATION), may("OnFailure", &DESTINATION)]);
static MAXIMUM_RETRY_ATTEMPTS: Shape =
    Shape::Integer { min: limits::RETRY_ATTEMPTS.min as i64, max: limits::RETRY_ATTEMPTS.max as i64 };
static MAXIMUM_EVENT_AGE: Shape =
    Shape::Integer { min: limits::EVENT_AGE_SECONDS.min as i64, max: limits::EVENT_AGE_SECONDS.max as i64 };
/// `PutFunctionEventInvokeConfigRequest` and `UpdateFunctionEventInvokeConfigRequest`.
pub(crate) static EVENT_INVOKE_CONFIG_REQUEST: Shape = Shape::Structure(&[
    may("MaximumRetryAttempts", &MAXIMUM_RETRY_ATTEMPTS),
    may("MaximumEventAgeInSeconds", &MAXIMUM_EVENT_AGE),
    may("DestinationConfig", &DESTINATION_CONFIG),
]);
/// `MaxFunctionEventInvokeConfigListItems`.
pub(crate) static MAX_EVENT_CONFIG_ITEMS: Shape = Shape::Integer { min: 1, max: 50 };
/// `MaxListItems`.
pub(crate) static MAX_LIST_ITEMS: Shape = Shape::Integer { min: 1, max: 10000 };
/// `FunctionVersion`.
pub(crate) static FUNCTION_VERSION: Shape = Shape::Enum(&["ALL"]);
