//! What to run for a function: its code from the image store, its interpreter and client from the runtime catalog; or all of it from a
//! container image.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_image::ImageStore;
use hearth_oci::{Accounts, Digest, OciError, PullError, Puller, ReadyImage, Reference};
use hearth_runtimes::Catalog;
use hearth_sandbox::{BoxFuture, ImageRoot, ImageUser, ReadOnlyMount, Root};
use hearth_types::{BlankKind, FunctionSpec, RuntimeFamily};
use hearth_worker::{Launch, LaunchAhead, LaunchError, Launcher};

/// Where a function's code is, in its instance.
const TASK_ROOT: &str = "/var/task";
/// Where its layers are.
const LAYERS: &str = "/opt";
/// The folder of a layer whose programs are started beside the function.
const EXTENSIONS: &str = "extensions";

/// Where programs are looked for in an image that does not say.
const IMAGE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds what to run in the stores of this process.
#[derive(Debug)]
pub(crate) struct LocalLauncher {
    images: Arc<ImageStore>,
    puller: Arc<Puller>,
    catalog: Arc<Catalog>,
}

impl LocalLauncher {
    pub(crate) fn new(images: Arc<ImageStore>, puller: Arc<Puller>, catalog: Arc<Catalog>) -> Self {
        Self { images, puller, catalog }
    }
}

/// Makes an image's layers ready, which are brought from its registry if they are not here.
pub(crate) async fn ready(puller: &Arc<Puller>, spec: &FunctionSpec) -> Result<ReadyImage, PullError> {
    let digest = Digest(spec.code);
    let unpack = || {
        let images = Arc::clone(puller.images());
        async move {
            let ready = tokio::task::spawn_blocking(move || images.ready(digest)).await;
            let step = "unpack the image".to_owned();
            ready.unwrap_or_else(|error| Err(OciError::Io { step, source: io::Error::other(error) }))
        }
    };
    match (unpack().await, &spec.image) {
        (Err(OciError::Missing(missing)), Some(image)) => {
            // What was pushed here and has gone is nowhere else.
            let reference = image.resolved.parse::<Reference>().map_err(|_| OciError::Missing(missing))?;
            puller.fetch(&reference).await?;
            Ok(unpack().await?)
        }
        (ready, _) => Ok(ready?),
    }
}

/// How an image is started: as its maker says, unless the function says otherwise.
pub(crate) fn start_image(image: ReadyImage, spec: &FunctionSpec) -> Result<Launch, LaunchError> {
    let told = spec.image.as_ref();
    let run = image.config.config;
    let mut environment = run.environment();
    environment.entry("PATH".to_owned()).or_insert_with(|| IMAGE_PATH.to_owned());
    let or = |told: Option<&Vec<String>>, made: Vec<String>| told.cloned().unwrap_or(made);
    let mut argv = or(told.and_then(|told| told.entry_point.as_ref()), run.entrypoint);
    let command = or(told.and_then(|told| told.command.as_ref()), run.cmd);
    if let Some(handler) = command.first() {
        environment.insert("_HANDLER".to_owned(), handler.clone());
    }
    argv.extend(command);
    if argv.is_empty() {
        return Err(LaunchError::new(&NothingToRun));
    }
    let directory = told.and_then(|told| told.working_directory.clone()).unwrap_or(run.working_dir);
    let working_directory = PathBuf::from(if directory.is_empty() { "/" } else { &directory });
    // As on Lambda, a function writes to /tmp only; a server of its own may write where its image lets it.
    let writable_bytes = spec.http.is_some().then_some(u64::from(spec.ephemeral_mb) << 20);
    let accounts = Accounts::read(&image.layers);
    let mut more_ids: Vec<u32> = accounts.ids().into_iter().collect();
    // A function runs as the one user that all of them do, as on Lambda; a server as the one that its image names.
    let user = match &spec.http {
        None => None,
        Some(_) => {
            let account = accounts.find(&run.user).map_err(|error| LaunchError::new(&error))?;
            environment.entry("HOME".to_owned()).or_insert(account.home);
            more_ids.splice(0..0, [account.uid, account.gid]);
            Some(ImageUser { uid: account.uid, gid: account.gid, groups: account.groups })
        }
    };
    let root = Root::Image(ImageRoot { layers: image.layers, writable_bytes, user, more_ids });
    Ok(Launch { root, argv, working_directory, environment, ..Launch::default() })
}

