//! QEMU as a VMM: its microvm machine, under KVM where that works and emulated where not.

mod command;
mod qmp;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UnixStream;
use tokio::sync::Mutex;

use command::{Memory, Nic, Parts};
use qmp::{Qmp, QmpError};

use super::jail::Way;
use super::process::{Host, Order, VmmProcess, memory_file};
use super::vmm::{MachineOrder, Origin, VmmError};
use crate::cgroup::GroupLimits;

/// What QEMU needs besides its machine's memory, bytes.
const OVERHEAD: u64 = 192 << 20;
/// QEMU's own threads, and room: one for each vCPU, one for RCU, those that do its file I/O.
const THREADS: u32 = 96;
/// `quiet` keeps the boot short, as every character on an emulated serial line takes its time. `panic=-1` and
/// `reboot=t`: a machine that cannot go on resets, and QEMU ends at that. The clock of a machine that comes from a
/// saved state jumps, and must not be thought broken because of that.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet reboot=t panic=-1 oops=panic tsc=reliable no_timer_check random.trust_cpu=on";

/// What runs a machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The hardware.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// What QEMU's monitor did not do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct MonitorError(QmpError);

impl From<QmpError> for VmmError {
    fn from(error: QmpError) -> Self {
        Self::Monitor(MonitorError(error))
    }
}

/// Which QEMU, and how.
#[derive(Debug)]
pub(crate) struct Qemu {
    pub(super) program: PathBuf,
    /// As `-version` says.
    pub(super) version: String,
    /// Whether the hardware runs machines.
    pub(super) kvm: AtomicBool,
    /// Whether machines may run without it.
    pub(super) emulate: bool,
    /// How fast the clock of emulated ones counts. Told so, a kernel need not find out by the emulated timer, which on a busy
    /// machine is so late that it finds nothing, and then waits for that timer without end.
    pub(super) counter_khz: Option<u64>,
}

/// What a machine that runs is told what to do by.
#[derive(Debug)]
pub(super) struct QemuMachine {
    monitor: Mutex<Qmp>,
    /// Whether its memory is in a file of the worker's.
    shares_memory: bool,
    /// The saved state that it comes from, as QEMU's number of the file.
    state: Option<i32>,
}

// === impl Qemu ===

impl Qemu {
    /// What runs machines' instructions.
    pub(super) fn accelerator(&self) -> Accelerator {
        if self.kvm.load(Ordering::Acquire) { Accelerator::Kvm } else { Accelerator::Tcg }
    }

    /// What a kernel is told.
    fn command_line(&self) -> String {
        match (self.accelerator(), self.counter_khz) {
            (Accelerator::Tcg, Some(khz)) => format!("{COMMAND_LINE} tsc_early_khz={khz}"),
            (Accelerator::Tcg, None) | (Accelerator::Kvm, _) => COMMAND_LINE.to_owned(),
        }
    }

    /// Starts a VMM: its machine, which runs at once if it boots and else waits for [`Machine::begin`], and the byte stream to
    /// its agent.
    pub(super) async fn start(
        &self,
        host: &Arc<Host>,
        order: MachineOrder<'_>,
    ) -> Result<(Arc<VmmProcess>, QemuMachine, UnixStream), VmmError> {
        let step = |step| move |source| VmmError::Step { step, source };
        let (link, their_link) = pair().map_err(step("make a socket"))?;
        let (monitor, their_monitor) = pair().map_err(step("make a socket"))?;
        let (console, their_console) = pair().map_err(step("make a socket"))?;
        let mut lent = Lent(vec![their_link, their_monitor, their_console]);
        let disks = [lent.file(order.disks[0])?, lent.file(order.disks[1])?, lent.file(order.disks[2])?];
        let (memory, start, state) = lent.origin(&order.origin, self.command_line())?;
        let network = match order.network {
            Some(tap) => Nic::Tap(lent.add(tap.as_fd()).map_err(step("lend a link"))?),
            None if order.shape.network => Nic::Unconnected,
            None => Nic::Absent,
        };
        let Lent(fds) = lent;
        let shares_memory = !matches!(memory, Memory::Own);
        let parts = Parts {
            accelerator: self.accelerator(),
            memory_mb: order.shape.memory_mb,
            vcpus: order.shape.vcpus,
            link: fds[0].as_raw_fd(),
            monitor: fds[1].as_raw_fd(),
            console: fds[2].as_raw_fd(),
            memory,
            disks,
            network,
            start,
        };
        let user = host.take_user().map_err(step("take a user id"))?;
        let process = Order {
            name: order.name,
            program: self.program.clone(),
            arguments: command::arguments(&parts),
            fds,
            user,
            way: Way::Directly(user),
            console: None,
            cell: None,
            limits: GroupLimits {
                memory_bytes: (order.shape.memory_mb << 20) + OVERHEAD,
                cpu_millis: order.cpu_millis,
                processes: THREADS + order.shape.vcpus,
            },
        };
        let process = VmmProcess::start(host, process, console).await.map_err(step("start QEMU"))?;
        let monitor = Mutex::new(Qmp::new(monitor));
        Ok((Arc::new(process), QemuMachine { monitor, shares_memory, state }, link))
    }
}

