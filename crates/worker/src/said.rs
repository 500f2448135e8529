//! What the platform says: in a function's log, as lines of text or, where the function's `LogFormat` is that, documents in JSON,
//! and to extensions that subscribe to it.
//!
//! Source of the documents and their levels: docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html and
//! .../dg/telemetry-schema-reference.html. Beside what is there, a failure says why (`errorMessage`), as the text does.

#[cfg(test)]
mod tests;

use std::time::Duration;

use hearth_types::{
    FunctionSpec, HttpService, InstanceId, JsonLog, LogLevel, RequestId, StartReason, Version,
};
use serde_json::{Value, json};

use crate::clock::{millis, timestamp};
use crate::environment::initialization_type;
use crate::failure::Failure;
use crate::protocol::ExtensionEvent;
use crate::report::{self, Cold, Report};
use crate::telemetry::{Api, Stream};

/// Something that it says.
#[derive(Debug)]
pub(crate) enum Said<'a> {
    /// An init phase begins.
    InitStart { init: Init<'a> },
    /// The runtime has asked for its first work, or never will.
    InitDone { init: Init<'a>, failure: Option<&'a Failure> },
    /// An init phase is over, with what failed if something did.
    Init { init: Init<'a>, duration: Duration, failure: Option<&'a Failure> },
    /// An instance is made from a snapshot.
    RestoreStart { init: Init<'a> },
    /// The runtime in it has asked for its first work, or never will.
    RestoreDone { failure: Option<&'a Failure> },
    /// The restoration from a snapshot, with what failed if something did.
    Restore { duration: Duration, failure: Option<&'a Failure> },
    /// An extension waits for its first event, or says that it failed with an error of that type.
    Extension { name: &'a str, events: &'a [ExtensionEvent], failed: Option<(&'a str, &'a str)> },
    /// An extension has subscribed.
    Subscribed { name: &'a str, api: Api, streams: &'a [Stream] },
    /// An invocation begins.
    Start { request: RequestId, version: Version, trace: Option<&'a str> },
    /// It is over, for the function; with what the platform found wrong.
    Done {
        request: RequestId,
        duration: Duration,
        is_error: bool,
        failure: Option<&'a Failure>,
        answered: Option<Answered>,
        trace: Option<&'a str>,
    },
    /// What it took.
    Report(Report<'a>),
    /// Why an HTTP service does not run.
    NotReady { service: &'a HttpService, failure: &'a Failure },
}

/// Whose init phase, and which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Init<'a> {
    pub(crate) spec: &'a FunctionSpec,
    pub(crate) instance: InstanceId,
    pub(crate) reason: StartReason,
    /// `init`, or `invoke` where the first one failed and it is done again.
    pub(crate) phase: &'static str,
}

/// How an answer came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// When the invocation began, milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Until the answer began.
    pub(crate) latency: Duration,
    /// From then until it was whole.
    pub(crate) duration: Duration,
    pub(crate) bytes: usize,
}

// === impl Said ===

impl Said<'_> {
    /// Its lines of text, the last without its end; nothing where Lambda has none.
    pub(crate) fn text(&self, now_ms: u64) -> Option<String> {
        Some(match self {
            Self::InitStart { .. }
            | Self::InitDone { .. }
            | Self::Init { failure: None, .. }
            | Self::RestoreStart { .. }
            | Self::RestoreDone { .. }
            | Self::Done { failure: None, .. } => return None,
            Self::Init { init, duration, failure: Some(failure) } => {
                let (status, kind) = failure.status();
                report::init(*duration, init.phase, status, kind)
            }
            Self::Restore { duration, failure } => {
                report::restore(*duration, failure.map(|failure| failure.status()))
            }
            Self::Extension { name, events, failed } => report::extension(name, events, *failed),
            Self::Subscribed { name, api, streams } => report::subscribed(name, *api, streams),
            Self::Start { request, version, .. } => report::start(*request, version),
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
            Self::NotReady { service, failure } => report::not_ready(service, failure),
        })
    }

    /// Its document, without a line end; nothing if it matters less than what the log is for.
    pub(crate) fn json(&self, now_ms: u64, log: JsonLog) -> Option<String> {
        (self.level() >= log.system).then(|| {
            let (kind, record) = self.document();
            json!({"time": timestamp(now_ms), "type": kind, "record": record}).to_string()
        })
    }

    fn level(&self) -> LogLevel {
        let (is_well, well) = match self {
            // As where Lambda knows no version of the runtime.
            Self::InitStart { .. } | Self::RestoreStart { .. } => (true, LogLevel::Debug),
            Self::InitDone { failure, .. } | Self::RestoreDone { failure } => {
                (failure.is_none(), LogLevel::Debug)
            }
            Self::Init { init, failure, .. } => {
                (failure.is_none(), if init.spec.snap_start { LogLevel::Info } else { LogLevel::Debug })
            }
            Self::Restore { failure, .. } => (failure.is_none(), LogLevel::Info),
            Self::Extension { failed, .. } => (failed.is_none(), LogLevel::Info),
            Self::Subscribed { .. } | Self::Start { .. } => (true, LogLevel::Info),
            Self::Done { is_error, .. } => (!is_error, LogLevel::Debug),
            Self::Report(report) => (report.status.is_none(), LogLevel::Info),
            Self::NotReady { .. } => (false, LogLevel::Info),
        };
        if is_well { well } else { LogLevel::Warn }
    }

    /// Its type and its record.
    pub(crate) fn document(&self) -> (&'static str, Value) {
        match self {
            Self::InitStart { init } => ("platform.initStart", init.whose()),
            Self::InitDone { init, failure } => {
                let mut record = init.which();
                record["status"] = "success".into();
                add(&mut record, *failure);
                ("platform.initRuntimeDone", record)
            }
            Self::Init { init, duration, failure } => {
                let mut record = init.which();
                record["status"] = "success".into();
                record["metrics"] = json!({"durationMs": ms(*duration)});
                add(&mut record, *failure);
                ("platform.initReport", record)
            }
            Self::RestoreStart { init } => ("platform.restoreStart", init.whose()),
            Self::RestoreDone { failure } => {
                let mut record = json!({"status": "success"});
                add(&mut record, *failure);
                ("platform.restoreRuntimeDone", record)
            }
            Self::Restore { duration, failure } => {
                let mut record = json!({"status": "success", "metrics": {"durationMs": ms(*duration)}});
                add(&mut record, *failure);
                ("platform.restoreReport", record)
            }
            Self::Extension { name, events, failed } => {
                let events: Vec<&str> = events.iter().map(|event| event.name()).collect();
                let mut record = json!({"name": name, "state": "Ready", "events": events});
                if let Some((state, kind)) = failed {
                    record["state"] = (*state).into();
                    record["errorType"] = (*kind).into();
                }
                ("platform.extension", record)
            }
            Self::Subscribed { name, api, streams } => {
                let types: Vec<&str> = streams.iter().map(|stream| stream.name()).collect();
                let record = json!({"name": name, "state": "Subscribed", "types": types});
                (api.subscription_event(), record)
            }
            Self::Start { request, version, trace } => {
                let mut record = json!({"requestId": request.to_string(), "version": version.to_string()});
                add_trace(&mut record, *trace);
                ("platform.start", record)
            }
            Self::Done { .. } => self.done(),
            Self::Report(report) => ("platform.report", report_record(report)),
            Self::NotReady { service, failure } => {
                let record =
                    json!({"port": service.port, "errorMessage": report::not_ready(service, failure)});
                ("hearth.serviceNotReady", record)
            }
        }
    }

    fn done(&self) -> (&'static str, Value) {
        const KIND: &str = "platform.runtimeDone";
        let Self::Done { request, duration, is_error, failure, answered, trace } = self else {
            return (KIND, Value::Null);
        };
        let mut record = json!({
            "requestId": request.to_string(),
            "status": if *is_error { "failure" } else { "success" },
            "metrics": {"durationMs": ms(*duration)},
        });
        if let Some(Answered { since_ms, latency, duration, bytes }) = answered {
            let began = timestamp(since_ms + millis(*latency));
            record["metrics"]["producedBytes"] = (*bytes).into();
            record["spans"] = json!([
                {"name": "responseLatency", "start": timestamp(*since_ms), "durationMs": ms(*latency)},
                {"name": "responseDuration", "start": began, "durationMs": ms(*duration)},
            ]);
        }
        add_trace(&mut record, *trace);
        add(&mut record, *failure);
        (KIND, record)
    }
}

// === impl Init ===

impl Init<'_> {
    fn which(&self) -> Value {
        let kind = initialization_type(self.spec, self.reason);
        json!({"initializationType": kind, "phase": self.phase})
    }

    fn whose(&self) -> Value {
        let version = &self.spec.revision.version;
        let mut record = self.which();
        record["functionName"] = (&*version.function.name).into();
        record["functionVersion"] = version.version.to_string().into();
        record["instanceId"] = self.instance.to_string().into();
        record["instanceMaxMemory"] = (u64::from(self.spec.memory_mb) << 20).into();
        record
    }
}

fn report_record(report: &Report<'_>) -> Value {
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
    add_trace(&mut record, report.trace);
    record
}

/// What failed, in words for people and programs.
fn add(record: &mut Value, failure: Option<&Failure>) {
    let Some(failure) = failure else { return };
    let (status, _) = failure.status();
    record["status"] = status.into();
    record["errorType"] = failure.kind().into();
    record["errorMessage"] = failure.reason().into();
}

/// The trace that an invocation is part of, if it is a sampled one.
fn add_trace(record: &mut Value, trace: Option<&str>) {
    let Some(trace) = trace else { return };
    let part = |name: &str| trace.split(';').find_map(|part| part.trim().strip_prefix(name));
    if part("Sampled=") != Some("1") {
        return;
    }
    record["tracing"] = json!({"type": "X-Amzn-Trace-Id", "value": trace});
    if let Some(parent) = part("Parent=") {
        record["tracing"]["spanId"] = parent.into();
    }
}

/// Milliseconds to the microsecond, as Lambda has them.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
