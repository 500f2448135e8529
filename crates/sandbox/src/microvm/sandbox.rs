//! A machine as an instance's sandbox: made from a template, hibernated and woken, ended.

mod ask;
mod saved;
mod seat;
mod timing;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hearth_network::NetworkError;
use hearth_rootfs::Image;
use hearth_wire::HostMessage;
use tokio::net::UnixStream;

use super::link::{Link, LinkError};
use super::process::SILENT;
use super::spares::{Kind, Spare, Spares};
use super::template::{MAX_DISK, Template, TemplateError};
use super::vmm::{Machine, MachineOrder, Origin, VmmError};
use super::{Berth, Shared};
use crate::blank_disk;
use crate::driver::{
    BoxFuture, CreateError, Io, PauseError, Process, ProcessSpec, Root, Sandbox, SandboxSpec, SpawnError,
    Stats,
};
use ask::{configuration, images, shape_for};
pub(super) use saved::saved;
pub(super) use seat::Seat;
pub(super) use timing::time_machine;

/// An agent that says nothing for so long after its machine was restored, or to a question, will not.
const PATIENCE: Duration = Duration::from_secs(10);
/// A VMM whose socket is closed ends within this.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A machine of this driver.
#[derive(Debug)]
pub(super) struct MicroVmSandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    shared: Arc<Shared>,
    name: String,
    cpu_millis: u32,
    link: Link,
    /// Who pauses, resumes and destroys takes turns.
    phase: tokio::sync::Mutex<Phase>,
    machine: Mutex<Option<Arc<Machine>>>,
    template: Arc<Template>,
    disks: Disks,
    /// Where it is in the network, if its function may connect to anything.
    seat: Option<Seat>,
    /// What a snapshot of it depends on beside its template.
    identity: String,
    /// Whether it was made to be saved.
    to_save: bool,
    /// All of its memory, if it was made to be saved and the VMM needs that for it.
    memory: Option<File>,
}

/// A machine's disks besides its root.
#[derive(Debug)]
struct Disks {
    code: Option<Image>,
    scratch: blank_disk::Disk,
}

/// What of a machine is its own from before it runs.
#[derive(Debug)]
struct Parts {
    disks: Disks,
    seat: Option<Seat>,
}

#[derive(Debug)]
enum Phase {
    /// With the file that it was woken from, if it was.
    Running(
        #[expect(
            dead_code,
            reason = "its room is not free for as long as the machine's memory may come from it"
        )]
        Option<Berth>,
    ),
    Asleep(Berth),
    Gone,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `error` and its causes, in one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn set_up(error: &dyn std::error::Error) -> CreateError {
    CreateError::SetUp { reason: explain(error) }
}

// === impl MicroVmSandbox ===

impl MicroVmSandbox {
    /// A machine with nothing of the function's running in it; `to_save`: with its memory where it can be kept.
    pub(super) async fn create(
        shared: &Arc<Shared>,
        spec: SandboxSpec,
        to_save: bool,
    ) -> Result<Self, CreateError> {
        let (template, code) = template_for(shared, &spec).await?;
        let kind = kind(&spec, Arc::clone(&template), code);
        let spare = if to_save { None } else { shared.spares.take(&kind) };
        let Own { ready, scratch, seat } = own_parts(shared, &kind, spare).await?;
        let memory = if to_save && shared.vmm.saves_by_sharing() {
            let from = Arc::clone(&template);
            let copied = blocking("copy a template's memory", move || from.copy_memory()).await?;
            Some(copied.map_err(|source| failed("copy a template's memory", source))?)
        } else {
            None
        };
        let parts = Parts { disks: Disks { code: kind.code.clone(), scratch }, seat };
        let inner = Inner::new(shared, &spec, template, parts, (to_save, memory));
        // From here on a drop takes it all back.
        let sandbox = Self { inner: Arc::clone(&inner) };
        shared.register(&inner);
        let turn = shared.starting.acquire().await.map_err(|_| CreateError::Closed)?;
        let saved = &inner.template.snapshot;
        let origin = match &inner.memory {
            Some(memory) => Origin::Alone { memory, state: &saved.state },
            None => Origin::Clone { memory: &saved.memory, state: &saved.state },
        };
        inner.start(origin, ready).await.map_err(|error| set_up(&error))?;
        let configured = inner.link.configure(&configuration(&spec), PATIENCE).await;
        drop(turn);
        configured.map_err(|error| set_up(&error))?;
        if !to_save {
            Spares::refill(shared, kind);
        }
        Ok(sandbox)
    }
}

