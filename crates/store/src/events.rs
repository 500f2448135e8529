//! What must survive of events: each until it has run or is given up, and what is configured of them.
//!
//! A queue and a small key-value store with compare-and-swap: no more than what NATS JetStream offers, too.

use std::collections::BTreeMap;

use bytes::Bytes;
use hearth_types::{AccountId, FunctionId, RequestId, TenantId};
use serde::{Deserialize, Serialize};

use crate::{BoxFuture, StoreError};

/// Where an event goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A function is run with it.
    Function {
        /// Which.
        id: FunctionId,
        /// Which version, as the caller said it.
        qualifier: Option<String>,
    },
    /// It is sent.
    Destination {
        /// Whose event it came of.
        account: AccountId,
        /// Where to.
        arn: String,
    },
}

/// What comes with a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventContext {
    /// The X-Ray trace header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The client context, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_context: Option<String>,
    /// Whom it is for, at each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Attributes of the message that is sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Events that it follows from, one from the other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An event that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its id.
    pub request_id: RequestId,
    /// Where it goes.
    pub target: Target,
    /// When it was accepted, milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// When it is too old, likewise.
    pub expires_ms: u64,
    /// What comes with it.
    pub context: EventContext,
    /// The payload.
    pub payload: Bytes,
}

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// What was accepted.
    pub event: NewEvent,
    /// Attempts that failed.
    pub failures: u32,
}

/// What is known of an event without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHead {
    /// Its number.
    pub id: u64,
    /// Where it goes.
    pub target: Target,
    /// Size of its payload.
    pub bytes: u64,
    /// When it was accepted, milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// When it is too old.
    pub expires_ms: u64,
    /// When it is due.
    pub due_ms: u64,
    /// Attempts that failed.
    pub failures: u32,
}

/// What a setting configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingKind {
    /// How events of a function's qualifier are retried and where their ends are told; keys are `NAME:QUALIFIER`.
    EventInvokeConfig = 1,
    /// A schedule; keys are `GROUP/NAME`.
    Schedule = 2,
    /// A group of schedules.
    ScheduleGroup = 3,
    /// A queue whose messages a function gets; keys are UUIDs.
    EventSourceMapping = 4,
}

impl SettingKind {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::EventInvokeConfig, Self::Schedule, Self::ScheduleGroup, Self::EventSourceMapping];
}

/// Something that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it configures.
    pub kind: SettingKind,
    /// Whose it is.
    pub account: AccountId,
    /// Its name among those.
    pub key: String,
    /// New with every write; the token for compare-and-swap.
    pub generation: u64,
    /// How far a schedule has come, milliseconds since the Unix epoch; zero for all else.
    pub mark: u64,
    /// JSON text.
    pub body: String,
}

/// What must be there for a setting to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is.
    Any,
    /// Nothing.
    Nothing,
    /// That generation.
    Generation(u64),
}

/// The durable part of events. What a call has answered `Ok` survives a crash at any later moment.
pub trait EventStore: Send + Sync + 'static {
    /// Keeps an event; answers its number, which no event that is kept has.
    ///
    /// # Errors
    /// The store failed; then the event is not kept.
    fn accept(&self, new: NewEvent) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// An event, if it is still kept.
    ///
    /// # Errors
    /// The store failed.
    fn event(&self, id: u64) -> BoxFuture<'_, Result<Option<EventRecord>, StoreError>>;

    /// At most `limit` events in order of their numbers, those after `after`.
    ///
    /// # Errors
    /// The store failed.
    fn heads(&self, after: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<EventHead>, StoreError>>;

    /// Notes that an event waits for another attempt.
    ///
    /// # Errors
    /// The store failed.
    fn postpone(&self, id: u64, failures: u32, due_ms: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes an event and keeps what follows from it, both or neither; answers the numbers of the latter.
    ///
    /// # Errors
    /// The store failed.
    fn finish(&self, id: u64, follow: Vec<NewEvent>) -> BoxFuture<'_, Result<Vec<u64>, StoreError>>;

    /// Removes all events for a function, and how they are to be retried.
    ///
    /// # Errors
    /// The store failed.
    fn forget<'a>(&'a self, function: &'a FunctionId) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Keeps a setting if what is there is as expected, and answers it as it is kept; its generation is not that of
    /// `setting`, and its mark stays what it was.
    ///
    /// # Errors
    /// The store failed.
    fn put_setting(
        &self,
        setting: Setting,
        expected: Expected,
    ) -> BoxFuture<'_, Result<Option<Setting>, StoreError>>;

    /// Removes a setting; answers whether it was there.
    ///
    /// # Errors
    /// The store failed.
    fn delete_setting<'a>(
        &'a self,
        kind: SettingKind,
        account: &'a AccountId,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Moves a setting's mark forward and keeps the event that follows from that, both or neither. Nothing if the
    /// setting has changed, or its mark is as far already.
    ///
    /// # Errors
    /// The store failed.
    fn fire<'a>(
        &'a self,
        setting: &'a Setting,
        mark: u64,
        event: Option<NewEvent>,
    ) -> BoxFuture<'a, Result<Option<Vec<u64>>, StoreError>>;

    /// A setting, from memory.
    fn setting(&self, kind: SettingKind, account: &AccountId, key: &str) -> Option<Setting>;

    /// An account's settings whose keys come after `after` and begin with `prefix`, at most `limit`, from memory.
    fn settings(
        &self,
        kind: SettingKind,
        account: &AccountId,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Vec<Setting>;

    /// All settings of a kind, from memory.
    fn all_settings(&self, kind: SettingKind) -> Vec<Setting>;
}