/// An image without a command.
#[derive(Debug, thiserror::Error)]
#[error("the image has neither an ENTRYPOINT nor a CMD: set ImageConfig's Command or EntryPoint")]
struct NothingToRun;

/// Blocks: the code may have to be unpacked again, and the interpreter asked where it lives.
fn find(images: &ImageStore, catalog: &Catalog, spec: &FunctionSpec) -> Result<Launch, LaunchError> {
    let code = images.unpacked(spec.code).map_err(|error| LaunchError::new(&error))?;
    let program = catalog.resolve(&spec.runtime).map_err(|error| LaunchError::new(&error))?;
    let argv = match (&spec.http, spec.runtime.family()) {
        // A server knows nothing of the runtime's client: the interpreter runs the file that the handler names.
        (Some(_), RuntimeFamily::Python | RuntimeFamily::Node) => {
            program.command_of(format!("{TASK_ROOT}/{}", spec.handler), spec.memory_mb)
        }
        _ => program.command(&spec.handler, spec.memory_mb, spec.snap_start),
    };
    let mut environment = program.environment;
    environment.insert("AWS_EXECUTION_ENV".to_owned(), program.execution_environment);
    let mut mounts = vec![ReadOnlyMount { source: code, target: PathBuf::from(TASK_ROOT) }];
    mounts.extend(program.mounts.into_iter().map(|(source, target)| ReadOnlyMount { source, target }));
    let mut extensions = Vec::new();
    if let Some(layers) = images.merged(&spec.layers).map_err(|error| LaunchError::new(&error))? {
        extensions = find_extensions(&layers).map_err(|error| LaunchError::new(&error))?;
        mounts.push(ReadOnlyMount { source: layers, target: PathBuf::from(LAYERS) });
    }
    let working_directory = PathBuf::from(TASK_ROOT);
    Ok(Launch { mounts, argv, working_directory, environment, extensions, ..Launch::default() })
}

/// The programs in `/opt/extensions`, in order of their names: files that may be executed, and nothing in folders.
fn find_extensions(layers: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(layers.join(EXTENSIONS)) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file()
            && metadata.permissions().mode() & 0o111 != 0
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push(format!("{LAYERS}/{EXTENSIONS}/{name}"));
        }
    }
    found.sort();
    Ok(found)
}

/// What of it can be started before the function is known.
fn find_ahead(catalog: &Catalog, kind: &BlankKind) -> Result<LaunchAhead, LaunchError> {
    let program = catalog.resolve(&kind.runtime).map_err(|error| LaunchError::new(&error))?;
    let (argv, common) = program.command_ahead(kind.memory_mb);
    let mut environment = program.environment;
    environment.insert("AWS_EXECUTION_ENV".to_owned(), program.execution_environment);
    let mounts = program.mounts.into_iter().map(|(source, target)| ReadOnlyMount { source, target });
    Ok(LaunchAhead { mounts: mounts.collect(), argv, common, environment })
}

impl Launcher for LocalLauncher {
    fn launch<'a>(&'a self, spec: &'a FunctionSpec) -> BoxFuture<'a, Result<Launch, LaunchError>> {
        if spec.image.is_some() {
            return Box::pin(async move {
                let image = ready(&self.puller, spec).await.map_err(|error| LaunchError::new(&error))?;
                start_image(image, spec)
            });
        }
        let (images, catalog, spec) = (Arc::clone(&self.images), Arc::clone(&self.catalog), spec.clone());
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || find(&images, &catalog, &spec)).await;
            found.unwrap_or_else(|error| Err(LaunchError::new(&error)))
        })
    }

    fn launch_ahead<'a>(&'a self, kind: &'a BlankKind) -> BoxFuture<'a, Result<LaunchAhead, LaunchError>> {
        let (catalog, kind) = (Arc::clone(&self.catalog), kind.clone());
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || find_ahead(&catalog, &kind)).await;
            found.unwrap_or_else(|error| Err(LaunchError::new(&error)))
        })
    }
}
