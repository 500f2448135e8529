//! What a call to the Runtime API or the Extensions API means, given those before it. No I/O, no clock.
//!
//! ```text
//!                 next               deliver               post            (next again)
//! runtime: silent -----> parked --------------> running -----------> answered ------+
//!                          ^            |   ^ post broke off |                      |
//!                          |            |   +--- posting <---+                      |
//!                          +------------------------------------------------------- +
//!
//! extension: registered --next--> parked --INVOKE--> working --next--> parked
//! ```
//!
//! An invocation is delivered when the runtime has parked a `next` call and every extension that wants INVOKE has
//! parked its own: what an extension does after an answer is done before the next invocation starts. With several
//! slots the runtime may park and run as many as there are slots.
//!
//! A parked call is a value of the caller's choosing ([`Waiter`]); this machine only keeps and returns it.

mod extensions;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use hearth_types::RequestId;

use crate::telemetry::Api;
pub(crate) use extensions::{ExtensionEvent, Extensions, Registration};

/// A call that waits for its answer.
pub(crate) trait Waiter {
    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool;
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request id is of no invocation that this runtime has or last had.
    InvalidRequestId,
    /// The call does not belong in this state.
    InvalidStateTransition,
    /// The body is no such document, or not one at all.
    InvalidRequestFormat,
    /// The extension's name is missing, or an external extension has none like it.
    InvalidExtensionName,
    /// The name is registered.
    ExtensionAlreadyRegistered,
    /// An event that does not exist, or that internal extensions cannot have.
    InvalidEventType,
    /// Init is over.
    RegistrationClosed,
    /// More extensions than Lambda allows.
    TooManyExtensions,
    /// No identifier.
    MissingExtensionIdentifier,
    /// An identifier that is none of ours.
    UnknownExtensionIdentifier,
    /// The extension may not do this now.
    InvalidExtensionState,
    /// Init is over, and whoever has not subscribed through that API cannot any more.
    SubscriptionClosed(Api),
}

/// An invocation goes to the runtime, and the news of it to extensions.
#[derive(Debug)]
pub(crate) struct Delivery<N, E> {
    pub(crate) id: RequestId,
    pub(crate) runtime: N,
    pub(crate) extensions: Vec<E>,
}

#[derive(Debug)]
struct Running {
    id: RequestId,
    posting: bool,
}

/// The state of one sandbox's conversation.
#[derive(Debug)]
pub(crate) struct Protocol<N, E> {
    slots: usize,
    parked: VecDeque<N>,
    queued: VecDeque<RequestId>,
    running: Vec<Running>,
    /// The one answered last: posting to it again is out of turn, not unknown.
    last: Option<RequestId>,
    greeted: bool,
    /// The runtime has asked to be told when it is restored.
    ready_to_save: bool,
    init_failed: bool,
    closing: bool,
    pub(crate) extensions: Extensions<E>,
}

// === impl Protocol ===

impl<N: Waiter, E: Waiter> Protocol<N, E> {
    /// For a runtime that takes `slots` invocations at once, after these external extensions have registered.
    pub(crate) fn new(slots: u32, external: Vec<String>) -> Self {
        Self {
            slots: usize::try_from(slots.max(1)).unwrap_or(1),
            parked: VecDeque::new(),
            queued: VecDeque::new(),
            running: Vec::new(),
            last: None,
            greeted: false,
            ready_to_save: false,
            init_failed: false,
            closing: false,
            extensions: Extensions::new(external),
        }
    }

    /// The runtime asks for work.
    pub(crate) fn next(&mut self, waiter: N) -> Result<(), Refusal> {
        self.parked.retain(|parked| !parked.is_gone());
        if self.init_failed || self.parked.len() + self.running.len() >= self.slots {
            return Err(Refusal::InvalidStateTransition);
        }
        self.greeted = true;
        self.parked.push_back(waiter);
        Ok(())
    }

