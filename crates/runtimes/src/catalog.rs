//! The catalog: every runtime that is known or found, and what each still needs.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hearth_types::{Runtime, RuntimeFamily};
use serde::Serialize;

use crate::node::release;
use crate::{interpreters, node, python};

/// Runtimes that are listed even where nothing of them is here.
const KNOWN: [&str; 10] = [
    "provided.al2",
    "provided.al2023",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
];

/// Bytes of the longest handler that Lambda's API takes.
const LONGEST_HANDLER: usize = 128;

/// The runtimes of this machine, with the folder that their clients are installed in.
#[derive(Debug)]
pub struct Catalog {
    home: PathBuf,
    resolved: Mutex<HashMap<Runtime, Program>>,
}

/// What starts in an instance of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Directories that the instance sees: from where on this machine, to where in the instance.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Executable, as a path in the instance, and its arguments, without the handler.
    pub argv: Vec<String>,
    /// Whether the handler is the last argument.
    pub handler_argument: bool,
    /// Whether V8 must be told how much memory there is: in an instance it sees the whole machine's.
    pub heap_limits: bool,
    /// Whether its client can be started before the function is known, and wait to be told.
    pub waits: bool,
    /// What the executable is told first if the instance is saved after its init phase, and others are made from that.
    pub saved_arguments: Vec<String>,
    /// What its environment has besides Lambda's own variables.
    pub environment: BTreeMap<String, String>,
    /// `AWS_EXECUTION_ENV`.
    pub execution_environment: String,
}

/// Where a runtime stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeStatus {
    /// Which.
    pub name: Runtime,
    /// Whether it can run.
    #[serde(flatten)]
    pub state: RuntimeState,
}

/// Whether a runtime can run, and what to do if not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RuntimeState {
    /// It can run.
    Ready {
        /// Its interpreter, if it is of a language that has one.
        interpreter: Option<PathBuf>,
    },
    /// The interpreter is here, its client is not.
    NeedsClient {
        /// The interpreter.
        interpreter: PathBuf,
        /// The command that adds the client.
        fix: String,
    },
    /// No interpreter is here.
    NoInterpreter {
        /// What to do.
        fix: String,
    },
}

/// A runtime that cannot run here, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("runtime {runtime} is not ready on this machine: {fix}")]
pub struct Missing {
    /// Which.
    pub runtime: Runtime,
    /// What to do.
    pub fix: String,
}

/// Why a runtime could not be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// There is nothing to add a client to.
    #[error(transparent)]
    NoInterpreter(#[from] Missing),
    /// There is no pip to install with.
    #[error(
        "no pip was found to install {0}'s client with: apt-get install python3-pip, or python -m ensurepip"
    )]
    NoPip(Runtime),
    /// pip failed.
    #[error("pip could not install the client: {0}")]
    Pip(String),
    /// npm failed.
    #[error("npm could not install Node.js: {0}")]
    Npm(String),
    /// The folder of clients cannot be written.
    #[error("cannot {step} {path}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

// === impl Catalog ===

impl Catalog {
    /// The catalog with the clients that are in `home`, which need not exist.
    #[must_use]
    pub fn open(home: PathBuf) -> Self {
        Self { home, resolved: Mutex::new(HashMap::new()) }
    }

    /// Where clients are installed: where `HEARTH_RUNTIMES` says, else for the machine if root does it, else for the user.
    #[must_use]
    pub fn default_home() -> PathBuf {
        if let Some(told) = std::env::var_os("HEARTH_RUNTIMES").filter(|told| !told.is_empty()) {
            return PathBuf::from(told);
        }
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/hearth/runtimes");
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
        data.unwrap_or_else(std::env::temp_dir).join("hearth/runtimes")
    }

