//! An event source mapping as it is kept: what a request says of it, and what is told of it.

use std::collections::BTreeMap;

use hearth_aws::{BATCH, QueueArn};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::filter::{Filters, MOST};
use crate::error::ApiError;
use crate::request::Members;

/// Messages in a batch unless said.
const USUAL_BATCH: u32 = 10;
/// Members that only other sources have.
const OTHERS: [&str; 16] = [
    "StartingPosition",
    "StartingPositionTimestamp",
    "ParallelizationFactor",
    "DestinationConfig",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
    "Topics",
    "Queues",
    "SourceAccessConfigurations",
    "SelfManagedEventSource",
    "AmazonManagedKafkaEventSourceConfig",
    "SelfManagedKafkaEventSourceConfig",
    "DocumentDBEventSourceConfig",
    "EventSourceMappingArn",
];
/// Members that queues have on Lambda, and that mean nothing here yet.
const LACKING: [&str; 4] = ["KMSKeyArn", "MetricsConfig", "LoggingConfig", "ProvisionedPollerConfig"];

/// A queue whose messages a function gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The queue's ARN.
    pub source: String,
    /// The function's name.
    pub function: String,
    /// Which version of it.
    pub qualifier: Option<String>,
    /// Whether messages are received.
    pub enabled: bool,
    /// Messages of one invocation, at most.
    pub batch_size: u32,
    /// How long is waited for a batch to be full.
    pub window_seconds: u32,
    /// Batches that run at once, if that is said.
    pub concurrency: Option<u32>,
    /// Whether the function says which messages failed.
    pub report_failures: bool,
    /// Event patterns, of which one has to describe a message; all messages do if there are none.
    #[serde(default)]
    pub filters: Vec<String>,
    /// What somebody calls it.
    pub tags: BTreeMap<String, String>,
    /// When it was made or changed, milliseconds since the Unix epoch.
    pub modified_ms: u64,
}

impl Mapping {
    /// Reads one as it was kept.
    #[must_use]
    pub fn read(body: &str) -> Option<Self> {
        serde_json::from_str(body).ok()
    }

    /// One of this queue, before anything is said of it.
    pub(crate) fn of(source: &str) -> Self {
        Self { source: source.to_owned(), enabled: true, batch_size: USUAL_BATCH, ..Self::default() }
    }

    /// Takes what a request says.
    ///
    /// # Errors
    /// It says what a queue does not have, or what Hearth does not.
    pub(crate) fn change(&mut self, members: &Members) -> Result<(), ApiError> {
        if let Some(name) = OTHERS.into_iter().find(|name| members.given(name).is_some_and(says)) {
            return Err(ApiError::parameter(format!("{name} is not valid for SQS event sources.")));
        }
        if let Some(name) = LACKING.into_iter().find(|name| members.given(name).is_some_and(says)) {
            return Err(ApiError::unsupported(&format!("{name} of event source mappings")));
        }
        if let Some(enabled) = members.given("Enabled").and_then(Value::as_bool) {
            self.enabled = enabled;
        }
        self.batch_size = members.number("BatchSize").unwrap_or(self.batch_size);
        self.window_seconds = members.number("MaximumBatchingWindowInSeconds").unwrap_or(self.window_seconds);
        if let Some(scaling) = members.given("ScalingConfig") {
            let most = scaling.get("MaximumConcurrency").and_then(Value::as_u64);
            self.concurrency = most.and_then(|most| u32::try_from(most).ok());
        }
        if let Some(types) = members.given("FunctionResponseTypes").and_then(Value::as_array) {
            self.report_failures = !types.is_empty();
        }
        // An empty one takes the filters away.
        if let Some(criteria) = members.given("FilterCriteria") {
            let all = criteria.get("Filters").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let pattern = |filter: &Value| filter.get("Pattern").and_then(Value::as_str).map(str::to_owned);
            self.filters = all.iter().map(|filter| pattern(filter).unwrap_or_default()).collect();
        }
        self.check()
    }

    /// Its filters.
    ///
    /// # Errors
    /// What is wrong with one of them; those that were kept are right.
    pub fn read_filters(&self) -> Result<Filters, String> {
        Filters::read(&self.filters).map_err(|error| error.to_string())
    }

