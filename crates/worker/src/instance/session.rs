//! One generation of an instance: its sandbox, the tasks that serve it, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_sandbox::{Exit, ProcessSpec, Sandbox, SandboxSpec, SpawnError};
use hearth_types::limits;
use tokio::task::JoinSet;

use super::{Instance, lock};
use crate::api::{self, Caller};
use crate::clock::epoch_ms;
use crate::environment;
use crate::failure::{Failure, entrypoint_reason};
use crate::launcher::Launch;
use crate::protocol::Protocol;

/// Where a custom runtime's program is, and where it is looked for next.
const BOOTSTRAPS: [&str; 2] = ["/var/task/bootstrap", "/opt/bootstrap"];
/// Output that the processes of a destroyed sandbox left is read for so long at most.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// A sandbox with what serves it.
pub(super) struct Session {
    pub(super) sandbox: Arc<dyn Sandbox>,
    launch: Launch,
    environment: BTreeMap<String, String>,
    connections: tokio::task::JoinHandle<()>,
    processes: JoinSet<()>,
}

// === impl Session ===

impl Session {
    /// Makes a sandbox with nothing in it but the Runtime API.
    pub(super) async fn make(instance: &Arc<Instance>) -> Result<Self, String> {
        let explain = |error: &dyn std::error::Error| crate::launcher::LaunchError::new(error).to_string();
        let spec = &instance.spec;
        let launch = instance.launcher.launch(spec).await.map_err(|error| error.to_string())?;
        let mib = |mb: u32| u64::from(mb) << 20;
        let sandbox = SandboxSpec {
            instance: instance.id,
            mounts: launch.mounts.clone(),
            memory_bytes: mib(spec.memory_mb),
            cpu_millis: (spec.memory_mb * 1000).div_ceil(limits::MEMORY_MB_PER_VCPU),
            processes: limits::PROCESSES,
            open_files: limits::OPEN_FILES,
            scratch_bytes: mib(spec.ephemeral_mb),
        };
        let sandbox: Arc<dyn Sandbox> =
            Arc::from(instance.driver.create(sandbox).await.map_err(|error| explain(&error))?);
        *lock(&instance.sandbox) = Some(Arc::clone(&sandbox));
        let generation = {
            let mut state = lock(&instance.state);
            state.generation += 1;
            state.failure = None;
            state.runtimes = 0;
            state.extensions = 0;
            let names = launch.extensions.iter().map(|path| file_name(path).to_owned()).collect();
            state.protocol = Protocol::new(spec.concurrency.hard, names);
            for place in 0..state.flights.len() {
                let id = state.flights[place].id;
                state.protocol.invoke(id);
            }
            state.generation
        };
        let environment = environment::for_runtime(spec, &launch, (instance.id, instance.reason), epoch_ms());
        let caller = Caller { instance: Arc::clone(instance), generation };
        let connections = tokio::spawn(accept(Arc::clone(&sandbox), caller));
        Ok(Self { sandbox, launch, environment, connections, processes: JoinSet::new() })
    }

    pub(super) fn extensions(&self) -> Vec<String> {
        self.launch.extensions.clone()
    }

    pub(super) async fn start_extension(
        &mut self,
        instance: &Arc<Instance>,
        path: &str,
    ) -> Result<(), Failure> {
        let environment = environment::for_extension(&self.environment);
        let process = ProcessSpec { argv: vec![path.to_owned()], environment, working_directory: "/".into() };
        let name = file_name(path).to_owned();
        self.spawn(instance, process, Some(name.clone())).await.map_err(|error| Failure::ExtensionFailed {
            kind: "Extension.LaunchError".to_owned(),
            reason: format!("Extension {name}: {}", entrypoint_reason(&error, &[path])),
        })
    }

    pub(super) async fn start_runtime(&mut self, instance: &Arc<Instance>) -> Result<(), Failure> {
        let mut process = ProcessSpec {
            argv: self.launch.argv.clone(),
            environment: self.environment.clone(),
            working_directory: self.launch.working_directory.clone(),
        };
        let program = process.argv.first().cloned().unwrap_or_default();
        let searched: &[&str] = if program == BOOTSTRAPS[0] { &BOOTSTRAPS } else { &[&program] };
        let mut result = self.spawn(instance, process.clone(), None).await;
        let missing = matches!(&result, Err(SpawnError::Exec { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound);
        if missing
            && let [_, second] = searched
            && let Some(first) = process.argv.first_mut()
        {
            (*second).clone_into(first);
            result = self.spawn(instance, process, None).await;
        }
        result.map_err(|error| match error {
            SpawnError::Gone => Failure::RuntimeExited(Exit::SandboxGone),
            SpawnError::Exec { .. } => Failure::Entrypoint(entrypoint_reason(&error, searched)),
        })
    }

    async fn spawn(
        &mut self,
        instance: &Arc<Instance>,
        process: ProcessSpec,
        extension: Option<String>,
    ) -> Result<(), SpawnError> {
        let process = self.sandbox.spawn(process).await?;
        let (instance, generation) = (Arc::clone(instance), {
            let mut state = lock(&instance.state);
            if extension.is_some() {
                state.extensions += 1;
            } else {
                state.runtimes += 1;
            }
            state.generation
        });
        self.processes.spawn(async move {
            let exited = async {
                let exit = process.exit.await.unwrap_or(Exit::SandboxGone);
                let mut state = lock(&instance.state);
                if state.generation == generation {
                    state.exited(extension.as_deref(), exit);
                    instance.changed.notify_one();
                }
            };
            tokio::join!(exited, instance.output.follow(process.output));
        });
        Ok(())
    }

    /// Ends the sandbox and all that served it.
    pub(super) async fn destroy(mut self, instance: &Instance) {
        self.connections.abort();
        self.sandbox.destroy().await;
        // Their pipes have no writers any more: what is left in them is read, and then they end.
        let all = async { while self.processes.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_OUTPUT, all).await.is_err() {
            tracing::debug!(instance = %instance.id, "output was left behind");
        }
        lock(&instance.sandbox).take();
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Serves the connections of a sandbox; all end with this task.
async fn accept(sandbox: Arc<dyn Sandbox>, caller: Caller) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = sandbox.accept() => match accepted {
                Ok(io) => {
                    connections.spawn(api::serve(caller.clone(), io));
                }
                Err(_) => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
