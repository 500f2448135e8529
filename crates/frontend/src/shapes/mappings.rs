//! Shapes of event source mappings.

use super::{
    BOOLEAN, DESTINATION_CONFIG, KMS_KEY_ARN, NAMESPACED_FUNCTION_NAME, STRING, TAGS, join, may, must,
};
use crate::validate::{Field, Shape};

/// `Arn`.
pub(crate) static ARN: Shape = Shape::Text {
    min: 0,
    max: 10000,
    pattern: r"arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)",
    secret: false,
};
/// `UUIDString`.
pub(crate) static UUID_STRING: Shape = Shape::Text { min: 36, max: 36, pattern: "", secret: false };
static BATCH_SIZE: Shape = Shape::Integer { min: 1, max: 10000 };
static PATTERN: Shape = Shape::Text { min: 0, max: 4096, pattern: r"[\s\S]*", secret: false };
static FILTER: Shape = Shape::Structure(&[may("Pattern", &PATTERN)]);
static FILTER_LIST: Shape = Shape::List { min: 0, max: usize::MAX, member: &FILTER };
static FILTER_CRITERIA: Shape = Shape::Structure(&[may("Filters", &FILTER_LIST)]);
static METRIC: Shape = Shape::Enum(&["EventCount", "ErrorCount", "KafkaMetrics"]);
static METRIC_LIST: Shape = Shape::List { min: 0, max: 3, member: &METRIC };
static METRICS_CONFIG: Shape = Shape::Structure(&[may("Metrics", &METRIC_LIST)]);
static SYSTEM_LOG_LEVEL: Shape = Shape::Enum(&["DEBUG", "INFO", "WARN"]);
static LOGGING_CONFIG: Shape = Shape::Structure(&[may("SystemLogLevel", &SYSTEM_LOG_LEVEL)]);
static MAXIMUM_CONCURRENCY: Shape = Shape::Integer { min: 2, max: 1000 };
static SCALING_CONFIG: Shape = Shape::Structure(&[may("MaximumConcurrency", &MAXIMUM_CONCURRENCY)]);
static WINDOW: Shape = Shape::Integer { min: 0, max: 300 };
static PARALLELIZATION_FACTOR: Shape = Shape::Integer { min: 1, max: 10 };
static STARTING_POSITION: Shape = Shape::Enum(&["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"]);
static RECORD_AGE: Shape = Shape::Integer { min: -1, max: 604_800 };
static RETRY_ATTEMPTS: Shape = Shape::Integer { min: -1, max: 10_000 };
static TUMBLING_WINDOW: Shape = Shape::Integer { min: 0, max: 900 };
static TOPIC: Shape = Shape::Text { min: 1, max: 249, pattern: r"[^.]([a-zA-Z0-9\-_.]+)", secret: false };
static TOPICS: Shape = Shape::List { min: 1, max: 1, member: &TOPIC };
static QUEUE: Shape = Shape::Text { min: 1, max: 1000, pattern: r"[\s\S]*", secret: false };
static QUEUES: Shape = Shape::List { min: 1, max: 1, member: &QUEUE };
static RESPONSE_TYPE: Shape = Shape::Enum(&["ReportBatchItemFailures"]);
static RESPONSE_TYPES: Shape = Shape::List { min: 0, max: 1, member: &RESPONSE_TYPE };
static MINIMUM_POLLERS: Shape = Shape::Integer { min: 1, max: 200 };
static MAXIMUM_POLLERS: Shape = Shape::Integer { min: 1, max: 10_000 };
static POLLER_GROUP: Shape = Shape::Text { min: 0, max: 128, pattern: "[a-zA-Z0-9-_]*", secret: false };
static POLLER_CONFIG: Shape = Shape::Structure(&[
    may("MinimumPollers", &MINIMUM_POLLERS),
    may("MaximumPollers", &MAXIMUM_POLLERS),
    may("PollerGroupName", &POLLER_GROUP),
]);
/// What both requests take and queues of SQS, the only sources here, have; the rest of the model's is refused by name.
const COMMON: [Field; 15] = [
    may("Enabled", &BOOLEAN),
    may("BatchSize", &BATCH_SIZE),
    may("FilterCriteria", &FILTER_CRITERIA),
    may("KMSKeyArn", &KMS_KEY_ARN),
    may("MetricsConfig", &METRICS_CONFIG),
    may("LoggingConfig", &LOGGING_CONFIG),
    may("ScalingConfig", &SCALING_CONFIG),
    may("MaximumBatchingWindowInSeconds", &WINDOW),
    may("ParallelizationFactor", &PARALLELIZATION_FACTOR),
    may("DestinationConfig", &DESTINATION_CONFIG),
    may("MaximumRecordAgeInSeconds", &RECORD_AGE),
    may("BisectBatchOnFunctionError", &BOOLEAN),
    may("MaximumRetryAttempts", &RETRY_ATTEMPTS),
    may("TumblingWindowInSeconds", &TUMBLING_WINDOW),
    may("FunctionResponseTypes", &RESPONSE_TYPES),
];
/// `CreateEventSourceMappingRequest`.
pub(crate) static CREATE_MAPPING_REQUEST: Shape = Shape::Structure(&join::<_, _, 23>(
    [
        may("EventSourceArn", &ARN),
        must("FunctionName", &NAMESPACED_FUNCTION_NAME),
        may("StartingPosition", &STARTING_POSITION),
        may("StartingPositionTimestamp", &Shape::Number),
        may("Topics", &TOPICS),
        may("Queues", &QUEUES),
        may("Tags", &TAGS),
        may("ProvisionedPollerConfig", &POLLER_CONFIG),
    ],
    COMMON,
));
/// `UpdateEventSourceMappingRequest`.
pub(crate) static UPDATE_MAPPING_REQUEST: Shape = Shape::Structure(&join::<_, _, 18>(
    [
        may("FunctionName", &NAMESPACED_FUNCTION_NAME),
        may("ProvisionedPollerConfig", &POLLER_CONFIG),
        may("UUID", &STRING),
    ],
    COMMON,
));
