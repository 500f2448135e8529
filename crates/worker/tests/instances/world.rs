//! A worker of a test's own, and short ways to run programs in its instances.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_sandbox::{BoxFuture, Container, ContainerConfig, Driver, ReadOnlyMount};
use hearth_types::{
    Answer, BlankKind, CodeDigest, Concurrency, EndReason, FunctionId, FunctionSpec, InstanceId, Invocation,
    InvokeError, Isolation, KeepAlive, Queue, Reply, RequestId, RevisionId, StartReason, StreamedAnswer,
    Version, VersionId, WorkerId,
};
use hearth_worker::{Launch, LaunchAhead, LaunchError, Launcher, Logs, Worker, WorkerConfig, WorkerEvent};
use libtest_mimic::{Failed, Trial};
use tokio::sync::mpsc;

/// No test takes this long unless something hangs.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) worker: Worker,
    pub(crate) driver: Arc<Container>,
    pub(crate) events: mpsc::Receiver<(WorkerId, WorkerEvent)>,
    pub(crate) directory: tempfile::TempDir,
    seen: VecDeque<WorkerEvent>,
}

/// Runs what the spec's environment variable `TEST_CODE` names, a directory of the test's.
struct TestLauncher;

/// The last argument of a program that waits in a blank.
pub(crate) const WAITS: &str = "waits-in-a-blank";

impl Launcher for TestLauncher {
    fn launch<'a>(&'a self, spec: &'a FunctionSpec) -> BoxFuture<'a, Result<Launch, LaunchError>> {
        Box::pin(async move {
            let Some(code) = spec.environment.get("TEST_CODE").map(PathBuf::from) else {
                return Err(LaunchError::new(&std::io::Error::other("there is no code")));
            };
            let mut mounts = vec![ReadOnlyMount { source: code.clone(), target: "/var/task".into() }];
            let mut extensions = Vec::new();
            let opt = code.join("opt");
            if opt.exists() {
                for entry in std::fs::read_dir(opt.join("extensions")).unwrap() {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    extensions.push(format!("/opt/extensions/{name}"));
                }
                mounts.push(ReadOnlyMount { source: opt, target: "/opt".into() });
            }
            Ok(Launch {
                mounts,
                argv: vec!["/var/task/bootstrap".into()],
                working_directory: "/var/task".into(),
                extensions,
                ..Launch::default()
            })
        })
    }

    /// A program that waits as an interpreter's client does, and is no function's.
    fn launch_ahead<'a>(&'a self, _: &'a BlankKind) -> BoxFuture<'a, Result<LaunchAhead, LaunchError>> {
        let argv = ["/bin/bash", "-c", "printf . >&0; read -r line", WAITS].map(str::to_owned).to_vec();
        Box::pin(async { Ok(LaunchAhead { argv, ..LaunchAhead::default() }) })
    }
}

pub(crate) fn trial<F, T>(name: &'static str, test: F) -> Trial
where
    F: FnOnce(World) -> T + Send + 'static,
    T: Future<Output = World>,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let world = World::open(&format!("worker-{}-{name}", std::process::id())).await;
            let tested = tokio::time::timeout(DEADLINE, test(world)).await;
            let world = tested.map_err(|_| Failed::from("it hangs"))?;
            world.worker.shutdown(Duration::from_secs(5)).await;
            assert!(world.worker.instances().is_empty());
            world.driver.close().await;
            Ok(())
        })
    })
}

pub(crate) fn function() -> FunctionId {
    FunctionId { account: "123456789012".parse().unwrap(), name: "probe".into() }
}

