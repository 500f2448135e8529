//! Templates: a machine for each kernel, root and shape, booted once and cloned ever after.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hearth_rootfs::Image;
use hearth_wire::PROTOCOL;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::link::{Link, LinkError};
use super::process::memory_file;
use super::snapshot::{Medium, Snapshot, SnapshotError, Snapshots, copy_pieces, hex};
use super::vmm::{Machine, MachineOrder, Origin, Shape, Vmm, VmmError};
use super::{AGENT, MicroVmConfig, MicroVmError, Shared, step};

/// How long each attempt to boot may take; emulated, one takes about three seconds, and more where others are at it.
const BOOT_DEADLINES: [Duration; 4] =
    [Duration::from_secs(7), Duration::from_secs(12), Duration::from_secs(20), Duration::from_secs(60)];
/// On hardware a machine boots in a few hundred milliseconds. What offers KVM and does not is no hardware.
pub(super) const KVM_DEADLINE: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(10);
/// What disks a clone may have, bytes: the kernel in it knows no other size than that of its template's.
pub(super) const MAX_DISK: u64 = 16 << 30;
/// The part of the machine's memory that loaded templates may have: one of so many. One template has about a hundred
/// megabytes.
const LOADED_PART: u64 = 8;
/// A change of this number makes all templates anew.
const FORMAT: u32 = 3;

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub(super) enum TemplateError {
    /// A step on the worker's side.
    #[error("cannot {step}")]
    Step {
        /// An infinitive.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The VMM did not do it.
    #[error(transparent)]
    Vmm(#[from] VmmError),
    /// The agent did not do it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The machine ended.
    #[error("the machine ended while it booted: {0}")]
    Ended(String),
    /// The agent is of another version than the worker, which embeds it.
    #[error("the machine's agent speaks protocol {0}")]
    Protocol(u32),
    /// It could not be written.
    #[error("cannot keep the template")]
    Keep(#[source] SnapshotError),
}

/// A machine to clone: one that waits for a function, or one in which a function waits.
#[derive(Debug)]
pub(super) struct Template {
    /// The hash of all that it depends on.
    pub(super) name: String,
    pub(super) snapshot: Snapshot,
    pub(super) root: Image,
    pub(super) shape: Shape,
}

/// A machine that was booted and saved.
struct Booted {
    machine: Machine,
    snapshot: Snapshot,
    /// From the decision to its agent's first word.
    took: Duration,
}

/// A template's place while it is used or made.
type Slot = Arc<OnceCell<Arc<Template>>>;

/// Finds templates, and makes those that are not there.
#[derive(Debug)]
pub(super) struct Templates {
    snapshots: Snapshots,
    kernel: PathBuf,
    kernel_id: String,
    initramfs: PathBuf,
    initramfs_sha256: String,
    blank_disk: PathBuf,
    /// What those in memory may have, bytes.
    loaded_bytes: u64,
    /// The one used last is last.
    slots: Mutex<Vec<(String, Slot)>>,
}

/// All of this machine's memory.
fn machine_bytes() -> u64 {
    let machine = rustix::system::sysinfo();
    machine.totalram * u64::from(machine.mem_unit)
}

/// One short name for all of `words`.
pub(super) fn hash_of(words: &[&str]) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word.len().to_le_bytes());
        hash.update(word);
    }
    hex(hash.finalize().get(..16).unwrap_or_default())
}

// === impl Template ===

impl Template {
    /// A copy of its memory that a machine can have for itself.
    pub(super) fn copy_memory(&self) -> io::Result<File> {
        let copy = memory_file("function", self.shape.memory_mb << 20)?;
        copy_pieces(&self.snapshot.memory, &copy)?;
        Ok(copy)
    }

    /// Whether its memory can be found on disk still: others may have made room.
    fn has_a_name(&self) -> bool {
        let memory = self.snapshot.memory.metadata();
        memory.is_ok_and(|file| std::os::unix::fs::MetadataExt::nlink(&file) > 0)
    }

    /// What it has in memory.
    fn bytes(&self) -> u64 {
        self.snapshot.memory.metadata().map_or(0, |file| std::os::unix::fs::MetadataExt::blocks(&file) * 512)
    }
}

// === impl Templates ===

impl Templates {
    pub(super) fn new(config: &MicroVmConfig, vmm: &Vmm, snapshots: Snapshots) -> Result<Self, MicroVmError> {
        let initramfs = config.kernel.initramfs(AGENT).map_err(MicroVmError::Kernel)?;
        let path = config.directory.join("initramfs");
        fs::write(&path, &initramfs).map_err(step("write the initramfs"))?;
        let blank_disk = config.directory.join("blank-disk");
        let made = File::create(&blank_disk).and_then(|disk| disk.set_len(MAX_DISK));
        made.map_err(step("make a blank disk"))?;
        for path in [&path, &blank_disk] {
            let all = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            fs::set_permissions(path, all).map_err(step("open a file to VMMs"))?;
        }
        let packed = config.kernel.vmlinuz().filter(|_| !vmm.boots_elf_only());
        let kernel = packed.unwrap_or_else(|| config.kernel.vmlinux());
        Ok(Self {
            snapshots,
            kernel,
            kernel_id: config.kernel.id().to_owned(),
            initramfs: path,
            initramfs_sha256: hex(&Sha256::digest(&initramfs)),
            blank_disk,
            loaded_bytes: machine_bytes() / LOADED_PART,
            slots: Mutex::default(),
        })
    }

