//! What the platform says in a function's log: lines of text, or documents in JSON where the function's `LogFormat` is that.
//!
//! Source of the documents and their levels: docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html and
//! .../dg/telemetry-schema-reference.html. Beside what is there, a failure says why (`errorMessage`), as the text does.

use std::time::Duration;

use hearth_types::{HttpService, JsonLog, LogLevel, RequestId, Version};
use serde_json::{Value, json};

use crate::clock::timestamp;
use crate::failure::Failure;
use crate::report::{self, Cold, Report};

/// Something that it says.
#[derive(Debug)]
pub(crate) enum Said<'a> {
    /// An invocation begins.
    Start { request: RequestId, version: Version },
    /// It is over, for the function; with what the platform found wrong.
    Done { request: RequestId, duration: Duration, is_error: bool, failure: Option<&'a Failure> },
    /// What it took.
    Report(Report<'a>),
    /// An init phase that failed.
    Init { duration: Duration, phase: &'a str, failure: &'a Failure },
    /// The restoration from a snapshot, with what failed if something did.
    Restore { duration: Duration, failure: Option<&'a Failure> },
    /// Why an HTTP service does not run.
    NotReady { service: &'a HttpService, failure: &'a Failure },
}

// === impl Said ===

impl Said<'_> {
    /// Its lines of text, the last without its end; nothing where Lambda has none.
    pub(crate) fn text(&self, now_ms: u64) -> Option<String> {
        Some(match self {
            Self::Start { request, version } => report::start(*request, version),
            Self::Done { failure: None, .. } => return None,
            Self::Done { request, failure: Some(failure), .. } => match failure {
                Failure::TimedOut(_) => format!("{} {request} {}\n", timestamp(now_ms), failure.reason()),
                Failure::TooLarge(_) => failure.reason(),
                Failure::InitError { .. }
                | Failure::RestoreError { .. }
                | Failure::RuntimeExited(_)
                | Failure::ExtensionFailed { .. }
                | Failure::Truncated
                | Failure::Entrypoint(_) => {
                    format!("RequestId: {request} Error: {}\n{}", failure.reason(), failure.kind())
                }
            },
            Self::Report(report) => report::end(report),
            Self::Init { duration, phase, failure } => {
                let (status, kind) = failure.status();
                report::init(*duration, phase, status, kind)
            }
            Self::Restore { duration, failure } => {
                report::restore(*duration, failure.map(|failure| failure.status()))
            }
            Self::NotReady { service, failure } => report::not_ready(service, failure),
        })
    }

    /// Its document, without a line end; nothing if it matters less than what the log is for.
    pub(crate) fn json(&self, now_ms: u64, log: JsonLog) -> Option<String> {
        let (level, kind, record) = self.document();
        let document = json!({"time": timestamp(now_ms), "type": kind, "record": record});
        (level >= log.system).then(|| document.to_string())
    }

    fn document(&self) -> (LogLevel, &'static str, Value) {
        let level = |is_well: bool, well: LogLevel| if is_well { well } else { LogLevel::Warn };
        match self {
            Self::Start { request, version } => {
                let record = json!({"requestId": request.to_string(), "version": version.to_string()});
                (LogLevel::Info, "platform.start", record)
            }
            Self::Done { request, duration, is_error, failure } => {
                let mut record = json!({
                    "requestId": request.to_string(),
                    "status": if *is_error { "failure" } else { "success" },
                    "metrics": {"durationMs": ms(*duration)},
                });
                add(&mut record, *failure);
                (level(!is_error, LogLevel::Debug), "platform.runtimeDone", record)
            }
            Self::Report(report) => {
                let mut record = json!({
                    "requestId": report.request.to_string(),
                    "status": report.status.map_or("success", |(status, _)| status),
                    "metrics": {
                        "durationMs": ms(report.duration),
                        "billedDurationMs": report.billed_ms(),
                        "memorySizeMB": report.memory_mb,
                        "maxMemoryUsedMB": report.used_mb(),
                    },
                });
                match report.cold {
                    Some(Cold::Init(init)) => record["metrics"]["initDurationMs"] = ms(init).into(),
                    Some(Cold::Restore(restore)) => {
                        record["metrics"]["restoreDurationMs"] = ms(restore).into();
                        record["metrics"]["billedRestoreDurationMs"] = report::whole_ms(restore).into();
                    }
                    None => {}
                }
                if let Some((_, Some(kind))) = report.status {
                    record["errorType"] = kind.into();
                }
                (level(report.status.is_none(), LogLevel::Info), "platform.report", record)
            }
            Self::Init { duration, phase, failure } => {
                let mut record = json!({"phase": phase, "metrics": {"durationMs": ms(*duration)}});
                add(&mut record, Some(failure));
                (LogLevel::Warn, "platform.initReport", record)
            }
            Self::Restore { duration, failure } => {
                let mut record = json!({"status": "success", "metrics": {"durationMs": ms(*duration)}});
                add(&mut record, *failure);
                (level(failure.is_none(), LogLevel::Info), "platform.restoreReport", record)
            }
            Self::NotReady { service, failure } => {
                let record =
                    json!({"port": service.port, "errorMessage": report::not_ready(service, failure)});
                (LogLevel::Warn, "hearth.serviceNotReady", record)
            }
        }
    }
}

/// What failed, in words for people and programs.
fn add(record: &mut Value, failure: Option<&Failure>) {
    let Some(failure) = failure else { return };
    let (status, _) = failure.status();
    record["status"] = status.into();
    record["errorType"] = failure.kind().into();
    record["errorMessage"] = failure.reason().into();
}

/// Milliseconds to the microsecond, as Lambda has them.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: JsonLog = JsonLog { application: LogLevel::Info, system: LogLevel::Info };

    fn read(said: &Said<'_>, log: JsonLog) -> Option<Value> {
        said.json(0, log).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_report_is_lambdas_document() {
        let request: RequestId = "3f8a1c52-0d5e-4c1b-9a34-1b2c3d4e5f60".parse().unwrap();
        let said = Said::Report(Report {
            request,
            duration: Duration::from_nanos(1_234_567),
            cold: Some(Cold::Init(Duration::from_micros(12_340))),
            memory_mb: 128,
            used_bytes: 34 << 20,
            status: Some(("error", Some("Runtime.ExitError"))),
        });
        let document = json!({
            "time": "1970-01-01T00:00:00.000Z",
            "type": "platform.report",
            "record": {
                "requestId": request.to_string(),
                "status": "error",
                "errorType": "Runtime.ExitError",
                "metrics": {
                    "durationMs": 1.235, "billedDurationMs": 14, "memorySizeMB": 128, "maxMemoryUsedMB": 34,
                    "initDurationMs": 12.34,
                },
            },
        });
        assert_eq!(read(&said, INFO), Some(document));
    }

    #[test]
    fn what_matters_less_than_the_log_is_for_is_not_said() {
        let request = RequestId::random();
        let failure = Failure::TimedOut(Duration::from_secs(3));
        let done = |failure| Said::Done { request, duration: Duration::ZERO, is_error: false, failure };
        let start = Said::Start { request, version: Version::Latest };
        assert!(read(&done(None), INFO).is_none() && read(&start, INFO).is_some());
        let debug = JsonLog { system: LogLevel::Debug, ..INFO };
        assert_eq!(read(&done(None), debug).unwrap()["record"]["status"], "success");
        let warn = JsonLog { system: LogLevel::Warn, ..INFO };
        assert!(read(&start, warn).is_none());
        let failed =
            Said::Done { request, duration: Duration::ZERO, is_error: true, failure: Some(&failure) };
        let record = &read(&failed, warn).unwrap()["record"];
        assert_eq!(
            (&record["status"], &record["errorType"]),
            (&json!("timeout"), &json!("Sandbox.Timedout"))
        );
        assert_eq!(record["errorMessage"], "Task timed out after 3.00 seconds");
    }

    #[test]
    fn text_says_of_success_what_lambda_says_nothing() {
        let request = RequestId::random();
        let said = Said::Done { request, duration: Duration::ZERO, is_error: true, failure: None };
        assert_eq!(said.text(0), None);
        let failure = Failure::TimedOut(Duration::from_secs(3));
        let said = Said::Done { request, duration: Duration::ZERO, is_error: true, failure: Some(&failure) };
        let text = format!("1970-01-01T00:00:00.000Z {request} Task timed out after 3.00 seconds\n");
        assert_eq!(said.text(0), Some(text));
    }
}