impl World {
    async fn open(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The sandbox's user comes from elsewhere, and the code is below.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = ContainerConfig {
            name: name.to_owned(),
            directory: directory.path().join("sandbox"),
            program: std::env::current_exe().unwrap(),
            resolvers: Vec::new(),
        };
        let driver = Arc::new(Container::open(config).await.unwrap().0);
        let (sender, events) = mpsc::channel(64);
        let config = WorkerConfig {
            id: WorkerId::new("test"),
            logs: Logs::open(directory.path().join("logs"), 1 << 20).unwrap(),
            events: sender,
        };
        let worker = Worker::new(config, Arc::clone(&driver) as Arc<dyn Driver>, Arc::new(TestLauncher));
        Self { worker, driver, events, directory, seen: VecDeque::new() }
    }

    /// A directory with this bootstrap.
    pub(crate) fn code(&self, bootstrap: &str, mode: u32) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = self.directory.path().join(format!("code-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&path).unwrap();
        write(&path.join("bootstrap"), bootstrap, mode);
        write(&path.join("client.py"), include_str!("client.py"), 0o644);
        path
    }

    /// A function whose bootstrap is this Python program, after the client is imported.
    pub(crate) fn python(&self, program: &str) -> FunctionSpec {
        spec(&self.code(&python(program), 0o755))
    }

    pub(crate) fn create(&self, spec: FunctionSpec) -> InstanceId {
        self.create_of(None, spec)
    }

    /// An instance of a blank.
    pub(crate) fn create_of(&self, blank: Option<InstanceId>, spec: FunctionSpec) -> InstanceId {
        let id = Self::number();
        self.worker.create(id, (Arc::new(spec), None), StartReason::Request, blank);
        id
    }

    /// A blank of which instances of that function can be made, some time.
    pub(crate) fn make_blank(&self, spec: &FunctionSpec) -> InstanceId {
        let id = Self::number();
        self.worker.make_blank(id, spec.blank_kind());
        id
    }

    fn number() -> InstanceId {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        InstanceId::new(u64::from(std::process::id()), NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// An instance that is ready, and how long its init took.
    pub(crate) async fn ready(&mut self, spec: FunctionSpec) -> InstanceId {
        let id = self.create(spec);
        match self.event_of(id).await {
            WorkerEvent::InstanceReady { .. } => id,
            other => panic!("not ready but {other:?}"),
        }
    }

    pub(crate) async fn event_of(&mut self, id: InstanceId) -> WorkerEvent {
        let of = |event: &WorkerEvent| match event {
            WorkerEvent::InstanceReady { instance, .. }
            | WorkerEvent::InstanceFailed { instance, .. }
            | WorkerEvent::InstanceGone { instance, .. }
            | WorkerEvent::BlankReady { blank: instance, .. }
            | WorkerEvent::BlankGone { blank: instance, .. } => *instance,
        };
        if let Some(place) = self.seen.iter().position(|event| of(event) == id) {
            return self.seen.remove(place).unwrap();
        }
        loop {
            let (_, event) = self.events.recv().await.unwrap();
            if of(&event) == id {
                return event;
            }
            self.seen.push_back(event);
        }
    }

    /// Waits for the instance's last event.
    pub(crate) async fn gone(&mut self, id: InstanceId) -> EndReason {
        match self.event_of(id).await {
            WorkerEvent::InstanceGone { reason, .. } => reason,
            other => panic!("not gone but {other:?}"),
        }
    }

    pub(crate) async fn invoke(&self, id: InstanceId, event: &str) -> Result<Answer, InvokeError> {
        self.worker.invoke(id, invocation(event)).await
    }

    /// The stream that the function answers with.
    pub(crate) async fn stream(&self, id: InstanceId, event: &str) -> StreamedAnswer {
        match self.worker.invoke_streamed(id, invocation(event)).await.unwrap() {
            Reply::Streamed(answer) => answer,
            Reply::Whole(answer) => panic!("no stream but {answer:?}"),
        }
    }

    /// The value that the function answers.
    pub(crate) async fn value(&self, id: InstanceId, event: &str) -> serde_json::Value {
        let answer = self.invoke(id, event).await.unwrap();
        assert_eq!(answer.error, None, "{answer:?}");
        assert!(answer.reusable);
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// Waits until something holds of the worker.
    pub(crate) async fn until(&self, holds: impl Fn(&Worker) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !holds(&self.worker) {
            assert!(tokio::time::Instant::now() < deadline, "it did not come about");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until an instance is in a state.
    pub(crate) async fn until_state(&self, id: InstanceId, state: &str) {
        self.until(|worker| worker.instances().iter().any(|one| one.id == id && one.state == state)).await;
    }

    pub(crate) async fn log(&self) -> Vec<String> {
        let logs = self.worker.logs().clone();
        let lines = tokio::task::spawn_blocking(move || logs.read(&function(), usize::MAX, 0))
            .await
            .unwrap()
            .unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn python(program: &str) -> String {
    format!(
        "#!/usr/bin/python3 -u\nimport sys\nsys.path.insert(0, '/var/task')\nfrom client import *\n{program}\n"
    )
}

pub(crate) fn invocation(event: &str) -> Invocation {
    Invocation {
        request_id: RequestId::random(),
        payload: event.to_owned().into(),
        invoked_arn: "arn:aws:lambda:us-east-1:123456789012:function:probe".to_owned(),
        client_context: None,
        tenant: None,
        trace: None,
        wants_log_tail: true,
    }
}

pub(crate) fn spec(code: &Path) -> FunctionSpec {
    FunctionSpec {
        revision: RevisionId {
            version: VersionId { function: function(), version: Version::Latest },
            number: 1,
        },
        arn: "arn:aws:lambda:us-east-1:123456789012:function:probe".to_owned(),
        region: "us-east-1".to_owned(),
        runtime: "provided.al2023".parse().unwrap(),
        handler: "app.handler".to_owned(),
        code: CodeDigest([0; 32]),
        image: None,
        memory_mb: 128,
        timeout: Duration::from_secs(10),
        ephemeral_mb: 512,
        environment: [("TEST_CODE".to_owned(), code.to_str().unwrap().to_owned())].into(),
        isolation: Some(Isolation::Container),
        egress: hearth_types::Egress::None,
        concurrency: Concurrency::default(),
        layers: Vec::new(),
        snap_start: false,
        per_tenant: false,
        logging: hearth_types::Logging::default(),
        idle_timeout: Duration::from_secs(300),
        keep_alive: KeepAlive::Fixed,
        http: None,
        queue: Queue::default(),
        reserved_concurrency: None,
    }
}

/// The payload as JSON.
pub(crate) fn document(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.payload).unwrap_or_else(|_| panic!("no JSON: {:?}", answer.payload))
}

/// The log tail as text.
pub(crate) fn tail(answer: &Answer) -> String {
    String::from_utf8_lossy(answer.log_tail.as_ref().unwrap()).into_owned()
}
