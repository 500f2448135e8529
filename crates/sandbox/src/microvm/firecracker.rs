//! Firecracker as a VMM: its jailer, its API, and the files that pass between it and the worker.
//!
//! A machine is booted once and written to files; a clone is a new VMM, in a jail of its own, that maps that memory privately and
//! goes on. To hibernate is to write the memory of one machine. The VMM says nothing that is believed: what it writes is checked
//! for its size, and its sockets for what they are.

mod api;
mod cell;
mod config;
mod pager;
mod version;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_wire::VSOCK_PORT;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::time::Instant;

use api::{Api, ApiError};
use cell::Cell;
use pager::WorkingSets;
pub use version::{FirecrackerVersion, NoFirecracker};

use super::jail::Way;
use super::process::{Host, Order, SILENT, VmmProcess, memory_file};
use super::snapshot::dig_holes;
use super::vmm::{MachineOrder, Origin};
use crate::cgroup::GroupLimits;

/// What Firecracker needs besides its machine's memory, bytes.
const OVERHEAD: u64 = 64 << 20;
/// Its own threads, and room: one for each vCPU, one for its API, one that waits for events.
const THREADS: u32 = 16;
/// Its API is there within this.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// A guest's agent that does not call within this of its machine's start will not.
const AGENT_PATIENCE: Duration = Duration::from_secs(90);
/// A state of more is none, bytes.
const MAX_STATE: u64 = 16 << 20;
/// A VMM whose API broke off ends within this.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The disk that a template's kernel sees as its scratch, bytes.
const BLANK_DISK: u64 = super::template::MAX_DISK;

