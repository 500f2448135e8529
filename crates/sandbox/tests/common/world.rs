//! A driver of a test's own, and short ways to run things in its sandboxes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_sandbox::{Driver, Exit, ProcessSpec, Recovered, Root, Sandbox, SandboxSpec};
use hearth_types::InstanceId;
use libtest_mimic::{Failed, Trial};
use tokio::io::AsyncReadExt;

/// No step of these tests takes this long unless something hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// More output than this is not looked at.
pub(crate) const MAX_OUTPUT: u64 = 1 << 20;

pub(crate) struct World {
    pub(crate) driver: Arc<dyn Driver>,
    #[allow(dead_code, reason = "not every driver's tests look at it")]
    pub(crate) recovered: Recovered,
    pub(crate) name: String,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) fn trial<F, T>(name: &'static str, test: F) -> Trial
where
    F: FnOnce(World) -> T + Send + 'static,
    T: Future<Output = World> + 'static,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let world = World::open(&format!("test-{}-{name}", std::process::id())).await;
            let driver = Arc::clone(&world.driver);
            // A task of its own, so that the driver is closed, and leaves nothing, however the test ends.
            let mut tested = tokio::task::JoinSet::new();
            let local = tokio::task::LocalSet::new();
            tested.spawn_local_on(test(world), &local);
            let ended = local.run_until(tokio::time::timeout(DEADLINE, tested.join_next())).await;
            drop((tested, local));
            driver.close().await;
            match ended {
                Err(_) => Err(Failed::from("it hangs")),
                Ok(Some(Err(panicked))) if panicked.is_panic() => {
                    std::panic::resume_unwind(panicked.into_panic())
                }
                Ok(_) => Ok(()),
            }
        })
    })
}

impl World {
    pub(crate) async fn open(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (driver, recovered) = crate::open(name, &directory.path().join("sandbox")).await;
        Self { driver, recovered, name: name.to_owned(), directory }
    }

    pub(crate) async fn sandbox(&self) -> Box<dyn Sandbox> {
        self.driver.create(spec()).await.unwrap()
    }
}

pub(crate) fn spec() -> SandboxSpec {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    SandboxSpec {
        instance: InstanceId::new(u64::from(std::process::id()), NUMBER.fetch_add(1, Ordering::Relaxed)),
        root: Root::Host,
        mounts: Vec::new(),
        memory_bytes: 64 << 20,
        cpu_millis: 500,
        processes: 64,
        open_files: 256,
        scratch_bytes: 16 << 20,
        egress: hearth_types::Egress::None,
    }
}

pub(crate) fn process(argv: &[&str]) -> ProcessSpec {
    ProcessSpec {
        argv: argv.iter().map(|part| (*part).to_owned()).collect(),
        environment: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        working_directory: "/tmp".into(),
    }
}

/// Runs a shell script to its end: how it ended, and what it wrote.
pub(crate) async fn shell(sandbox: &dyn Sandbox, script: &str) -> (Exit, String) {
    let process = sandbox.spawn(process(&["/bin/sh", "-c", script])).await.unwrap();
    let mut output = String::new();
    process.output.take(MAX_OUTPUT).read_to_string(&mut output).await.unwrap();
    (process.exit.await.unwrap_or(Exit::SandboxGone), output)
}

/// Waits until something holds.
#[allow(dead_code, reason = "not every driver's tests have to")]
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
