//! Queues of SQS: received from, deleted from, sent to.
//!
//! Source: docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference, its JSON protocol. Requests go to the operator's
//! endpoint, whatever host a queue's URL names.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::caller::{Caller, words};
use crate::{Account, CallError, Endpoint};

/// Messages in one request.
pub const BATCH: usize = 10;
/// Time for an answer, over what a queue was asked to wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of an answer: ten messages of a mebibyte, each with its escapes.
const ANSWER: usize = 32 << 20;

/// A message as it was received.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Message {
    /// Its id.
    pub message_id: String,
    /// What it is deleted by.
    pub receipt_handle: String,
    /// What it says.
    #[serde(default)]
    pub body: String,
    /// The body's MD5, hexadecimal.
    #[serde(default, rename = "MD5OfBody")]
    pub md5_of_body: String,
    /// What the queue says of it.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// What its sender says of it, in SQS's own shape.
    #[serde(default)]
    pub message_attributes: BTreeMap<String, Map<String, Value>>,
}

/// What is known of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// What requests name it by.
    pub url: String,
    /// How long a message that was received is hidden from others, seconds.
    pub visibility_seconds: u32,
}

/// A queue as an ARN names it: `arn:aws:sqs:REGION:OWNER:NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueArn<'a> {
    /// Where it is.
    pub region: &'a str,
    /// Whose it is.
    pub owner: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> QueueArn<'a> {
    /// Reads an ARN; nothing if it is none of a queue.
    #[must_use]
    pub fn read(arn: &'a str) -> Option<Self> {
        let mut parts = arn.strip_prefix("arn:aws:sqs:")?.split(':');
        let (region, owner, name) = (parts.next()?, parts.next()?, parts.next()?);
        let bare = name.strip_suffix(".fifo").unwrap_or(name);
        let good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let whole = !bare.is_empty() && name.len() <= 80 && bare.chars().all(good) && parts.next().is_none();
        whole.then_some(Self { region, owner, name })
    }

    /// Whether its messages come in order.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }
}

/// An SQS-compatible service.
#[derive(Clone, Debug)]
pub struct Sqs {
    caller: Caller,
}

impl Sqs {
    /// The service at `endpoint`.
    ///
    /// # Errors
    /// The machine's certificates cannot be read.
    pub fn new(endpoint: Endpoint, account: Account) -> std::io::Result<Self> {
        Ok(Self { caller: Caller::new("sqs", endpoint, account)? })
    }

    /// What is known of a queue.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::is_missing_queue`] if there is none.
    pub async fn queue(&self, queue: QueueArn<'_>) -> Result<Queue, CallError> {
        let url = self.url(queue).await?;
        let ask = json!({"QueueUrl": url, "AttributeNames": ["VisibilityTimeout"]});
        let found = self.call("GetQueueAttributes", &ask, Duration::ZERO).await?;
        let seconds = found["Attributes"]["VisibilityTimeout"].as_str().and_then(|text| text.parse().ok());
        let visibility_seconds = seconds.ok_or_else(|| self.nonsense("no VisibilityTimeout"))?;
        Ok(Queue { url, visibility_seconds })
    }

    /// What requests name a queue by.
    ///
    /// # Errors
    /// As [`Self::queue`].
    pub async fn url(&self, queue: QueueArn<'_>) -> Result<String, CallError> {
        let ask = json!({"QueueName": queue.name, "QueueOwnerAWSAccountId": queue.owner});
        let found = self.call("GetQueueUrl", &ask, Duration::ZERO).await?;
        let url = found["QueueUrl"].as_str().ok_or_else(|| self.nonsense("no QueueUrl"))?;
        Ok(url.to_owned())
    }

    /// At most `most` messages, ten of them at most; none if none came within `wait` seconds.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn receive(&self, url: &str, most: usize, wait: u32) -> Result<Vec<Message>, CallError> {
        let ask = json!({
            "QueueUrl": url,
            "MaxNumberOfMessages": most.clamp(1, BATCH),
            "WaitTimeSeconds": wait.min(20),
            "AttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let mut found = self.call("ReceiveMessage", &ask, Duration::from_secs(wait.into())).await?;
        match found["Messages"].take() {
            Value::Null => Ok(Vec::new()),
            messages => serde_json::from_value(messages).map_err(|error| self.nonsense(&error.to_string())),
        }
    }

    /// Deletes ten messages at most; answers how many were not.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn delete(&self, url: &str, receipts: &[&str]) -> Result<usize, CallError> {
        let entries = receipts.iter().enumerate();
        let entries: Vec<_> =
            entries.map(|(at, receipt)| json!({"Id": at.to_string(), "ReceiptHandle": receipt})).collect();
        let ask = json!({"QueueUrl": url, "Entries": entries});
        let found = self.call("DeleteMessageBatch", &ask, Duration::ZERO).await?;
        Ok(found["Failed"].as_array().map_or(0, Vec::len))
    }

