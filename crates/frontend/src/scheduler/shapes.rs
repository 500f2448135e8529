//! What the Scheduler takes, from botocore's `scheduler/2021-06-30` model; parameters of targets that are no functions aside.

use crate::validate::{Field, Shape};

const fn may(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, shape, required: false }
}

const fn must(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, shape, required: true }
}

const fn text(min: usize, max: usize, pattern: &'static str) -> Shape {
    Shape::Text { min, max, pattern, secret: false }
}

/// Names of schedules and groups, and what they begin with.
pub(super) static NAME: Shape = text(1, 64, r"[0-9a-zA-Z\-_.]+");
/// `ScheduleState`.
pub(super) static STATE: Shape = Shape::Enum(&["ENABLED", "DISABLED"]);
/// `MaxResults`.
pub(super) static MAX_RESULTS: Shape = Shape::Integer { min: 1, max: 100 };
static EXPRESSION: Shape = text(1, 256, "");
static ZONE: Shape = text(1, 50, "");
static DESCRIPTION: Shape = text(0, 512, "");
static KMS_KEY: Shape = text(1, 2048, r"arn:aws[a-z-]*:kms:[a-z0-9\-]+:\d{12}:(key|alias)\/[0-9a-zA-Z-_]*");
static TOKEN: Shape = text(1, 64, r"[a-zA-Z0-9\-_]+");
static MOMENT: Shape = Shape::Number;
static ACTION: Shape = Shape::Enum(&["NONE", "DELETE"]);
static MODE: Shape = Shape::Enum(&["OFF", "FLEXIBLE"]);
static WINDOW_MINUTES: Shape = Shape::Integer { min: 1, max: 1440 };
static WINDOW: Shape =
    Shape::Structure(&[must("Mode", &MODE), may("MaximumWindowInMinutes", &WINDOW_MINUTES)]);
static TARGET_ARN: Shape = text(1, 1600, "");
static ROLE_ARN: Shape = text(1, 1600, r"arn:aws[a-z-]*:iam::\d{12}:role\/[\w+=,.@\/\-]+");
static QUEUE_ARN: Shape = text(1, 1600, r"arn:aws[a-z-]*:sqs:[a-z0-9\-]+:\d{12}:[a-zA-Z0-9\-_]+");
static DEAD_LETTER: Shape = Shape::Structure(&[may("Arn", &QUEUE_ARN)]);
static AGE: Shape = Shape::Integer { min: 60, max: 86_400 };
static ATTEMPTS: Shape = Shape::Integer { min: 0, max: 185 };
static RETRY: Shape =
    Shape::Structure(&[may("MaximumEventAgeInSeconds", &AGE), may("MaximumRetryAttempts", &ATTEMPTS)]);
static INPUT: Shape = text(1, 256 * 1024, "");
static TARGET: Shape = Shape::Structure(&[
    must("Arn", &TARGET_ARN),
    must("RoleArn", &ROLE_ARN),
    may("DeadLetterConfig", &DEAD_LETTER),
    may("RetryPolicy", &RETRY),
    may("Input", &INPUT),
]);
/// `CreateScheduleInput` and `UpdateScheduleInput`.
pub(super) static SCHEDULE: Shape = Shape::Structure(&[
    may("GroupName", &NAME),
    must("ScheduleExpression", &EXPRESSION),
    may("StartDate", &MOMENT),
    may("EndDate", &MOMENT),
    may("Description", &DESCRIPTION),
    may("ScheduleExpressionTimezone", &ZONE),
    may("State", &STATE),
    may("KmsKeyArn", &KMS_KEY),
    must("Target", &TARGET),
    must("FlexibleTimeWindow", &WINDOW),
    may("ClientToken", &TOKEN),
    may("ActionAfterCompletion", &ACTION),
]);