    /// The template for machines of that root and size. Made once, however many ask; that takes seconds.
    pub(super) async fn get(
        &self,
        shared: &Arc<Shared>,
        root: &Image,
        shape: Shape,
    ) -> Result<Arc<Template>, TemplateError> {
        let name = self.name(shared, root, shape);
        let slot = self.slot(&name);
        let made = slot.get_or_try_init(|| async {
            let snapshot = match self.load(shared, &name).await {
                Ok(snapshot) => snapshot,
                Err(reason) => {
                    if !matches!(reason, SnapshotError::Absent) {
                        tracing::warn!(%reason, template = %name, "a template is made again");
                    }
                    self.boot(shared, root, shape, &name).await?
                }
            };
            Ok(Arc::new(Template { name: name.clone(), snapshot, root: root.clone(), shape }))
        });
        let made = made.await.cloned();
        self.forget_the_oldest();
        made
    }

    /// The snapshot of that name of a machine like `template`'s, if there is one.
    pub(super) async fn kept(
        &self,
        shared: &Arc<Shared>,
        template: &Template,
        name: String,
    ) -> Result<Arc<Template>, SnapshotError> {
        let slot = self.slot(&name);
        let found = slot.get_or_try_init(|| async {
            let snapshot = self.load(shared, &name).await?;
            Ok(Arc::new(Template {
                name: name.clone(),
                snapshot,
                root: template.root.clone(),
                shape: template.shape,
            }))
        });
        let found = found.await.cloned();
        self.forget_the_oldest();
        found
    }

    /// Keeps a machine, which has ended, for [`Self::kept`]. Blocks.
    pub(super) fn keep(&self, kept: Template) -> Result<(), SnapshotError> {
        let Template { name, snapshot, root, shape } = kept;
        let snapshot = self.snapshots.keep(&name, snapshot)?;
        let slot = self.slot(&name);
        let kept = Template { name, snapshot, root, shape };
        // Who was as fast has kept the same.
        let _ = slot.set(Arc::new(kept));
        self.forget_the_oldest();
        Ok(())
    }

    /// Lets go of templates that take more memory than they may; clones that live go on, the next one loads its own again.
    fn forget_the_oldest(&self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = |slot: &Slot| slot.get().map_or(0, |template| template.bytes());
        let mut total: u64 = slots.iter().map(|(_, slot)| bytes(slot)).sum();
        while total > self.loaded_bytes && slots.len() > 1 {
            let (_, oldest) = slots.remove(0);
            total -= bytes(&oldest);
        }
    }

