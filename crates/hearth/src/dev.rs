//! `hearth dev`: frontend, manager, placement, worker and store in one process.
//!
//! Start-up is recovery: the data folder is taken, what a killed predecessor left is removed, unfinished functions are
//! taken up again, and only then is the port opened. Stopping is the same road back: the port closes, requests in
//! flight finish, instances end, and nothing outside the data folder is left.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hearth_frontend::{Frontend, FrontendConfig};
use hearth_image::ImageStore;
use hearth_oci::{PullConfig, Puller};
use hearth_placement::{Capacity, Oversubscription};
use hearth_runtimes::Catalog;
use hearth_sandbox::Driver;
use hearth_store::{EventStore, SqliteEvents, SqliteStore, Store};
use hearth_types::{AccountId, Isolation, WorkerId, limits};
use hearth_worker::{Launcher, Logs, Worker, WorkerConfig};
use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::access_args::AccessArgs;
use crate::aws_args::AwsArgs;
use crate::cli::{default_listen, listen_address, region, runtime::HomeArgs, runtimes_home};
use crate::data_dir::{DataDir, random_u64};
use crate::drivers::DriverArgs;
use crate::event_args::EventArgs;
use crate::https::{Https, HttpsArgs};
use crate::operator::{Exposition, Operator};
use crate::role::pressure::{self, MemoryLimit};
use crate::role::{Events, LocalBackend, LocalLauncher, ManagerShell, ManagerShellConfig, Workers};
use crate::stop_signals::StopSignals;
use crate::terminal;

/// Requests in flight have this long to finish when the server stops.
const DRAIN_GRACE: Duration = Duration::from_secs(30);
/// Instances have this long for their shutdown phase when the server stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
/// Events on their way from the worker to the manager.
const EVENT_QUEUE: usize = 1024;
/// Most instances at once, whatever their size: what file descriptors and process ids of one machine bear.
const MAX_INSTANCES: u32 = 2_000;
/// Archives that no function refers to are kept this long, for requests that are just using them.
const CODE_GRACE: Duration = Duration::from_secs(3600);

/// Open files, where nobody else has a say.
const OPEN_FILES: u64 = 1 << 20;

/// What `hearth dev` can be told.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("certificate").args(["tls_cert", "acme_domain"]))]
#[command(after_help = "\
Examples:
  hearth dev                                  throw-away: all is gone when it stops
  hearth dev --data ~/.hearth                 functions and logs stay
  hearth dev --listen 127.0.0.1:0             any free port; the first line says which")]
