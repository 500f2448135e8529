//! Which of a queue's messages a function gets. Pure.
//!
//! Source: docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html, with what it says of bodies and patterns of different kinds.

use serde_json::Value;

use super::pattern::{Pattern, PatternError};

/// Filters of a mapping (Lambda's quota, unless it is raised).
pub(crate) const MOST: usize = 5;

/// The filters of a mapping, one of which has to describe a message.
#[derive(Clone, Debug, Default)]
pub struct Filters(Vec<Pattern>);

impl Filters {
    /// Reads patterns.
    pub(crate) fn read(patterns: &[String]) -> Result<Self, PatternError> {
        patterns.iter().map(|text| Pattern::read(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none, and every message is the function's.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the function gets the message with this record. A body of JSON is looked into; one of text is a value.
    #[must_use]
    pub fn take(&self, record: &Value) -> bool {
        if self.is_empty() {
            return true;
        }
        let body = record.get("body").and_then(Value::as_str);
        let parsed = body.and_then(|body| serde_json::from_str(body).ok());
        match parsed.filter(|body: &Value| body.is_object() || body.is_array()) {
            Some(body) => {
                let mut record = record.clone();
                record["body"] = body;
                self.0.iter().any(|pattern| pattern.describes(&record))
            }
            None => self.0.iter().any(|pattern| pattern.describes(record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_of_json_are_looked_into_and_those_of_text_are_compared() {
        let taken = |patterns: &[&str], body: &str| {
            let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
            let record = json!({"body": body, "eventSource": "aws:sqs"});
            Filters::read(&patterns).unwrap().take(&record)
        };
        let (json, text) = (r#"{"body": {"code": ["A"]}}"#, r#"{"body": ["hello"]}"#);
        assert!(taken(&[], "anything"));
        assert!(taken(&[json], r#"{"code": "A", "more": 1}"#));
        assert!(!taken(&[json], r#"{"code": "B"}"#));
        assert!(!taken(&[json], "hello") && !taken(&[json], r#"{"code": "A""#));
        assert!(taken(&[text], "hello"));
        assert!(!taken(&[text], "hello!") && !taken(&[text], r#"{"hello": 1}"#));
        assert!(taken(&[json, text], "hello") && taken(&[json, text], r#"{"code": "A"}"#));
        assert!(taken(&[r#"{"eventSource": ["aws:sqs"]}"#], "anything"));
    }
}