    /// Whether KVM boots this kernel on this machine, found out by booting it. The answer is kept until the machine restarts.
    pub(super) async fn kvm_boots(
        &self,
        shared: &Arc<Shared>,
        patience: Duration,
    ) -> Result<bool, TemplateError> {
        let step = |step| move |source| TemplateError::Step { step, source };
        let machine = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let kept =
            self.snapshots.directory().join(format!("kvm-{}-{}", shared.vmm.isolation(), self.kernel_id));
        let answer = |boots: bool| {
            let boots = if boots { "boots" } else { "does not boot" };
            format!("{} {boots} in {} s", machine.trim(), patience.as_secs())
        };
        match fs::read_to_string(&kept).unwrap_or_default() {
            known if known == answer(true) => return Ok(true),
            known if known == answer(false) => return Ok(false),
            _ => {}
        }
        let for_image = Arc::clone(shared);
        let root = tokio::task::spawn_blocking(move || for_image.images.base(&[])).await;
        let root = root.map_err(|error| step("make a root")(io::Error::other(error)))?;
        let root = root.map_err(|error| step("make a root")(io::Error::other(error)))?;
        let shape = Shape { memory_mb: 192, vcpus: 1, network: false };
        let boots = match self.boot_once(shared, &root, shape, "kvm", patience).await {
            Ok(Booted { machine, .. }) => {
                let _ = tokio::task::spawn_blocking(move || machine.process.destroy()).await;
                true
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "KVM is offered and boots no machine"
                );
                false
            }
        };
        fs::write(kept, answer(boots)).map_err(step("note whether KVM works"))?;
        Ok(boots)
    }

    /// Boots a machine and ends it: how long it took to its agent's first word.
    pub(super) async fn time_boot(
        &self,
        shared: &Arc<Shared>,
        root: &Image,
        shape: Shape,
    ) -> Result<Duration, TemplateError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("boot-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let [.., patience] = BOOT_DEADLINES;
        let Booted { machine, took, .. } = self.boot_once(shared, root, shape, &name, patience).await?;
        let _ = tokio::task::spawn_blocking(move || machine.process.destroy()).await;
        Ok(took)
    }

    /// Everything that a template depends on.
    fn name(&self, shared: &Shared, root: &Image, shape: Shape) -> String {
        hash_of(&[
            &FORMAT.to_string(),
            &PROTOCOL.to_string(),
            &shared.vmm.identity(),
            &self.kernel_id,
            root.id(),
            &format!("{} {} {}", shape.memory_mb, shape.vcpus, shape.network),
            &self.initramfs_sha256,
        ])
    }

    fn slot(&self, name: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.iter().position(|(other, _)| other == name);
        let known = known.map(|place| slots.remove(place).1);
        let by_name = self.snapshots.medium() == Medium::Disk;
        let is_there = |slot: &Slot| slot.get().is_none_or(|template| !by_name || template.has_a_name());
        let slot = known.filter(is_there).unwrap_or_default();
        slots.push((name.to_owned(), Arc::clone(&slot)));
        slot
    }

    async fn load(&self, shared: &Arc<Shared>, name: &str) -> Result<Snapshot, SnapshotError> {
        let (shared, name) = (Arc::clone(shared), name.to_owned());
        let loaded = tokio::task::spawn_blocking(move || shared.templates.snapshots.load(&name)).await;
        loaded.unwrap_or(Err(SnapshotError::Absent))
    }

    async fn boot(
        &self,
        shared: &Arc<Shared>,
        root: &Image,
        shape: Shape,
        name: &str,
    ) -> Result<Snapshot, TemplateError> {
        let began = Instant::now();
        let mut attempt = 0;
        let Booted { machine, snapshot, .. } = loop {
            let deadline = BOOT_DEADLINES.get(attempt).copied().unwrap_or(SILENCE);
            attempt += 1;
            match self.boot_once(shared, root, shape, name, deadline).await {
                Err(TemplateError::Link(LinkError::Silent(_))) if attempt < BOOT_DEADLINES.len() => {
                    tracing::info!(attempt, template = %name, "a machine did not boot; another try");
                }
                booted => break booted?,
            }
        };
        let (shared, name) = (Arc::clone(shared), name.to_owned());
        let kept = tokio::task::spawn_blocking(move || {
            // Nobody has the memory mapped for writing any more.
            machine.process.destroy();
            shared.templates.snapshots.keep(&name, snapshot)
        });
        let kept = kept.await.map_err(|error| TemplateError::Step {
            step: "keep the template",
            source: io::Error::other(error),
        })?;
        tracing::info!(
            seconds = began.elapsed().as_secs_f32(),
            memory_mb = shape.memory_mb,
            "booted a template"
        );
        kept.map_err(TemplateError::Keep)
    }

    /// Boots a machine and saves it.
    async fn boot_once(
        &self,
        shared: &Arc<Shared>,
        root: &Image,
        shape: Shape,
        name: &str,
        deadline: Duration,
    ) -> Result<Booted, TemplateError> {
        let step = |step| move |source| TemplateError::Step { step, source };
        let memory = memory_file("template", shape.memory_mb << 20).map_err(step("make room in memory"))?;
        let blank = File::open(&self.blank_disk).map_err(step("open a blank disk"))?;
        let scratch = File::options().read(true).write(true).open(&self.blank_disk);
        let scratch = scratch.map_err(step("open a blank disk"))?;
        let order = MachineOrder {
            name: format!("template-{name}"),
            shape,
            // A boot is waited for: it gets what there is.
            cpu_millis: 1_000 * shape.vcpus,
            origin: Origin::Boot { kernel: &self.kernel, initramfs: &self.initramfs, memory: &memory },
            disks: [root.file(), &blank, &scratch],
            network: None,
        };
        let began = Instant::now();
        let started = tokio::time::timeout(deadline, shared.vmm.start(&shared.host, order)).await;
        let (machine, socket) = started.map_err(|_late| LinkError::Silent(deadline))??;
        let link = Link::new();
        let booted = async {
            machine.process.confine().await.map_err(step("put the machine under its limits"))?;
            let protocol = link.greet(socket, deadline).await?;
            if protocol != PROTOCOL {
                return Err(TemplateError::Protocol(protocol));
            }
            let took = began.elapsed();
            tracing::debug!(boot_ms = took.as_millis(), "a machine booted");
            link.quiesce(SILENCE).await?;
            let memory = memory.try_clone().map_err(step("save the machine"))?;
            let (memory, state) = machine.save(memory).await?;
            Ok((Snapshot { memory, state, disk: None, note: String::new() }, took))
        };
        let booted = tokio::select! {
            booted = booted => booted,
            said = machine.process.ended() => Err(TemplateError::Ended(said)),
        };
        match booted {
            Ok((snapshot, took)) => Ok(Booted { machine, snapshot, took }),
            Err(error) => {
                // Its end takes a moment, which is not to be had here.
                let _ = tokio::task::spawn_blocking(move || machine.process.destroy()).await;
                Err(error)
            }
        }
    }
}
