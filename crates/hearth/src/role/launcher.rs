//! What to run for a function: its code from the image store, its interpreter and client from the runtime catalog.

use std::path::PathBuf;
use std::sync::Arc;

use hearth_image::ImageStore;
use hearth_runtimes::Catalog;
use hearth_sandbox::{BoxFuture, ReadOnlyMount};
use hearth_types::FunctionSpec;
use hearth_worker::{Launch, LaunchError, Launcher};

/// Where a function's code is, in its instance.
const TASK_ROOT: &str = "/var/task";

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

    fn find(&self, spec: &FunctionSpec) -> Result<Launch, LaunchError> {
        let code = self.images.unpacked(spec.code).map_err(|error| LaunchError::new(&error))?;
        let program = self.catalog.resolve(&spec.runtime).map_err(|error| LaunchError::new(&error))?;
        let mut mounts = vec![ReadOnlyMount { source: code, target: PathBuf::from(TASK_ROOT) }];
        mounts.extend(program.mounts.into_iter().map(|(source, target)| ReadOnlyMount { source, target }));
        let mut argv = program.argv;
        if program.handler_argument {
            argv.push(spec.handler.clone());
        }
        let mut environment = program.environment;
        environment.insert("AWS_EXECUTION_ENV".to_owned(), program.execution_environment);
        Ok(Launch {
            mounts,
            argv,
            working_directory: PathBuf::from(TASK_ROOT),
            environment,
            extensions: Vec::new(),
        })
    }
}

impl Launcher for LocalLauncher {
    fn launch<'a>(&'a self, spec: &'a FunctionSpec) -> BoxFuture<'a, Result<Launch, LaunchError>> {
        Box::pin(async move { self.find(spec) })
    }
}
