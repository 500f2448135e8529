//! The operator's side of a running server: instances, logs, runtimes, health and metrics.

mod events;
mod instance;
mod metrics;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_frontend::{Body, Viewer, full, stream};
use hearth_manager::{BlankState, BlankView, InstanceView};
use hearth_runtimes::Catalog;
use hearth_store::Store;
use hearth_types::{AccountId, FunctionId, InstanceId, Time, WorkerId};
use hearth_worker::{BlankReport, Follow, InstanceReport, LogLine};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::role::{Events, ManagerShell, Workers};

pub(crate) use metrics::Exposition;

/// Lines of a log that are sent when the caller does not say, and at most.
const LOG_LINES: usize = 10_000;
/// Pieces of a log on their way to a reader; a slower one makes the server wait, not remember.
const LOG_PIECES: usize = 64;
/// Answers what the operator asks.
pub(crate) struct Operator {
    manager: Arc<ManagerShell>,
    events: Arc<Events>,
    workers: Workers,
    catalog: Arc<Catalog>,
    metrics: Arc<Exposition>,
    store: Arc<dyn Store>,
}

// === impl Operator ===

impl Operator {
    pub(crate) fn new(
        manager: Arc<ManagerShell>,
        events: Arc<Events>,
        workers: Workers,
        catalog: Arc<Catalog>,
        store: Arc<dyn Store>,
        metrics: Arc<Exposition>,
    ) -> Self {
        Self { manager, events, workers, catalog, metrics, store }
    }

