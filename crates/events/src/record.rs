//! What destinations are told of an event: AWS's record, version 1.0.

use hearth_types::{FunctionError, limits};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Why a record is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The function succeeded.
    Success,
    /// It failed as often as it may.
    RetriesExhausted,
    /// The event got too old.
    EventAgeExceeded,
}

impl Condition {
    /// The word in the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::RetriesExhausted => "RetriesExhausted",
            Self::EventAgeExceeded => "EventAgeExceeded",
        }
    }
}

/// What the last attempt answered.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Which version answered.
    pub version: &'a str,
    /// Whether it failed.
    pub error: Option<FunctionError>,
    /// The answer, or the error document.
    pub payload: &'a [u8],
}

/// An event at its end.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Now, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Its id.
    pub request_id: &'a str,
    /// The function's ARN with the qualifier that was invoked.
    pub arn: &'a str,
    /// Why it is at its end.
    pub condition: Condition,
    /// Times it was run.
    pub runs: u32,
    /// What was sent.
    pub payload: &'a [u8],
    /// The last answer; none if it was never run, or nobody knows.
    pub response: Option<Response<'a>>,
}

impl Ended<'_> {
    /// The record, at most as large as an event may be: payloads for which there is no room are left out, the answer's first.
    #[must_use]
    pub fn record(&self) -> Vec<u8> {
        let mut document = json!({
            "version": "1.0",
            "timestamp": timestamp(self.now_ms),
            "requestContext": {
                "requestId": self.request_id,
                "functionArn": self.arn,
                "condition": self.condition.as_str(),
                "approximateInvokeCount": self.runs,
            },
            "requestPayload": null,
        });
        if let Some(response) = &self.response {
            let mut context = json!({"statusCode": 200, "executedVersion": response.version});
            if let Some(error) = response.error {
                context["functionError"] = error.as_str().into();
            }
            document["responseContext"] = context;
            document["responsePayload"] = Value::Null;
        }
        let mut left = limits::ASYNC_PAYLOAD_BYTES.saturating_sub(document.to_string().len());
        let mut add = |document: &mut Value, name: &str, payload: &[u8]| {
            if payload.len() <= left
                && let Ok(value) = parse(payload)
            {
                // Written anew, a number may be longer than it was.
                let size = value.to_string().len();
                if size <= left {
                    left -= size;
                    document[name] = value;
                }
            }
        };
        add(&mut document, "requestPayload", self.payload);
        if let Some(response) = &self.response {
            add(&mut document, "responsePayload", response.payload);
        }
        document.to_string().into_bytes()
    }
}

/// The payload as JSON; what is none, which a function may answer, as the text that it is.
fn parse(payload: &[u8]) -> Result<Value, serde_json::Error> {
    match serde_json::from_slice::<&RawValue>(payload) {
        Ok(raw) => serde_json::from_str(raw.get()),
        Err(_) => Ok(Value::String(String::from_utf8_lossy(payload).into_owned())),
    }
}

/// `2026-11-24T18:16:05.568Z`.
#[must_use]
pub fn timestamp(ms: u64) -> String {
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The date so many days after 1 January 1970. Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: Ended<'_> = Ended {
        now_ms: 1_573_755_365_568,
        request_id: "e4b46cbf-b738-4ab5-8880-a18cdf61200e",
        arn: "arn:aws:lambda:us-east-2:123456789012:function:f:$LATEST",
        condition: Condition::RetriesExhausted,
        runs: 3,
        payload: b"{\"a\":1}",
        response: None,
    };

    fn read(ended: &Ended<'_>) -> Value {
        serde_json::from_slice(&ended.record()).unwrap()
    }

    #[test]
    fn a_record_has_the_shape_that_aws_documents() {
        let response = Response {
            version: "$LATEST",
            error: Some(FunctionError::Unhandled),
            payload: b"{\"errorMessage\":\"x\"}",
        };
        let wanted = json!({
            "version": "1.0",
            "timestamp": "2019-11-14T18:16:05.568Z",
            "requestContext": {
                "requestId": ENDED.request_id,
                "functionArn": ENDED.arn,
                "condition": "RetriesExhausted",
                "approximateInvokeCount": 3,
            },
            "requestPayload": {"a": 1},
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "responsePayload": {"errorMessage": "x"},
        });
        assert_eq!(read(&Ended { response: Some(response), ..ENDED }), wanted);
        let never = read(&Ended { condition: Condition::EventAgeExceeded, ..ENDED });
        assert!(never.get("responseContext").is_none());
    }

    #[test]
    fn what_does_not_fit_is_left_out_the_answer_first() {
        let large = format!("\"{}\"", "x".repeat(limits::ASYNC_PAYLOAD_BYTES - 1_000));
        let response = Response { version: "1", error: None, payload: large.as_bytes() };
        let ended = Ended { payload: large.as_bytes(), response: Some(response), ..ENDED };
        assert!(ended.record().len() <= limits::ASYNC_PAYLOAD_BYTES);
        let record = read(&ended);
        assert!(record["requestPayload"].is_string() && record["responsePayload"].is_null());
        let strange = Response { version: "1", error: None, payload: b"no json \xff" };
        let record = read(&Ended { response: Some(strange), ..ENDED });
        assert_eq!(record["responsePayload"], "no json \u{fffd}");
    }

    #[test]
    fn days_become_dates() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(ms), text);
        }
    }
}