    /// Has ten messages at most be hidden for so many seconds from now on; zero gives them back.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn hide(&self, url: &str, receipts: &[&str], seconds: u32) -> Result<(), CallError> {
        let entries = receipts.iter().enumerate();
        let entry = |(at, receipt): (usize, &&str)| json!({"Id": at.to_string(), "ReceiptHandle": receipt, "VisibilityTimeout": seconds});
        let ask = json!({"QueueUrl": url, "Entries": entries.map(entry).collect::<Vec<_>>()});
        self.call("ChangeMessageVisibilityBatch", &ask, Duration::ZERO).await.map(|_| ())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn send(
        &self,
        url: &str,
        body: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), CallError> {
        let attribute = |(name, value): (&String, &String)| {
            (name.clone(), json!({"DataType": "String", "StringValue": value}))
        };
        // SQS refuses empty ones.
        let attributes = attributes.iter().filter(|(_, value)| !value.is_empty());
        let attributes: Map<String, Value> = attributes.map(attribute).collect();
        let ask = json!({"QueueUrl": url, "MessageBody": body, "MessageAttributes": attributes});
        self.call("SendMessage", &ask, Duration::ZERO).await.map(|_| ())
    }

    async fn call(&self, action: &str, ask: &Value, wait: Duration) -> Result<Value, CallError> {
        let request = Request::builder()
            .method("POST")
            .header(CONTENT_TYPE, "application/x-amz-json-1.0")
            .header("x-amz-target", format!("AmazonSQS.{action}"));
        let patience = PATIENCE + wait;
        let response = self.caller.send(request, "/", Bytes::from(ask.to_string()), patience).await?;
        let status = response.status();
        let body = self.caller.small(response.into_body(), ANSWER, PATIENCE).await?;
        let read: Result<Value, _> = match body.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&body),
        };
        match (status.is_success(), read) {
            (true, Ok(answer)) => Ok(answer),
            (true, Err(error)) => Err(self.nonsense(&error.to_string())),
            (false, read) => Err(refusal(status.as_u16(), &read.unwrap_or_default())),
        }
    }

    fn nonsense(&self, problem: &str) -> CallError {
        CallError::Nonsense { endpoint: self.caller.endpoint.to_string(), problem: words(problem) }
    }
}

fn refusal(status: u16, answer: &Value) -> CallError {
    let kind = answer["__type"].as_str().unwrap_or_default();
    let code = words(kind.rsplit('#').next().unwrap_or_default());
    let code = if code.is_empty() { format!("Status{status}") } else { code };
    let message = answer["message"].as_str().or_else(|| answer["Message"].as_str()).unwrap_or_default();
    CallError::Refused { status, code, message: words(message) }
}

impl CallError {
    /// Whether it says that there is no such queue.
    #[must_use]
    pub fn is_missing_queue(&self) -> bool {
        let Self::Refused { code, .. } = self else { return false };
        code == "QueueDoesNotExist" || code == "AWS.SimpleQueueService.NonExistentQueue"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_whatever_it_is() {
        let said = json!({"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "No."});
        assert!(refusal(400, &said).is_missing_queue());
        for nothing in [Value::Null, json!([]), json!({"__type": 1, "message": {}})] {
            let CallError::Refused { status, code, message } = refusal(500, &nothing) else {
                unreachable!("a refusal is one")
            };
            assert_eq!((status, code.as_str(), message.as_str()), (500, "Status500", ""));
        }
    }

    #[test]
    fn the_arn_of_a_queue_is_read_and_no_other() {
        let queue = QueueArn { region: "us-east-1", owner: "123456789012", name: "q-1.fifo" };
        assert_eq!(QueueArn::read("arn:aws:sqs:us-east-1:123456789012:q-1.fifo"), Some(queue));
        let long = format!("arn:aws:sqs:r:o:{}", "q".repeat(81));
        for bad in [
            "",
            "q",
            "arn:aws:sns:r:o:q",
            "arn:aws:sqs:r:o",
            "arn:aws:sqs:r:o:",
            "arn:aws:sqs:r:o:.fifo",
            "arn:aws:sqs:r:o:q:x",
            "arn:aws:sqs:r:o:a/b",
            &long,
        ] {
            assert_eq!(QueueArn::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_message_needs_no_more_than_its_names() {
        let least: Message = serde_json::from_str(r#"{"MessageId": "m", "ReceiptHandle": "r"}"#).unwrap();
        assert!(least.body.is_empty() && least.attributes.is_empty());
        assert!(serde_json::from_str::<Message>(r#"{"MessageId": "m"}"#).is_err());
    }
}