    fn check(&self) -> Result<(), ApiError> {
        if self.filters.len() > MOST {
            return Err(ApiError::parameter(format!("A mapping can have at most {MOST} filters.")));
        }
        if let Err(error) = self.read_filters() {
            return Err(ApiError::parameter(format!("Invalid filter pattern definition: {error}")));
        }
        let fifo = QueueArn::read(&self.source).is_some_and(|queue| queue.is_fifo());
        if fifo && self.window_seconds > 0 {
            return Err(ApiError::parameter("Batching window is not supported for FIFO queues."));
        }
        let single = usize::try_from(self.batch_size).is_ok_and(|size| size <= BATCH);
        if fifo && !single {
            return Err(ApiError::parameter(format!("The maximum batch size of FIFO queues is {BATCH}.")));
        }
        if !single && self.window_seconds == 0 {
            return Err(ApiError::parameter(format!(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than {BATCH}"
            )));
        }
        Ok(())
    }

    /// `EventSourceMappingConfiguration`, but for what only its keeper knows.
    pub(crate) fn shown(&self, function_arn: &str) -> Value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a time in seconds is a floating number in this protocol"
        )]
        let modified = self.modified_ms as f64 / 1_000.0;
        let mut document = json!({
            "BatchSize": self.batch_size,
            "MaximumBatchingWindowInSeconds": self.window_seconds,
            "EventSourceArn": self.source,
            "FunctionArn": function_arn,
            "LastModified": modified,
            "State": if self.enabled { "Enabled" } else { "Disabled" },
            "StateTransitionReason": "USER_INITIATED",
            "FunctionResponseTypes": if self.report_failures { vec!["ReportBatchItemFailures"] } else { Vec::new() },
        });
        if !self.filters.is_empty() {
            let filters: Vec<_> = self.filters.iter().map(|pattern| json!({"Pattern": pattern})).collect();
            document["FilterCriteria"] = json!({"Filters": filters});
        }
        if let Some(most) = self.concurrency {
            document["ScalingConfig"] = json!({"MaximumConcurrency": most});
        }
        document
    }
}

/// Whether a member says anything: tools send empty ones for what is not set.
fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(members) => members.values().any(says),
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(source: &str, body: &Value) -> Result<Mapping, ApiError> {
        let mut mapping = Mapping::of(source);
        let members = Members::parse(body.to_string().as_bytes())?;
        mapping.change(&members).map(|()| mapping)
    }

    #[test]
    fn a_batch_is_as_large_as_its_queue_and_its_window_allow() {
        let (plain, fifo) = ("arn:aws:sqs:r:1:q", "arn:aws:sqs:r:1:q.fifo");
        for (source, size, window, good) in [
            (plain, 10, 0, true),
            (plain, 11, 0, false),
            (plain, 10_000, 1, true),
            (fifo, 10, 0, true),
            (fifo, 11, 1, false),
            (fifo, 1, 1, false),
        ] {
            let body = json!({"BatchSize": size, "MaximumBatchingWindowInSeconds": window});
            assert_eq!(changed(source, &body).is_ok(), good, "{source} {body}");
        }
    }

    #[test]
    fn what_a_queue_or_hearth_does_not_have_is_refused_by_name_unless_it_says_nothing() {
        let queue = "arn:aws:sqs:r:1:q";
        for (body, code) in [
            (json!({"StartingPosition": "LATEST"}), "InvalidParameterValueException"),
            (json!({"MetricsConfig": {"Metrics": ["EventCount"]}}), "UnsupportedOperationException"),
            (json!({"FilterCriteria": {"Filters": [{"Pattern": "{}"}]}}), "InvalidParameterValueException"),
            (
                json!({"FilterCriteria": {"Filters": vec![json!({"Pattern": "{\"a\":[1]}"}); 6]}}),
                "InvalidParameterValueException",
            ),
        ] {
            assert_eq!(changed(queue, &body).unwrap_err().code, code);
        }
        let nothing = json!({"FilterCriteria": {"Filters": []}, "KMSKeyArn": "", "DestinationConfig": {"OnFailure": {}}});
        assert_eq!(changed(queue, &nothing).unwrap(), Mapping::of(queue));
        let filters = json!({"FilterCriteria": {"Filters": [{"Pattern": "{\"body\":[\"x\"]}"}]}});
        let mut mapping = changed(queue, &filters).unwrap();
        assert_eq!(mapping.shown("f")["FilterCriteria"], filters["FilterCriteria"]);
        mapping.change(&Members::parse(br#"{"FilterCriteria": {}}"#).unwrap()).unwrap();
        assert!(mapping.filters.is_empty() && mapping.shown("f").get("FilterCriteria").is_none());
        let all = json!({"Enabled": false, "ScalingConfig": {"MaximumConcurrency": 7}, "FunctionResponseTypes": ["ReportBatchItemFailures"]});
        let mapping = changed(queue, &all).unwrap();
        assert_eq!((mapping.enabled, mapping.concurrency, mapping.report_failures), (false, Some(7), true));
    }
}
