//! Drivers: how a worker sets an instance apart from everything else on the machine.
//!
//! A [`Driver`] makes [`Sandbox`]es. What runs inside, and what Lambda means, is not known here: the worker above
//! writes that once for all drivers. The home of Hearth's `unsafe`, kept in `sys` modules.

mod container;
mod driver;
pub mod kvm;
pub mod probe;

pub use container::{Container, ContainerConfig, OpenError, ZYGOTE_ARGUMENT, remove_remains, zygote_main};
pub use driver::{
    BoxFuture, CreateError, Driver, Exit, Io, PauseError, Process, ProcessSpec, ReadOnlyMount, Recovered,
    Sandbox, SandboxSpec, SpawnError, Stats,
};