    /// Every runtime that is known, or whose interpreter is here, in order.
    #[must_use]
    pub fn list(&self) -> Vec<RuntimeStatus> {
        let known = KNOWN.iter().filter_map(|name| name.parse::<Runtime>().ok());
        let mut names: Vec<Runtime> = known.chain(interpreters::runtimes_found()).collect();
        names.sort_by_key(|name| (name.family(), numbers(name)));
        names.dedup();
        names.into_iter().map(|name| RuntimeStatus { state: self.state(&name), name }).collect()
    }

    /// Where one runtime stands.
    #[must_use]
    pub fn state(&self, runtime: &Runtime) -> RuntimeState {
        let add = format!("run `hearth runtime add {runtime}`");
        match runtime.family() {
            RuntimeFamily::Provided | RuntimeFamily::Image => RuntimeState::Ready { interpreter: None },
            RuntimeFamily::Python => match interpreters::python(runtime) {
                None => RuntimeState::NoInterpreter {
                    fix: format!(
                        "no interpreter for {runtime} was found (PATH, pyenv, uv): install one, then {add}"
                    ),
                },
                Some(interpreter) if !python::has_client(runtime) => RuntimeState::NoInterpreter {
                    fix: format!(
                        "{} is here, but AWS's client needs {} or newer",
                        interpreter.display(),
                        python::OLDEST
                    ),
                },
                Some(interpreter) if python::client(&self.home, runtime).is_dir() => {
                    RuntimeState::Ready { interpreter: Some(interpreter) }
                }
                Some(interpreter) => RuntimeState::NeedsClient { interpreter, fix: add },
            },
            RuntimeFamily::Node => match interpreters::node(runtime)
                .or_else(|| release::added(&self.home, runtime))
            {
                Some(interpreter) => RuntimeState::Ready { interpreter: Some(interpreter) },
                None if release::can_be_added(runtime) => RuntimeState::NoInterpreter {
                    fix: format!(
                        "no Node.js for it was found (PATH, nvm): {add}, which installs one with npm"
                    ),
                },
                None => RuntimeState::NoInterpreter {
                    fix: format!("no Node.js for {runtime} was found (PATH, nvm): install one, then {add}"),
                },
            },
        }
    }

    /// How an instance of a runtime starts. Quick for one that was asked for before.
    ///
    /// # Errors
    /// When it cannot run here; the message says what to do.
    pub fn resolve(&self, runtime: &Runtime) -> Result<Program, Missing> {
        if let Some(program) = self.lock().get(runtime).filter(|program| still_there(program)) {
            return Ok(program.clone());
        }
        let missing = |fix: String| Missing { runtime: runtime.clone(), fix };
        let program = match self.state(runtime) {
            RuntimeState::Ready { interpreter: None } => provided(runtime),
            RuntimeState::Ready { interpreter: Some(interpreter) } => match runtime.family() {
                RuntimeFamily::Node => node::program(&self.home, runtime, &interpreter).map_err(|error| {
                    missing(format!("its client cannot be written: {}", with_cause(&error)))
                })?,
                RuntimeFamily::Python | RuntimeFamily::Provided | RuntimeFamily::Image => {
                    python::program(&self.home, runtime, &interpreter).map_err(|error| {
                        missing(format!("{} does not run: {error}", interpreter.display()))
                    })?
                }
            },
            RuntimeState::NeedsClient { fix, .. } | RuntimeState::NoInterpreter { fix } => {
                return Err(missing(fix));
            }
        };
        self.lock().insert(runtime.clone(), program.clone());
        Ok(program)
    }

