//! Extensions: who they are, what they want to hear, and whether they wait for it.

use serde::{Deserialize, Serialize};

use super::{Refusal, Waiter};
use crate::telemetry::Subscription;

/// As many as Lambda allows.
const MAX_EXTENSIONS: usize = 10;

/// What extensions are told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtensionEvent {
    Invoke,
    Shutdown,
}

impl ExtensionEvent {
    /// Its name in documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Invoke => "INVOKE",
            Self::Shutdown => "SHUTDOWN",
        }
    }
}

/// How an extension introduces itself.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) name: String,
    pub(crate) events: Vec<ExtensionEvent>,
}

#[derive(Debug)]
enum State<E> {
    Registered,
    Parked(E),
    Working,
    Failed,
}

#[derive(Debug)]
struct Extension<E> {
    id: String,
    name: String,
    invoke: bool,
    shutdown: bool,
    external: bool,
    /// Whether it has asked for an event, in this sandbox or before its snapshot.
    ready: bool,
    subscription: Option<Subscription>,
    state: State<E>,
}

/// What is noted of one with a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    id: String,
    name: String,
    invoke: bool,
    shutdown: bool,
    external: bool,
    #[serde(default)]
    subscription: Option<Subscription>,
}

/// All extensions of a sandbox.
#[derive(Debug)]
pub(crate) struct Extensions<E> {
    /// File names of external ones that have not registered.
    expected: Vec<String>,
    known: Vec<Extension<E>>,
    /// Whether SHUTDOWN is what those who ask now are told.
    shutting_down: bool,
}

// === impl Extension ===

impl<E> Extension<E> {
    fn events(&self) -> Vec<ExtensionEvent> {
        let both = [(self.invoke, ExtensionEvent::Invoke), (self.shutdown, ExtensionEvent::Shutdown)];
        both.into_iter().filter(|(wanted, _)| *wanted).map(|(_, event)| event).collect()
    }
}

// === impl Extensions ===

impl<E: Waiter> Extensions<E> {
    /// Who they are, for a snapshot of the sandbox that they are in.
    pub(crate) fn note(&self) -> String {
        let known = self.known.iter().map(|extension| Known {
            id: extension.id.clone(),
            name: extension.name.clone(),
            invoke: extension.invoke,
            shutdown: extension.shutdown,
            external: extension.external,
            subscription: extension.subscription.clone(),
        });
        serde_json::to_string(&known.collect::<Vec<_>>()).unwrap_or_default()
    }

    /// Those that are in a sandbox made from a snapshot: they ask again for what they had asked for.
    pub(crate) fn restored(note: &str) -> Option<Self> {
        let known: Vec<Known> = serde_json::from_str(note).ok()?;
        let known = known.into_iter().map(|known| Extension {
            id: known.id,
            name: known.name,
            invoke: known.invoke,
            shutdown: known.shutdown,
            external: known.external,
            ready: true,
            subscription: known.subscription,
            state: State::Registered,
        });
        Some(Self { expected: Vec::new(), known: known.collect(), shutting_down: false })
    }

    pub(super) fn new(expected: Vec<String>) -> Self {
        Self { expected, known: Vec::new(), shutting_down: false }
    }

    pub(super) fn register(&mut self, registration: Registration, id: String) -> Result<(), Refusal> {
        let Registration { name, events } = registration;
        if name.is_empty() {
            return Err(Refusal::InvalidExtensionName);
        }
        if self.known.iter().any(|extension| extension.name == name) {
            return Err(Refusal::ExtensionAlreadyRegistered);
        }
        if self.known.len() >= MAX_EXTENSIONS {
            return Err(Refusal::TooManyExtensions);
        }
        let place = self.expected.iter().position(|expected| *expected == name);
        // Before the external ones have registered no runtime runs, so whoever calls is not an internal one.
        if place.is_none() && !self.expected.is_empty() {
            return Err(Refusal::InvalidExtensionName);
        }
        let shutdown = events.contains(&ExtensionEvent::Shutdown);
        if place.is_none() && shutdown {
            return Err(Refusal::InvalidEventType);
        }
        if let Some(place) = place {
            self.expected.swap_remove(place);
        }
        let invoke = events.contains(&ExtensionEvent::Invoke);
        let external = place.is_some();
        let (ready, subscription, state) = (false, None, State::Registered);
        self.known.push(Extension { id, name, invoke, shutdown, external, ready, subscription, state });
        Ok(())
    }

