//! Start-up is recovery: all that is on disk is due again, except what belongs to functions that are gone.

use std::collections::HashMap;

use anyhow::Context;
use hearth_events::Pending;
use hearth_store::{Setting, SettingKind, Store, Target};
use hearth_types::{FunctionId, Time, Version};

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
        self.drop_settings_of_none(functions, &mut known).await?;
        Ok(count)
    }

    /// Drops how events are retried of functions, versions and aliases that are gone: a crash came between the two.
    async fn drop_settings_of_none(
        &self,
        functions: &dyn Store,
        known: &mut HashMap<FunctionId, bool>,
    ) -> anyhow::Result<()> {
        let unknown = "cannot look for what a setting of events belongs to";
        let latest = Version::Latest.to_string();
        for Setting { kind, account, key, .. } in self.store.all_settings(SettingKind::EventInvokeConfig) {
            let (name, qualifier) = key.split_once(':').unwrap_or((&key, &latest));
            let id = FunctionId { account: account.clone(), name: name.into() };
            let exists = match known.get(&id) {
                Some(exists) => *exists,
                None => self.exists(functions, &id, known).await?,
            };
            let exists = exists
                && match qualifier.parse() {
                    _ if qualifier == latest => true,
                    Ok(number) => functions.version(&id, number).await.context(unknown)?.is_some(),
                    Err(_) => functions.alias(&id, qualifier).await.context(unknown)?.is_some(),
                };
            if !exists {
                tracing::info!(function = %id, qualifier, "dropping how events are retried of what is gone");
                let dropped = self.store.delete_setting(kind, &account, &key).await;
                dropped.context("cannot drop a setting of events")?;
            }
        }
        Ok(())
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
