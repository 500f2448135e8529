//! A sandbox that is being made: cloned, limited, set up, and taken back if any of that fails.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use hearth_network::Link;
use hearth_types::Egress;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::Shared;
use crate::cgroup::{Group, GroupLimits};
use crate::container::channel;
use crate::container::protocol::{Clone as CloneOrder, ImageLayers, Order, Report, Upper};
use crate::driver::{CreateError, Root, SandboxSpec};
use crate::users::{IdMap, UserRanges, write_maps};

/// Layers of an image, the disk over them, and whose their files are.
type ImageParts = (Option<ImageLayers>, Option<OwnedFd>, Option<Arc<OwnedFd>>);

/// A sandbox that is being made; dropped, it takes back what it has.
pub(super) struct Making {
    pub(super) shared: Arc<Shared>,
    pub(super) user_range: u32,
    pub(super) ids: IdMap,
    pub(super) pid: i32,
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) group: Option<Group>,
}

// === impl Making ===

impl Making {
    /// Gives it the network that its function asks for.
    pub(super) async fn join_network(&self, egress: &Egress) -> Result<Option<Link>, CreateError> {
        let gone = || CreateError::SetUp { reason: "it was not started".into() };
        let pidfd = self.pidfd.as_ref().ok_or_else(gone)?;
        join_network(&self.shared, self.user_range, pidfd, egress).await
    }

    /// Everything that blocks: clones the zygote, and limits the clone while it sets itself up.
    pub(super) fn start(
        shared: &Arc<Shared>,
        spec: &SandboxSpec,
        theirs: &OwnedFd,
    ) -> Result<Self, CreateError> {
        let step = |step: &str| {
            let step = step.to_owned();
            move |source| CreateError::Step { step, source }
        };
        let user_range = shared.users.take().map_err(step("take a range of user ids"))?;
        let ids = IdMap::new(user_range, more_ids(&spec.root));
        let mut making =
            Self { shared: Arc::clone(shared), user_range, ids, pid: 0, pidfd: None, group: None };
        let disk = match &shared.scratch {
            Some(scratch) => Some(scratch.take(spec.scratch_bytes).map_err(step("make a disk for /tmp"))?),
            None => None,
        };
        let (image, root_disk, owners) = making.image(&spec.root)?;
        let order = CloneOrder {
            image,
            root: shared.root.to_string_lossy().into_owned(),
            binds: binds(shared, spec),
            hostname: "sandbox".to_owned(),
            open_files: u64::from(spec.open_files),
            memory_scratch_bytes: disk.is_none().then_some(spec.scratch_bytes),
            rootless: shared.rootless,
        };
        let mut fds = vec![theirs];
        fds.extend(disk.iter().chain(&root_disk).chain(owners.as_deref()));
        let (pid, pidfd) = shared.zygote.clone(order, &fds).map_err(step("clone the zygote"))?;
        making.pid = pid;
        making.pidfd = Some(pidfd);
        let group = Group::create(&shared.hierarchies, &spec.instance.to_string(), GroupLimits::of(spec))
            .map_err(step("make cgroups"))?;
        let attached = group.attach(pid);
        making.group = Some(group);
        match attached {
            // It ended already: what it says of that comes out when it is listened to.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            attached => attached.map_err(step("attach to cgroups"))?,
        }
        Ok(making)
    }

    /// The layers of an image's root, the disk that is written to over them, and what says whose their files are.
    fn image(&self, root: &Root) -> Result<ImageParts, CreateError> {
        let Root::Image(image) = root else { return Ok((None, None, None)) };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let points = std::iter::once(text(&self.shared.image_points));
        let layers = points.chain(image.layers.iter().map(|layer| text(layer))).collect();
        let (upper, disk) = match (image.writable_bytes, &self.shared.scratch) {
            (None, _) => (Upper::None, None),
            (Some(bytes), None) => (Upper::Memory(bytes), None),
            (Some(bytes), Some(scratch)) => {
                let step = "make a disk for the root".to_owned();
                let disk = scratch.take(bytes).map_err(|source| CreateError::Step { step, source })?;
                (Upper::Disk, Some(disk))
            }
        };
        let rootless = self.shared.rootless;
        let owners = match image.layers.first() {
            Some(layer) if !rootless => {
                let owners = self.shared.owners.of(&self.shared.zygote, (self.user_range, &self.ids), layer);
                let step = "make a map of ids".to_owned();
                owners.map_err(|source| CreateError::Step { step, source })?
            }
            _ => None,
        };
        let layers = ImageLayers {
            layers,
            upper,
            unprivileged: rootless,
            owned: owners.is_some(),
            root_id: self.user_range,
            user: image.user.clone(),
        };
        Ok((Some(layers), disk, owners))
    }

