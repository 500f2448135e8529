//! The end of an invocation: its log is complete, its report written, its caller answered.

use std::time::Duration;

use bytes::Bytes;
use hearth_types::{Answer, FunctionError, InvokeError, StreamError};
use tokio::time::Instant;

use super::asker::Told;
use super::saying::answered;
use super::{Flight, Instance, lock};
use crate::failure::Failure;
use crate::metrics::count;
use crate::report::{Cold, Report};
use crate::said::Said;

/// Memory is asked for at most this often while all goes well: a question costs some system calls.
const USAGE_AGE: Duration = Duration::from_millis(10);

/// How an invocation ended.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    Answered(Bytes),
    FunctionError(Bytes),
    /// All pieces of a streamed answer were passed on.
    Streamed {
        error: Option<StreamError>,
        bytes: usize,
    },
    Failed(&'a Failure),
}

impl Instance {
    /// Answers an invocation that the function received.
    pub(super) fn finish(&self, flight: Flight, cold: Option<Cold>, outcome: Outcome<'_>) {
        let started = flight.started.unwrap_or(flight.deadline);
        let duration = started.elapsed();
        self.output.drain();
        let unhandled = Some(FunctionError::Unhandled);
        let mut stream_error = None;
        let answered = match &outcome {
            Outcome::Answered(body) | Outcome::FunctionError(body) => answered(&flight, body.len()),
            Outcome::Streamed { bytes, .. } => answered(&flight, *bytes),
            Outcome::Failed(_) => None,
        };
        let (payload, error, failure) = match outcome {
            Outcome::Answered(body) => (body, None, None),
            Outcome::FunctionError(body) => (body, unhandled, None),
            Outcome::Streamed { error, .. } => {
                stream_error = error;
                (Bytes::new(), stream_error.is_some().then_some(FunctionError::Unhandled), None)
            }
            Outcome::Failed(failure) => {
                let details = failure.document(flight.id);
                stream_error =
                    Some(StreamError { kind: failure.kind().to_owned(), details: details.clone() });
                (details, unhandled, Some(failure))
            }
        };
        self.count_outcome(error, failure);
        let (request, trace) = (flight.id, flight.trace.as_deref());
        if failure.is_some() || self.is_told_all() {
            let is_error = error.is_some();
            self.say(&Said::Done { request, duration, is_error, failure, answered, trace });
        }
        // An answer that is too large is the function's mistake, not the runtime's.
        let status = failure.filter(|failure| !matches!(failure, Failure::TooLarge(_))).map(Failure::status);
        self.say(&Said::Report(Report {
            request,
            duration,
            cold,
            memory_mb: self.spec.memory_mb,
            used_bytes: self.used_bytes(failure.is_some()),
            status,
            trace,
        }));
        let log_tail = flight.wants_tail.then(|| self.output.take_tail(flight.id).into());
        let reusable = matches!(failure, None | Some(Failure::TooLarge(_)));
        tracing::debug!(
            request_id = %flight.id,
            function = %self.spec.revision.version.function,
            instance = %self.id,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            failed = error.is_some(),
            "invocation finished"
        );
        // The caller may have gone; the invocation is over all the same.
        flight.asker.tell(Told { answer: Answer { payload, error, log_tail, reusable }, stream_error });
    }

    /// Tells the caller of an invocation that the function never saw.
    pub(super) fn not_delivered(&self, flight: Flight, reason: &str) {
        count(&self.counters.not_delivered);
        flight.asker.fail(InvokeError::NotDelivered { reason: reason.to_owned() });
    }

    fn count_outcome(&self, error: Option<FunctionError>, failure: Option<&Failure>) {
        let counters = &self.counters;
        count(match (error, failure) {
            (None, _) => &counters.succeeded,
            (Some(_), None) => &counters.function_errors,
            (Some(_), Some(Failure::TimedOut(_))) => &counters.timeouts,
            (Some(_), Some(_)) => &counters.crashes,
        });
    }

    /// The most memory ever used, as far as is known; all of it after an out of memory.
    fn used_bytes(&self, ask: bool) -> u64 {
        let now = Instant::now();
        let mut usage = lock(&self.usage);
        if ask || usage.asked.is_none_or(|asked| now.duration_since(asked) >= USAGE_AGE) {
            usage.asked = Some(now);
            usage.stats = self.stats();
        }
        if usage.stats.oom_kills > 0 { u64::MAX } else { usage.stats.memory_peak_bytes }
    }
}
