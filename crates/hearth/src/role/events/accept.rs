//! Taking an event: a place in the queue, then the disk, then its turn.

use hearth_events::{Full, Lane};
use hearth_frontend::NotAccepted;
use hearth_store::{NewEvent, Setting, StoreError};
use hearth_types::FunctionId;

use super::{Events, FRESH_BYTES, count, lane};
use crate::role::events::now;

/// A place that is given back unless its event is on disk.
pub(super) struct Place<'a> {
    events: &'a Events,
    lane: Lane,
    bytes: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.events.lock().dispatcher.unreserve(&self.lane, self.bytes);
    }
}

impl Events {
    /// Keeps an event and has it run in time.
    pub(crate) async fn accept(&self, event: NewEvent) -> Result<(), NotAccepted> {
        let taken = self.take(event).await;
        count(if taken.is_ok() { &self.counts.accepted } else { &self.counts.not_accepted });
        taken
    }

    async fn take(&self, event: NewEvent) -> Result<(), NotAccepted> {
        let place = self.reserve(&event)?;
        let id = self.store.accept(event.clone()).await.map_err(|error| not_kept(&error))?;
        drop(place);
        self.admit_fresh(id, event);
        Ok(())
    }

    /// Keeps the event that a schedule brings, and that it has brought it, unless it has.
    pub(crate) async fn fire(
        &self,
        setting: &Setting,
        at_ms: u64,
        event: NewEvent,
    ) -> Result<(), NotAccepted> {
        let place = self.reserve(&event)?;
        let fired = self.store.fire(setting, at_ms, Some(event.clone())).await;
        let ids = fired.map_err(|error| not_kept(&error))?;
        drop(place);
        if let Some([id]) = ids.as_deref() {
            count(&self.counts.accepted);
            self.admit_fresh(*id, event);
        }
        Ok(())
    }

    /// Has an event run that was kept a moment ago.
    pub(super) fn admit_fresh(&self, id: u64, event: NewEvent) {
        let (expires, due) = (event.expires_ms, event.accepted_ms);
        debug_assert!(expires >= due, "an event lives for some time");
        let size = event.payload.len();
        let copy = event.clone();
        {
            let mut state = self.lock();
            if state.fresh_bytes + size <= FRESH_BYTES {
                state.fresh_bytes += size;
                state.fresh.insert(id, event);
            }
        }
        self.admit(id, &copy, 0, due);
    }

    fn reserve(&self, event: &NewEvent) -> Result<Place<'_>, NotAccepted> {
        if self.is_stopping() {
            return Err(NotAccepted::Stopping);
        }
        self.place(event).map_err(|full| match full {
            Full::Lane { .. } => NotAccepted::FunctionFull(full.to_string()),
            Full::Depth { .. } | Full::Bytes { .. } => NotAccepted::Full(full.to_string()),
        })
    }

    fn place(&self, event: &NewEvent) -> Result<Place<'_>, Full> {
        let (lane, bytes) = (lane(&event.target), event.payload.len() as u64);
        self.lock().dispatcher.reserve(&lane, bytes)?;
        Ok(Place { events: self, lane, bytes })
    }

    /// Of what follows from an event, that for which there is room, with its places. The rest is dropped: nobody waits
    /// for it who could be told to come again.
    pub(super) fn with_places(&self, follow: Vec<NewEvent>) -> (Vec<NewEvent>, Vec<Place<'_>>) {
        let room = |event: NewEvent| match self.place(&event) {
            Ok(place) => Some((event, place)),
            Err(full) => {
                count(&self.counts.dropped);
                tracing::warn!(to = %lane(&event.target), %full, "what follows from an event is dropped");
                None
            }
        };
        follow.into_iter().filter_map(room).unzip()
    }

    /// Drops the events of a function that is gone.
    pub(crate) async fn forget(&self, function: &FunctionId) -> Result<(), StoreError> {
        {
            let mut state = self.lock();
            state.dispatcher.forget(now(), &Lane::Function(function.clone()));
            // Others are read from disk then.
            state.fresh.clear();
            state.fresh_bytes = 0;
        }
        self.store.forget(function).await
    }
}

/// What the sender is told of a store that failed; the log has the details.
fn not_kept(error: &StoreError) -> NotAccepted {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::error!(%error, cause, "an event is not kept");
    match error {
        StoreError::DiskFull => NotAccepted::DiskFull,
        _ => NotAccepted::Failed,
    }
}