    /// Answers the set-up's questions until it is ready; what it listens on.
    pub(super) async fn finish(&self, control: &AsyncFd<OwnedFd>) -> Result<OwnedFd, CreateError> {
        let broken = |reason: &str| CreateError::SetUp { reason: reason.to_owned() };
        let tell = |order: &Order| {
            channel::send(control.get_ref(), order, &[])
                .map_err(|source| CreateError::Step { step: "speak to the set-up".into(), source })
        };
        if !self.shared.rootless {
            // If it ended already, its report says why.
            let _ = tell(&Order::Attached);
        }
        loop {
            let report = channel::receive_async::<Report>(control).await;
            let report =
                report.map_err(|source| CreateError::Step { step: "hear from the set-up".into(), source })?;
            match report {
                Some((Report::NeedsMap, _)) => {
                    write_maps(self.pid, &self.ids, self.shared.rootless)
                        .map_err(|source| CreateError::Step { step: "write the user map".into(), source })?;
                    tell(&Order::Mapped)?;
                    if self.shared.rootless {
                        tell(&Order::Attached)?;
                    }
                }
                Some((Report::Ready, mut fds)) => {
                    return fds.pop().ok_or_else(|| broken("it sent no socket"));
                }
                Some((Report::Failed { step, errno }, _)) => {
                    return Err(CreateError::Step { step, source: io::Error::from_raw_os_error(errno) });
                }
                Some((
                    Report::Spawned { .. }
                    | Report::SpawnFailed { .. }
                    | Report::Exited { .. }
                    | Report::Socket
                    | Report::NoSocket { .. },
                    _,
                )) => {
                    return Err(broken("it spoke out of turn"));
                }
                None => return Err(broken("it ended early")),
            }
        }
    }
}

/// Ids above those that every sandbox has.
fn more_ids(root: &Root) -> &[u32] {
    match root {
        Root::Host => &[],
        Root::Image(image) => &image.more_ids,
    }
}

/// Gives a sandbox the network that its function asks for.
pub(in crate::container) async fn join_network(
    shared: &Shared,
    user_range: u32,
    pidfd: &OwnedFd,
    egress: &Egress,
) -> Result<Option<Link>, CreateError> {
    if *egress == Egress::None {
        return Ok(None);
    }
    if shared.rootless {
        return Err(CreateError::NoNetwork("links between network namespaces take root"));
    }
    let pidfd = pidfd.try_clone();
    let pidfd = pidfd.map_err(|source| CreateError::Step { step: "watch the sandbox".into(), source })?;
    let joined = shared.network.join(UserRanges::number(user_range), pidfd, egress).await;
    joined.map(Some).map_err(CreateError::Network)
}

/// Directories and files of the host that it sees.
pub(in crate::container) fn binds(shared: &Shared, spec: &SandboxSpec) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mounts = spec.mounts.iter().map(|mount| (text(&mount.source), text(&mount.target)));
    let names =
        (spec.egress != Egress::None).then(|| (text(&shared.resolv_conf), "/etc/resolv.conf".to_owned()));
    mounts.chain(names).collect()
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
        if let Some(mut group) = self.group.take() {
            // Off this thread: the processes need a moment to end.
            std::thread::spawn(move || group.remove());
        }
        if self.pid != -1 {
            self.shared.users.give_back(self.user_range);
        }
    }
}
