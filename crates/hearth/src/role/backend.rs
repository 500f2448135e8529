//! What the frontend needs of the other parts, when they are in this process.

use std::sync::Arc;

use hearth_aws::QueueArn;
use hearth_frontend::{Backend, Body, ForwardError, LogLine, NoQueue, NotAccepted, Provisioned, Viewer};
use hearth_oci::{OciError, PullError, Puller, ReadyImage};
use hearth_runtimes::Catalog;
use hearth_store::{EventStore, NewEvent, StateReason, StoreError};
use hearth_types::{
    Answer, FunctionId, FunctionSpec, Invocation, InvokeError, Lease, LeaseOutcome, LeaseRequest, Refusal,
    Reply, RevisionId,
};
use hearth_worker::{HttpError, LaunchError, SnapshotError};
use http::{Method, Request, Response};

use crate::operator::Operator;
use crate::role::{Events, ManagerShell, Workers, launcher};

/// The manager and the workers of this process.
pub(crate) struct LocalBackend {
    manager: Arc<ManagerShell>,
    workers: Workers,
    catalog: Arc<Catalog>,
    events: Arc<Events>,
    puller: Arc<Puller>,
    operator: Operator,
}

impl LocalBackend {
    pub(crate) fn new(
        manager: Arc<ManagerShell>,
        workers: Workers,
        catalog: Arc<Catalog>,
        events: Arc<Events>,
        puller: Arc<Puller>,
        operator: Operator,
    ) -> Self {
        Self { manager, workers, catalog, events, puller, operator }
    }
}

/// What a version whose snapshot could not be taken says of that. Source: the values of `StateReasonCode` in the API's model.
fn snapshot_reason(error: SnapshotError) -> StateReason {
    let code = match error.kind.as_str() {
        "" => "InternalError",
        "Sandbox.Timedout" => "FunctionError.InitTimeout",
        "Runtime.ExitError" => "FunctionError.RuntimeInitError",
        "Runtime.InvalidEntrypoint" => "FunctionError.InvalidEntryPoint",
        kind if kind.starts_with("Extension.") => "FunctionError.ExtensionInitError",
        _ => "FunctionError",
    };
    StateReason { code: code.to_owned(), text: error.reason }
}

/// What a function whose image is not ready says of that.
fn image_reason(error: &PullError) -> StateReason {
    let code = match error {
        PullError::Denied { .. } | PullError::Credentials { .. } => "ImageAccessDenied",
        PullError::NotFound { .. } | PullError::Image(OciError::Missing(_)) => "ImageDeleted",
        PullError::Image(OciError::Io { .. } | OciError::DiskFull) => "InternalError",
        _ => "InvalidImage",
    };
    StateReason { code: code.to_owned(), text: LaunchError::new(error).to_string() }
}

impl LocalBackend {
    /// The workers share a machine and its disks.
    async fn prepare_image(&self, image: ReadyImage, spec: &FunctionSpec) -> Result<(), StateReason> {
        let invalid = |text: String| StateReason { code: "InvalidImage".to_owned(), text };
        let launch = launcher::start_image(image, spec).map_err(|error| invalid(error.to_string()))?;
        match self.workers.iter().next() {
            Some((_, worker)) => {
                let prepared = worker.prepare_root(&launch.root).await;
                prepared.map_err(|error| invalid(LaunchError::new(&error).to_string()))
            }
            None => Ok(()),
        }
    }

    /// The workers share a machine and its snapshots.
    async fn take_snapshot(&self, spec: &Arc<FunctionSpec>) -> Result<(), StateReason> {
        match self.workers.iter().next() {
            Some((_, worker)) => worker.prepare(spec).await.map_err(snapshot_reason),
            None => Ok(()),
        }
    }
}

impl Backend for LocalBackend {
    async fn acquire(&self, request: LeaseRequest) -> Result<Lease, Refusal> {
        self.manager.acquire(&request).await
    }

    fn release(&self, lease: Lease, outcome: LeaseOutcome) {
        self.manager.release(lease.id, outcome);
    }

    async fn invoke(&self, lease: &Lease, invocation: Invocation) -> Result<Answer, InvokeError> {
        match self.workers.get(&lease.worker) {
            Some(worker) => worker.invoke(lease.instance, invocation).await,
            None => Err(InvokeError::NotDelivered { reason: format!("worker {} has gone", lease.worker) }),
        }
    }