pub(crate) struct DevArgs {
    /// Where to listen; port 0 takes any free one
    #[arg(long, env = "HEARTH_LISTEN", default_value_t = default_listen(), value_parser = listen_address)]
    listen: SocketAddr,
    #[command(flatten)]
    https: HttpsArgs,
    /// The folder that keeps functions, code and logs [default: throw-away]
    #[arg(long, env = "HEARTH_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    drivers: DriverArgs,
    #[command(flatten)]
    runtimes: HomeArgs,
    /// Domains below which services may have hosts of their own (the tag hearth:hosts), with commas between
    #[arg(long, env = "HEARTH_SERVICE_DOMAINS", value_name = "DOMAIN", value_delimiter = ',')]
    service_domain: Vec<String>,
    /// Clients' connections at once; more wait
    #[arg(long, env = "HEARTH_CONNECTIONS", value_name = "N", default_value_t = 20_000,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(16..=1_000_000))]
    connections: usize,
    /// Seconds that a client has for the head of a request, and between requests of a connection
    #[arg(long, env = "HEARTH_CLIENT_TIMEOUT", value_name = "S", default_value_t = 20,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    client_timeout: u64,
    /// Requests in flight at once, for each account
    #[arg(long, env = "HEARTH_ACCOUNT_CONCURRENCY", default_value_t = limits::ACCOUNT_CONCURRENCY,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    account_concurrency: u32,
    /// Memory that instances may use, MiB [default: the machine's]
    #[arg(long, env = "HEARTH_MEMORY", value_name = "MB", value_parser = clap::value_parser!(u32).range(128..))]
    memory: Option<u32>,
    /// Memory promised to instances, in percent of the memory there is; what they really use is watched
    #[arg(long, env = "HEARTH_OVERSUBSCRIPTION", value_name = "PERCENT", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(10..=1_000))]
    oversubscription: u32,
    /// CPU promised to instances, in percent of the CPU there is
    #[arg(long, env = "HEARTH_CPU_OVERSUBSCRIPTION", value_name = "PERCENT", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(10..=10_000))]
    cpu_oversubscription: u32,
    /// Workers that share the machine evenly
    #[arg(long, env = "HEARTH_WORKERS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// How long idle instances are kept where a function does not say: as its idle times say, or for 5 minutes
    #[arg(long, env = "HEARTH_KEEP_ALIVE", value_name = "POLICY", default_value = "learned")]
    keep_alive: KeepAlivePolicy,
    /// Start no instances ahead of a rising burst
    #[arg(long, env = "HEARTH_NO_SCALE_AHEAD")]
    no_scale_ahead: bool,
    /// Most sandboxes of each runtime that are made before their function is known; 0 makes none
    #[arg(long, env = "HEARTH_POOL", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=64))]
    pool: u32,
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    aws: AwsArgs,
    /// Log kept of each function, MiB; the oldest goes first
    #[arg(long, env = "HEARTH_LOG_MB", value_name = "MB", default_value_t = 64,
          value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    log_mb: u64,
    /// A registry to pull images from without TLS, as HOST or HOST:PORT; may be given several times. The loopback needs none
    #[arg(long, env = "HEARTH_INSECURE_REGISTRY", value_name = "HOST", value_delimiter = ',')]
    insecure_registry: Vec<String>,
    /// The AWS region that functions believe they are in
    #[arg(long, env = "HEARTH_REGION", default_value = "us-east-1", value_parser = region)]
    region: String,
    /// The account of callers whose access key is not a twelve-digit account
    #[arg(long, env = "HEARTH_DEFAULT_ACCOUNT", default_value = "000000000000")]
    default_account: AccountId,
}

/// How long idle instances are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum KeepAlivePolicy {
    Learned,
    Fixed,
}

pub(crate) fn run(args: &DevArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    allow_many_files();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(runtime_threads())
        .thread_name("hearth")
        .build()
        .context("cannot start the async runtime")?
        .block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Threads of the async runtime: half of the cores, for the other half have functions to run. With one for each, a warm
/// request costs a third more CPU on two cores, in wake-ups between them. `TOKIO_WORKER_THREADS` has the last word.
fn runtime_threads() -> usize {
    let told = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|number| number.parse().ok());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    told.unwrap_or(cores / 2).max(1)
}

/// An instance costs a dozen descriptors, a client one and one more in a service, and shells start programs with a limit of 1,024.
/// Root may go above its own limit.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raise = |most| setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    let most = limit.maximum.map(|maximum| maximum.max(OPEN_FILES));
    if let Err(error) = raise(most).or_else(|_| raise(limit.maximum)) {
        tracing::warn!(%error, limit = ?limit.current, "cannot raise the limit of open files, and so of instances");
    }
}

