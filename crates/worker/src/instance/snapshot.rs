//! An instance that is made to be saved: its sandbox goes through the init phase, and then into a snapshot.

use std::sync::Arc;
use std::time::Duration;

use hearth_sandbox::BoxFuture;
use hearth_types::limits;
use tokio::time::Instant;

use super::life::LAST_TELEMETRY;
use super::session::{Purpose, Session};
use super::{Instance, Phase, Stop, lock};
use crate::said::Said;
use crate::snapshots::SnapshotError;

impl Instance {
    /// Saves what the init phase leads to under `key`, and ends. How long all of it took.
    ///
    /// A boxed future: what makes a sandbox may wait for this, and this makes one.
    pub(crate) fn save(self: Arc<Self>, key: String) -> BoxFuture<'static, Result<Duration, SnapshotError>> {
        Box::pin(self.run_and_save(key))
    }

    async fn run_and_save(self: Arc<Self>, key: String) -> Result<Duration, SnapshotError> {
        let began = Instant::now();
        let made = Session::make(&self, Purpose::Save).await;
        let mut session = made.map_err(|reason| SnapshotError { kind: String::new(), reason })?;
        self.enter(Phase::Initializing);
        let limit = limits::SNAPSHOT_INIT.max(self.spec.timeout);
        let saved = match self.initialize(&mut session, Instant::now() + limit, limit).await {
            Ok(()) => {
                self.output.drain();
                let duration = began.elapsed();
                self.say(&Said::Init { init: self.init("init"), duration, failure: None });
                // What is not sent before the machine stands still would be sent to nobody.
                self.output.telemetry().flush(LAST_TELEMETRY).await;
                self.output.telemetry().end().await;
                let note = lock(&self.state).protocol.extensions.note();
                let saved = session.sandbox.snapshot(&key, &note).await;
                saved.map_err(|error| SnapshotError::ours(&error))
            }
            Err(Stop::Failed(failure)) => {
                self.init_failed(&failure, "init", began.elapsed());
                self.output.telemetry().finish(LAST_TELEMETRY).await;
                Err(SnapshotError::of(&failure))
            }
            Err(Stop::Ended(reason)) => {
                Err(SnapshotError { kind: String::new(), reason: reason.to_string() })
            }
        };
        self.enter(Phase::Ending);
        session.destroy(&self).await;
        saved.map(|()| began.elapsed())
    }
}