    /// An extension asks for the next event. `Ok(Some)` gives the call back because it is to be told SHUTDOWN at once.
    pub(crate) fn next(&mut self, id: &str, waiter: E) -> Result<Option<E>, Refusal> {
        let shutting_down = self.shutting_down;
        let extension = self.find(id)?;
        match &extension.state {
            State::Failed => return Err(Refusal::InvalidExtensionState),
            State::Parked(parked) if !parked.is_gone() => return Err(Refusal::InvalidExtensionState),
            State::Parked(_) | State::Registered | State::Working => {}
        }
        extension.ready = true;
        if shutting_down && extension.shutdown {
            extension.state = State::Working;
            return Ok(Some(waiter));
        }
        extension.state = State::Parked(waiter);
        Ok(None)
    }

    /// Name and events of one that has not asked for its first event yet.
    pub(crate) fn not_ready(&self, id: &str) -> Option<(String, Vec<ExtensionEvent>)> {
        let extension = self.known.iter().find(|extension| extension.id == id && !extension.ready)?;
        Some((extension.name.clone(), extension.events()))
    }

    /// The name of the one with that identifier.
    pub(crate) fn name(&mut self, id: &str) -> Result<&str, Refusal> {
        self.find(id).map(|extension| &*extension.name)
    }

    /// What one has subscribed to.
    pub(crate) fn subscription(&self, id: &str) -> Option<&Subscription> {
        self.known.iter().find(|extension| extension.id == id)?.subscription.as_ref()
    }

    /// One subscribes.
    pub(crate) fn subscribe(&mut self, id: &str, subscription: Subscription) {
        if let Ok(extension) = self.find(id) {
            extension.subscription = Some(subscription);
        }
    }

    /// All subscriptions, and whose they are.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = (&str, &Subscription)> {
        self.known.iter().filter_map(|extension| Some((&*extension.name, extension.subscription.as_ref()?)))
    }

    /// An extension says that it failed, before (`in_init`) or after its first `next`. Returns its name and its events.
    pub(crate) fn failed(
        &mut self,
        id: &str,
        in_init: bool,
    ) -> Result<(String, Vec<ExtensionEvent>), Refusal> {
        let extension = self.find(id)?;
        let fits = match extension.state {
            State::Registered => true,
            State::Parked(_) | State::Working => !in_init,
            State::Failed => false,
        };
        if !fits {
            return Err(Refusal::InvalidExtensionState);
        }
        extension.state = State::Failed;
        Ok((extension.name.clone(), extension.events()))
    }

    fn find(&mut self, id: &str) -> Result<&mut Extension<E>, Refusal> {
        if id.is_empty() {
            return Err(Refusal::MissingExtensionIdentifier);
        }
        let found = self.known.iter_mut().find(|extension| extension.id == id);
        found.ok_or(Refusal::UnknownExtensionIdentifier)
    }

    /// Whether every external extension has registered.
    pub(crate) fn all_registered(&self) -> bool {
        self.expected.is_empty()
    }

    pub(super) fn all_greeted(&self) -> bool {
        self.expected.is_empty() && self.known.iter().all(|e| !matches!(e.state, State::Registered))
    }

    /// Whether every extension that hears of invocations waits for one.
    pub(super) fn all_parked(&self) -> bool {
        self.known.iter().all(|e| match &e.state {
            State::Parked(_) => true,
            State::Registered => false,
            State::Working | State::Failed => !e.invoke,
        })
    }

    pub(super) fn take_for_invoke(&mut self) -> Vec<E> {
        self.take_parked(|extension| extension.invoke)
    }

    /// Those that wait and are to be told of the end; who asks from now on is told at once.
    pub(crate) fn take_for_shutdown(&mut self) -> Vec<E> {
        self.shutting_down = true;
        self.take_parked(|extension| extension.shutdown)
    }

    fn take_parked(&mut self, wanted: impl Fn(&Extension<E>) -> bool) -> Vec<E> {
        let mut taken = Vec::new();
        for extension in self.known.iter_mut().filter(|extension| wanted(extension)) {
            if matches!(extension.state, State::Parked(_))
                && let State::Parked(waiter) = std::mem::replace(&mut extension.state, State::Working)
            {
                taken.push(waiter);
            }
        }
        taken
    }

    /// Whether there are any at all, and whether any is external.
    pub(crate) fn kinds(&self) -> (bool, bool) {
        (!self.known.is_empty(), self.known.iter().any(|extension| extension.external))
    }
}