fn kind(spec: &SandboxSpec, template: Arc<Template>, code: Option<Image>) -> Kind {
    let scratch_bytes = ask::scratch_bytes(spec).min(MAX_DISK);
    Kind { template, code, scratch_bytes, cpu_millis: spec.cpu_millis, egress: spec.egress.clone() }
}

/// What a machine has that no other has.
struct Own {
    /// A VMM and its link, if one was started ahead.
    ready: Option<(Machine, UnixStream)>,
    scratch: blank_disk::Disk,
    seat: Option<Seat>,
}

async fn own_parts(shared: &Arc<Shared>, kind: &Kind, spare: Option<Spare>) -> Result<Own, CreateError> {
    if let Some(Spare { machine, link, scratch, seat }) = spare {
        return Ok(Own { ready: Some((machine, link)), scratch, seat });
    }
    let seat = Seat::take(shared, &kind.egress)?;
    let (disks, kind) = (Arc::clone(shared), kind.clone());
    let scratch = blocking("make a disk for /tmp", move || match &kind.template.snapshot.disk {
        Some(saved) => disks.scratch.copy_of(saved),
        None => disks.scratch.take_named(kind.scratch_bytes),
    });
    let scratch = scratch.await?.map_err(|source| failed("make a disk for /tmp", source))?;
    Ok(Own { ready: None, scratch, seat })
}

/// Starts a VMM that waits for an instance of that kind.
pub(super) async fn start_spare(
    shared: &Arc<Shared>,
    kind: &Kind,
    number: u64,
) -> Result<Spare, CreateError> {
    let Own { scratch, seat, .. } = own_parts(shared, kind, None).await?;
    let network = match &seat {
        Some(seat) => Some(seat.connect(shared).await.map_err(CreateError::Network)?),
        None => None,
    };
    let root = kind.template.root.file();
    let saved = &kind.template.snapshot;
    let order = MachineOrder {
        name: format!("spare-{number}"),
        shape: kind.template.shape,
        cpu_millis: kind.cpu_millis,
        origin: Origin::Clone { memory: &saved.memory, state: &saved.state },
        disks: [root, kind.code.as_ref().map_or(root, Image::file), &scratch.file],
        network: network.as_ref(),
    };
    let (machine, link) = shared.vmm.start(&shared.host, order).await.map_err(|error| set_up(&error))?;
    let confined = machine.process.confine().await;
    confined.map_err(|source| failed("put a VMM under its limits", source))?;
    Ok(Spare { machine, link, scratch, seat })
}

/// Makes the disk of an image.
pub(super) async fn prepare_root(shared: &Arc<Shared>, root: &Root) -> Result<(), CreateError> {
    let (for_images, root) = (Arc::clone(shared), root.clone());
    blocking("make disk images", move || match root {
        Root::Host => Ok(()),
        Root::Image(_) => images(&for_images, &root, &[]).map(drop),
    })
    .await?
}

/// The template for a machine, and the image of what is not in its root.
async fn template_for(
    shared: &Arc<Shared>,
    spec: &SandboxSpec,
) -> Result<(Arc<Template>, Option<Image>), CreateError> {
    let (for_images, root, mounts) = (Arc::clone(shared), spec.root.clone(), spec.mounts.clone());
    let (root, code) = blocking("make disk images", move || images(&for_images, &root, &mounts)).await??;
    let template = shared.templates.get(shared, &root, shape_for(spec)).await;
    Ok((template.map_err(|error: TemplateError| set_up(&error))?, code))
}

fn failed(step: &str, source: io::Error) -> CreateError {
    CreateError::Step { step: step.to_owned(), source }
}

async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CreateError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CreateError::Step { step: step.to_owned(), source: io::Error::other(error) })
}

