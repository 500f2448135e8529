//! A backend that answers by script: what it is told to do is in the function's handler and payload.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use hearth_aws::QueueArn;
use hearth_frontend::{
    Backend, Body, ForwardError, LogLine, NoQueue, NotAccepted, Provisioned, Viewer, full,
};
use hearth_store::{EventStore, NewEvent, SqliteEvents, StateReason, StoreError};
use hearth_types::{
    Answer, FunctionError, FunctionId, FunctionSpec, InstanceId, Invocation, InvokeError, Lease, LeaseId,
    LeaseOutcome, LeaseRequest, Piece, Refusal, Reply, RevisionId, StreamEnd, StreamError, StreamedAnswer,
    WorkerId,
};
use http_body_util::BodyExt;
use hyper::{Method, Request, Response};
use tokio::sync::Semaphore;

/// Does what payloads say.
#[derive(Debug)]
pub(crate) struct Scripted {
    /// Events are kept, and nobody runs them.
    events: SqliteEvents,
    pub(crate) accepted: Mutex<Vec<NewEvent>>,
    _folder: tempfile::TempDir,
    /// Leases given so far.
    pub(crate) leases: AtomicU64,
    /// What is gated takes a permit before it goes on.
    pub(crate) gate: Semaphore,
    /// Every release, in order.
    pub(crate) released: Mutex<Vec<(LeaseId, LeaseOutcome)>>,
    /// Functions said to be deleted, and revisions said to serve.
    pub(crate) told: Mutex<Vec<String>>,
    /// What each revision is to be ready for.
    pub(crate) ready: Mutex<BTreeMap<RevisionId, u32>>,
    /// What each revision can be ready for, and whether there never will be more.
    pub(crate) room: AtomicU32,
    pub(crate) room_is_all: AtomicBool,
}

impl Scripted {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            events: SqliteEvents::open(&folder.path().join("events.db")).unwrap(),
            accepted: Mutex::default(),
            _folder: folder,
            leases: AtomicU64::new(0),
            gate: Semaphore::new(0),
            released: Mutex::default(),
            told: Mutex::default(),
            ready: Mutex::default(),
            room: AtomicU32::new(u32::MAX),
            room_is_all: AtomicBool::new(false),
        }
    }

    async fn pass_gate(&self) {
        self.gate.acquire().await.unwrap().forget();
    }
}

struct Pieces(VecDeque<Piece>);

