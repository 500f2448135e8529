//! The doors of an instance for its extensions. None of them waits.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::doors::shutdown_event;
use super::{Instance, Phase, lock};
use crate::clock::epoch_ms;
use crate::failure::Failure;
use crate::protocol::{Refusal, Registration};
use crate::said::Said;
use crate::telemetry::{Api, Subscription};

/// Why an extension has not subscribed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotSubscribed {
    /// It may not.
    Refused(Refusal),
    /// What it sent is no subscription.
    Invalid(String),
}

impl From<Refusal> for NotSubscribed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Instance {
    pub(crate) fn register(
        &self,
        generation: u32,
        registration: Registration,
        id: String,
    ) -> Result<(), Refusal> {
        self.of_generation(generation, Refusal::RegistrationClosed, |state| {
            state.protocol.register(registration, id)?;
            self.changed.notify_one();
            Ok(())
        })
    }

    /// An extension wants to be told what happens. Only during the init phase; the same subscription may be made again.
    pub(crate) fn subscribe(
        &self,
        generation: u32,
        id: &str,
        (api, document): (Api, &[u8]),
    ) -> Result<(), NotSubscribed> {
        self.of_generation(generation, Refusal::UnknownExtensionIdentifier.into(), |state| {
            let known = state.protocol.extensions.name(id)?.to_owned();
            if state.phase != Phase::Initializing || state.protocol.initialized() {
                return Err(Refusal::SubscriptionClosed(api).into());
            }
            let subscription = Subscription::read(api, document).map_err(NotSubscribed::Invalid)?;
            match state.protocol.extensions.subscription(id) {
                Some(before) if *before == subscription => return Ok(()),
                Some(before) => {
                    let reason =
                        format!("the extension has subscribed through the {} API", before.api.name());
                    return Err(NotSubscribed::Invalid(reason));
                }
                None => {}
            }
            let sandbox = lock(&self.sandbox).clone().ok_or(Refusal::InvalidExtensionState)?;
            state.protocol.extensions.subscribe(id, subscription.clone());
            let streams = subscription.streams.clone();
            let telemetry = self.output.telemetry();
            telemetry.add(&known, subscription, sandbox);
            telemetry.platform(state.beginning.at_ms, &self.beginning(state.beginning), Some(&known));
            self.say(&Said::Subscribed { name: &known, api, streams: &streams });
            Ok(())
        })
    }

    pub(crate) fn extension_next(
        &self,
        generation: u32,
        id: &str,
        waiter: oneshot::Sender<Bytes>,
    ) -> Result<(), Refusal> {
        self.of_generation(generation, Refusal::UnknownExtensionIdentifier, |state| {
            let first = state.protocol.extensions.not_ready(id);
            if let Some(late) = state.protocol.extensions.next(id, waiter)? {
                // It was busy when the others were told.
                let _ = late.send(shutdown_event("spindown", epoch_ms()));
            }
            if let Some((name, events)) = first {
                self.say(&Said::Extension { name: &name, events: &events, failed: None });
            }
            self.went_on(state);
            Ok(())
        })
    }

    pub(crate) fn extension_failed(
        &self,
        generation: u32,
        id: &str,
        in_init: bool,
        kind: String,
    ) -> Result<(), Refusal> {
        self.of_generation(generation, Refusal::UnknownExtensionIdentifier, |state| {
            let (name, events) = state.protocol.extensions.failed(id, in_init)?;
            let failed = if in_init { "InitError" } else { "ExitError" };
            self.say(&Said::Extension { name: &name, events: &events, failed: Some((failed, &kind)) });
            let reason = format!("Extension {name} failed: {kind}");
            state.fail(Failure::ExtensionFailed { kind, reason });
            self.changed.notify_one();
            Ok(())
        })
    }
}