fn log_to_stderr() {
    let told = std::env::var("HEARTH_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = told.unwrap_or_else(|| {
        Targets::new().with_default(LevelFilter::WARN).with_target("hearth", LevelFilter::INFO)
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

/// The parts of a server, from the listener down.
struct Server {
    frontend: Arc<Frontend<LocalBackend>>,
    manager: Arc<ManagerShell>,
    events: Arc<Events>,
    workers: Workers,
    driver: Arc<dyn Driver>,
    endpoint: String,
}

async fn serve(args: &DevArgs) -> anyhow::Result<()> {
    // Before anything is made: whatever the moment, a stop leaves nothing.
    let mut stop_signals = StopSignals::new(!args.https.reads_files())?;
    let data = match &args.data {
        Some(path) => DataDir::open(path),
        None => DataDir::throw_away(),
    }?;
    let served = serve_from(args, &data, &mut stop_signals).await;
    data.finish()?;
    served
}

async fn serve_from(args: &DevArgs, data: &DataDir, stop_signals: &mut StopSignals) -> anyhow::Result<()> {
    // Bound before anything is made, so that a port in use costs nothing; served only when all is ready.
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!("cannot listen on {}: is another hearth there? Choose another with --listen", args.listen)
    })?;
    let https = Https::listen(&args.https, data).await?;
    let address = listener.local_addr()?;
    let server = assemble(args, data, address).await?;
    let asks_for_keys = server.frontend.asks_for_keys();
    let addresses: Vec<SocketAddr> = std::iter::once(address).chain(args.https.address()).collect();
    if let Err(error) = args.access.check(&addresses, asks_for_keys) {
        server.driver.close().await;
        return Err(error);
    }
    let (stop, stopped) = watch::channel(false);
    let plain = Arc::clone(&server.frontend).serve(listener, stopped.clone());
    let frontend = Arc::clone(&server.frontend);
    let serving = tokio::spawn(async move {
        match https {
            None => plain.await,
            Some(https) => {
                tokio::join!(plain, https.serve(frontend, stopped));
            }
        }
    });
    announce(args, data, &server);
    stop_signals.next().await;
    let grace = DRAIN_GRACE.as_secs();
    terminal::tell(format_args!(
        "hearth: stopping; requests in flight have {grace} s to finish (again to stop at once)"
    ));
    let _ = stop.send(true);
    let drained = async {
        let _ = tokio::time::timeout(DRAIN_GRACE, serving).await;
        server.events.stop(DRAIN_GRACE).await;
    };
    tokio::select! {
        () = drained => {}
        () = stop_signals.next() => {
            terminal::tell("hearth: stopping at once");
            // The next start runs again what is running.
            server.events.stop(Duration::ZERO).await;
        }
    }
    server.manager.stop();
    let mut ending = JoinSet::new();
    for (_, worker) in server.workers.iter() {
        let worker = worker.clone();
        ending.spawn(async move { worker.shutdown(SHUTDOWN_GRACE).await });
    }
    ending.join_all().await;
    server.driver.close().await;
    Ok(())
}

async fn assemble(args: &DevArgs, data: &DataDir, address: SocketAddr) -> anyhow::Result<Server> {
    let Opened { store, events: event_store, images, containers, driver } = open_all(args, data).await?;
    let catalog = Arc::new(Catalog::open(runtimes_home(args.runtimes.home.as_ref())));
    let (events, received) = mpsc::channel(EVENT_QUEUE);
    let puller = puller(args, containers);
    let launcher =
        Arc::new(LocalLauncher::new(Arc::clone(&images), Arc::clone(&puller), Arc::clone(&catalog)));
    let logs = Logs::open(data.logs(), args.log_mb << 20).context("cannot open the folder of logs")?;
    let workers = (0..args.workers).map(|number| {
        let id =
            WorkerId::new(&if args.workers == 1 { "local".to_owned() } else { format!("local-{number}") });
        let config = WorkerConfig { id: id.clone(), logs: logs.clone(), events: events.clone() };
        (id, Worker::new(config, Arc::clone(&driver), Arc::clone(&launcher) as Arc<dyn Launcher>))
    });
    let workers = Workers::new(workers, logs.clone());
    let manager = Arc::new(ManagerShell::new(
        &ManagerShellConfig {
            epoch: random_u64().context("cannot draw a random number")?,
            account_concurrency: args.account_concurrency,
            learn_idle_times: args.keep_alive == KeepAlivePolicy::Learned,
            scale_ahead: !args.no_scale_ahead,
            blanks: if driver.adapts() { args.pool } else { 0 },
            capacity: capacity(args, driver.isolation())?,
            oversubscription: Oversubscription {
                memory_percent: args.oversubscription,
                cpu_percent: args.cpu_oversubscription,
            },
        },
        workers.clone(),
    ));
    tokio::spawn(Arc::clone(&manager).follow(received));
    tokio::spawn(Arc::clone(&manager).keep_time());
    let limit = args.memory.map_or(MemoryLimit::Machine, |mb| MemoryLimit::Instances(u64::from(mb) << 20));
    tokio::spawn(pressure::watch(Arc::clone(&manager), Arc::clone(&driver), limit));
    let endpoint = format!("http://{address}");
    let frontend_config = frontend_config(args, data, &endpoint)?;
    let metrics = Arc::new(Exposition::default());
    let sqs = args.aws.sqs(&args.region)?;
    let (event_config, destinations) = (args.events.config(), args.events.destinations(sqs.clone()));
    let events = Arc::new(Events::new(event_config, event_store, destinations, sqs));
    let operator = Operator::new(
        Arc::clone(&manager),
        Arc::clone(&events),
        workers.clone(),
        Arc::clone(&catalog),
        Arc::clone(&store),
        Arc::clone(&metrics),
    );
    let backend = LocalBackend::new(
        Arc::clone(&manager),
        workers.clone(),
        catalog,
        Arc::clone(&events),
        Arc::clone(&puller),
        operator,
    );
    begin_to_collect(&store, &images, &puller).await;
    let frontend =
        Arc::new(Frontend::new(frontend_config, Arc::clone(&store), images, puller, Arc::new(backend)));
    let mut registry = Registry::with_prefix("hearth");
    frontend.metrics().register(&mut registry);
    metrics.show(registry);
    frontend.resume().await.context("cannot take up unfinished functions")?;
    begin_events(&events, &store, &frontend).await?;
    Ok(Server { frontend, manager, events, workers, driver, endpoint })
}

