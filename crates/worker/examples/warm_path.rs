//! How long a warm invocation takes through the worker alone, and how many a second go through several instances.
//!
//! `cargo run --release -p hearth-worker --example warm_path [INSTANCES] [SECONDS]`
//!
//! The function is this program again: a client of the Runtime API on a bare socket.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_sandbox::{
    BoxFuture, Container, ContainerConfig, Driver, ReadOnlyMount, ZYGOTE_ARGUMENT, zygote_main,
};
use hearth_types::{
    CodeDigest, Concurrency, FunctionId, FunctionSpec, InstanceId, Invocation, Isolation, KeepAlive, Queue,
    RequestId, RevisionId, StartReason, Version, VersionId, WorkerId,
};
use hearth_worker::{Launch, LaunchError, Launcher, Logs, Worker, WorkerConfig, WorkerEvent};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == ZYGOTE_ARGUMENT) {
        return zygote_main();
    }
    let done = match std::env::var("AWS_LAMBDA_RUNTIME_API") {
        Ok(api) => echo(&api),
        Err(_) => {
            tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(measure()))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot measure: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The function: answers each event with itself.
fn echo(api: &str) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(api)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        write!(stream, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: x\r\n\r\n")?;
        let (id, body) = read(&mut reader)?;
        let path = format!("/2018-06-01/runtime/invocation/{id}/response");
        let mut post =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        post.extend_from_slice(&body);
        stream.write_all(&post)?;
        read(&mut reader)?;
    }
}

/// The request id, if there is one, and the body of an answer.
fn read(reader: &mut impl BufRead) -> Result<(String, Vec<u8>), Failure> {
    let (mut id, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err("the worker hung up".into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name {
                "lambda-runtime-aws-request-id" => value.clone_into(&mut id),
                "content-length" => length = value.parse()?,
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((id, body))
}

struct ThisProgram {
    directory: PathBuf,
}

impl Launcher for ThisProgram {
    fn launch<'a>(&'a self, _: &'a FunctionSpec) -> BoxFuture<'a, Result<Launch, LaunchError>> {
        Box::pin(async move {
            Ok(Launch {
                mounts: vec![ReadOnlyMount { source: self.directory.clone(), target: "/var/task".into() }],
                argv: vec!["/var/task/bootstrap".to_owned()],
                working_directory: "/var/task".into(),
                ..Launch::default()
            })
        })
    }
}

async fn measure() -> Result<(), Failure> {
    let number = |at: usize, default: u64| std::env::args().nth(at).map_or(Ok(default), |text| text.parse());
    let (instances, seconds) = (number(1, 8)?, number(2, 5)?);
    let directory = std::env::temp_dir().join(format!("hearth-warm-path-{}", std::process::id()));
    let code = directory.join("code");
    std::fs::create_dir_all(&code)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
    std::fs::copy(std::env::current_exe()?, code.join("bootstrap"))?;
    let driver = ContainerConfig {
        name: format!("warm-path-{}", std::process::id()),
        directory: directory.join("sandbox"),
        program: std::env::current_exe()?,
        resolvers: Vec::new(),
    };
    let driver = Arc::new(Container::open(driver).await?.0);
    let (events, mut happened) = tokio::sync::mpsc::channel(64);
    let config = WorkerConfig {
        id: WorkerId::new("bench"),
        logs: Logs::open(directory.join("logs"), 64 << 20)?,
        events,
    };
    let launcher = Arc::new(ThisProgram { directory: code });
    let worker = Worker::new(config, Arc::clone(&driver) as Arc<dyn Driver>, launcher);
    for n in 0..instances {
        worker.create(InstanceId::new(1, n), (Arc::new(spec()?), None), StartReason::Request, None);
        match happened.recv().await {
            Some((_, WorkerEvent::InstanceReady { .. })) => {}
            other => return Err(format!("no instance: {other:?}").into()),
        }
    }
    let one = run(&worker, 1, seconds).await?;
    println!("c=1: {} invocations/s, p50 {:?}, p99 {:?}", one.0, one.1, one.2);
    let all = run(&worker, instances, seconds).await?;
    println!("c={instances}: {} invocations/s, p50 {:?}, p99 {:?}", all.0, all.1, all.2);
    worker.shutdown(Duration::from_secs(5)).await;
    let metrics = worker.metrics();
    println!("log bytes: {} written, {} dropped", metrics.log_bytes, metrics.log_dropped_bytes);
    driver.close().await;
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

async fn run(worker: &Worker, instances: u64, seconds: u64) -> Result<(u64, Duration, Duration), Failure> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..instances {
        let worker = worker.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let began = Instant::now();
                worker.invoke(InstanceId::new(1, n), invocation()).await?;
                times.push(began.elapsed());
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(task) = tasks.join_next().await {
        times.extend(task??);
    }
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    Ok((times.len() as u64 / seconds.max(1), at(50), at(99)))
}

fn invocation() -> Invocation {
    Invocation {
        request_id: RequestId::random(),
        payload: "{\"hello\":\"world\"}".into(),
        invoked_arn: "arn:aws:lambda:us-east-1:123456789012:function:echo".to_owned(),
        client_context: None,
        tenant: None,
        trace: None,
        wants_log_tail: false,
    }
}

fn spec() -> Result<FunctionSpec, Failure> {
    let function = FunctionId { account: "123456789012".parse()?, name: "echo".into() };
    Ok(FunctionSpec {
        revision: RevisionId { version: VersionId { function, version: Version::Latest }, number: 1 },
        arn: invocation().invoked_arn,
        region: "us-east-1".to_owned(),
        runtime: "provided.al2023".parse()?,
        handler: "bootstrap".to_owned(),
        code: CodeDigest([0; 32]),
        image: None,
        memory_mb: 128,
        timeout: Duration::from_secs(3),
        ephemeral_mb: 512,
        environment: BTreeMap::new(),
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
    })
}