/// What Firecracker did not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirecrackerError {
    /// A step on the worker's side.
    #[error("cannot {step}")]
    Step {
        /// An infinitive.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Its API.
    #[error(transparent)]
    Api(#[from] ApiFailure),
    /// What it wrote is not what it should be.
    #[error("firecracker saved {0}")]
    Saved(&'static str),
}

/// What its API did not do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct ApiFailure(ApiError);

impl From<ApiError> for FirecrackerError {
    fn from(error: ApiError) -> Self {
        Self::Api(ApiFailure(error))
    }
}

fn step(step: &'static str) -> impl Fn(io::Error) -> FirecrackerError {
    move |source| FirecrackerError::Step { step, source }
}

/// Where the memory of clones comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloneMemory {
    /// The template's file, mapped: what clones do not write they share.
    #[default]
    File,
    /// Page by page from the worker, which copies those in beforehand that the first clone asked for: better where the file
    /// is not in memory. Where the kernel does not offer it, the file.
    Pages,
}

/// Which Firecracker, and where its machines are.
#[derive(Debug)]
pub(super) struct Firecracker {
    program: PathBuf,
    jailer: PathBuf,
    version: FirecrackerVersion,
    /// How long the first machine may take.
    pub(super) patience: Duration,
    /// Whether the memory of clones comes page by page.
    by_page: bool,
    sets: Arc<WorkingSets>,
    cells: PathBuf,
    number: AtomicU64,
}

/// What a machine that runs is told what to do by.
#[derive(Debug)]
pub(super) struct FirecrackerMachine {
    api: Mutex<Api>,
    cell: Arc<Cell>,
    memory_bytes: u64,
}

// === impl Firecracker ===

impl Firecracker {
    /// The one at these paths, if it is one.
    pub(super) fn find(
        (program, jailer): (&Path, &Path),
        patience: Duration,
        memory: CloneMemory,
    ) -> Result<Self, NoFirecracker> {
        let version = FirecrackerVersion::of_pair(program, jailer)?;
        if !rustix::process::geteuid().is_root() {
            return Err(NoFirecracker::Root);
        }
        let by_page = memory == CloneMemory::Pages;
        if by_page && !pager::is_offered() {
            tracing::warn!("there is no /dev/userfaultfd here: the memory of clones is mapped from its file");
        }
        Ok(Self {
            by_page: by_page && pager::is_offered(),
            sets: Arc::default(),
            program: program.to_owned(),
            jailer: jailer.to_owned(),
            version,
            patience,
            cells: PathBuf::new(),
            number: AtomicU64::new(0),
        })
    }

    /// Has its machines be below that folder, and removes what was there: of VMMs that are no more.
    pub(super) fn cells(&mut self, directory: PathBuf) -> io::Result<()> {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        // Jails have devices in them.
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        self.cells = fs::canonicalize(directory)?;
        Ok(())
    }

    /// What a saved machine depends on.
    pub(super) fn identity(&self) -> String {
        format!("Firecracker {}", self.version)
    }

    /// Starts a machine: it, and the byte stream to its agent.
    pub(super) async fn start(
        &self,
        host: &Arc<Host>,
        order: MachineOrder<'_>,
    ) -> Result<(Arc<VmmProcess>, FirecrackerMachine, UnixStream), FirecrackerError> {
        let user = host.take_user().map_err(step("take a user id"))?;
        let give_back = |_: &FirecrackerError| {
            if let Some(user) = user {
                host.users.give_back(user);
            }
        };
        let id = format!("{}-{}", order.name, self.number.fetch_add(1, Ordering::Relaxed));
        let cell = self.furnish(&id, user.unwrap_or(0), &order).inspect_err(give_back)?;
        let network = match network_of(&order).await {
            Ok(network) => network,
            Err(error) => {
                give_back(&error);
                let _ = fs::remove_dir_all(cell.directory());
                return Err(error);
            }
        };
        let process = self.jailed(host, (&id, user), &order, cell, network).await?;
        let (process, cell) = (Arc::new(process.0), process.1);
        let begun = tokio::select! {
            begun = self.begin(&cell, &order) => begun,
            said = process.ended() => Err(step("start firecracker")(io::Error::other(said))),
        };
        let (api, link) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                // Why it is gone is told by what it said last.
                let said = tokio::time::timeout(LAST_WORDS, process.ended()).await;
                let _ = tokio::task::spawn_blocking(move || process.destroy()).await;
                let said = said.ok().filter(|said| said != SILENT);
                return Err(said.map_or(error, |said| step("start firecracker")(io::Error::other(said))));
            }
        };
        let machine = FirecrackerMachine {
            api: Mutex::new(api),
            cell: Arc::new(cell),
            memory_bytes: order.shape.memory_mb << 20,
        };
        Ok((process, machine, link))
    }

    /// Has the machine run, from power-on or from what was saved.
    async fn begin(
        &self,
        cell: &Cell,
        order: &MachineOrder<'_>,
    ) -> Result<(Api, UnixStream), FirecrackerError> {
        let began = Instant::now();
        let until = began + START_PATIENCE;
        let socket = cell.connect(config::API, until).await.map_err(step("reach firecracker's API"))?;
        let mut api = Api::open(socket).await?;
        let is_up = began.elapsed();
        let agent = await_agent(cell)?;
        match order.origin {
            Origin::Boot { .. } => boot(&mut api, order).await?,
            Origin::Clone { memory, .. } | Origin::Alone { memory, .. } if self.by_page => {
                let listener = cell.listen(config::PAGES).map_err(step("make a socket"))?;
                let memory = memory.try_clone().map_err(step("open the memory"))?;
                pager::serve(listener, memory, Arc::clone(&self.sets));
                api.put("/snapshot/load", &config::load_snapshot(true)).await?;
            }
            Origin::Clone { .. } | Origin::Alone { .. } | Origin::Whole { .. } => {
                api.put("/snapshot/load", &config::load_snapshot(false)).await?;
            }
        }
        let runs = began.elapsed();
        let link = agent_calls(agent).await?;
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (up_us, told_us, agent_us) =
            (us(is_up), us(runs.saturating_sub(is_up)), us(began.elapsed().saturating_sub(runs)));
        tracing::debug!(
            up_us,
            told_us,
            agent_us,
            "firecracker came up, was told what to run, and its agent called"
        );
        Ok((api, link))
    }

    /// A jail with all in it that the machine needs.
    fn furnish(&self, id: &str, user: u32, order: &MachineOrder<'_>) -> Result<Cell, FirecrackerError> {
        let mut cell = Cell::make(&self.cells, &self.program, id, user).map_err(step("make a jail"))?;
        let furnished = fill(&mut cell, order);
        furnished.inspect_err(|_| {
            let _ = fs::remove_dir_all(cell.directory());
        })?;
        Ok(cell)
    }

    /// The VMM in its jail.
    async fn jailed(
        &self,
        host: &Arc<Host>,
        (id, user): (&str, Option<u32>),
        order: &MachineOrder<'_>,
        mut cell: Cell,
        network: Option<OwnedFd>,
    ) -> Result<(VmmProcess, Cell), FirecrackerError> {
        let memory_bytes = order.shape.memory_mb << 20;
        let scratch = order.disks[2].metadata().map_or(0, |disk| disk.len());
        let jailing = config::Jailing {
            id,
            program: &self.program.to_string_lossy(),
            user: user.unwrap_or(0),
            base: &self.cells.to_string_lossy(),
            largest_file: memory_bytes.max(scratch).max(BLANK_DISK),
        };
        let (console, their_console) = pair().map_err(step("make a socket"))?;
        let process = Order {
            name: order.name.clone(),
            program: self.jailer.clone(),
            arguments: config::jailer(jailing),
            fds: Vec::new(),
            user,
            way: Way::Jailer { mounts: cell.take_mounts(), network },
            console: Some(their_console),
            cell: Some(cell.directory().to_owned()),
            limits: GroupLimits {
                // A machine that is saved is in memory once more, until the kernel has written it to the disk.
                memory_bytes: 2 * memory_bytes + OVERHEAD,
                cpu_millis: order.cpu_millis,
                processes: THREADS + order.shape.vcpus,
            },
        };
        let process = VmmProcess::start(host, process, console).await.map_err(step("start the jailer"))?;
        Ok((process, cell))
    }
}