/// Takes up the events that are on disk, and runs them from now on.
async fn begin_events(
    events: &Arc<Events>,
    store: &Arc<dyn Store>,
    frontend: &Arc<Frontend<LocalBackend>>,
) -> anyhow::Result<()> {
    let waiting = events.recover(store.as_ref()).await?;
    if waiting > 0 {
        tracing::info!(waiting, "events are taken up again");
    }
    tokio::spawn({
        let (events, frontend) = (Arc::clone(events), Arc::clone(frontend));
        async move { events.schedules.run(&events, &frontend).await }
    });
    tokio::spawn({
        let (events, frontend) = (Arc::clone(events), Arc::clone(frontend));
        async move { Arc::clone(&events.mappings).run(&events, &frontend).await }
    });
    let (events, frontend) = (Arc::clone(events), Arc::clone(frontend));
    tokio::spawn(async move { events.dispatch(&frontend).await });
    Ok(())
}

fn frontend_config(args: &DevArgs, data: &DataDir, endpoint: &str) -> anyhow::Result<FrontendConfig> {
    Ok(FrontendConfig {
        region: args.region.clone(),
        default_account: args.default_account.clone(),
        public_endpoint: endpoint.to_owned(),
        connections: args.connections,
        client_timeout: Duration::from_secs(args.client_timeout),
        service_domains: args.service_domain.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        s3: args.aws.s3(&args.region)?,
        account_concurrency: args.account_concurrency,
        access: args.access.config(data)?,
    })
}

/// What takes its time to be there.
struct Opened {
    store: Arc<dyn Store>,
    events: Arc<dyn EventStore>,
    images: Arc<ImageStore>,
    containers: hearth_oci::Images,
    driver: Arc<dyn Driver>,
}

/// Archives of functions and container images, as they are on disk.
fn open_code(code: &Path, containers: &Path) -> anyhow::Result<(ImageStore, hearth_oci::Images)> {
    let images = ImageStore::open(code).context("cannot open the code store")?;
    Ok((images, hearth_oci::Images::open(containers).context("cannot open the store of images")?))
}

/// Side by side: some wait for the disk, and for the same writes of it; the driver for the kernel.
async fn open_all(args: &DevArgs, data: &DataDir) -> anyhow::Result<Opened> {
    let (functions, events) = (data.database(), data.events());
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(&functions));
    let events = tokio::task::spawn_blocking(move || SqliteEvents::open(&events));
    let (code, containers) = (data.code(), data.images());
    let code = tokio::task::spawn_blocking(move || open_code(&code, &containers));
    let (store, events, code, opened) = tokio::join!(store, events, code, args.drivers.open(data));
    let (driver, recovered) = opened?;
    let stores = store.context("opening the store broke off").and_then(|store| {
        let events = events.context("opening the events broke off")?;
        let code = code.context("opening the code broke off")?;
        Ok((Arc::new(store?) as Arc<dyn Store>, Arc::new(events?) as Arc<dyn EventStore>, code?))
    });
    match stores {
        Ok((store, events, (images, containers))) => {
            if recovered.sandboxes > 0 {
                tracing::info!(sandboxes = recovered.sandboxes, "removed what a killed hearth left");
            }
            Ok(Opened { store, events, images: Arc::new(images), containers, driver })
        }
        Err(error) => {
            driver.close().await;
            Err(error)
        }
    }
}

