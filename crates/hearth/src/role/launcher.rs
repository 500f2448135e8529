//! What to run for a function: its code from the image store, its interpreter and client from the runtime catalog.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_image::ImageStore;
use hearth_runtimes::Catalog;
use hearth_sandbox::{BoxFuture, ReadOnlyMount};
use hearth_types::{BlankKind, FunctionSpec, RuntimeFamily};
use hearth_worker::{Launch, LaunchAhead, LaunchError, Launcher};

/// Where a function's code is, in its instance.
const TASK_ROOT: &str = "/var/task";
/// Where its layers are.
const LAYERS: &str = "/opt";
/// The folder of a layer whose programs are started beside the function.
const EXTENSIONS: &str = "extensions";

/// Finds what to run in the stores of this process.
#[derive(Debug)]
pub(crate) struct LocalLauncher {
    images: Arc<ImageStore>,
    catalog: Arc<Catalog>,
}

impl LocalLauncher {
    pub(crate) fn new(images: Arc<ImageStore>, catalog: Arc<Catalog>) -> Self {
        Self { images, catalog }
    }
}

/// Blocks: the code may have to be unpacked again, and the interpreter asked where it lives.
fn find(images: &ImageStore, catalog: &Catalog, spec: &FunctionSpec) -> Result<Launch, LaunchError> {
    let code = images.unpacked(spec.code).map_err(|error| LaunchError::new(&error))?;
    let program = catalog.resolve(&spec.runtime).map_err(|error| LaunchError::new(&error))?;
    let argv = match (&spec.http, spec.runtime.family()) {
        // A server knows nothing of the runtime's client: the interpreter runs the file that the handler names.
        (Some(_), RuntimeFamily::Python | RuntimeFamily::Node) => {
            let interpreter = program.argv.first().cloned().into_iter();
            interpreter.chain([format!("{TASK_ROOT}/{}", spec.handler)]).collect()
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
