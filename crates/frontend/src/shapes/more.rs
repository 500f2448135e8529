//! Shapes of layers, permissions and settings.

use super::{
    ARCHITECTURE, BLOB, CODE_SIGNING_CONFIG_ARN, DESCRIPTION, RUNTIME, S3_BUCKET, S3_KEY,
    S3_OBJECT_STORAGE_MODE, S3_OBJECT_VERSION, STRING, TAGS, may, must,
};
use crate::validate::Shape;

/// `LayerNameOrArn`.
pub(crate) static LAYER_NAME_OR_ARN: Shape = Shape::Text {
    min: 1,
    max: 2048,
    pattern: r"(arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]{1,140}|[a-zA-Z0-9-_]{1,140})",
    secret: false,
};
/// `MaxLayerListItems`.
pub(crate) static MAX_LAYER_LIST_ITEMS: Shape = Shape::Integer { min: 1, max: 50 };
static LAYER_VERSION_CONTENT_INPUT: Shape = Shape::Structure(&[
    may("ZipFile", &BLOB),
    may("S3Bucket", &S3_BUCKET),
    may("S3Key", &S3_KEY),
    may("S3ObjectVersion", &S3_OBJECT_VERSION),
    may("S3ObjectStorageMode", &S3_OBJECT_STORAGE_MODE),
]);
static COMPATIBLE_ARCHITECTURES: Shape = Shape::List { min: 0, max: 2, member: &ARCHITECTURE };
static COMPATIBLE_RUNTIMES: Shape = Shape::List { min: 0, max: 15, member: &RUNTIME };
static LICENSE_INFO: Shape = Shape::Text { min: 0, max: 512, pattern: "", secret: false };
/// `PublishLayerVersionRequest`.
pub(crate) static PUBLISH_LAYER_VERSION_REQUEST: Shape = Shape::Structure(&[
    may("Description", &DESCRIPTION),
    must("Content", &LAYER_VERSION_CONTENT_INPUT),
    may("CompatibleArchitectures", &COMPATIBLE_ARCHITECTURES),
    may("CompatibleRuntimes", &COMPATIBLE_RUNTIMES),
    may("LicenseInfo", &LICENSE_INFO),
]);
/// `StatementId`.
pub(crate) static STATEMENT_ID: Shape =
    Shape::Text { min: 1, max: 100, pattern: "([a-zA-Z0-9-_]+)", secret: false };
/// `NamespacedStatementId`.
pub(crate) static NAMESPACED_STATEMENT_ID: Shape =
    Shape::Text { min: 1, max: 100, pattern: "([a-zA-Z0-9-_.]+)", secret: false };
static LAYER_ACTION: Shape =
    Shape::Text { min: 0, max: 22, pattern: "lambda:GetLayerVersion", secret: false };
static LAYER_PRINCIPAL: Shape = Shape::Text {
    min: 0,
    max: 10000,
    pattern: r"\d{12}|\*|arn:(aws[a-zA-Z-]*):iam::\d{12}:root",
    secret: false,
};
static ORGANIZATION_ID: Shape = Shape::Text { min: 0, max: 34, pattern: "o-[a-z0-9]{10,32}", secret: false };
/// `AddLayerVersionPermissionRequest`.
pub(crate) static ADD_LAYER_VERSION_PERMISSION_REQUEST: Shape = Shape::Structure(&[
    must("StatementId", &STATEMENT_ID),
    must("Action", &LAYER_ACTION),
    must("Principal", &LAYER_PRINCIPAL),
    may("OrganizationId", &ORGANIZATION_ID),
]);
static ACTION: Shape =
    Shape::Text { min: 0, max: 10000, pattern: r"(lambda:[*]|lambda:[a-zA-Z]+|[*])", secret: false };
static PRINCIPAL: Shape = Shape::Text { min: 0, max: 2048, pattern: r"[^\s]+", secret: false };
static ARN: Shape = Shape::Text {
    min: 0,
    max: 10000,
    pattern: r"arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)",
    secret: false,
};
static FUNCTION_URL_AUTH_TYPE: Shape = Shape::Enum(&["NONE", "AWS_IAM"]);
static BOOLEAN: Shape = Shape::Boolean;
static SOURCE_OWNER: Shape = Shape::Text { min: 0, max: 12, pattern: r"\d{12}", secret: false };
static EVENT_SOURCE_TOKEN: Shape =
    Shape::Text { min: 0, max: 256, pattern: r"[a-zA-Z0-9._\-]+", secret: false };
static PRINCIPAL_ORG_ID: Shape =
    Shape::Text { min: 12, max: 34, pattern: "o-[a-z0-9]{10,32}", secret: false };