fn capacity(args: &DevArgs, isolation: Isolation) -> anyhow::Result<Capacity> {
    let memory_mb = match args.memory {
        Some(memory) => u64::from(memory),
        None => machine_memory_mb().context("cannot read the machine's memory: say --memory MB")?,
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = u64::from(args.workers);
    Ok(Capacity {
        memory_mb: memory_mb / share,
        cpu_millis: 1_000 * cpus as u64 / share,
        instances: MAX_INSTANCES / args.workers,
        isolations: vec![isolation],
        ..Capacity::default()
    })
}

fn machine_memory_mb() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map(|kib: u64| kib / 1024).context("/proc/meminfo has no MemTotal")
}

/// Puts container images there, from other registries.
fn puller(args: &DevArgs, images: hearth_oci::Images) -> Arc<Puller> {
    let config = PullConfig { insecure: args.insecure_registry.clone(), ..PullConfig::default() };
    Arc::new(Puller::new(Arc::new(images), config))
}

/// Removes archives and images that no function refers to; with `is_start`, while no instance runs, unpacked layers too. A
/// failure costs disk, nothing else.
async fn collect_code(store: &dyn Store, images: &Arc<ImageStore>, puller: &Arc<Puller>, is_start: bool) {
    let in_use = match store.code_in_use().await {
        Ok(in_use) => in_use,
        Err(error) => return tracing::warn!(%error, "cannot tell which archives are in use"),
    };
    let (images, puller) = (Arc::clone(images), Arc::clone(puller));
    let collected = tokio::task::spawn_blocking(move || {
        // An instance may see the directory of a function that is deleted.
        let archives = if is_start { images.collect(&in_use, CODE_GRACE)? } else { 0 };
        Ok::<_, io::Error>(archives + puller.images().collect(&in_use, CODE_GRACE, is_start)?)
    });
    match collected.await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(removed)) => tracing::info!(removed, "removed archives and images that nothing refers to"),
        Ok(Err(error)) => tracing::warn!(%error, "cannot remove unused archives and images"),
    }
}

/// Does that now, and then from time to time.
async fn begin_to_collect(store: &Arc<dyn Store>, images: &Arc<ImageStore>, puller: &Arc<Puller>) {
    collect_code(store.as_ref(), images, puller, true).await;
    let (store, images, puller) = (Arc::clone(store), Arc::clone(images), Arc::clone(puller));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(CODE_GRACE).await;
            collect_code(store.as_ref(), &images, &puller, false).await;
        }
    });
}

fn announce(args: &DevArgs, data: &DataDir, server: &Server) {
    let (isolation, endpoint, asks) =
        (server.driver.isolation(), &server.endpoint, server.frontend.asks_for_keys());
    let kept = if data.is_throw_away() { "throw-away".to_owned() } else { data.path().display().to_string() };
    let (account, region) = (&args.default_account, &args.region);
    let (who, id, secret) = if asks {
        ("requests must be signed with a key of `hearth key create`", "...", "...")
    } else {
        ("any access key is accepted", account.as_str(), "hearth")
    };
    let mut text = format!(
        "hearth is ready at {endpoint}\n  isolation {isolation}, data {kept}, {who}\n\
         Point an AWS client at it:\n  export AWS_ENDPOINT_URL={endpoint}\n  \
         export AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret}\n  \
         export AWS_REGION={region} AWS_DEFAULT_REGION={region}\n"
    );
    if !asks && !args.listen.ip().is_loopback() {
        text.push_str(
            "Warning: this address is open to the network, and anyone who reaches it may run code here.\n",
        );
    }
    if let Err(error) = terminal::bytes(text.as_bytes()) {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, endpoint, "cannot say on stdout that it is ready");
    }
}