/// What a VMM inherits.
struct Lent(Vec<OwnedFd>);

impl Lent {
    fn add(&mut self, fd: BorrowedFd<'_>) -> io::Result<RawFd> {
        let fd = fd.try_clone_to_owned()?;
        let number = fd.as_raw_fd();
        self.0.push(fd);
        Ok(number)
    }

    fn file(&mut self, file: &File) -> Result<RawFd, VmmError> {
        self.add(file.as_fd()).map_err(|source| VmmError::Step { step: "lend a file", source })
    }

    /// Where memory is, how the machine comes to run, and the file of its state.
    fn origin(
        &mut self,
        origin: &Origin<'_>,
        command_line: String,
    ) -> Result<(Memory, command::Start, Option<RawFd>), VmmError> {
        let step = |step| move |source| VmmError::Step { step, source };
        let (memory, state) = match origin {
            Origin::Boot { kernel, initramfs, memory } => {
                let kernel = self.file(&File::open(kernel).map_err(step("open the kernel"))?)?;
                let initramfs = self.file(&File::open(initramfs).map_err(step("open the initramfs"))?)?;
                let path = |fd: RawFd| format!("/proc/self/fd/{fd}");
                let start =
                    command::Start::Boot { kernel: path(kernel), initramfs: path(initramfs), command_line };
                return Ok((Memory::Shared(self.file(memory)?), start, None));
            }
            Origin::Clone { memory, state } => (Memory::CopyOnWrite(self.file(memory)?), state),
            Origin::Alone { memory, state } => (Memory::Shared(self.file(memory)?), state),
            Origin::Whole { state } => (Memory::Own, state),
        };
        let state = reopen(state).map_err(step("open the state"))?;
        Ok((memory, command::Start::Restore, Some(self.file(&state)?)))
    }
}

// === impl QemuMachine ===

impl QemuMachine {
    /// Has it run, if it comes from a saved state: until then it waits.
    pub(super) async fn begin(&self) -> Result<(), VmmError> {
        match self.state {
            Some(state) => {
                self.monitor.lock().await.restore(state, self.shares_memory).await.map_err(Into::into)
            }
            None => Ok(()),
        }
    }

    /// Stops it and saves the state of its devices; `memory` is where its memory is.
    pub(super) async fn save(&self, memory: File) -> Result<(File, File), VmmError> {
        let state = memory_file("state", 0)
            .map_err(|source| VmmError::Step { step: "make room in memory", source })?;
        self.monitor.lock().await.save(state.as_fd(), self.shares_memory).await?;
        Ok((memory, state))
    }

    /// Stops it and writes it to a file with its memory.
    pub(super) async fn hibernate(&self, to: &File) -> Result<(), VmmError> {
        self.monitor.lock().await.save(to.as_fd(), false).await.map_err(Into::into)
    }

    /// Goes on after it was not saved.
    pub(super) async fn proceed(&self) -> Result<(), VmmError> {
        self.monitor.lock().await.proceed().await.map_err(Into::into)
    }
}

/// The same file, read from its beginning and by nobody else.
fn reopen(file: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A connected pair of sockets: ours, and one to hand over.
fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