/// `AddPermissionRequest`.
pub(crate) static ADD_PERMISSION_REQUEST: Shape = Shape::Structure(&[
    must("StatementId", &STATEMENT_ID),
    must("Action", &ACTION),
    must("Principal", &PRINCIPAL),
    may("SourceArn", &ARN),
    may("FunctionUrlAuthType", &FUNCTION_URL_AUTH_TYPE),
    may("InvokedViaFunctionUrl", &BOOLEAN),
    may("SourceAccount", &SOURCE_OWNER),
    may("EventSourceToken", &EVENT_SOURCE_TOKEN),
    may("RevisionId", &STRING),
    may("PrincipalOrgID", &PRINCIPAL_ORG_ID),
]);
/// `PolicyResourceArn`.
pub(crate) static POLICY_RESOURCE_ARN: Shape = Shape::Text {
    min: 0,
    max: 512,
    pattern: r"arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_])+)?|runtime/[a-zA-Z0-9-_./]+)",
    secret: false,
};
static RESOURCE_POLICY: Shape = Shape::Text { min: 1, max: 20480, pattern: "", secret: false };
/// The id of a policy's revision.
pub(crate) static POLICY_REVISION_ID: Shape = Shape::Text {
    min: 36,
    max: 36,
    pattern: "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    secret: false,
};
/// `PutResourcePolicyRequest`.
pub(crate) static PUT_RESOURCE_POLICY_REQUEST: Shape =
    Shape::Structure(&[must("Policy", &RESOURCE_POLICY), may("RevisionId", &POLICY_REVISION_ID)]);
static UPDATE_RUNTIME_ON: Shape = Shape::Enum(&["Auto", "Manual", "FunctionUpdate"]);
static RUNTIME_VERSION_ARN: Shape = Shape::Text {
    min: 26,
    max: 2048,
    pattern: r"((arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}::runtime:.+)|(arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:runtime/[A-Za-z0-9_.-]{1,128}/version/[A-Za-z0-9_.-]{1,128}))",
    secret: false,
};
/// `PutRuntimeManagementConfigRequest`.
pub(crate) static PUT_RUNTIME_MANAGEMENT_CONFIG_REQUEST: Shape = Shape::Structure(&[
    must("UpdateRuntimeOn", &UPDATE_RUNTIME_ON),
    may("RuntimeVersionArn", &RUNTIME_VERSION_ARN),
]);
static RECURSIVE_LOOP: Shape = Shape::Enum(&["Allow", "Terminate"]);
/// `PutFunctionRecursionConfigRequest`.
pub(crate) static PUT_FUNCTION_RECURSION_CONFIG_REQUEST: Shape =
    Shape::Structure(&[must("RecursiveLoop", &RECURSIVE_LOOP)]);
static EXECUTION_ENVIRONMENTS: Shape = Shape::Integer { min: 0, max: 15_000 };
static FUNCTION_SCALING_CONFIG: Shape = Shape::Structure(&[
    may("MinExecutionEnvironments", &EXECUTION_ENVIRONMENTS),
    may("MaxExecutionEnvironments", &EXECUTION_ENVIRONMENTS),
]);
/// `PutFunctionScalingConfigRequest`.
pub(crate) static PUT_FUNCTION_SCALING_CONFIG_REQUEST: Shape =
    Shape::Structure(&[may("FunctionScalingConfig", &FUNCTION_SCALING_CONFIG)]);
/// `PublishedFunctionQualifier`.
pub(crate) static PUBLISHED_FUNCTION_QUALIFIER: Shape =
    Shape::Text { min: 1, max: 128, pattern: r"(\$LATEST\.PUBLISHED|[0-9]+)", secret: false };
static SIGNING_PROFILE_VERSION_ARNS: Shape = Shape::List { min: 1, max: 20, member: &ARN };
static ALLOWED_PUBLISHERS: Shape =
    Shape::Structure(&[must("SigningProfileVersionArns", &SIGNING_PROFILE_VERSION_ARNS)]);
static CODE_SIGNING_POLICY: Shape = Shape::Enum(&["Warn", "Enforce"]);
static CODE_SIGNING_POLICIES: Shape =
    Shape::Structure(&[may("UntrustedArtifactOnDeployment", &CODE_SIGNING_POLICY)]);
/// `CreateCodeSigningConfigRequest`.
pub(crate) static CREATE_CODE_SIGNING_CONFIG_REQUEST: Shape = Shape::Structure(&[
    may("Description", &DESCRIPTION),
    must("AllowedPublishers", &ALLOWED_PUBLISHERS),
    may("CodeSigningPolicies", &CODE_SIGNING_POLICIES),
    may("Tags", &TAGS),
]);
/// `UpdateCodeSigningConfigRequest`.
pub(crate) static UPDATE_CODE_SIGNING_CONFIG_REQUEST: Shape = Shape::Structure(&[
    may("Description", &DESCRIPTION),
    may("AllowedPublishers", &ALLOWED_PUBLISHERS),
    may("CodeSigningPolicies", &CODE_SIGNING_POLICIES),
]);
/// `PutFunctionCodeSigningConfigRequest`.
pub(crate) static PUT_FUNCTION_CODE_SIGNING_CONFIG_REQUEST: Shape =
    Shape::Structure(&[must("CodeSigningConfigArn", &CODE_SIGNING_CONFIG_ARN)]);