    /// Answers a request below `/_hearth/`, or for `/metrics`; whether the viewer may ask that is settled.
    pub(crate) async fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        viewer: Viewer,
    ) -> Response<Body> {
        if let Some(worker) =
            path.strip_prefix("/_hearth/workers/").and_then(|rest| rest.strip_suffix("/drain"))
        {
            return self.drain(method, worker);
        }
        if let Some(rest) = path.strip_prefix("/_hearth/instances/") {
            return instance::ask(&self.manager, method, rest);
        }
        if method != Method::GET {
            return error(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowedException",
                "this address takes GET only",
            );
        }
        match path {
            "/metrics" => text(self.metrics.render(&self.manager, &self.workers, &self.events)),
            "/_hearth/health" => json_answer(&json!({ "status": "ok" })),
            "/_hearth/ps" => json_answer(&self.instances(&viewer)),
            "/_hearth/events" => json_answer(&events::list(&self.events, &viewer)),
            "/_hearth/runtimes" => self.runtimes().await,
            _ => match path.strip_prefix("/_hearth/logs/") {
                Some(name) => self.logs(viewer.account, name, query).await,
                None => error(
                    StatusCode::NOT_FOUND,
                    "ResourceNotFoundException",
                    "there is nothing at this address",
                ),
            },
        }
    }

    /// `POST` empties a worker, `DELETE` lets it take instances again; both answer at once.
    fn drain(&self, method: &Method, worker: &str) -> Response<Body> {
        let drained = match *method {
            Method::POST => true,
            Method::DELETE => false,
            _ => {
                let text = "this address takes POST to drain the worker and DELETE to end that";
                return error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowedException", text);
            }
        };
        if self.manager.drain(&WorkerId::new(worker), drained) {
            json_answer(&json!({ "worker": worker, "draining": drained }))
        } else {
            let text = "there is no such worker; /_hearth/ps lists them";
            error(StatusCode::NOT_FOUND, "ResourceNotFoundException", text)
        }
    }

    /// Every instance that a viewer sees: what the manager decided of it, and what the worker measured.
    fn instances(&self, viewer: &Viewer) -> Value {
        let reports: HashMap<InstanceId, InstanceReport> =
            self.workers.instances().into_iter().map(|report| (report.id, report)).collect();
        let blank_reports: HashMap<InstanceId, BlankReport> =
            self.workers.blanks().into_iter().map(|report| (report.id, report)).collect();
        self.manager.inspect(|now, manager, placement| {
            let blanks: Vec<Value> = manager
                .blanks()
                .filter(|_| viewer.sees_all)
                .map(|view| blank(now, &view, blank_reports.get(&view.id)))
                .collect();
            let instances: Vec<Value> = manager
                .instances()
                .filter(|view| viewer.sees(&view.revision.version.function.account))
                .map(|view| instance(now, &view, reports.get(&view.id)))
                .collect();
            let workers: Vec<Value> = placement
                .workers()
                .filter(|_| viewer.sees_all)
                .map(|worker| {
                    json!({
                        "worker": worker.id.as_str(),
                        "instances": worker.instances,
                        "memory_promised_mb": worker.memory_promised_mb,
                        "memory_limit_mb": worker.memory_limit_mb,
                        "draining": worker.draining,
                        "drained": worker.drained,
                        "pressure": worker.pressure.to_string(),
                        "cpu_promised_millis": worker.cpu_promised_millis,
                        "cpu_limit_millis": worker.cpu_limit_millis,
                    })
                })
                .collect();
            json!({ "instances": instances, "blanks": blanks, "workers": workers })
        })
    }

    async fn runtimes(&self) -> Response<Body> {
        let catalog = Arc::clone(&self.catalog);
        // Looks through folders and asks interpreters for their versions.
        match tokio::task::spawn_blocking(move || serde_json::to_value(catalog.list())).await {
            Ok(Ok(list)) => json_answer(&list),
            Ok(Err(failed)) => {
                error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", &failed.to_string())
            }
            Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", &failed.to_string()),
        }
    }

    async fn logs(&self, account: AccountId, name: &str, query: &str) -> Response<Body> {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(valid) {
            return error(
                StatusCode::BAD_REQUEST,
                "ValidationException",
                "this is not the name of a function",
            );
        }
        let parameter =
            |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let lines =
            parameter("lines").and_then(|lines| lines.parse().ok()).unwrap_or(LOG_LINES).min(LOG_LINES);
        let function = FunctionId { account, name: name.into() };
        match self.store.function(&function).await {
            Ok(Some(_)) => {}
            Ok(None) => {
                let text = format!("Function not found: {name}");
                return error(StatusCode::NOT_FOUND, "ResourceNotFoundException", &text);
            }
            Err(failed) => {
                return error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", &failed.to_string());
            }
        }
        let follow = parameter("follow") == Some("true");
        let logs = self.workers.logs().clone();
        let read = tokio::task::spawn_blocking(move || {
            if follow {
                logs.follow(&function, lines, 0).map(|(kept, follow)| (kept, Some(follow)))
            } else {
                logs.read(&function, lines, 0).map(|kept| (kept, None))
            }
        });
        let (kept, follow) = match read.await {
            Ok(Ok(read)) => read,
            Ok(Err(failed)) => {
                let text = format!("the log cannot be read: {failed}");
                return error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", &text);
            }
            Err(failed) => {
                return error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", &failed.to_string());
            }
        };
        let (sender, receiver) = mpsc::channel(LOG_PIECES);
        tokio::spawn(send_log(kept, follow, sender));
        let mut response = Response::new(stream(receiver));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

fn blank(now: Time, view: &BlankView<'_>, report: Option<&BlankReport>) -> Value {
    let state = match view.state {
        BlankState::Making => "making",
        BlankState::Ready => "ready",
        BlankState::Ending => "ending",
    };
    json!({
        "blank": view.id.to_string(),
        "runtime": view.kind.runtime.as_str(),
        "state": state,
        "worker": view.worker.map(WorkerId::as_str),
        "age_ms": u64::try_from((now - view.since).as_millis()).unwrap_or(u64::MAX),
        "memory_bytes": report.map(|report| report.memory_bytes),
        "memory_mb": view.kind.memory_mb,
        "cpu_ms": report.map(|report| report.cpu_us / 1_000),
    })
}

fn instance(now: Time, view: &InstanceView<'_>, report: Option<&InstanceReport>) -> Value {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let idle = view.leases == 0;
    json!({
        "instance": view.id.to_string(),
        "account": view.revision.version.function.account.as_str(),
        "function": view.revision.version.function.name.as_ref(),
        "version": view.revision.version.version.to_string(),
        "revision": view.revision.number,
        "tenant": view.tenant.map(hearth_types::TenantId::as_str),
        "state": view.state.as_str(),
        "leases": view.leases,
        "slots": view.slots,
        "most_slots": view.hard,
        "started_for": view.started_for.map(hearth_types::StartReason::as_str),
        "worker": view.worker.map(WorkerId::as_str),
        "age_ms": millis(now - view.since),
        "idle_ms": idle.then(|| millis(now - view.last_used)),
        "memory_bytes": report.map(|report| report.memory_bytes),
        "memory_peak_bytes": report.map(|report| report.memory_peak_bytes),
        "memory_mb": report.map(|report| report.spec.memory_mb),
        "cpu_ms": report.map(|report| report.cpu_us / 1_000),
        "invocations": report.map(|report| report.invocations),
    })
}

/// Sends the kept lines, then those that come, until the reader or the server goes.
async fn send_log(kept: Vec<LogLine>, follow: Option<Follow>, sender: mpsc::Sender<Bytes>) {
    for line in kept {
        if sender.send(shown(&line)).await.is_err() {
            return;
        }
    }
    let Some(mut follow) = follow else { return };
    loop {
        let next = tokio::select! {
            next = follow.next() => next,
            () = sender.closed() => return,
        };
        let Some(line) = next else { return };
        if sender.send(shown(&line)).await.is_err() {
            return;
        }
    }
}

/// A line as people read it: the text alone.
fn shown(line: &LogLine) -> Bytes {
    Bytes::from(format!("{}\n", line.text))
}

fn json_answer(document: &Value) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(document.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(text)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn error(status: StatusCode, kind: &'static str, message: &str) -> Response<Body> {
    let mut response = json_answer(&json!({ "message": message }));
    *response.status_mut() = status;
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(kind));
    response
}
