//! The shell of the schedules: makes events of those that are due.
//!
//! That a time has been and the event that it brings are written in one transaction, so each time brings one event
//! whatever is killed when.

use std::collections::HashMap;
use std::time::Duration;

use hearth_events::record::timestamp;
use hearth_frontend::{Frontend, schedule_of};
use hearth_schedules::{Due, Schedule};
use hearth_store::{EventContext, NewEvent, Setting, SettingKind, Target};
use hearth_types::{AccountId, FunctionId, RequestId};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::role::events::now_ms;
use crate::role::{Events, LocalBackend};

/// The longest that nobody looks, in case that somebody sets the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// How late a time may be that has no window: what a restart takes.
const LATE_MS: u64 = 60_000;
/// How late a single time may be.
const LATE_ONCE_MS: u64 = 24 * 3_600_000;
/// Pause after an event could not be kept.
const AGAIN: Duration = Duration::from_secs(1);

/// The schedules of a Hearth.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    changed: Notify,
}

/// A schedule as it was read last.
struct Known {
    generation: u64,
    schedule: Option<Schedule>,
    body: Value,
}

// === impl Schedules ===

impl Schedules {
    /// Somebody made, changed or deleted one.
    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Fires what is due for as long as the frontend lives.
    pub(crate) async fn run(&self, events: &Events, frontend: &Frontend<LocalBackend>) {
        let mut known: HashMap<(AccountId, String), Known> = HashMap::new();
        loop {
            let settings = events.store().all_settings(SettingKind::Schedule);
            let mut sleep = LONGEST_SLEEP;
            for setting in &settings {
                let key = (setting.account.clone(), setting.key.clone());
                let current = known.get(&key).is_some_and(|one| one.generation == setting.generation);
                if !current {
                    known.insert(key.clone(), learn(setting));
                }
                let Some(one) = known.get(&key) else { continue };
                sleep = sleep.min(tend(events, frontend, setting, one).await);
            }
            if known.len() > settings.len() {
                let there = |account: &AccountId, key: &String| {
                    settings.iter().any(|setting| setting.account == *account && setting.key == *key)
                };
                known.retain(|(account, key), _| there(account, key));
            }
            let _ = tokio::time::timeout(sleep, self.changed.notified()).await;
            if events.is_stopping() {
                return;
            }
        }
    }
}

fn learn(setting: &Setting) -> Known {
    let body: Value = serde_json::from_str(&setting.body).unwrap_or_default();
    let schedule = schedule_of(&body)
        .inspect_err(|error| tracing::error!(schedule = setting.key, %error, "a schedule cannot be read"))
        .ok();
    Known { generation: setting.generation, schedule, body }
}

/// Fires a schedule if it is due; answers when to look again.
async fn tend(
    events: &Events,
    frontend: &Frontend<LocalBackend>,
    setting: &Setting,
    known: &Known,
) -> Duration {
    let body = &known.body;
    let Some(schedule) = known.schedule.as_ref().filter(|_| body["State"] == "ENABLED") else {
        return LONGEST_SLEEP;
    };
    let now = now_ms();
    let window = body["FlexibleTimeWindow"]["MaximumWindowInMinutes"].as_u64().unwrap_or(0) * 60_000;
    let once = body["ScheduleExpression"].as_str().is_some_and(|text| text.starts_with("at("));
    let late = if once { LATE_ONCE_MS } else { window.max(LATE_MS) };
    // What was before it was made or changed is not made up for.
    let done = setting.mark.max(body["-modified-ms"].as_u64().unwrap_or(0));
    match schedule.due(done, now, late) {
        Due::At { at_ms } => Duration::from_millis(at_ms.saturating_sub(now_ms())),
        Due::Never => {
            end(events, setting, body).await;
            LONGEST_SLEEP
        }
        Due::Now { at_ms } => {
            let event = event(frontend, setting, body, at_ms).await;
            match events.fire(setting, at_ms, event).await {
                Ok(()) => Duration::ZERO,
                Err(refusal) => {
                    tracing::warn!(schedule = setting.key, %refusal, "a schedule is due and has no event; tried again");
                    AGAIN
                }
            }
        }
    }
}

/// Removes a schedule that is never due again, if it says so.
async fn end(events: &Events, setting: &Setting, body: &Value) {
    if body["ActionAfterCompletion"] == "DELETE" {
        let deleted = events.store().delete_setting(setting.kind, &setting.account, &setting.key).await;
        if let Err(error) = deleted {
            tracing::warn!(schedule = setting.key, %error, "a schedule that is over is not deleted");
        }
    }
}

/// The event that a schedule brings.
async fn event(frontend: &Frontend<LocalBackend>, setting: &Setting, body: &Value, at_ms: u64) -> NewEvent {
    let arn = body["Target"]["Arn"].as_str().unwrap_or_default();
    // arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER], checked when it was made.
    let parts: Vec<&str> = arn.split(':').collect();
    let id = FunctionId {
        account: setting.account.clone(),
        name: parts.get(6).copied().unwrap_or_default().into(),
    };
    let qualifier = parts.get(7).map(|text| (*text).to_owned());
    let policy = frontend.event_policy(&id, qualifier.as_deref()).await;
    let request_id = RequestId::random();
    let region = parts.get(3).copied().unwrap_or_default();
    let schedule = format!("arn:aws:scheduler:{region}:{}:schedule/{}", setting.account, setting.key);
    let time = timestamp(at_ms - at_ms % 1_000).replace(".000Z", "Z");
    let payload = match body["Target"]["Input"].as_str() {
        Some(input) => input
            .replace("<aws.scheduler.schedule-arn>", &schedule)
            .replace("<aws.scheduler.scheduled-time>", &time)
            .replace("<aws.scheduler.execution-id>", &request_id.to_string())
            .replace("<aws.scheduler.attempt-number>", "1"),
        None => json!({
            "version": "0",
            "id": request_id.to_string(),
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": setting.account.as_str(),
            "time": time,
            "region": region,
            "resources": [schedule],
            "detail": "{}",
        })
        .to_string(),
    };
    let accepted_ms = now_ms();
    NewEvent {
        request_id,
        target: Target::Function { id, qualifier },
        accepted_ms,
        expires_ms: accepted_ms + u64::from(policy.age_seconds) * 1_000,
        context: EventContext::default(),
        payload: payload.into(),
    }
}
