//! Any request to Lambda's API: answered with HTTP, never with 500, and by no more than its limits allow.
//!
//! `cargo +nightly fuzz run lambda_request`, best with TMPDIR in memory (`/dev/shm`). The first byte chooses the
//! operation; what follows, parted by 0xff, is the name in its path, its query, one header and its body.

#![no_main]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use hearth_frontend::{
    Backend, Body, ForwardError, Frontend, FrontendConfig, LogLine, NotAccepted, Provisioned, Viewer, full,
};
use hearth_image::ImageStore;
use hearth_oci::{Images, PullConfig, Puller};
use hearth_store::{EventStore, NewEvent, SqliteEvents, SqliteStore, StateReason, StoreError};
use hearth_types::{
    Answer, FunctionId, FunctionSpec, Invocation, InvokeError, Lease, LeaseOutcome, LeaseRequest,
    Refusal, Reply, RevisionId,
};
use http::{Method, Request, Response};
use libfuzzer_sys::fuzz_target;
use tokio::net::TcpListener;
use tokio::sync::watch;

const OPERATIONS: [(&str, &str); 15] = [
    ("POST", "/2015-03-31/functions/{}/invocations"),
    ("POST", "/2015-03-31/functions"),
    ("GET", "/2015-03-31/functions/{}"),
    ("GET", "/2015-03-31/functions/{}/configuration"),
    ("GET", "/2015-03-31/functions"),
    ("PUT", "/2015-03-31/functions/{}/code"),
    ("PUT", "/2015-03-31/functions/{}/configuration"),
    ("DELETE", "/2015-03-31/functions/{}"),
    ("GET", "/2016-08-19/account-settings"),
    ("POST", "/2017-03-31/tags/{}"),
    ("DELETE", "/2017-03-31/tags/{}"),
    ("GET", "/2017-03-31/tags/{}"),
    ("PUT", "/2017-10-31/functions/{}/concurrency"),
    ("GET", "/_hearth/code/{}"),
    ("GET", "/{}"),
];

/// A backend without instances, which keeps events and runs none.
struct Empty {
    events: SqliteEvents,
}

impl Backend for Empty {
    async fn acquire(&self, _: LeaseRequest) -> Result<Lease, Refusal> {
        Err(Refusal::Stopping)
    }

    fn release(&self, _: Lease, _: LeaseOutcome) {}

    async fn invoke(&self, _: &Lease, _: Invocation) -> Result<Answer, InvokeError> {
        Err(InvokeError::NotDelivered { reason: "no instances".to_owned() })
    }

    async fn invoke_streamed(&self, lease: &Lease, invocation: Invocation) -> Result<Reply, InvokeError> {
        self.invoke(lease, invocation).await.map(Reply::Whole)
    }

    async fn forward(&self, _: &Lease, request: Request<Body>) -> Result<Response<Body>, ForwardError> {
        Err(ForwardError::NotDelivered { reason: "no instances".to_owned(), request: Box::new(request) })
    }

    async fn prepare(&self, _: Arc<FunctionSpec>) -> Result<(), StateReason> {
        Ok(())
    }

    fn revision_replaced(&self, _: &RevisionId) {}

    fn function_deleted(&self, _: &FunctionId) {}

    fn concurrency_reserved(&self, _: &FunctionId, _: Option<u32>) {}

    fn provision(&self, _: Arc<FunctionSpec>, _: u32) {}

    fn provisioned(&self, _: &RevisionId) -> Provisioned {
        Provisioned::default()
    }

    async fn log(&self, _: &FunctionId, _: usize) -> std::io::Result<Vec<LogLine>> {
        Ok(Vec::new())
    }

    fn events(&self) -> &dyn EventStore {
        &self.events
    }

    async fn accept(&self, event: NewEvent) -> Result<(), NotAccepted> {
        self.events.accept(event).await.map(drop).map_err(|_| NotAccepted::Failed)
    }

    async fn forget_events(&self, function: &FunctionId) -> Result<(), StoreError> {
        self.events.forget(function).await
    }

    fn undeliverable(&self, _: &str) -> Option<String> {
        Some("is nowhere".to_owned())
    }

    fn schedules_changed(&self) {}

    async fn find_queue(&self, _: hearth_aws::QueueArn<'_>) -> Result<u32, hearth_frontend::NoQueue> {
        Err(hearth_frontend::NoQueue::NoService)
    }

    fn mappings_changed(&self) {}

    fn mapping_result(&self, _: &hearth_types::AccountId, _: &str) -> Option<String> {
        None
    }

    async fn operator(&self, _: &Method, _: &str, _: &str, _: Viewer) -> Response<Body> {
        Response::new(full(Bytes::new()))
    }
}

struct World {
    address: SocketAddr,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
    _stop: watch::Sender<bool>,
}

fn make_world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("its address");
    let config = FrontendConfig {
        region: "us-east-1".to_owned(),
        default_account: "000000000000".parse().expect("an account"),
        public_endpoint: format!("http://{address}"),
        s3: None,
        account_concurrency: 1_000,
        access: hearth_frontend::AccessConfig {
            always: false,
            sealer: hearth_keys::Sealer::random().expect("random numbers"),
            failures_per_minute: 60,
        },
        service_domains: Vec::new(),
    };
    let store = Arc::new(SqliteStore::open(&folder.path().join("hearth.db")).expect("a store"));
    let images = Arc::new(ImageStore::open(&folder.path().join("code")).expect("an image store"));
    let containers = Arc::new(Images::open(&folder.path().join("images")).expect("a store of images"));
    let puller = Arc::new(Puller::new(containers, PullConfig::default()).expect("a puller"));
    let events = SqliteEvents::open(&folder.path().join("events.db")).expect("a store of events");
    let frontend = Arc::new(Frontend::new(config, store, images, puller, Arc::new(Empty { events })));
    let (stop, stopped) = watch::channel(false);
    runtime.spawn(frontend.serve(listener, stopped));
    World { address, _folder: folder, _runtime: runtime, _stop: stop }
}

static WORLD: OnceLock<World> = OnceLock::new();

/// What a client library would send of these bytes: printable ones as they are, others percent-encoded.
fn text(part: &[u8], encode: bool) -> String {
    let shown = |byte: &u8| match byte {
        b'!'..=b'~' if *byte != b'#' => char::from(*byte).to_string(),
        _ if encode => format!("%{byte:02x}"),
        _ => String::new(),
    };
    part.iter().map(shown).collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let (method, path) = OPERATIONS[usize::from(*choice) % OPERATIONS.len()];
    let mut parts = rest.splitn(4, |byte| *byte == 0xff);
    let mut next = || parts.next().unwrap_or_default();
    let (name, query, header, body) = (text(next(), true), text(next(), true), text(next(), false), next());
    let path = path.replace("{}", &name.replace('?', "%3f"));
    let length = body.len();
    let head = format!(
        "{method} {path}?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Amz-Client-Context: {header}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(WORLD.get_or_init(make_world).address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 "), "{head:?}: {answer:?}");
    assert_ne!(answer.get(9..12), Some(&b"500"[..]), "{head:?}: {}", String::from_utf8_lossy(&answer));
});
