//! What the driver asks of a VMM, whichever it is: start a machine, save it, and let it go on.
//!
//! Two answer: QEMU, which is handed open files and passes memory on by mapping them, and Firecracker, which opens files in
//! its jail and writes a machine's memory when it saves it. Nothing above this knows which.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hearth_types::Isolation;
use tokio::net::UnixStream;

use super::firecracker::{Firecracker, FirecrackerError, FirecrackerMachine};
use super::process::{Host, VmmProcess};
use super::qemu::{Accelerator, MonitorError, Qemu, QemuMachine};
use super::snapshot::Medium;

/// Why a machine does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VmmError {
    /// A step on the worker's side.
    #[error("cannot {step}")]
    Step {
        /// An infinitive.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// QEMU's monitor.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// Firecracker.
    #[error(transparent)]
    Firecracker(#[from] FirecrackerError),
}

/// What a machine is like: all that templates differ in beside their roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Shape {
    /// Memory, MiB.
    pub(super) memory_mb: u64,
    pub(super) vcpus: u32,
    /// Whether there is a network device.
    pub(super) network: bool,
}

/// Where a machine's memory and state come from.
#[derive(Debug)]
pub(super) enum Origin<'a> {
    /// Power-on. The memory is in a file where the VMM can do that, so that it is saved by keeping the file.
    Boot { kernel: &'a Path, initramfs: &'a Path, memory: &'a File },
    /// A saved state whose memory is in a file that other machines use too and nobody writes.
    Clone { memory: &'a File, state: &'a File },
    /// A saved state whose memory is in a file that is this machine's alone and is written, so that it can be saved again.
    Alone { memory: &'a File, state: &'a File },
    /// What [`Machine::hibernate`] wrote.
    Whole { state: &'a File },
}

/// What a machine is made of.
#[derive(Debug)]
pub(super) struct MachineOrder<'a> {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// Its share of the CPU, thousandths.
    pub(super) cpu_millis: u32,
    pub(super) origin: Origin<'a>,
    /// Root, code and scratch.
    pub(super) disks: [&'a File; 3],
    /// What its VMM has of the network device's link: the tap, or the room that the tap is in. Without, the device leads nowhere.
    pub(super) network: Option<&'a OwnedFd>,
}

/// Runs machines.
#[derive(Debug)]
pub(super) enum Vmm {
    Qemu(Qemu),
    Firecracker(Firecracker),
}

/// A machine that runs.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) process: Arc<VmmProcess>,
    control: Control,
}

#[derive(Debug)]
enum Control {
    Qemu(QemuMachine),
    Firecracker(FirecrackerMachine),
}

// === impl Vmm ===

impl Vmm {
    pub(super) fn isolation(&self) -> Isolation {
        match self {
            Self::Qemu(_) => Isolation::Qemu,
            Self::Firecracker(_) => Isolation::Firecracker,
        }
    }

    /// What a saved machine depends on of it.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Qemu(qemu) => match qemu.accelerator() {
                Accelerator::Kvm => format!("{} kvm", qemu.version),
                Accelerator::Tcg => format!("{} tcg", qemu.version),
            },
            Self::Firecracker(firecracker) => firecracker.identity(),
        }
    }

    /// Says whether the hardware runs machines.
    pub(super) fn use_kvm(&self, kvm: bool) {
        match self {
            Self::Qemu(qemu) => qemu.kvm.store(kvm, Ordering::Release),
            Self::Firecracker(_) => {}
        }
    }

    /// Where the memory of saved machines has to be for it.
    pub(super) fn medium(&self) -> Medium {
        match self {
            Self::Qemu(_) => Medium::Memory,
            Self::Firecracker(_) => Medium::Disk,
        }
    }

    /// Whether a machine can be saved only if its memory was a file of its own from the start.
    pub(super) fn saves_by_sharing(&self) -> bool {
        matches!(self, Self::Qemu(_))
    }

    /// Whether it can be started before there is a machine for it, and then waits for [`Machine::begin`].
    pub(super) fn can_wait(&self) -> bool {
        matches!(self, Self::Qemu(_))
    }

    /// Whether it opens a machine's link by name, in a network namespace of its own; else it is handed it open.
    pub(super) fn finds_links_by_name(&self) -> bool {
        matches!(self, Self::Firecracker(_))
    }

    /// Whether it boots an uncompressed kernel alone.
    pub(super) fn boots_elf_only(&self) -> bool {
        matches!(self, Self::Firecracker(_))
    }

    /// Starts a machine: it, and the byte stream to its agent. One that comes from a saved state may wait for [`Machine::begin`].
    pub(super) async fn start(
        &self,
        host: &Arc<Host>,
        order: MachineOrder<'_>,
    ) -> Result<(Machine, UnixStream), VmmError> {
        match self {
            Self::Qemu(qemu) => {
                let (process, machine, link) = qemu.start(host, order).await?;
                Ok((Machine { process, control: Control::Qemu(machine) }, link))
            }
            Self::Firecracker(firecracker) => {
                let (process, machine, link) = firecracker.start(host, order).await?;
                Ok((Machine { process, control: Control::Firecracker(machine) }, link))
            }
        }
    }
}

// === impl Machine ===

impl Machine {
    /// Has it run, if it waits.
    pub(super) async fn begin(&self) -> Result<(), VmmError> {
        match &self.control {
            Control::Qemu(machine) => machine.begin().await,
            Control::Firecracker(_) => Ok(()),
        }
    }

    /// Stops it and saves it so that others can be made from it: its memory, and the state of its devices. `memory` is the file
    /// that it was given for its own, where it was.
    pub(super) async fn save(&self, memory: File) -> Result<(File, File), VmmError> {
        match &self.control {
            Control::Qemu(machine) => machine.save(memory).await,
            Control::Firecracker(machine) => Ok(machine.save().await?),
        }
    }

    /// Stops it and writes all that it is to a file, or to another that takes its place at its path.
    pub(super) async fn hibernate(&self, to: &mut File, path: &Path) -> Result<(), VmmError> {
        match &self.control {
            Control::Qemu(machine) => machine.hibernate(to).await,
            Control::Firecracker(machine) => {
                *to = machine.hibernate(path).await?;
                Ok(())
            }
        }
    }

    /// Whether the stream to its agent is of no more use once it was to be saved.
    pub(super) fn is_called_anew(&self) -> bool {
        matches!(self.control, Control::Firecracker(_))
    }

    /// Goes on after one of these failed. A new stream to its agent, where the old one is of no more use.
    pub(super) async fn proceed(&self) -> Result<Option<UnixStream>, VmmError> {
        match &self.control {
            Control::Qemu(machine) => machine.proceed().await.map(|()| None),
            Control::Firecracker(machine) => Ok(Some(machine.proceed().await?)),
        }
    }
}
