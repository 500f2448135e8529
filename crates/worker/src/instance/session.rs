//! One generation of an instance: its sandbox, the tasks that serve it, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_sandbox::{Exit, Process, ProcessSpec, Restored, Sandbox, SandboxSpec, SpawnError};
use tokio::task::JoinSet;

use super::saying::Beginning;
use super::{Conversation, Instance, lock};
use crate::api::{self, Caller};
use crate::blanks::{self, Blank, Waiting};
use crate::clock::epoch_ms;
use crate::environment;
use crate::failure::{Failure, entrypoint_reason};
use crate::launcher::Launch;
use crate::metrics::count;
use crate::protocol::{Extensions, Protocol};
use crate::snapshots::{self, sandbox_spec};
use crate::telemetry::Stream;

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
    /// The runtime, if it was started ahead and waits to be told its function.
    waiting: Option<Waiting>,
    /// Whether it came from a snapshot.
    pub(super) restored: bool,
}

/// What a sandbox is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Invocations.
    Serve,
    /// To be saved after the init phase.
    Save,
}

fn explain(error: &dyn std::error::Error) -> String {
    crate::launcher::LaunchError::new(error).to_string()
}

// === impl Session ===

impl Session {
    /// Makes a sandbox with nothing in it but the Runtime API, or one in which the function waits already.
    pub(super) async fn make(instance: &Arc<Instance>, purpose: Purpose) -> Result<Self, String> {
        let spec = &instance.spec;
        let launch = instance.launcher.launch(spec).await.map_err(|error| error.to_string())?;
        let mut wanted = sandbox_spec(instance.id, spec, &launch);
        if purpose == Purpose::Save {
            // It serves nobody, and somebody waits for it.
            wanted.cpu_millis = wanted.cpu_millis.next_multiple_of(1_000);
            let snapshotter = instance.driver.snapshotter().ok_or("the driver takes no snapshots")?;
            let sandbox = snapshotter.create_to_save(wanted).await.map_err(|error| explain(&error))?;
            return Ok(Self::begin(instance, launch, Arc::from(sandbox), purpose));
        }
        if spec.snap_start
            && spec.http.is_none()
            && let Some(restored) = restore(instance, &launch, wanted.clone()).await
        {
            match Self::resume(instance, launch.clone(), restored) {
                Some(session) => return Ok(session),
                None => {
                    tracing::warn!(instance = %instance.id, "a snapshot holds other processes than it should");
                }
            }
        }
        if let Some(Blank { sandbox, waiting }) = adapted_blank(instance, &wanted).await {
            let mut session = Self::begin(instance, launch, sandbox, purpose);
            session.waiting = waiting;
            return Ok(session);
        }
        let sandbox = instance.driver.create(wanted).await.map_err(|error| explain(&error))?;
        Ok(Self::begin(instance, launch, Arc::from(sandbox), purpose))
    }

    fn begin(instance: &Arc<Instance>, launch: Launch, sandbox: Arc<dyn Sandbox>, purpose: Purpose) -> Self {
        let names = launch.extensions.iter().map(|path| file_name(path).to_owned()).collect();
        let protocol = Protocol::new(instance.spec.concurrency.hard, names);
        Self::serve(instance, launch, sandbox, (protocol, purpose), false)
    }

    /// Takes over a sandbox in which the init phase is over. Nothing if what runs in it is not what should.
    fn resume(instance: &Arc<Instance>, launch: Launch, restored: Restored) -> Option<Self> {
        let Restored { sandbox, processes, note } = restored;
        if processes.len() != launch.extensions.len() + 1 {
            return None;
        }
        let extensions = Extensions::restored(&note)?;
        let mut protocol = Protocol::new(instance.spec.concurrency.hard, Vec::new());
        protocol.extensions = extensions;
        // They were started in this order, the runtime last.
        let names: Vec<_> = launch.extensions.iter().map(|path| Some(file_name(path).to_owned())).collect();
        let mut session = Self::serve(instance, launch, Arc::from(sandbox), (protocol, Purpose::Serve), true);
        for (process, name) in processes.into_iter().zip(names.into_iter().chain([None])) {
            session.follow(instance, process, name);
        }
        count(&instance.counters.instances_restored);
        Some(session)
    }