/// The network namespace that the machine's link is in, if it has one. A machine that is there to be cloned has a link that leads
/// nowhere.
async fn network_of(order: &MachineOrder<'_>) -> Result<Option<OwnedFd>, FirecrackerError> {
    let network = match order.network {
        Some(room) => room.try_clone(),
        None if order.shape.network => hearth_network::unconnected_room().await.map_err(io::Error::other),
        None => return Ok(None),
    };
    network.map(Some).map_err(step("give the machine a link"))
}

fn fill(cell: &mut Cell, order: &MachineOrder<'_>) -> Result<(), FirecrackerError> {
    let in_cell = step("put a file into a jail");
    match order.origin {
        Origin::Boot { kernel, initramfs, .. } => {
            for (name, path) in [(config::KERNEL, kernel), (config::INITRAMFS, initramfs)] {
                let file = File::open(path).map_err(step("open the kernel"))?;
                cell.add(name, &file).map_err(&in_cell)?;
            }
            let [root, code, scratch] = config::DISKS;
            cell.add(root, order.disks[0]).map_err(&in_cell)?;
            cell.add(code, order.disks[1]).map_err(&in_cell)?;
            // What other machines read is not given to one to write.
            let blank = cell.writable(scratch).map_err(&in_cell)?;
            blank.set_len(BLANK_DISK).map_err(&in_cell)?;
        }
        Origin::Clone { memory, state } | Origin::Alone { memory, state } => {
            let state = read_state(state, 0).map_err(step("read the state"))?;
            cell.write(config::STATE, &state).map_err(&in_cell)?;
            cell.add(config::MEMORY, memory).map_err(&in_cell)?;
            cell.add_disks(order.disks).map_err(&in_cell)?;
        }
        Origin::Whole { state } => {
            let memory_bytes = order.shape.memory_mb << 20;
            let bytes = read_state(state, memory_bytes).map_err(step("read the state"))?;
            cell.write(config::STATE, &bytes).map_err(&in_cell)?;
            state.set_len(memory_bytes).map_err(step("cut the state off"))?;
            cell.add(config::MEMORY, state).map_err(&in_cell)?;
            cell.add_disks(order.disks).map_err(&in_cell)?;
        }
    }
    Ok(())
}

async fn boot(api: &mut Api, order: &MachineOrder<'_>) -> Result<(), FirecrackerError> {
    api.put("/machine-config", &config::machine(order.shape)).await?;
    api.put("/boot-source", &config::boot_source()).await?;
    for (path, drive) in config::drives() {
        api.put(path, &drive).await?;
    }
    api.put("/vsock", &config::vsock()).await?;
    if order.shape.network {
        api.put(config::NETWORK_PATH, &config::network()).await?;
    }
    api.put("/balloon", &config::BALLOON).await?;
    api.put("/actions", &config::START).await?;
    Ok(())
}

