//! How long micro-VMs take: cloned, a program run in one, ended; and what many cost side by side.
//!
//! `cargo run --release -p hearth-sandbox --example clone_time [RUNS] [ALIVE]`: prints one line of JSON.
//! Needs a kernel (`hearth kernel add`), QEMU and erofs-utils.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hearth_kernel::Kernels;
use hearth_rootfs::Images;
use hearth_sandbox::{
    Driver, Exit, MicroVm, MicroVmConfig, ProcessSpec, Root, Sandbox, SandboxSpec, VmmConfig,
};
use hearth_types::InstanceId;

/// Keeps the times in which the driver says that machines ran again.
#[derive(Clone, Default)]
struct Restores(Arc<Mutex<Vec<Duration>>>);

impl tracing::Subscriber for Restores {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("hearth_sandbox::microvm")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

impl tracing::field::Visit for Restores {
    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        if field.name() == "microseconds" {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Duration::from_micros(value));
        }
    }
    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
}

fn main() -> ExitCode {
    let measured = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(measure()));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot measure: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Result<(), Box<dyn Error>> {
    let restores = Restores::default();
    tracing::subscriber::set_global_default(restores.clone())?;
    let runs = std::env::args().nth(1).map_or(Ok(100), |runs| runs.parse())?;
    let alive = std::env::args().nth(2).map_or(Ok(50), |alive| alive.parse())?;
    let directory = std::env::temp_dir().join(format!("hearth-clone-time-{}", std::process::id()));
    let config = MicroVmConfig {
        name: format!("clone-time-{}", std::process::id()),
        directory: directory.join("driver"),
        snapshots: directory.join("templates"),
        kernel: Kernels::open(Kernels::default_home())?.newest()?,
        images: Arc::new(Images::open(directory.join("images"), 8 << 30)?),
        vmm: VmmConfig::Qemu { program: "/usr/bin/qemu-system-x86_64".into(), kvm: false, emulate: true },
        snapshot_bytes: 8 << 30,
        hibernation_bytes: 8 << 30,
        resolvers: Vec::new(),
    };
    let (driver, _) = MicroVm::open(config).await?;
    let start = Instant::now();
    run(&*driver.create(spec(0)).await?).await?;
    let first = start.elapsed();
    let one = restores.0.lock().unwrap_or_else(PoisonError::into_inner).len();
    let mut times = one_by_one(&driver, runs).await?;
    let running = restores.0.lock().unwrap_or_else(PoisonError::into_inner).split_off(one);
    hibernated(&driver, runs / 5, &mut times).await?;
    let crowd = side_by_side(&driver, alive).await?;
    driver.close().await;
    std::fs::remove_dir_all(directory)?;
    let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    let summary = |mut times: Vec<Duration>| {
        times.sort();
        let at = |percent: usize| {
            times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied()
        };
        serde_json::json!({ "p50_ms": at(50).map(ms), "p99_ms": at(99).map(ms) })
    };
    let report = serde_json::json!({
        "accelerator": "emulation (TCG)",
        "runs": runs,
        "boot_and_first_clone_ms": ms(first),
        "running_again": summary(running),
        "made": summary(times.made),
        "clone_and_program": summary(times.answered),
        "hibernate": summary(times.slept),
        "wake": summary(times.woken),
        "end": summary(times.ended),
        "alive": crowd.reached,
        "all_made_ms": ms(crowd.all_made),
        "memory_each_mib": crowd.each >> 20,
        "memory_each_after_a_program_mib": crowd.each_used >> 20,
    });
    println!("{report}");
    Ok(())
}

/// How long each step took.
#[derive(Default)]
struct Times {
    made: Vec<Duration>,
    answered: Vec<Duration>,
    slept: Vec<Duration>,
    woken: Vec<Duration>,
    ended: Vec<Duration>,
}

async fn one_by_one(driver: &MicroVm, runs: u64) -> Result<Times, Box<dyn Error>> {
    let mut times = Times::default();
    for number in 1..=runs {
        let start = Instant::now();
        let sandbox = driver.create(spec(number)).await?;
        times.made.push(start.elapsed());
        run(&*sandbox).await?;
        times.answered.push(start.elapsed());
        let start = Instant::now();
        sandbox.destroy().await;
        times.ended.push(start.elapsed());
    }
    Ok(times)
}

/// Machines that live at once.
struct Crowd {
    reached: usize,
    all_made: Duration,
    /// Own memory of each, bytes: idle, and after a program ran in it.
    each: u64,
    each_used: u64,
}

async fn side_by_side(driver: &MicroVm, alive: u64) -> Result<Crowd, Box<dyn Error>> {
    let start = Instant::now();
    let before = driver.memory_bytes();
    let mut all = Vec::new();
    for number in 0..alive {
        match driver.create(spec(1_000_000 + number)).await {
            Ok(sandbox) => {
                // As a worker says of one that waits for its next invocation.
                sandbox.rest();
                all.push(sandbox);
            }
            Err(error) => {
                eprintln!("with {} alive another cannot be made: {error}", all.len());
                break;
            }
        }
    }
    let all_made = start.elapsed();
    let each = driver.memory_bytes().saturating_sub(before) / all.len().max(1) as u64;
    for sandbox in &all {
        run(&**sandbox).await?;
        sandbox.rest();
    }
    let each_used = driver.memory_bytes().saturating_sub(before) / all.len().max(1) as u64;
    Ok(Crowd { reached: all.len(), all_made, each, each_used })
}

/// Hibernates and wakes machines.
async fn hibernated(driver: &MicroVm, runs: u64, times: &mut Times) -> Result<(), Box<dyn Error>> {
    for number in 0..runs {
        let sandbox = driver.create(spec(2_000_000 + number)).await?;
        run(&*sandbox).await?;
        let start = Instant::now();
        sandbox.pause().await?;
        times.slept.push(start.elapsed());
        let start = Instant::now();
        sandbox.resume().await?;
        times.woken.push(start.elapsed());
        run(&*sandbox).await?;
        sandbox.destroy().await;
    }
    Ok(())
}

/// Has a sandbox prove that it works.
async fn run(sandbox: &dyn Sandbox) -> Result<(), Box<dyn Error>> {
    let process = ProcessSpec {
        argv: ["/bin/sh", "-c", "exit 7"].map(str::to_owned).into(),
        environment: BTreeMap::new(),
        working_directory: "/".into(),
    };
    let exit = sandbox.spawn(process).await?.exit.await?;
    if exit == Exit::Status(7) { Ok(()) } else { Err(format!("the program ended with {exit:?}").into()) }
}

fn spec(number: u64) -> SandboxSpec {
    SandboxSpec {
        instance: InstanceId::new(1, number),
        root: Root::Host,
        mounts: Vec::new(),
        memory_bytes: 128 << 20,
        cpu_millis: 1_000,
        processes: 64,
        open_files: 256,
        scratch_bytes: 512 << 20,
        egress: hearth_types::Egress::None,
    }
}
