//! What the platform says of an instance, in its function's log and to extensions that subscribe.

use tokio::time::Instant;

use super::{Flight, Instance, State};
use crate::clock::{epoch_ms, millis};
use crate::failure::Failure;
use crate::said::{Answered, Init, Said};
use crate::telemetry::Stream;

/// How a generation of the sandbox begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    /// When, milliseconds since 1970.
    pub(super) at_ms: u64,
    /// `init`, or `invoke` within an invocation.
    pub(super) phase: &'static str,
    /// From a snapshot, with its init phase behind it.
    pub(super) restored: bool,
    /// The runtime has asked for its first work, or never will, and that was said.
    pub(super) runtime_is_done: bool,
}

impl Beginning {
    /// Of an instance without a sandbox.
    pub(super) fn none() -> Self {
        Self { at_ms: 0, phase: "init", restored: false, runtime_is_done: false }
    }
}

impl Instance {
    /// Says something, as the function's log is written, and to whoever subscribes.
    pub(super) fn say(&self, said: &Said<'_>) {
        let now = epoch_ms();
        let line = match self.spec.logging.json {
            None => said.text(now),
            Some(log) => said.json(now, log),
        };
        if let Some(line) = line {
            self.output.say(&line);
        }
        if self.output.telemetry().is_wanted(Stream::Platform) {
            self.output.telemetry().platform(now, said, None);
        }
    }

    pub(super) fn init(&self, phase: &'static str) -> Init<'_> {
        Init { spec: &self.spec, instance: self.id, reason: self.reason, phase }
    }

    /// The first thing that is said of a generation.
    pub(super) fn beginning(&self, began: Beginning) -> Said<'_> {
        let init = self.init(began.phase);
        if began.restored { Said::RestoreStart { init } } else { Said::InitStart { init } }
    }

    /// The runtime has done what comes before its first invocation, or failed to; said once.
    pub(super) fn runtime_is_done(&self, state: &mut State, failure: Option<&Failure>) {
        if std::mem::replace(&mut state.beginning.runtime_is_done, true) {
            return;
        }
        if state.beginning.restored {
            self.say(&Said::RestoreDone { failure });
        } else {
            self.say(&Said::InitDone { init: self.init(state.beginning.phase), failure });
        }
    }

    /// Whether anybody wants to know more of an invocation than a log of text says.
    pub(super) fn is_told_all(&self) -> bool {
        self.spec.logging.json.is_some() || self.output.telemetry().is_wanted(Stream::Platform)
    }
}

/// How the answer of so many bytes came that is whole now, if it was seen to begin.
pub(super) fn answered(flight: &Flight, bytes: usize) -> Option<Answered> {
    let (started, began) = (flight.started?, flight.answering?);
    let now = Instant::now();
    Some(Answered {
        since_ms: epoch_ms().saturating_sub(millis(now.duration_since(started))),
        latency: began.saturating_duration_since(started),
        duration: now.saturating_duration_since(began),
        bytes,
    })
}