/// Where the guest's agent calls: Firecracker connects it to a socket of that name.
fn await_agent(cell: &Cell) -> Result<UnixListener, FirecrackerError> {
    let name = format!("{}_{VSOCK_PORT}", config::VSOCK);
    cell.listen_beside(&name).map_err(step("wait for the machine's agent"))
}

/// The first call there. Nobody answers a second one.
async fn agent_calls(listener: UnixListener) -> Result<UnixStream, FirecrackerError> {
    let called = tokio::time::timeout(AGENT_PATIENCE, listener.accept()).await;
    let called = called.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()));
    let (socket, _) = called.map_err(step("hear from the machine's agent"))?;
    Ok(socket)
}

/// What is in a file from there on, as long as it can be a state.
fn read_state(file: &File, from: u64) -> io::Result<Vec<u8>> {
    let bytes = file.metadata()?.len().saturating_sub(from);
    if bytes == 0 || bytes > MAX_STATE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has the size of none"));
    }
    let mut state = vec![0; usize::try_from(bytes).unwrap_or(0)];
    file.read_exact_at(&mut state, from)?;
    Ok(state)
}

/// A connected pair of sockets: ours, and one to hand over.
fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

// === impl FirecrackerMachine ===

impl FirecrackerMachine {
    /// Stops it and has it written: its memory and its state.
    pub(super) async fn save(&self) -> Result<(File, File), FirecrackerError> {
        let saved = self.write().await;
        self.cell.forget(config::SAVED_MEMORY);
        saved
    }

    async fn write(&self) -> Result<(File, File), FirecrackerError> {
        let mut api = self.api.lock().await;
        api.patch("/vm", &config::PAUSED).await?;
        let memory = self.cell.writable(config::SAVED_MEMORY).map_err(step("make a file to save to"))?;
        let state = self.cell.writable(config::SAVED_STATE).map_err(step("make a file to save to"))?;
        let saved = api.put("/snapshot/create", &config::create_snapshot()).await;
        self.cell.forget(config::SAVED_STATE);
        saved?;
        let memory_bytes = self.memory_bytes;
        let checked = tokio::task::spawn_blocking(move || check_saved(memory, &state, memory_bytes)).await;
        checked.unwrap_or_else(|error| Err(step("look at what was saved")(io::Error::other(error))))
    }

    /// The same, in one file at `path`: the state follows the memory.
    pub(super) async fn hibernate(&self, path: &Path) -> Result<File, FirecrackerError> {
        let written = self.write().await;
        let moved = match &written {
            Ok(_) => self.cell.move_out(config::SAVED_MEMORY, path),
            Err(_) => {
                self.cell.forget(config::SAVED_MEMORY);
                Ok(())
            }
        };
        let (memory, state) = written?;
        moved.map_err(step("keep the machine"))?;
        let memory_bytes = self.memory_bytes;
        let joined = tokio::task::spawn_blocking(move || {
            let state = read_state(&state, 0)?;
            dig_holes(&memory)?;
            memory.write_all_at(&state, memory_bytes)?;
            Ok(memory)
        });
        let joined = joined.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        joined.map_err(step("keep the machine"))
    }

    /// Goes on after it was not saved, with a new connection to its agent.
    pub(super) async fn proceed(&self) -> Result<UnixStream, FirecrackerError> {
        let agent = await_agent(&self.cell)?;
        self.api.lock().await.patch("/vm", &config::RESUMED).await?;
        agent_calls(agent).await
    }
}

/// What was saved, if it can be what it should be. The state is copied: the file is the VMM's to write for as long as it lives.
fn check_saved(memory: File, state: &File, memory_bytes: u64) -> Result<(File, File), FirecrackerError> {
    if memory.metadata().map_err(step("look at what was saved"))?.len() != memory_bytes {
        return Err(FirecrackerError::Saved("a memory of another size"));
    }
    let mut bytes = Vec::new();
    let from = state.try_clone().map_err(step("read the state"))?;
    let mut from = from.take(MAX_STATE + 1);
    from.read_to_end(&mut bytes).map_err(step("read the state"))?;
    if bytes.is_empty() || bytes.len() as u64 > MAX_STATE {
        return Err(FirecrackerError::Saved("a state that can be none"));
    }
    let copy = memory_file("state", bytes.len() as u64).map_err(step("make room in memory"))?;
    copy.write_all_at(&bytes, 0).map_err(step("make room in memory"))?;
    Ok((memory, copy))
}