/// Why a machine did not come to run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Vmm(#[from] VmmError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the machine ended at once: {0}")]
    Ended(String),
    #[error("cannot put the machine under its limits")]
    Confine(#[source] io::Error),
    #[error("cannot draw random bytes")]
    Entropy(#[source] io::Error),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// A conversation's first words, to a machine in that place.
fn awake(seat: Option<&Seat>) -> Result<HostMessage, StartError> {
    let mut entropy = [0; 32];
    rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| StartError::Entropy(error.into()))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let wall_clock_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    Ok(HostMessage::Awake { wall_clock_ns, entropy, network: seat.and_then(Seat::words) })
}

// === impl Inner ===

impl Inner {
    fn new(
        shared: &Arc<Shared>,
        spec: &SandboxSpec,
        template: Arc<Template>,
        parts: Parts,
        (to_save, memory): (bool, Option<File>),
    ) -> Arc<Self> {
        let Parts { disks, seat } = parts;
        Arc::new(Self {
            shared: Arc::clone(shared),
            name: spec.instance.to_string(),
            cpu_millis: spec.cpu_millis,
            link: Link::new(),
            phase: tokio::sync::Mutex::new(Phase::Running(None)),
            machine: Mutex::new(None),
            identity: saved::identity(spec, disks.code.as_ref()),
            template,
            disks,
            seat,
            to_save,
            memory,
        })
    }

    /// Has a saved machine run, and its agent be there.
    async fn start(
        &self,
        origin: Origin<'_>,
        ready: Option<(Machine, UnixStream)>,
    ) -> Result<(), StartError> {
        let began = Instant::now();
        let (was_ready, (machine, socket)) = match ready {
            Some(ready) => (true, ready),
            None => (false, self.start_vmm(origin).await?),
        };
        let machine = Arc::new(machine);
        let awoken = async {
            machine.begin().await?;
            let awake = awake(self.seat.as_ref())?;
            let awoken = async { self.link.awaken(socket, &awake, PATIENCE).await.map_err(StartError::from) };
            let confined = async {
                if was_ready { Ok(()) } else { machine.process.confine().await.map_err(StartError::Confine) }
            };
            tokio::try_join!(awoken, confined)?;
            Ok(())
        };
        let started = tokio::select! {
            awoken = awoken => awoken,
            said = machine.process.ended() => Err(StartError::Ended(said)),
        };
        if let Err(error) = started {
            // Why it is gone is told by what it said last.
            let said = tokio::time::timeout(LAST_WORDS, machine.process.ended()).await;
            end_machine(machine).await;
            return Err(said.ok().filter(|said| said != SILENT).map_or(error, StartError::Ended));
        }
        let microseconds = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(microseconds, "a machine runs again");
        tokio::spawn(watch(self.name.clone(), self.link.clone(), Arc::downgrade(&machine)));
        *lock(&self.machine) = Some(machine);
        Ok(())
    }

    async fn start_vmm(&self, origin: Origin<'_>) -> Result<(Machine, UnixStream), StartError> {
        let network = match &self.seat {
            Some(seat) => Some(seat.connect(&self.shared).await?),
            None => None,
        };
        let root = self.template.root.file();
        let order = MachineOrder {
            name: self.name.clone(),
            shape: self.template.shape,
            cpu_millis: self.cpu_millis,
            origin,
            disks: [root, self.disks.code.as_ref().map_or(root, Image::file), &self.disks.scratch.file],
            network: network.as_ref(),
        };
        Ok(self.shared.vmm.start(&self.shared.host, order).await?)
    }

    async fn pause(&self) -> Result<(), PauseError> {
        let mut phase = self.phase.lock().await;
        match *phase {
            Phase::Running(_) => {}
            Phase::Asleep(_) => return Ok(()),
            Phase::Gone => return Err(PauseError::Gone),
        }
        let machine = lock(&self.machine).clone().ok_or(PauseError::Gone)?;
        let step = |step| move |source| PauseError::Step { step, source };
        let most = self.template.shape.memory_mb << 20;
        let mut berth = self.shared.hibernation.take(most).map_err(step("find room to hibernate"))?;
        if let Err(error) = self.link.quiesce(PATIENCE).await {
            // Whether its agent has fallen silent is not known: it is of no use any more.
            self.link.end();
            end_machine(machine).await;
            return Err(step("quiesce")(io::Error::other(error)));
        }
        if let Err(error) = machine.hibernate(&mut berth.file, &berth.path).await {
            self.go_on(&machine).await;
            return Err(step("save the machine")(io::Error::other(error)));
        }
        berth.settle();
        lock(&self.machine).take();
        end_machine(machine).await;
        *phase = Phase::Asleep(berth);
        Ok(())
    }

    /// After a save that failed: the machine runs on, or is over.
    async fn go_on(&self, machine: &Machine) {
        let went_on = async {
            if machine.is_called_anew() {
                self.link.let_go();
            }
            match machine.proceed().await? {
                Some(socket) => self.link.awaken(socket, &awake(self.seat.as_ref())?, PATIENCE).await?,
                None => self.link.awaken_again(&awake(self.seat.as_ref())?, PATIENCE).await?,
            };
            Ok::<_, StartError>(())
        };
        if let Err(error) = went_on.await {
            tracing::warn!(instance = %self.name, error = &error as &dyn std::error::Error, "a machine is lost");
            self.link.end();
        }
    }

    fn rest(&self) {
        // Who has the turn speaks with its VMM.
        let Ok(phase) = self.phase.try_lock() else { return };
        let machine = lock(&self.machine).clone();
        if let (Phase::Running(_), Some(machine)) = (&*phase, machine) {
            self.link.rest(&machine.process);
        }
    }

    async fn resume(&self) -> Result<(), PauseError> {
        let mut phase = self.phase.lock().await;
        let berth = match std::mem::replace(&mut *phase, Phase::Gone) {
            Phase::Asleep(berth) => berth,
            running @ Phase::Running(_) => {
                *phase = running;
                return Ok(());
            }
            Phase::Gone => return Err(PauseError::Gone),
        };
        if let Err(error) = self.start(Origin::Whole { state: &berth.file }, None).await {
            self.link.end();
            return Err(PauseError::Step { step: "wake the machine", source: io::Error::other(error) });
        }
        *phase = Phase::Running(Some(berth));
        Ok(())
    }

    pub(super) async fn destroy(&self) {
        self.link.end();
        // Whoever has the turn is not waited for: without a machine they come to their end.
        let machine = lock(&self.machine).take();
        if let Some(machine) = machine {
            end_machine(machine).await;
        }
        let mut phase = self.phase.lock().await;
        *phase = Phase::Gone;
        let machine = lock(&self.machine).take();
        if let Some(machine) = machine {
            end_machine(machine).await;
        }
    }

    fn stats(&self) -> Stats {
        let Some(machine) = lock(&self.machine).clone() else { return Stats::default() };
        let host = machine.process.stats();
        let guest = self.link.usage();
        Stats {
            // What the machine costs; the other two are of the function, as its agent says.
            memory_bytes: host.memory_bytes,
            memory_peak_bytes: guest.memory_peak_bytes,
            oom_kills: guest.oom_kills,
            cpu_us: host.cpu_us,
        }
    }
}

async fn end_machine(machine: Arc<Machine>) {
    let ended = tokio::task::spawn_blocking(move || machine.process.destroy()).await;
    if let Err(error) = ended {
        tracing::warn!(%error, "ending a machine broke off");
    }
}

/// Tells those who wait for a machine when it is no more.
async fn watch(name: String, link: Link, machine: std::sync::Weak<Machine>) {
    let Some(machine) = machine.upgrade() else { return };
    let said = machine.process.ended().await;
    if !machine.process.was_destroyed() {
        tracing::info!(instance = %name, %said, "a machine ended by itself");
        link.end();
    }
}

impl Sandbox for MicroVmSandbox {
    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move { Ok(Box::new(self.inner.link.accept().await?) as Box<dyn Io>) })
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move { Ok(Box::new(self.inner.link.connect(port, PATIENCE).await?) as Box<dyn Io>) })
    }

    fn spawn(&self, process: ProcessSpec) -> BoxFuture<'_, Result<Process, SpawnError>> {
        Box::pin(async move {
            let program = process.argv.first().cloned().unwrap_or_default();
            let exec = |source| SpawnError::Exec { program: program.clone(), source };
            let environment = process.environment.iter().map(|(name, value)| format!("{name}={value}"));
            let directory = process.working_directory.to_string_lossy().into_owned();
            let spawned = self.inner.link.spawn(process.argv, environment.collect(), directory);
            let spawned = spawned.map_err(|error| match error {
                LinkError::TooLong(_) => exec(io::Error::from_raw_os_error(libc::E2BIG)),
                _ => SpawnError::Gone,
            })?;
            match tokio::time::timeout(PATIENCE, spawned.starting).await {
                Ok(Ok(Ok(()))) => Ok(Process { output: spawned.output, exit: spawned.exit }),
                Ok(Ok(Err(error))) => Err(exec(error)),
                Ok(Err(_gone)) => Err(SpawnError::Gone),
                Err(_late) => Err(exec(io::ErrorKind::TimedOut.into())),
            }
        })
    }

    fn terminate(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.inner.link.terminate() })
    }

    fn rest(&self) {
        self.inner.rest();
    }

    fn pause(&self) -> BoxFuture<'_, Result<(), PauseError>> {
        Box::pin(self.inner.pause())
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), PauseError>> {
        Box::pin(self.inner.resume())
    }

    fn snapshot<'a>(&'a self, key: &'a str, note: &'a str) -> BoxFuture<'a, Result<(), PauseError>> {
        Box::pin(self.inner.snapshot(key, note))
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn destroy(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.destroy())
    }
}

impl Drop for MicroVmSandbox {
    fn drop(&mut self) {
        let inner = Arc::clone(&self.inner);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { inner.destroy().await });
        }
    }
}