impl hearth_types::Pieces for Pieces {
    fn poll_piece(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Piece> {
        self.0.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

fn ended(error: Option<StreamError>) -> Piece {
    Piece::End(StreamEnd { error, log_tail: Some("the log".into()), reusable: true })
}

impl Backend for Scripted {
    async fn acquire(&self, request: LeaseRequest) -> Result<Lease, Refusal> {
        match request.spec.environment.get("REFUSE").map(String::as_str) {
            Some("account") => return Err(Refusal::AccountLimit { limit: 1 }),
            Some("stopping") => return Err(Refusal::Stopping),
            _ => {}
        }
        if request.spec.reserved_concurrency == Some(0) {
            return Err(Refusal::FunctionLimit { limit: 0 });
        }
        let number = self.leases.fetch_add(1, Ordering::Relaxed);
        Ok(Lease {
            id: LeaseId(number.into()),
            instance: InstanceId::new(request.spec.revision.number, number),
            worker: WorkerId::new("w"),
            cold: true,
        })
    }

    fn release(&self, lease: Lease, outcome: LeaseOutcome) {
        self.released.lock().unwrap().push((lease.id, outcome));
    }

    async fn invoke(&self, lease: &Lease, invocation: Invocation) -> Result<Answer, InvokeError> {
        let answer = |payload: Bytes, error| Answer {
            payload,
            error,
            log_tail: invocation.wants_log_tail.then(|| Bytes::from_static(b"the log")),
            reusable: error.is_none(),
        };
        let reason = String::from("scripted");
        match &invocation.payload[..] {
            b"\"fail\"" => {
                Ok(answer(Bytes::from_static(b"{\"errorMessage\":\"x\"}"), Some(FunctionError::Unhandled)))
            }
            b"\"undelivered\"" => Err(InvokeError::NotDelivered { reason }),
            b"\"undelivered once\"" if lease.id.0.is_multiple_of(2) => {
                Err(InvokeError::NotDelivered { reason })
            }
            b"\"lost\"" => Err(InvokeError::Lost { reason }),
            b"\"panic\"" => panic!("scripted"),
            b"\"gated\"" => {
                self.pass_gate().await;
                Ok(answer(invocation.payload.clone(), None))
            }
            b"\"context\"" => {
                let text = format!(
                    "{{\"arn\":{:?},\"trace\":{:?},\"client\":{},\"instance\":\"{}\"}}",
                    invocation.invoked_arn,
                    invocation.trace.unwrap_or_default(),
                    invocation.client_context.as_deref().unwrap_or("null"),
                    lease.instance
                );
                Ok(Answer { payload: Bytes::from(text), error: None, log_tail: None, reusable: true })
            }
            _ => Ok(answer(invocation.payload.clone(), None)),
        }
    }

    async fn invoke_streamed(&self, lease: &Lease, invocation: Invocation) -> Result<Reply, InvokeError> {
        let scripted = match &invocation.payload[..] {
            b"\"stream\"" => [Piece::Data("one".into()), Piece::Data("two".into()), ended(None)],
            b"\"stream then fail\"" => {
                let error = StreamError { kind: "Mine".to_owned(), details: "{}".into() };
                [Piece::Data("one".into()), Piece::Data("two".into()), ended(Some(error))]
            }
            _ => return self.invoke(lease, invocation).await.map(Reply::Whole),
        };
        Ok(Reply::Streamed(StreamedAnswer::new(
            None,
            Pieces(scripted.into_iter().collect()),
            std::future::ready(true),
        )))
    }

    async fn forward(&self, lease: &Lease, request: Request<Body>) -> Result<Response<Body>, ForwardError> {
        let reason = String::from("scripted");
        match request.uri().path() {
            "/undelivered" => Err(ForwardError::NotDelivered { reason, request: Box::new(request) }),
            "/undelivered-once" if lease.id.0.is_multiple_of(2) => {
                Err(ForwardError::NotDelivered { reason, request: Box::new(request) })
            }
            "/failed" => Err(ForwardError::Failed { reason }),
            "/late" => Err(ForwardError::TimedOut),
            _ => {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let text = format!("{} {}\n{:?}\n{}", head.method, head.uri, head.headers, body.len());
                Ok(Response::new(full(Bytes::from(text))))
            }
        }
    }

    async fn prepare(&self, spec: Arc<FunctionSpec>) -> Result<(), StateReason> {
        if spec.environment.contains_key("GATED") {
            self.pass_gate().await;
        }
        match spec.handler.as_str() {
            "broken" => {
                Err(StateReason { code: "InvalidConfiguration".to_owned(), text: "no bootstrap".to_owned() })
            }
            "panics" => panic!("scripted"),
            _ => Ok(()),
        }
    }

    fn revision_replaced(&self, current: &RevisionId) {
        self.told
            .lock()
            .unwrap()
            .push(format!("replaced {} {}", current.version.function.name, current.number));
    }

    fn function_deleted(&self, function: &FunctionId, _newest: u64) {
        self.told.lock().unwrap().push(format!("deleted {}", function.name));
    }

    fn concurrency_reserved(&self, function: &FunctionId, reserved: Option<u32>) {
        self.told.lock().unwrap().push(format!("reserved {} {reserved:?}", function.name));
    }

    fn provision(&self, spec: Arc<FunctionSpec>, count: u32) {
        let version = &spec.revision.version;
        let most = spec.concurrency.hard;
        self.told
            .lock()
            .unwrap()
            .push(format!("provision {} {} {count} of {most}", version.function.name, version.version));
        self.ready.lock().unwrap().insert(spec.revision.clone(), count);
    }

    fn provisioned(&self, revision: &RevisionId) -> Provisioned {
        let wanted = self.ready.lock().unwrap().get(revision).copied().unwrap_or(0);
        let room = self.room.load(Ordering::Relaxed);
        let allocated = wanted.min(room);
        let failure =
            (self.room_is_all.load(Ordering::Relaxed) && wanted > room).then(|| "scripted".to_owned());
        Provisioned { allocated, available: allocated / 2, failure }
    }

    async fn log(&self, _function: &FunctionId, _lines: usize) -> std::io::Result<Vec<LogLine>> {
        let line =
            |epoch_ms, text: &str| LogLine { epoch_ms, instance: "i".to_owned(), text: text.to_owned() };
        Ok(vec![line(1_000, "START RequestId: 1 Version: 3"), line(1_000, "hello"), line(2_000, "END")])
    }

    fn events(&self) -> &dyn EventStore {
        &self.events
    }

    async fn accept(&self, event: NewEvent) -> Result<(), NotAccepted> {
        match &event.payload[..] {
            b"\"no room\"" => Err(NotAccepted::FunctionFull("scripted".to_owned())),
            b"\"no disk\"" => Err(NotAccepted::DiskFull),
            _ => {
                self.events.accept(event.clone()).await.map_err(|_| NotAccepted::Failed)?;
                self.accepted.lock().unwrap().push(event);
                Ok(())
            }
        }
    }

    async fn forget_events(&self, function: &FunctionId) -> Result<(), StoreError> {
        self.events.forget(function).await
    }

    fn undeliverable(&self, arn: &str) -> Option<String> {
        (!arn.starts_with("arn:aws:sqs:")).then(|| "is scripted to be nowhere".to_owned())
    }

    fn schedules_changed(&self) {
        self.told.lock().unwrap().push("schedules changed".to_owned());
    }

    async fn find_queue(&self, queue: QueueArn<'_>) -> Result<u32, NoQueue> {
        if queue.name == "missing" { Err(NoQueue::Missing) } else { Ok(30) }
    }

    fn mappings_changed(&self) {
        self.told.lock().unwrap().push("mappings changed".to_owned());
    }

    fn mapping_result(&self, _: &hearth_types::AccountId, _: &str) -> Option<String> {
        None
    }

    async fn operator(&self, method: &Method, path: &str, query: &str, viewer: Viewer) -> Response<Body> {
        Response::new(full(Bytes::from(format!("{method} {path} {query} {}", viewer.account))))
    }
}
