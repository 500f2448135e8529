//! What a function asks of its machine: its shape, the images of its disks, and what its agent is told.

use std::path::Path;

use hearth_rootfs::Image;
use hearth_types::Egress;
use hearth_wire::{Disk, HostMessage, Limits, User};

use super::set_up;
use crate::driver::{CreateError, ReadOnlyMount, Root, SandboxSpec};
use crate::microvm::Shared;
use crate::microvm::vmm::Shape;

/// Where a runtime's own files are: in the root's image, that all functions of the runtime share.
const RUNTIME: [&str; 2] = ["/var/lang", "/var/runtime"];
/// What the guest's kernel and agent need beside the function, MiB.
const GUEST_OVERHEAD_MB: u64 = 64;
/// The smallest machine's memory without that, MiB; others have it times a power of two, so that few templates serve all.
const SMALLEST_MB: u64 = 128;

/// What a machine a function needs.
pub(super) fn shape_for(spec: &SandboxSpec) -> Shape {
    let wanted = spec.memory_bytes.div_ceil(1 << 20).max(1);
    let pieces = wanted.div_ceil(SMALLEST_MB).next_power_of_two();
    Shape {
        memory_mb: SMALLEST_MB * pieces + GUEST_OVERHEAD_MB,
        vcpus: spec.cpu_millis.div_ceil(1_000).max(1),
        network: spec.egress != Egress::None,
    }
}

fn is_runtime(mount: &ReadOnlyMount) -> bool {
    RUNTIME.iter().any(|place| mount.target == Path::new(place))
}

/// The image of the machine's root, and that of the rest: what the function adds, or a container image that its processes have for
/// their root instead.
pub(super) fn images(
    shared: &Shared,
    root: &Root,
    mounts: &[ReadOnlyMount],
) -> Result<(Image, Option<Image>), CreateError> {
    if let Root::Image(image) = root {
        let base = shared.images.base(&[]).map_err(|error| set_up(&error))?;
        return Ok((base, Some(shared.images.root(&image.layers).map_err(|error| set_up(&error))?)));
    }
    let pair = |mount: &ReadOnlyMount| (mount.source.clone(), mount.target.to_string_lossy().into_owned());
    let (runtime, code): (Vec<_>, Vec<_>) = mounts.iter().partition(|mount| is_runtime(mount));
    let runtime: Vec<_> = runtime.into_iter().map(pair).collect();
    let code: Vec<_> = code.into_iter().map(pair).collect();
    let root = shared.images.base(&runtime).map_err(|error| set_up(&error))?;
    let code = if code.is_empty() { None } else { Some(shared.images.code(&code)) };
    Ok((root, code.transpose().map_err(|error| set_up(&error))?))
}

/// The size of the disk that is written to: what is written over an image's root is on that of `/tmp`.
pub(super) fn scratch_bytes(spec: &SandboxSpec) -> u64 {
    match &spec.root {
        Root::Host => spec.scratch_bytes,
        Root::Image(image) => spec.scratch_bytes.saturating_add(image.writable_bytes.unwrap_or(0)),
    }
}

pub(super) fn configuration(spec: &SandboxSpec) -> HostMessage {
    let targets: Vec<String> = spec
        .mounts
        .iter()
        .filter(|mount| !is_runtime(mount))
        .map(|mount| mount.target.to_string_lossy().into_owned())
        .collect();
    let (code, scratch) = ("vdb".to_owned(), "vdc".to_owned());
    let mut user = None;
    let disks = match &spec.root {
        Root::Image(image) => {
            user = image.user.as_ref().map(|user| User {
                uid: user.uid,
                gid: user.gid,
                groups: user.groups.clone(),
            });
            vec![Disk::Root { device: code, scratch, writable: image.writable_bytes.is_some() }]
        }
        Root::Host if targets.is_empty() => vec![Disk::Scratch { device: scratch }],
        Root::Host => vec![Disk::Scratch { device: scratch }, Disk::Code { device: code, targets }],
    };
    HostMessage::Configure {
        hostname: "sandbox".to_owned(),
        disks,
        limits: Limits {
            memory_bytes: spec.memory_bytes,
            processes: spec.processes,
            open_files: spec.open_files,
        },
        user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Root;
    use hearth_types::InstanceId;

    fn spec(memory_mb: u64, cpu_millis: u32) -> SandboxSpec {
        SandboxSpec {
            instance: InstanceId::new(1, 1),
            root: Root::Host,
            mounts: Vec::new(),
            memory_bytes: memory_mb << 20,
            cpu_millis,
            processes: 1,
            open_files: 1,
            scratch_bytes: 1,
            egress: Egress::None,
        }
    }

    #[test]
    fn few_sizes_of_machines_serve_all_functions() {
        let sizes: Vec<u64> =
            [1, 128, 129, 256, 512, 1_769, 10_240].map(|mb| shape_for(&spec(mb, 500)).memory_mb).into();
        assert_eq!(sizes, [192, 192, 320, 320, 576, 2_112, 16_448]);
        assert_eq!(shape_for(&spec(10_240, 5_789)).vcpus, 6);
    }
}
