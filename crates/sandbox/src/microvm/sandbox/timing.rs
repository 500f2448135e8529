//! How long machines take to come about, for whoever wants to know it of the machine at hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Disks, Inner, Own, Parts, blocking, images, kind, own_parts, set_up, shape_for, template_for};
use crate::driver::{CreateError, MachineTimes, Root, SandboxSpec};
use crate::microvm::Shared;
use crate::microvm::template::TemplateError;
use crate::microvm::vmm::Origin;

/// One machine booted and one restored, each to its agent's first word, and ended.
pub(in crate::microvm) async fn time_machine(
    shared: &Arc<Shared>,
    spec: &SandboxSpec,
) -> Result<MachineTimes, CreateError> {
    Ok(MachineTimes { boot: boot(shared, spec).await?, restore: restore(shared, spec).await? })
}

async fn boot(shared: &Arc<Shared>, spec: &SandboxSpec) -> Result<Duration, CreateError> {
    let (for_images, mounts) = (Arc::clone(shared), spec.mounts.clone());
    let (root, _) = blocking("make disk images", move || images(&for_images, &Root::Host, &mounts)).await??;
    let booted = shared.templates.time_boot(shared, &root, shape_for(spec)).await;
    booted.map_err(|error: TemplateError| set_up(&error))
}

async fn restore(shared: &Arc<Shared>, spec: &SandboxSpec) -> Result<Duration, CreateError> {
    let (template, code) = template_for(shared, spec).await?;
    let kind = kind(spec, Arc::clone(&template), code);
    let Own { scratch, seat, .. } = own_parts(shared, &kind, None).await?;
    let parts = Parts { disks: Disks { code: kind.code, scratch }, seat };
    let inner = Inner::new(shared, spec, template, parts, (false, None));
    let saved = &inner.template.snapshot;
    let began = Instant::now();
    let started = inner.start(Origin::Clone { memory: &saved.memory, state: &saved.state }, None).await;
    let took = began.elapsed();
    inner.destroy().await;
    started.map_err(|error| set_up(&error))?;
    Ok(took)
}