    /// Serves a sandbox, as a new generation of the instance.
    fn serve(
        instance: &Arc<Instance>,
        launch: Launch,
        sandbox: Arc<dyn Sandbox>,
        (protocol, purpose): (Conversation, Purpose),
        restored: bool,
    ) -> Self {
        *lock(&instance.sandbox) = Some(Arc::clone(&sandbox));
        instance.connections.clear();
        let telemetry = instance.output.telemetry();
        telemetry.clear();
        for (extension, subscription) in protocol.extensions.subscriptions() {
            telemetry.add(extension, subscription.clone(), Arc::clone(&sandbox));
        }
        let (generation, beginning) = {
            let mut state = lock(&instance.state);
            state.generation += 1;
            state.failure = None;
            state.runtimes = 0;
            state.extensions = 0;
            state.protocol = protocol;
            state.is_saved = purpose == Purpose::Save;
            state.until_restored = None;
            let phase = if state.flights.is_empty() { "init" } else { "invoke" };
            state.beginning = Beginning { at_ms: epoch_ms(), phase, restored, runtime_is_done: false };
            for place in 0..state.flights.len() {
                let id = state.flights[place].id;
                state.protocol.invoke(id);
            }
            (state.generation, state.beginning)
        };
        instance.say(&instance.beginning(beginning));
        let environment =
            environment::for_runtime(&instance.spec, &launch, (instance.id, instance.reason), epoch_ms());
        let caller = Caller { instance: Arc::clone(instance), generation };
        let connections = tokio::spawn(accept(Arc::clone(&sandbox), caller));
        let processes = JoinSet::new();
        Self { sandbox, launch, environment, connections, processes, waiting: None, restored }
    }

    pub(super) fn extensions(&self) -> Vec<String> {
        self.launch.extensions.clone()
    }

    pub(super) async fn start_extension(
        &mut self,
        instance: &Arc<Instance>,
        path: &str,
    ) -> Result<(), Failure> {
        // It is not to be seen, and can be had only while it is alone.
        if let Some(waiting) = self.waiting.take() {
            waiting.leave().await;
        }
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
        if let Some(waiting) = self.waiting.take()
            && let Some(process) = self.take_over(waiting, &process).await
        {
            count(&instance.counters.instances_started_ahead);
            self.follow(instance, process, None);
            return Ok(());
        }
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

    /// The interpreter that was started ahead, if it is as one that was started for the function.
    async fn take_over(&self, waiting: Waiting, wanted: &ProcessSpec) -> Option<Process> {
        let mounts = self.launch.mounts.clone();
        let own = tokio::task::spawn_blocking(move || blanks::brings_libraries(&mounts)).await;
        // One that cannot tell starts anew.
        if own.unwrap_or(true) {
            waiting.leave().await
        } else {
            waiting.become_runtime(&self.sandbox, wanted).await
        }
    }

    async fn spawn(
        &mut self,
        instance: &Arc<Instance>,
        process: ProcessSpec,
        extension: Option<String>,
    ) -> Result<(), SpawnError> {
        let process = self.sandbox.spawn(process).await?;
        self.follow(instance, process, extension);
        Ok(())
    }

    /// Reads what a process writes, and tells the instance of its end.
    fn follow(&mut self, instance: &Arc<Instance>, process: Process, extension: Option<String>) {
        let stream = if extension.is_some() { Stream::Extension } else { Stream::Function };
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
            tokio::join!(exited, instance.output.follow(process.output, stream));
        });
    }

    /// Ends the sandbox and all that served it.
    pub(super) async fn destroy(mut self, instance: &Instance) {
        self.connections.abort();
        instance.output.telemetry().end().await;
        instance.connections.clear();
        self.sandbox.destroy().await;
        // Their pipes have no writers any more: what is left in them is read, and then they end.
        let all = async { while self.processes.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_OUTPUT, all).await.is_err() {
            tracing::debug!(instance = %instance.id, "output was left behind");
        }
        lock(&instance.sandbox).take();
    }
}

/// The blank that was chosen for the instance, with all that its function asks for; nothing if there is none, or it cannot be
/// had so.
async fn adapted_blank(instance: &Arc<Instance>, wanted: &SandboxSpec) -> Option<Blank> {
    let id = lock(&instance.blank).take()?;
    let blank = instance.blanks.take(id).await?;
    match blank.sandbox.adapt(wanted.clone()).await {
        Ok(()) => {
            count(&instance.counters.instances_from_blanks);
            Some(blank)
        }
        Err(error) => {
            let reason = explain(&error);
            tracing::warn!(instance = %instance.id, reason, "a sandbox made ahead cannot be had for it");
            blank.sandbox.destroy().await;
            None
        }
    }
}

/// A sandbox from the version's snapshot, which is made if it is not there; nothing if that leads to none.
async fn restore(instance: &Arc<Instance>, launch: &Launch, wanted: SandboxSpec) -> Option<Restored> {
    let snapshotter = instance.driver.snapshotter()?;
    let key = snapshots::key(&instance.spec, launch);
    let complain = |error: &(dyn std::error::Error + 'static)| {
        tracing::warn!(instance = %instance.id, error, "it starts without its version's snapshot");
    };
    let found = snapshotter.restore(wanted.clone(), &key).await.inspect_err(|error| complain(error)).ok()?;
    if found.is_some() {
        return found;
    }
    // Only for some: boxed, so that all others do not carry it.
    let made = Box::pin(instance.snapshots.make(&instance.spec, &key)).await;
    made.inspect_err(|error| complain(error)).ok()?;
    snapshotter.restore(wanted, &key).await.inspect_err(|error| complain(error)).ok()?
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
