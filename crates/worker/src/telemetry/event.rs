//! Events as subscribers get them: `{"time": ..., "type": ..., "record": ...}`.
//!
//! Source: docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html, and .../dg/runtimes-logs-api.html for the Logs API.

use bytes::Bytes;
use serde_json::{Value, json};

use super::buffer::Dropped;
use super::subscription::{Schema, Stream};
use crate::clock::timestamp;
use crate::said::Said;

/// A line that a process wrote. In a log of JSON documents, one that is an object is the record itself.
pub(super) fn line(now_ms: u64, stream: Stream, line: &[u8], json: bool) -> Bytes {
    let text = String::from_utf8_lossy(line);
    let trimmed = text.trim();
    // Read whole: what is nested too deep for that would be for its taker, too.
    let is_object = json && trimmed.starts_with('{') && serde_json::from_str::<Value>(trimmed).is_ok();
    // Writing text as JSON cannot fail.
    let record =
        if is_object { trimmed.to_owned() } else { serde_json::to_string(&*text).unwrap_or_default() };
    exact(format!(r#"{{"time":"{}","type":"{}","record":{record}}}"#, timestamp(now_ms), stream.name()))
}

/// In no more memory than its bytes take.
fn exact(text: String) -> Bytes {
    text.into_bytes().into_boxed_slice().into()
}

/// What the platform says, to a subscriber of that schema; nothing if its schema knows of no such thing.
pub(super) fn platform(now_ms: u64, said: &Said<'_>, schema: Schema) -> Vec<Bytes> {
    let told = if schema <= Schema::Logs2021 { logs(said, schema) } else { telemetry(said, schema) };
    told.into_iter().map(|(kind, record)| event(now_ms, kind, &record)).collect()
}

/// That some did not reach their subscriber.
pub(super) fn dropped(now_ms: u64, dropped: Dropped) -> Bytes {
    let record = json!({
        "reason": "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.",
        "droppedRecords": dropped.records,
        "droppedBytes": dropped.bytes,
    });
    event(now_ms, "platform.logsDropped", &record)
}

fn event(now_ms: u64, kind: &str, record: &Value) -> Bytes {
    exact(json!({"time": timestamp(now_ms), "type": kind, "record": record}).to_string())
}

fn telemetry(said: &Said<'_>, schema: Schema) -> Vec<(&'static str, Value)> {
    let told = match said {
        Said::RestoreStart { .. } | Said::RestoreDone { .. } | Said::Restore { .. } => {
            schema >= Schema::December2022
        }
        Said::NotReady { .. } => false,
        Said::InitStart { .. }
        | Said::InitDone { .. }
        | Said::Init { .. }
        | Said::Extension { .. }
        | Said::Subscribed { .. }
        | Said::Start { .. }
        | Said::Done { .. }
        | Said::Report { .. } => true,
    };
    if told { vec![said.document()] } else { Vec::new() }
}

fn logs(said: &Said<'_>, schema: Schema) -> Vec<(&'static str, Value)> {
    match said {
        Said::Start { request, version, .. } => {
            let record = json!({"requestId": request.to_string(), "version": version.to_string()});
            vec![("platform.start", record)]
        }
        Said::Done { request, is_error, failure, .. } => {
            let mut told = Vec::new();
            if schema >= Schema::Logs2021 {
                let well = if *is_error { "failure" } else { "success" };
                let status =
                    if failure.is_some_and(|f| f.status().0 == "timeout") { "timeout" } else { well };
                let record = json!({"requestId": request.to_string(), "status": status});
                told.push(("platform.runtimeDone", record));
            }
            if let Some(failure) = failure {
                let text = format!("RequestId: {request} Error: {}", failure.reason());
                told.push(("platform.fault", text.into()));
            }
            told
        }
        Said::Report(report) => {
            let request = report.request.to_string();
            let (_, Value::Object(mut whole)) = said.document() else { return Vec::new() };
            let metrics = whole.remove("metrics");
            vec![
                ("platform.end", json!({"requestId": request})),
                ("platform.report", json!({"requestId": request, "metrics": metrics})),
            ]
        }
        Said::Extension { .. } | Said::Subscribed { .. } => vec![said.document()],
        Said::InitStart { .. }
        | Said::InitDone { .. }
        | Said::Init { .. }
        | Said::RestoreStart { .. }
        | Said::RestoreDone { .. }
        | Said::Restore { .. }
        | Said::NotReady { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use crate::report::{Cold, Report};
    use hearth_types::{RequestId, Version};
    use std::time::Duration;

    fn read(event: &[u8]) -> Value {
        serde_json::from_slice(event).unwrap()
    }

    fn records(said: &Said<'_>, schema: Schema) -> Vec<(String, Value)> {
        let told = platform(0, said, schema).into_iter();
        told.map(|event| {
            let event = read(&event);
            assert_eq!(event["time"], "1970-01-01T00:00:00.000Z");
            (event["type"].as_str().unwrap().to_owned(), event["record"].clone())
        })
        .collect()
    }

    #[test]
    fn a_line_is_text_unless_the_log_is_of_documents_and_it_is_one() {
        let record =
            |text: &str, json| read(&line(0, Stream::Function, text.as_bytes(), json))["record"].clone();
        assert_eq!(record("say \"x\"\t", false), "say \"x\"\t");
        assert_eq!(record("{\"a\": 1}", false), "{\"a\": 1}");
        assert_eq!(record(" {\"a\": 1}", true), json!({"a": 1}));
        for text in ["{\"a\": 1", "[1]", "1", "", "{}{}"] {
            assert_eq!(record(text, true), text);
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert_eq!(record(&deep, true), deep);
        let broken = read(&line(0, Stream::Extension, b"\xff", true));
        assert_eq!(
            broken,
            json!({"time": "1970-01-01T00:00:00.000Z", "type": "extension", "record": "\u{fffd}"})
        );
    }

    #[test]
    fn the_logs_api_has_an_end_and_faults_and_no_init_phase() {
        let request = RequestId::random();
        let id = request.to_string();
        let failure = Failure::TimedOut(Duration::from_secs(3));
        let done = Said::Done {
            request,
            duration: Duration::ZERO,
            is_error: true,
            failure: Some(&failure),
            answered: None,
            trace: None,
        };
        let fault =
            ("platform.fault".to_owned(), json!(format!("RequestId: {id} Error: {}", failure.reason())));
        assert_eq!(records(&done, Schema::Logs2020), std::slice::from_ref(&fault));
        let over = ("platform.runtimeDone".to_owned(), json!({"requestId": id, "status": "timeout"}));
        assert_eq!(records(&done, Schema::Logs2021), [over, fault]);
        let report = Said::Report(Report {
            request,
            duration: Duration::from_millis(2),
            cold: Some(Cold::Init(Duration::from_millis(3))),
            memory_mb: 128,
            used_bytes: 1,
            status: None,
            trace: None,
        });
        let [(end, ended), (kind, record)] = &records(&report, Schema::Logs2020)[..] else { unreachable!() };
        assert_eq!((end.as_str(), ended), ("platform.end", &json!({"requestId": id})));
        assert_eq!(kind, "platform.report");
        assert_eq!((record["metrics"]["initDurationMs"].as_f64(), record.get("status")), (Some(3.0), None));
    }

    #[test]
    fn a_subscriber_is_told_what_its_schema_knows() {
        let restored = Said::Restore { duration: Duration::from_millis(1), failure: None };
        assert_eq!(records(&restored, Schema::July2022), []);
        assert_eq!(records(&restored, Schema::December2022)[0].0, "platform.restoreReport");
        assert_eq!(records(&restored, Schema::Logs2021), []);
        let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let start = |trace| Said::Start { request: RequestId::random(), version: Version::Latest, trace };
        let told = records(&start(Some(trace)), Schema::January2025);
        let tracing = json!({"type": "X-Amzn-Trace-Id", "value": trace, "spanId": "53995c3f42cd8ad8"});
        assert_eq!(told[0].1["tracing"], tracing);
        let unsampled = trace.replace("Sampled=1", "Sampled=0");
        assert!(records(&start(Some(&unsampled)), Schema::January2025)[0].1.get("tracing").is_none());
    }
}
