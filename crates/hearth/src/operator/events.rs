//! The events as an operator sees them: how many wait, where, and for how long.

use std::sync::atomic::{AtomicU64, Ordering};

use hearth_events::Lane;
use hearth_frontend::Viewer;
use hearth_types::Time;
use serde_json::{Value, json};

use super::metrics::metric;
use crate::role::Events;
use crate::role::events::now;

/// Each function and destination that events wait for and a viewer sees.
pub(super) fn list(events: &Events, viewer: &Viewer) -> Value {
    let now = now();
    let lanes: Vec<Value> = events
        .lanes()
        .iter()
        .filter(|lane| match &lane.lane {
            Lane::Function(id) => viewer.sees(&id.account),
            // Several accounts may send to the same.
            Lane::Destination(_) => viewer.sees_all,
        })
        .map(|lane| {
            let kind = match lane.lane {
                Lane::Function(_) => "function",
                Lane::Destination(_) => "destination",
            };
            json!({
                "for": lane.lane.to_string(),
                "kind": kind,
                "waiting": lane.waiting,
                "running": lane.running,
                "bytes": lane.bytes,
                "oldest_ms": lane.oldest.map(|time| millis(now, time)),
                "next_ms": lane.next_due.map(|time| millis(time, now)),
            })
        })
        .collect();
    json!({ "events": lanes })
}

fn millis(later: Time, earlier: Time) -> u64 {
    u64::try_from((later - earlier).as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn render(text: &mut String, events: &Events) {
    let totals = events.totals();
    let states =
        [("{state=\"waiting\"}", totals.waiting), ("{state=\"running\"}", u64::from(totals.running))];
    metric(text, "hearth_events_depth", "gauge", "Events that are on disk", &states);
    metric(
        text,
        "hearth_events_bytes",
        "gauge",
        "Payloads of events that are on disk",
        &[("", totals.bytes)],
    );
    let oldest = totals.oldest.map_or(0, |time| millis(now(), time) / 1_000);
    metric(text, "hearth_events_oldest_seconds", "gauge", "Age of the oldest event", &[("", oldest)]);
    let counts = &events.counts;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let taken = [("{taken=\"yes\"}", read(&counts.accepted)), ("{taken=\"no\"}", read(&counts.not_accepted))];
    metric(text, "hearth_events_accepted", "counter", "Events that were to be taken", &taken);
    let attempts = [
        ("{outcome=\"success\"}", read(&counts.succeeded)),
        ("{outcome=\"function-error\"}", read(&counts.failed)),
        ("{outcome=\"no-slot\"}", read(&counts.refused)),
        ("{outcome=\"lost\"}", read(&counts.lost)),
    ];
    metric(text, "hearth_events_attempts", "counter", "Attempts to run a function with an event", &attempts);
    let ends = [
        ("{end=\"retries-exhausted\"}", read(&counts.exhausted)),
        ("{end=\"age-exceeded\"}", read(&counts.expired)),
        ("{end=\"dropped\"}", read(&counts.dropped)),
        ("{end=\"sent\"}", read(&counts.sent)),
    ];
    metric(
        text,
        "hearth_events_ends",
        "counter",
        "Ends of events other than success, and records sent",
        &ends,
    );
    let messages = &events.mappings.messages;
    let messages = [
        ("{outcome=\"received\"}", read(&messages.received)),
        ("{outcome=\"filtered\"}", read(&messages.filtered)),
        ("{outcome=\"success\"}", read(&messages.succeeded)),
        ("{outcome=\"function-error\"}", read(&messages.failed)),
        ("{outcome=\"returned\"}", read(&messages.returned)),
    ];
    metric(text, "hearth_events_messages", "counter", "Messages of event source mappings", &messages);
}
