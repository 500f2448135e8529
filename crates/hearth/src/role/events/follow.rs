//! What follows from the end of an event: records for destinations, the event itself for a dead-letter queue.

use std::collections::BTreeMap;

use hearth_events::record::{Condition, Ended, Response};
use hearth_store::{EventContext, NewEvent, Target};
use hearth_types::{Answer, FunctionId, RequestId, Version, limits};
use serde_json::Value;

use super::{Events, count, now_ms};

/// Events that may follow one from the other, as many as Lambda lets a function be run in a loop.
const HOPS: u32 = 16;

/// How an event ended.
pub(super) struct End<'a> {
    pub(super) condition: Condition,
    pub(super) runs: u32,
    pub(super) answer: Option<&'a (Answer, Version)>,
}

impl Events {
    pub(super) async fn follow(&self, event: &NewEvent, end: &End<'_>) -> Vec<NewEvent> {
        let Target::Function { id, qualifier } = &event.target else {
            if end.condition != Condition::Success {
                count(&self.counts.dropped);
                tracing::error!(request_id = %event.request_id, "a record is given up that nobody took for six hours");
            }
            return Vec::new();
        };
        let Some(frontend) = self.runner.get().and_then(std::sync::Weak::upgrade) else { return Vec::new() };
        let policy = frontend.event_policy(id, qualifier.as_deref()).await;
        let success = end.condition == Condition::Success;
        let mut follow = Vec::new();
        if let Some(arn) = if success { &policy.on_success } else { &policy.on_failure } {
            let payload = record(event, &policy.arn, end).into();
            follow.push(sent(&id.account, arn, payload, after(event, BTreeMap::new())));
        }
        if let Some(arn) = policy.dead_letter.as_ref().filter(|_| !success) {
            let context = after(event, attributes(event, end));
            follow.push(sent(&id.account, arn, event.payload.clone(), context));
        }
        if !success && follow.is_empty() {
            count(&self.counts.dropped);
            tracing::warn!(
                function = %id, request_id = %event.request_id, condition = end.condition.as_str(),
                "an event is given up, and its function has no place for failures"
            );
        }
        let mut kept = Vec::new();
        for event in follow {
            match next_in_loop(&event) {
                Some(id) if !frontend.recursion_allowed(id).await => {
                    count(&self.counts.dropped);
                    tracing::warn!(function = %id, hops = HOPS, "events that follow from each other end here: a loop");
                }
                _ => kept.push(event),
            }
        }
        kept
    }
}

/// The context of what follows from an event.
fn after(event: &NewEvent, attributes: BTreeMap<String, String>) -> EventContext {
    EventContext { attributes, hops: event.context.hops.saturating_add(1), ..EventContext::default() }
}

/// The function that an event would run after so many others that it must be a loop.
const fn next_in_loop(event: &NewEvent) -> Option<&FunctionId> {
    match &event.target {
        Target::Function { id, .. } if event.context.hops >= HOPS => Some(id),
        _ => None,
    }
}

fn record(event: &NewEvent, arn: &str, end: &End<'_>) -> Vec<u8> {
    let version = end.answer.map(|(_, version)| version.to_string());
    let response = end.answer.zip(version.as_deref()).map(|((answer, _), version)| Response {
        version,
        error: answer.error,
        payload: &answer.payload,
    });
    let ended = Ended {
        now_ms: now_ms(),
        request_id: &event.request_id.to_string(),
        arn,
        condition: end.condition,
        runs: end.runs,
        payload: &event.payload,
        response,
    };
    ended.record()
}

/// The attributes that Lambda gives a message in a dead-letter queue.
fn attributes(event: &NewEvent, end: &End<'_>) -> BTreeMap<String, String> {
    let said = end.answer.and_then(|(answer, _)| serde_json::from_slice::<Value>(&answer.payload).ok());
    let said = said.and_then(|value| Some(value.get("errorMessage")?.as_str()?.to_owned()));
    let message = said.unwrap_or_else(|| end.condition.as_str().to_owned());
    // Lambda sends the first kilobyte.
    let message: String = message.chars().take(1_000).collect();
    BTreeMap::from([
        ("RequestID".to_owned(), event.request_id.to_string()),
        ("ErrorCode".to_owned(), "200".to_owned()),
        ("ErrorMessage".to_owned(), message),
    ])
}

/// An event that carries something to an ARN: a function's own, or one for a destination.
fn sent(
    account: &hearth_types::AccountId,
    arn: &str,
    payload: bytes::Bytes,
    context: EventContext,
) -> NewEvent {
    let accepted_ms = now_ms();
    NewEvent {
        request_id: RequestId::random(),
        target: target(account, arn),
        accepted_ms,
        expires_ms: accepted_ms + u64::from(limits::EVENT_AGE_SECONDS.max) * 1_000,
        context,
        payload,
    }
}

fn target(account: &hearth_types::AccountId, arn: &str) -> Target {
    // arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]; the account was checked when it was configured.
    let mut parts = arn.split(':').skip(2);
    if parts.next() == Some("lambda")
        && let Some(name) = parts.nth(3)
    {
        let id = FunctionId { account: account.clone(), name: name.into() };
        return Target::Function { id, qualifier: parts.next().map(str::to_owned) };
    }
    Target::Destination { account: account.clone(), arn: arn.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_follow_from_each_other_end_after_sixteen() {
        let account: hearth_types::AccountId = "123456789012".parse().unwrap();
        let function = "arn:aws:lambda:us-east-1:123456789012:function:f";
        let next = |arn: &str, event: &NewEvent| {
            sent(&account, arn, event.payload.clone(), after(event, BTreeMap::new()))
        };
        let mut event = sent(&account, function, bytes::Bytes::new(), EventContext::default());
        let mut runs = 0;
        while next_in_loop(&event).is_none() {
            runs += 1;
            event = next(function, &event);
        }
        assert_eq!((runs, event.context.hops), (16, 16));
        // Nothing follows from a record, so none is one too many.
        assert!(next_in_loop(&next("arn:aws:hearth:::http/x", &event)).is_none());
    }

    #[test]
    fn an_arn_is_a_function_or_somewhere_else() {
        let account: hearth_types::AccountId = "123456789012".parse().unwrap();
        let id = FunctionId { account: account.clone(), name: "f".into() };
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
        assert_eq!(target(&account, arn), Target::Function { id: id.clone(), qualifier: None });
        let qualified = Target::Function { id, qualifier: Some("live".to_owned()) };
        assert_eq!(target(&account, &format!("{arn}:live")), qualified);
        let queue = "arn:aws:sqs:us-east-1:123456789012:q";
        assert_eq!(target(&account, queue), Target::Destination { account, arn: queue.to_owned() });
    }
}