    /// Installs what a runtime needs besides its interpreter. Does nothing if it is there.
    ///
    /// # Errors
    /// See [`AddError`]; nothing is left half installed.
    pub fn add(&self, runtime: &Runtime, progress: &mut dyn FnMut(&str)) -> Result<(), AddError> {
        match self.state(runtime) {
            RuntimeState::Ready { .. } => {
                self.resolve(runtime)?;
                progress("nothing to install");
                Ok(())
            }
            RuntimeState::NeedsClient { interpreter, .. } => {
                python::install(&self.home, runtime, &interpreter, progress)
            }
            RuntimeState::NoInterpreter { fix } => {
                let missing = Missing { runtime: runtime.clone(), fix };
                release::add(&self.home, runtime, missing.into(), progress)
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Runtime, Program>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Program ===

impl Program {
    /// The whole command of an instance: executable and arguments for this handler and this much memory, and whether it is
    /// saved after its init phase.
    #[must_use]
    pub fn command(&self, handler: &str, memory_mb: u32, is_saved: bool) -> Vec<String> {
        let mut command = self.argv.clone();
        if is_saved {
            command.splice(1..1, self.saved_arguments.iter().cloned());
        }
        command.splice(1..1, self.heap_flags(memory_mb));
        if self.handler_argument {
            command.push(handler.to_owned());
        }
        command
    }

    /// The command of a server that knows nothing of the runtime's client: the interpreter runs this file.
    #[must_use]
    pub fn command_of(&self, file: String, memory_mb: u32) -> Vec<String> {
        let interpreter = self.argv.first().cloned().into_iter();
        interpreter.chain(self.heap_flags(memory_mb)).chain([file]).collect()
    }

    /// Lambda's own shares. Without them garbage grows until the kernel ends the instance.
    fn heap_flags(&self, memory_mb: u32) -> impl Iterator<Item = String> + use<> {
        let spaces = [("old", memory_mb / 10 * 9), ("semi", (memory_mb / 20).max(1))];
        let spaces = self.heap_limits.then_some(spaces).into_iter().flatten();
        spaces.map(|(space, limit)| format!("--max-{space}-space-size={limit}"))
    }
}

impl Program {
    /// The command of a client that is started before its function is known, and how many of its arguments are the same for
    /// all functions with this much memory; no arguments at all if it cannot be. In place of a handler there is room for one.
    #[must_use]
    pub fn command_ahead(&self, memory_mb: u32) -> (Vec<String>, usize) {
        if !self.waits {
            return (Vec::new(), 0);
        }
        let command = self.command(&" ".repeat(LONGEST_HANDLER), memory_mb, false);
        let common = command.len() - usize::from(self.handler_argument);
        (command, common)
    }
}

fn provided(runtime: &Runtime) -> Program {
    Program {
        mounts: Vec::new(),
        argv: vec!["/var/task/bootstrap".to_owned()],
        handler_argument: false,
        heap_limits: false,
        waits: false,
        saved_arguments: Vec::new(),
        environment: BTreeMap::new(),
        execution_environment: format!("AWS_Lambda_{runtime}"),
    }
}

/// A message with its cause, for where the error itself ends.
fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn still_there(program: &Program) -> bool {
    program.mounts.iter().all(|(source, _)| Path::is_dir(source))
}

fn numbers(runtime: &Runtime) -> Vec<u32> {
    runtime.language_version().unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_is_not_here_says_which_command_adds_it() {
        let catalog = Catalog::open("/nonexistent".into());
        let missing = catalog.resolve(&"python3.99".parse().unwrap()).unwrap_err();
        assert!(missing.to_string().contains("hearth runtime add python3.99"), "{missing}");
        assert!(matches!(
            catalog.add(&"nodejs999.x".parse().unwrap(), &mut |_| ()),
            Err(AddError::NoInterpreter(_))
        ));
    }

    #[test]
    fn provided_runtimes_are_always_ready_and_listed_first() {
        let catalog = Catalog::open("/nonexistent".into());
        let list = catalog.list();
        assert_eq!(list[0].name.as_str(), "provided.al2");
        assert_eq!(list[0].state, RuntimeState::Ready { interpreter: None });
        assert_eq!(catalog.resolve(&list[1].name).unwrap().argv, ["/var/task/bootstrap"]);
        let json = serde_json::to_value(&list[0]).unwrap();
        assert_eq!(json["state"], "ready");
    }
}
