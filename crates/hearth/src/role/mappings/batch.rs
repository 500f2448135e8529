//! What a function gets of a batch of messages, and what its answer says of them. Pure.
//!
//! Source: docs.aws.amazon.com/lambda/latest/dg/with-sqs.html and .../services-sqs-errorhandling.html.

use std::collections::HashSet;

use bytes::Bytes;
use hearth_aws::Message;
use hearth_types::limits;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What surrounds the records of an event.
const AROUND: usize = 16;

/// A message as a record of an event.
pub(super) fn record(message: &Message, arn: &str, region: &str) -> Value {
    let attribute = |(name, value): (&String, &Map<String, Value>)| {
        let text = |member: &str| value.get(member).cloned();
        let mut shown = json!({"stringListValues": [], "binaryListValues": []});
        for (from, to) in
            [("StringValue", "stringValue"), ("BinaryValue", "binaryValue"), ("DataType", "dataType")]
        {
            if let Some(value) = text(from) {
                shown[to] = value;
            }
        }
        (name.clone(), shown)
    };
    let attributes: Map<String, Value> = message.message_attributes.iter().map(attribute).collect();
    json!({
        "messageId": message.message_id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": message.attributes,
        "messageAttributes": attributes,
        "md5OfBody": message.md5_of_body,
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": region,
    })
}

/// An event of these records.
pub(super) fn event(records: &[String]) -> Bytes {
    format!("{{\"Records\":[{}]}}", records.join(",")).into()
}

/// How many of the records, from the first on, fit into one event; one at least.
pub(super) fn fitting(records: &[String]) -> usize {
    let mut size = AROUND;
    let fits = |record: &&String| {
        size += record.len() + 1;
        size <= limits::SYNC_PAYLOAD_BYTES
    };
    records.iter().take_while(fits).count().max(1)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(default)]
    batch_item_failures: Option<Vec<Item>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    item_identifier: String,
}

/// Which messages an answer says have failed; all of them where it makes no sense, as on Lambda.
pub(super) fn failed<'a>(answer: &[u8], messages: &'a [Message]) -> HashSet<&'a str> {
    let ids: HashSet<&str> = messages.iter().map(|message| message.message_id.as_str()).collect();
    if answer.trim_ascii() == b"null" || answer.trim_ascii().is_empty() {
        return HashSet::new();
    }
    let Ok(report) = serde_json::from_slice::<Report>(answer) else { return ids };
    let mut failed = HashSet::new();
    for item in report.batch_item_failures.unwrap_or_default() {
        match ids.get(item.item_identifier.as_str()) {
            Some(id) => failed.insert(*id),
            None => return ids,
        };
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, body: &str) -> Message {
        let text = json!({
            "MessageId": id, "ReceiptHandle": "r", "Body": body, "MD5OfBody": "m",
            "Attributes": {"ApproximateReceiveCount": "1"},
            "MessageAttributes": {"a": {"DataType": "String", "StringValue": "x"}},
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_record_has_the_shape_that_aws_documents() {
        let arn = "arn:aws:sqs:us-east-1:123456789012:q";
        let record = record(&message("id", "say \"hi\""), arn, "us-east-1");
        let event: Value = serde_json::from_slice(&event(&[record.to_string()])).unwrap();
        let wanted = json!({"Records": [{
            "messageId": "id", "receiptHandle": "r", "body": "say \"hi\"", "md5OfBody": "m",
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {"a": {"stringValue": "x", "dataType": "String", "stringListValues": [], "binaryListValues": []}},
            "eventSource": "aws:sqs", "eventSourceARN": arn, "awsRegion": "us-east-1",
        }]});
        assert_eq!(event, wanted);
    }

    #[test]
    fn an_event_holds_what_fits_and_one_at_least() {
        let small = vec!["x".repeat(1_000); 10];
        assert_eq!(fitting(&small), 10);
        let large = vec!["x".repeat(limits::SYNC_PAYLOAD_BYTES / 2); 3];
        assert_eq!(fitting(&large), 1);
        assert_eq!(fitting(&["x".repeat(limits::SYNC_PAYLOAD_BYTES)]), 1);
        let exact = vec!["x".repeat((limits::SYNC_PAYLOAD_BYTES - AROUND) / 2 - 1); 2];
        assert_eq!(fitting(&exact), 2);
        assert!(event(&exact).len() <= limits::SYNC_PAYLOAD_BYTES);
    }

    #[test]
    fn what_failed_is_what_the_answer_says_and_all_where_it_makes_no_sense() {
        let messages = [message("a", ""), message("b", "")];
        for (answer, wanted) in [
            ("", 0),
            ("null", 0),
            ("{}", 0),
            (r#"{"batchItemFailures": null}"#, 0),
            (r#"{"batchItemFailures": []}"#, 0),
            (r#"{"batchItemFailures": [{"itemIdentifier": "b"}]}"#, 1),
            (r#"{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "b"}]}"#, 2),
            (r#"{"batchItemFailures": [{"itemIdentifier": "c"}]}"#, 2),
            (r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#, 2),
            (r#"{"batchItemFailures": [{"itemIdentifier": null}]}"#, 2),
            (r#"{"batchItemFailures": [{"id": "a"}]}"#, 2),
            (r#"{"batchItemFailures": "a"}"#, 2),
            ("\"text\"", 2),
            ("{", 2),
        ] {
            assert_eq!(failed(answer.as_bytes(), &messages).len(), wanted, "{answer}");
        }
    }
}