    /// Init is over as far as the runtime is concerned, and it asks to be told when it is restored from a snapshot.
    pub(crate) fn restore_next(&mut self) -> Result<(), Refusal> {
        if self.greeted || self.init_failed || self.closing {
            return Err(Refusal::InvalidStateTransition);
        }
        self.ready_to_save = true;
        Ok(())
    }

    /// The runtime says that it failed after it was restored.
    pub(crate) fn restore_error(&mut self) -> Result<(), Refusal> {
        if !self.ready_to_save {
            return Err(Refusal::InvalidStateTransition);
        }
        self.init_error()
    }

    /// Whether runtime and extensions all wait, the runtime for its restoration or for work: a snapshot can be taken.
    pub(crate) fn can_be_saved(&self) -> bool {
        let waits = self.ready_to_save || self.parked.iter().any(|parked| !parked.is_gone());
        waits && self.extensions.all_greeted() && self.extensions.all_parked()
    }

    /// The worker has work.
    pub(crate) fn invoke(&mut self, id: RequestId) {
        self.queued.push_back(id);
    }

    /// What can be handed over now. To be called after every other call, until it says nothing.
    pub(crate) fn deliver(&mut self) -> Option<Delivery<N, E>> {
        if self.closing || self.queued.is_empty() {
            return None;
        }
        self.parked.retain(|parked| !parked.is_gone());
        if self.parked.is_empty() || (self.running.is_empty() && !self.extensions.all_parked()) {
            return None;
        }
        let (runtime, id) = (self.parked.pop_front()?, self.queued.pop_front()?);
        self.running.push(Running { id, posting: false });
        Some(Delivery { id, runtime, extensions: self.extensions.take_for_invoke() })
    }

    /// The runtime's call was gone when the invocation came: it is the next to be delivered.
    pub(crate) fn not_taken(&mut self, id: RequestId) {
        self.running.retain(|running| running.id != id);
        self.queued.push_front(id);
    }

    /// The runtime begins to post an answer. Whoever gets the id has it alone until [`Self::broke_off`] or [`Self::answered`].
    pub(crate) fn begin_answer(&mut self, id: &str) -> Result<RequestId, Refusal> {
        let id: RequestId = id.parse().map_err(|_| Refusal::InvalidRequestId)?;
        match self.running.iter_mut().find(|running| running.id == id) {
            Some(running) if running.posting => Err(Refusal::InvalidStateTransition),
            Some(running) => {
                running.posting = true;
                Ok(id)
            }
            None if self.last == Some(id) => Err(Refusal::InvalidStateTransition),
            None => Err(Refusal::InvalidRequestId),
        }
    }

    /// The post ended in its middle; another may be made.
    pub(crate) fn broke_off(&mut self, id: RequestId) {
        if let Some(running) = self.running.iter_mut().find(|running| running.id == id) {
            running.posting = false;
        }
    }

    /// The answer is complete.
    pub(crate) fn answered(&mut self, id: RequestId) {
        self.running.retain(|running| running.id != id);
        self.last = Some(id);
    }

    /// The runtime says that it cannot start.
    pub(crate) fn init_error(&mut self) -> Result<(), Refusal> {
        if self.greeted || self.init_failed || self.closing {
            return Err(Refusal::InvalidStateTransition);
        }
        self.init_failed = true;
        Ok(())
    }

    /// An extension introduces itself under the identifier `id`.
    pub(crate) fn register(&mut self, registration: Registration, id: String) -> Result<(), Refusal> {
        if self.greeted || self.closing {
            return Err(Refusal::RegistrationClosed);
        }
        self.extensions.register(registration, id)
    }

    /// Whether runtime and extensions have all asked for work once: the init phase is over.
    pub(crate) fn initialized(&self) -> bool {
        self.greeted && self.extensions.all_greeted()
    }

    /// No more work: what is parked stays so, as a runtime that is refused would only complain.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.queued.clear();
    }
}
