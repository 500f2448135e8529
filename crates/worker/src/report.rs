//! The platform's own lines in a function's log, in Lambda's text format.
//!
//! Billed Duration is the duration and, on a cold start, the init phase, rounded up to a millisecond: since 1 August
//! 2025 Lambda bills INIT for every kind of function
//! (aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase).

use std::fmt::{Display, Write};
use std::time::Duration;

use hearth_types::{HttpService, RequestId};

use crate::failure::Failure;
use crate::protocol::ExtensionEvent;
use crate::telemetry::{Api, Stream};

/// What came before the first invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cold {
    /// An init phase.
    Init(Duration),
    /// The restoration from a snapshot.
    Restore(Duration),
}

/// What REPORT says.
#[derive(Clone, Debug)]
pub(crate) struct Report<'a> {
    pub(crate) request: RequestId,
    pub(crate) duration: Duration,
    pub(crate) cold: Option<Cold>,
    pub(crate) memory_mb: u32,
    pub(crate) used_bytes: u64,
    /// `timeout`, or `error` and its type.
    pub(crate) status: Option<(&'a str, Option<&'a str>)>,
    /// The trace that the request is part of, where somebody wants to know.
    pub(crate) trace: Option<&'a str>,
}

impl Report<'_> {
    /// The duration that is billed, whole milliseconds.
    pub(crate) fn billed_ms(&self) -> u64 {
        let init = match self.cold {
            Some(Cold::Init(init)) => init,
            Some(Cold::Restore(_)) | None => Duration::ZERO,
        };
        whole_ms(self.duration + init)
    }

    /// The memory used, whole mebibytes; never more than there was.
    pub(crate) fn used_mb(&self) -> u64 {
        self.used_bytes.div_ceil(1 << 20).min(u64::from(self.memory_mb))
    }
}

/// Milliseconds, a begun one for a whole one.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// START, without its line end.
pub(crate) fn start(request: RequestId, version: impl Display) -> String {
    format!("START RequestId: {request} Version: {version}")
}

/// END and REPORT: two lines, the second without its end.
pub(crate) fn end(report: &Report<'_>) -> String {
    let (billed, used) = (report.billed_ms(), report.used_mb());
    let request = report.request;
    let mut text = String::with_capacity(288);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "END RequestId: {request}\nREPORT RequestId: {request}\tDuration: {:.2} ms\tBilled Duration: {billed} ms\t\
         Memory Size: {} MB\tMax Memory Used: {used} MB\t",
        ms(report.duration),
        report.memory_mb,
    );
    let _ = match report.cold {
        Some(Cold::Init(init)) => write!(text, "Init Duration: {:.2} ms\t", ms(init)),
        Some(Cold::Restore(restore)) => write!(
            text,
            "Restore Duration: {:.2} ms\tBilled Restore Duration: {} ms\t",
            ms(restore),
            whole_ms(restore)
        ),
        None => Ok(()),
    };
    match report.status {
        Some((status, Some(kind))) => {
            let _ = write!(text, "Status: {status}\tError Type: {kind}");
        }
        Some((status, None)) => {
            let _ = write!(text, "Status: {status}");
        }
        None => {}
    }
    text
}

/// INIT_REPORT of an init phase that failed.
pub(crate) fn init(duration: Duration, phase: &str, status: &str, kind: Option<&str>) -> String {
    let mut text =
        format!("INIT_REPORT Init Duration: {:.2} ms\tPhase: {phase}\tStatus: {status}", ms(duration));
    if let Some(kind) = kind {
        let _ = write!(text, "\tError Type: {kind}");
    }
    text
}

/// Why an HTTP service does not run.
pub(crate) fn not_ready(service: &HttpService, failure: &Failure) -> String {
    let reason = match (failure, &service.health) {
        (Failure::TimedOut(after), None) => {
            format!(
                "nothing accepted connections on port {} within {:.2} s",
                service.port,
                after.as_secs_f64()
            )
        }
        (Failure::TimedOut(after), Some(path)) => format!(
            "{path} on port {} did not answer with a success within {:.2} s",
            service.port,
            after.as_secs_f64()
        ),
        (failure, _) => failure.reason(),
    };
    format!("The service is not ready: {reason}")
}