    async fn invoke_streamed(&self, lease: &Lease, invocation: Invocation) -> Result<Reply, InvokeError> {
        match self.workers.get(&lease.worker) {
            Some(worker) => worker.invoke_streamed(lease.instance, invocation).await,
            None => Err(InvokeError::NotDelivered { reason: format!("worker {} has gone", lease.worker) }),
        }
    }

    async fn forward(&self, lease: &Lease, request: Request<Body>) -> Result<Response<Body>, ForwardError> {
        let Some(worker) = self.workers.get(&lease.worker) else {
            let reason = format!("worker {} has gone", lease.worker);
            return Err(ForwardError::NotDelivered { reason, request: Box::new(request) });
        };
        worker.forward(lease.instance, request).await.map_err(|error| match error {
            HttpError::NotDelivered { reason, request } => ForwardError::NotDelivered { reason, request },
            HttpError::Failed { reason } => ForwardError::Failed { reason },
            HttpError::TimedOut => ForwardError::TimedOut,
        })
    }

    async fn prepare(&self, spec: Arc<FunctionSpec>) -> Result<(), StateReason> {
        if spec.image.is_some() {
            let image = launcher::ready(&self.puller, &spec).await.map_err(|error| image_reason(&error))?;
            self.prepare_image(image, &spec).await?;
            return self.take_snapshot(&spec).await;
        }
        let (catalog, for_snapshot) = (Arc::clone(&self.catalog), Arc::clone(&spec));
        // Asks interpreters and may write a client: not for an async thread.
        let resolved = tokio::task::spawn_blocking(move || catalog.resolve(&spec.runtime)).await;
        let text = match resolved {
            Ok(Ok(_)) => return self.take_snapshot(&for_snapshot).await,
            Ok(Err(missing)) => missing.to_string(),
            Err(error) => format!("looking for the runtime broke off: {error}"),
        };
        Err(StateReason { code: "InvalidRuntime".to_owned(), text })
    }

    fn revision_replaced(&self, current: &RevisionId) {
        self.manager.revision_replaced(current.clone());
    }

    fn function_deleted(&self, function: &FunctionId, newest: u64) {
        self.manager.function_deleted(function.clone(), newest);
        let (logs, function) = (self.workers.logs().clone(), function.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = logs.remove(&function) {
                tracing::warn!(%function, %error, "cannot remove the log of a deleted function");
            }
        });
    }

    fn concurrency_reserved(&self, function: &FunctionId, reserved: Option<u32>) {
        self.manager.reserve(function.clone(), reserved);
    }

    fn provision(&self, spec: Arc<FunctionSpec>, count: u32) {
        self.manager.provision(spec, count);
    }

    fn provisioned(&self, revision: &RevisionId) -> Provisioned {
        self.manager.provisioned(revision)
    }

    async fn log(&self, function: &FunctionId, lines: usize) -> std::io::Result<Vec<LogLine>> {
        let (logs, function) = (self.workers.logs().clone(), function.clone());
        let read = tokio::task::spawn_blocking(move || logs.read(&function, lines, 0)).await??;
        let line = |line: hearth_worker::LogLine| LogLine {
            epoch_ms: line.epoch_ms,
            instance: line.instance.to_string(),
            text: line.text,
        };
        Ok(read.into_iter().map(line).collect())
    }

    fn events(&self) -> &dyn EventStore {
        self.events.store()
    }

    async fn accept(&self, event: NewEvent) -> Result<(), NotAccepted> {
        self.events.accept(event).await
    }

    async fn forget_events(&self, function: &FunctionId) -> Result<(), StoreError> {
        self.events.forget(function).await
    }

    fn undeliverable(&self, arn: &str) -> Option<String> {
        self.events.undeliverable(arn)
    }

    fn schedules_changed(&self) {
        self.events.schedules.changed();
    }

    async fn find_queue(&self, queue: QueueArn<'_>) -> Result<u32, NoQueue> {
        self.events.mappings.find(queue).await
    }

    fn mappings_changed(&self) {
        self.events.mappings.changed();
    }

    fn mapping_result(&self, account: &hearth_types::AccountId, uuid: &str) -> Option<String> {
        self.events.mappings.result(account, uuid)
    }

    async fn operator(&self, method: &Method, path: &str, query: &str, viewer: Viewer) -> Response<Body> {
        self.operator.answer(method, path, query, viewer).await
    }
}
