//! Drivers: how a worker sets an instance apart from everything else on the machine.
//!
//! A [`Driver`] makes [`Sandbox`]es. What runs inside, and what Lambda means, is not known here: the worker above
//! writes that once for all drivers. The home of Hearth's `unsafe`, kept in `sys` modules.

mod blank_disk;
mod cgroup;
mod container;
mod driver;
pub mod kvm;
mod microvm;
pub mod probe;
mod users;

pub use container::{Container, ContainerConfig, OpenError, ZYGOTE_ARGUMENT, zygote_main};
pub use driver::{
    BoxFuture, CreateError, Driver, Exit, ImageRoot, ImageUser, Io, MachineTimes, PauseError, Process,
    ProcessSpec, ReadOnlyMount, Recovered, Restored, Root, Sandbox, SandboxSpec, Snapshotter, SpawnError,
    Stats,
};
pub use microvm::{
    CloneMemory, FirecrackerVersion, MicroVm, MicroVmConfig, MicroVmError, NoFirecracker, VmmConfig,
};

/// Removes what drivers of this name left that were killed and whose name nobody will use again. What cannot be removed is
/// logged.
pub fn remove_remains(name: &str) {
    for name in [name.to_owned(), microvm::group_name(name)] {
        match cgroup::Hierarchies::open(&name) {
            Ok(hierarchies) => cgroup::remove_groups(&hierarchies),
            Err(error) => tracing::warn!(name, %error, "cannot find the cgroups that a killed worker left"),
        }
    }
}
