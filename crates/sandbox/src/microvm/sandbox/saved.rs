//! A function's machine, saved after its init phase, and the machines that are made from it.

use std::io;
use std::sync::Arc;

use hearth_rootfs::Image;
use serde::{Deserialize, Serialize};

use super::{
    Disks, Inner, MicroVmSandbox, Own, PATIENCE, Parts, Phase, StartError, end_machine, kind, lock,
    own_parts, set_up, template_for,
};
use crate::driver::{CreateError, PauseError, Process, Restored, Root, SandboxSpec};
use crate::microvm::Shared;
use crate::microvm::process::memory_file;
use crate::microvm::snapshot::{Snapshot, SnapshotError};
use crate::microvm::spares::Spares;
use crate::microvm::template::{Template, hash_of};
use crate::microvm::vmm::Origin;

/// A change of this makes all functions' snapshots anew.
const FORMAT: &str = "1";

/// What is noted with a function's snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::microvm) struct Note {
    /// Those that ran, by their numbers.
    processes: Vec<u64>,
    /// The user's.
    text: String,
}

/// What a machine was told that a snapshot of it does not let go of.
pub(super) fn identity(spec: &SandboxSpec, code: Option<&Image>) -> String {
    let root = match &spec.root {
        Root::Host => String::new(),
        Root::Image(image) => format!("{:?} {:?}", image.user, image.writable_bytes),
    };
    let targets: Vec<_> = spec.mounts.iter().map(|mount| &mount.target).collect();
    format!(
        "{} {targets:?} {root} {} {} {} {}",
        code.map_or("", Image::id),
        spec.scratch_bytes,
        spec.memory_bytes,
        spec.processes,
        spec.open_files,
    )
}

/// Everything that a function's snapshot depends on, as one name.
fn snapshot_name(template: &Template, identity: &str, key: &str) -> String {
    hash_of(&[FORMAT, &template.name, identity, key])
}

/// The snapshot of a function, the image of its code, and what was noted.
pub(in crate::microvm) async fn saved(
    shared: &Arc<Shared>,
    spec: &SandboxSpec,
    key: &str,
) -> Result<Option<(Arc<Template>, Option<Image>, Note)>, CreateError> {
    let (template, code) = template_for(shared, spec).await?;
    let name = snapshot_name(&template, &identity(spec, code.as_ref()), key);
    let template = match shared.templates.kept(shared, &template, name).await {
        Ok(template) => template,
        Err(SnapshotError::Absent) => return Ok(None),
        Err(reason) => {
            tracing::warn!(%reason, instance = %spec.instance, "a function's snapshot is of no use");
            return Ok(None);
        }
    };
    let note = serde_json::from_str(&template.snapshot.note).ok();
    Ok(note.map(|note| (template, code, note)))
}

impl MicroVmSandbox {
    /// A machine in which a function goes on where it was saved.
    pub(in crate::microvm) async fn restore(
        shared: &Arc<Shared>,
        spec: SandboxSpec,
        key: &str,
    ) -> Result<Option<Restored>, CreateError> {
        let Some((template, code, note)) = saved(shared, &spec, key).await? else { return Ok(None) };
        let kind = kind(&spec, Arc::clone(&template), code);
        let spare = shared.spares.take(&kind);
        let Own { ready, scratch, seat } = own_parts(shared, &kind, spare).await?;
        let parts = Parts { disks: Disks { code: kind.code.clone(), scratch }, seat };
        let inner = Inner::new(shared, &spec, template, parts, (false, None));
        let sandbox = Self { inner: Arc::clone(&inner) };
        shared.register(&inner);
        let mut processes = Vec::with_capacity(note.processes.len());
        for number in note.processes {
            let (output, exit) = inner.link.adopt(number).map_err(|error| set_up(&error))?;
            processes.push(Process { output, exit });
        }
        let turn = shared.starting.acquire().await.map_err(|_| CreateError::Closed)?;
        let saved = &inner.template.snapshot;
        let origin = Origin::Clone { memory: &saved.memory, state: &saved.state };
        inner.start(origin, ready).await.map_err(|error| set_up(&error))?;
        drop(turn);
        Spares::refill(shared, kind);
        Ok(Some(Restored { sandbox: Box::new(sandbox), processes, note: note.text }))
    }
}

impl Inner {
    /// Saves the machine for good, and ends it.
    pub(super) async fn snapshot(&self, key: &str, text: &str) -> Result<(), PauseError> {
        if !self.to_save {
            return Err(PauseError::Unsupported);
        }
        let step = |step| move |source| PauseError::Step { step, source };
        let other =
            |step| move |error: StartError| PauseError::Step { step, source: io::Error::other(error) };
        let mut phase = self.phase.lock().await;
        let machine = lock(&self.machine).take().ok_or(PauseError::Gone)?;
        *phase = Phase::Gone;
        let note = Note { processes: self.link.running(), text: text.to_owned() };
        let memory = match &self.memory {
            Some(memory) => memory.try_clone(),
            // The VMM makes one of its own.
            None => memory_file("none", 0),
        };
        let saved = async {
            let memory = memory.map_err(step("keep its memory"))?;
            self.link.quiesce(PATIENCE).await.map_err(|error| other("quiesce")(error.into()))?;
            machine.save(memory).await.map_err(|error| other("save the machine")(error.into()))
        };
        let saved = saved.await;
        self.link.end();
        end_machine(machine).await;
        let (memory, state) = saved?;
        let kept = Template {
            name: snapshot_name(&self.template, &self.identity, key),
            snapshot: Snapshot {
                memory,
                state,
                disk: Some(self.disks.scratch.file.try_clone().map_err(step("keep its disk"))?),
                note: serde_json::to_string(&note).unwrap_or_default(),
            },
            root: self.template.root.clone(),
            shape: self.template.shape,
        };
        let shared = Arc::clone(&self.shared);
        let kept = tokio::task::spawn_blocking(move || shared.templates.keep(kept)).await;
        let kept = kept.unwrap_or_else(|error| Err(SnapshotError::broke_off(error)));
        kept.map_err(|error| step("keep the snapshot")(io::Error::other(error)))
    }
}
