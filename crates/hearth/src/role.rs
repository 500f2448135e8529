//! The async shells around the parts that decide, and the links between parts in one process.
//!
//! Each shell does the I/O that its state machine asks for, and nothing else.

mod backend;
mod clock;
pub(crate) mod destinations;
pub(crate) mod events;
mod launcher;
mod manager;
pub(crate) mod mappings;
pub(crate) mod pressure;
mod schedules;
mod workers;

pub(crate) use backend::LocalBackend;
pub(crate) use events::Events;
pub(crate) use launcher::LocalLauncher;
pub(crate) use manager::{ManagerShell, ManagerShellConfig, Wish};
pub(crate) use workers::Workers;