/// RESTORE_REPORT, with what failed if something did.
pub(crate) fn restore(duration: Duration, failed: Option<(&str, Option<&str>)>) -> String {
    let mut text = format!("RESTORE_REPORT Restore Duration: {:.2} ms", ms(duration));
    if let Some((status, kind)) = failed {
        let _ = write!(text, "\tStatus: {status}");
        if let Some(kind) = kind {
            let _ = write!(text, "\tError Type: {kind}");
        }
    }
    text
}

/// EXTENSION: one that is ready, or failed in a state with an error of a type.
pub(crate) fn extension(name: &str, events: &[ExtensionEvent], failed: Option<(&str, &str)>) -> String {
    let events: Vec<&str> = events.iter().map(|event| event.name()).collect();
    let events = events.join(", ");
    match failed {
        None => format!("EXTENSION\tName: {name}\tState: Ready\tEvents: [{events}]"),
        Some((state, kind)) => {
            format!("EXTENSION\tName: {name}\tState: {state}\tEvents: [{events}]\tError Type: {kind}")
        }
    }
}

/// TELEMETRY or LOGS: an extension has subscribed.
pub(crate) fn subscribed(name: &str, api: Api, streams: &[Stream]) -> String {
    let types: Vec<&str> = streams.iter().map(|stream| stream.title()).collect();
    let api = api.name().to_uppercase();
    format!("{api}\tName: {name}\tState: Subscribed\tTypes: [{}]", types.join(", "))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_lambdas_to_the_letter() {
        let request: RequestId = "3f8a1c52-0d5e-4c1b-9a34-1b2c3d4e5f60".parse().unwrap();
        let mut report = Report {
            request,
            duration: Duration::from_micros(1_230),
            cold: None,
            memory_mb: 128,
            used_bytes: 34 << 20,
            status: None,
            trace: None,
        };
        assert_eq!(
            end(&report),
            format!(
                "END RequestId: {request}\nREPORT RequestId: {request}\tDuration: 1.23 ms\tBilled Duration: 2 ms\t\
                 Memory Size: 128 MB\tMax Memory Used: 34 MB\t"
            )
        );
        report.cold = Some(Cold::Init(Duration::from_micros(12_340)));
        report.used_bytes = u64::MAX;
        report.status = Some(("error", Some("Runtime.ExitError")));
        assert!(end(&report).ends_with(
            "Billed Duration: 14 ms\tMemory Size: 128 MB\tMax Memory Used: 128 MB\tInit Duration: 12.34 ms\t\
             Status: error\tError Type: Runtime.ExitError"
        ));
        report.cold = Some(Cold::Restore(Duration::from_micros(12_340)));
        report.status = None;
        assert!(end(&report).ends_with(
            "Billed Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 128 MB\tRestore Duration: 12.34 ms\t\
             Billed Restore Duration: 13 ms\t"
        ));
        assert_eq!(
            restore(Duration::from_micros(12_340), Some(("error", Some("Runtime.ExitError")))),
            "RESTORE_REPORT Restore Duration: 12.34 ms\tStatus: error\tError Type: Runtime.ExitError"
        );
        assert_eq!(start(request, "$LATEST"), format!("START RequestId: {request} Version: $LATEST"));
        let both = [ExtensionEvent::Invoke, ExtensionEvent::Shutdown];
        assert_eq!(
            extension("x", &both, None),
            "EXTENSION\tName: x\tState: Ready\tEvents: [INVOKE, SHUTDOWN]"
        );
        assert_eq!(
            extension("x", &[], Some(("InitError", "Extension.Mine"))),
            "EXTENSION\tName: x\tState: InitError\tEvents: []\tError Type: Extension.Mine"
        );
        assert_eq!(
            subscribed("x", Api::Telemetry, &[Stream::Platform, Stream::Function]),
            "TELEMETRY\tName: x\tState: Subscribed\tTypes: [Platform, Function]"
        );
        let mut service = HttpService { port: 80, health: None };
        assert_eq!(
            not_ready(&service, &Failure::TimedOut(Duration::from_secs(10))),
            "The service is not ready: nothing accepted connections on port 80 within 10.00 s"
        );
        service.health = Some("/up".to_owned());
        assert_eq!(
            not_ready(&service, &Failure::TimedOut(Duration::from_secs(10))),
            "The service is not ready: /up on port 80 did not answer with a success within 10.00 s"
        );
        assert_eq!(
            init(Duration::from_micros(9_999_990), "init", "timeout", None),
            "INIT_REPORT Init Duration: 9999.99 ms\tPhase: init\tStatus: timeout"
        );
    }
}
