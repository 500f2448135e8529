//! What the worker must be told in order to start a function, declared by the one who asks.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use hearth_sandbox::{BoxFuture, ReadOnlyMount, Root};
use hearth_types::{BlankKind, FunctionSpec};

/// Knows where a function's code and interpreter are on this machine.
pub trait Launcher: Send + Sync + 'static {
    /// What to run for `spec`. May take its time: code is unpacked here when it has to be.
    fn launch<'a>(&'a self, spec: &'a FunctionSpec) -> BoxFuture<'a, Result<Launch, LaunchError>>;

    /// What to run in a sandbox of that kind before its function is known.
    fn launch_ahead<'a>(&'a self, kind: &'a BlankKind) -> BoxFuture<'a, Result<LaunchAhead, LaunchError>> {
        let _ = kind;
        Box::pin(async { Err(LaunchError("nothing can be started before its function is known".to_owned())) })
    }
}

/// A runtime, ready to start without a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchAhead {
    /// Directories with interpreter and client: those of every [`Launch`] of this runtime that are not its function's.
    pub mounts: Vec<ReadOnlyMount>,
    /// The interpreter's executable and arguments; empty for a runtime that has no interpreter.
    pub argv: Vec<String>,
    /// How many of these must be the same for a function; those after them, it is told.
    pub common: usize,
    /// Variables that the runtime's kind wants.
    pub environment: BTreeMap<String, String>,
}

/// A function, ready to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// What it sees as `/`: the machine's programs, or an image.
    pub root: Root,
    /// Directories with code, interpreter, client and layers.
    pub mounts: Vec<ReadOnlyMount>,
    /// The runtime's executable, as a path in the sandbox, and its arguments. Never empty.
    pub argv: Vec<String>,
    /// Where the runtime starts.
    pub working_directory: PathBuf,
    /// Variables that the runtime's kind wants (`PATH`, `PYTHONPATH`, ...); the function's own win over them.
    pub environment: BTreeMap<String, String>,
    /// External extensions: paths in the sandbox of the executables in `/opt/extensions`.
    pub extensions: Vec<String>,
}

/// A function that cannot be started on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LaunchError(String);

// === impl LaunchError ===

impl LaunchError {
    /// `error` and its causes, in one line.
    #[must_use]
    pub fn new(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self(text)
    }
}
