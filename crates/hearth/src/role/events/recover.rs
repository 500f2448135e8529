//! Start-up is recovery: all that is on disk is due again, except what belongs to functions that are gone.

use std::collections::HashMap;

use anyhow::Context;
use hearth_events::Pending;
use hearth_store::{Store, Target};
use hearth_types::{FunctionId, Time};

use super::{Events, lane, now};

/// Events read at once.
const PAGE: usize = 10_000;

impl Events {
    /// Takes up again what is on disk; answers how many events that are.
    pub(crate) async fn recover(&self, functions: &dyn Store) -> anyhow::Result<u64> {
        let mut known: HashMap<FunctionId, bool> = HashMap::new();
        let (mut after, mut count) = (None, 0);
        loop {
            let heads = self.store.heads(after, PAGE).await.context("cannot read the events")?;
            let Some(last) = heads.last() else { break };
            after = Some(last.id);
            for head in heads {
                if let Target::Function { id, .. } = &head.target {
                    let exists = match known.get(id) {
                        Some(exists) => *exists,
                        None => self.exists(functions, id, &mut known).await?,
                    };
                    if !exists {
                        continue;
                    }
                }
                count += 1;
                let pending = Pending {
                    id: head.id,
                    lane: lane(&head.target),
                    bytes: head.bytes,
                    accepted: Time::from_millis(head.accepted_ms),
                    expires: Time::from_millis(head.expires_ms),
                    due: Time::from_millis(head.due_ms),
                    failures: head.failures,
                };
                self.lock().dispatcher.admit(now(), &pending);
            }
        }
        for (function, _) in known.iter().filter(|(_, exists)| !**exists) {
            tracing::info!(%function, "dropping the events of a function that is gone");
            self.store.forget(function).await.context("cannot drop the events of a function that is gone")?;
        }
        Ok(count)
    }

    async fn exists(
        &self,
        functions: &dyn Store,
        id: &FunctionId,
        known: &mut HashMap<FunctionId, bool>,
    ) -> anyhow::Result<bool> {
        let exists = functions.function(id).await.context("cannot look for an event's function")?.is_some();
        known.insert(id.clone(), exists);
        Ok(exists)
    }
}
