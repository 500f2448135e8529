//! The API over a real socket, with a store and archives on disk and a backend that follows a script.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_frontend::{Frontend, FrontendConfig};
use hearth_image::ImageStore;
use hearth_store::SqliteStore;
use hearth_types::LeaseOutcome;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::common::Scripted;

/// A frontend and the folder it keeps things in.
struct Server {
    address: std::net::SocketAddr,
    backend: Arc<Scripted>,
    data: tempfile::TempDir,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

struct Reply {
    status: u16,
    head: String,
    body: Bytes,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Server {
    async fn start() -> Self {
        Self::start_on(tempfile::tempdir().unwrap()).await
    }

    async fn start_on(data: tempfile::TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = FrontendConfig {
            region: "us-east-1".to_owned(),
            default_account: "000000000000".parse().unwrap(),
            public_endpoint: format!("http://{address}"),
            account_concurrency: 1_000,
        };
        let store = Arc::new(SqliteStore::open(&data.path().join("hearth.db")).unwrap());
        let images = Arc::new(ImageStore::open(&data.path().join("code")).unwrap());
        let backend = Arc::new(Scripted::default());
        let frontend = Arc::new(Frontend::new(config, store, images, Arc::clone(&backend)));
        frontend.resume().await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(frontend.serve(listener, stopped));
        Self { address, backend, data, stop, serving }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.serving).await.unwrap().unwrap();
        self.data
    }

    async fn call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let body = Bytes::copy_from_slice(&answer[end + 4..]);
        Reply { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body }
    }

    async fn create(&self, name: &str, extra: Value) -> Reply {
        let mut request = json!({
            "FunctionName": name,
            "Runtime": "provided.al2023",
            "Handler": "h",
            "Role": "arn:aws:iam::123456789012:role/r",
            "Code": {"ZipFile": STANDARD.encode(archive())},
        });
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.call("POST", "/2015-03-31/functions", "", request.to_string().as_bytes()).await
    }

    async fn invoke(&self, name: &str, payload: &str) -> Reply {
        self.call("POST", &format!("/2015-03-31/functions/{name}/invocations"), "", payload.as_bytes()).await
    }

    async fn settled(&self, name: &str) -> Value {
        for _ in 0..200 {
            let path = format!("/2015-03-31/functions/{name}/configuration");
            let document = self.call("GET", &path, "", b"").await.json();
            if document["LastUpdateStatus"] != "InProgress" {
                return document;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} is still being prepared");
    }
}

/// An archive with an executable bootstrap.
fn archive() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("bootstrap", zip::write::SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
    std::io::Write::write_all(&mut zip, b"#!/bin/sh\n").unwrap();
    zip.finish().unwrap().into_inner()
}

#[tokio::test]
async fn a_function_is_made_run_shown_and_deleted() {
    let server = Server::start().await;
    let created = server.create("f", json!({"Tags": {"a": "b"}})).await;
    assert_eq!((created.status, &created.json()["State"]), (201, &json!("Pending")), "{}", created.head);
    assert!(created.head.contains("x-amzn-requestid: "));
    assert_eq!(server.settled("f").await["State"], "Active");
    assert_eq!(server.create("f", json!({})).await.status, 409);

    let answer = server.invoke("f", "{\"x\": 1}").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"{\"x\": 1}"[..]));
    assert!(answer.head.contains("x-amz-executed-version: $LATEST"));
    let failed =
        server.invoke("arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af", "\"fail\"").await;
    assert!(failed.status == 200 && failed.head.contains("x-amz-function-error: Unhandled"));

    let shown = server.call("GET", "/2015-03-31/functions/f", "", b"").await.json();
    assert_eq!(shown["Tags"], json!({"a": "b"}));
    let location = shown["Code"]["Location"].as_str().unwrap().to_owned();
    let path = location.strip_prefix(&format!("http://{}", server.address)).unwrap();
    let downloaded = server.call("GET", path, "", b"").await;
    assert_eq!((downloaded.status, &downloaded.body[..]), (200, &archive()[..]));
    assert_eq!(server.call("GET", &path.replace("expires=1", "expires=2"), "", b"").await.status, 403);

    assert_eq!(server.call("DELETE", "/2015-03-31/functions/f", "", b"").await.status, 204);
    let gone = server.invoke("f", "").await;
    assert_eq!(
        gone.json()["Message"],
        "Function not found: arn:aws:lambda:us-east-1:000000000000:function:f"
    );
    assert!(server.backend.told.lock().unwrap().contains(&"deleted f".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn every_lease_is_released_once_whatever_happens() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    for (payload, status, leases, outcome) in [
        ("1", 200, 1, LeaseOutcome::Reusable),
        ("\"fail\"", 200, 1, LeaseOutcome::InstanceLost),
        ("\"lost\"", 500, 1, LeaseOutcome::InstanceLost),
        ("\"panic\"", 500, 1, LeaseOutcome::InstanceLost),
        ("\"undelivered\"", 500, 3, LeaseOutcome::InstanceLost),
    ] {
        server.backend.released.lock().unwrap().clear();
        let answer = server.invoke("f", payload).await;
        assert_eq!(answer.status, status, "{payload}");
        let released: Vec<_> = server.backend.released.lock().unwrap().iter().map(|(_, o)| *o).collect();
        assert_eq!(released, vec![outcome; leases], "{payload}");
    }
    // A client that goes away in mid-request.
    server.backend.released.lock().unwrap().clear();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head =
        "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n\"slow\"";
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.backend.released.lock().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_update_serves_when_it_is_ready_and_not_if_it_fails() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let revision = |answer: &Reply| answer.json()["instance"].as_str().unwrap()[..16].to_owned();
    let first = revision(&server.invoke("f", "\"context\"").await);
    let path = "/2015-03-31/functions/f/configuration";
    let slow = br#"{"Environment": {"Variables": {"PREPARE_MS": "300"}}}"#;
    assert_eq!(server.call("PUT", path, "", slow).await.json()["LastUpdateStatus"], "InProgress");
    assert_eq!(revision(&server.invoke("f", "\"context\"").await), first);
    assert_eq!(server.call("PUT", path, "", b"{\"Timeout\": 5}").await.status, 409);
    assert_eq!(server.settled("f").await["LastUpdateStatus"], "Successful");
    let second = revision(&server.invoke("f", "\"context\"").await);
    assert_ne!(second, first);
    server.call("PUT", path, "", br#"{"Handler": "broken", "Environment": {}}"#).await;
    let failed = server.settled("f").await;
    assert_eq!((&failed["State"], &failed["LastUpdateStatus"]), (&json!("Active"), &json!("Failed")));
    assert_eq!(revision(&server.invoke("f", "\"context\"").await), second);
    let stale = server.call("PUT", path, "", br#"{"RevisionId": "x"}"#).await;
    assert!(stale.status == 412 && stale.head.contains("x-amzn-errortype: PreconditionFailedException"));
    server.stop().await;
}

#[tokio::test]
async fn what_a_stop_interrupted_is_taken_up_again() {
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let server = doomed.spawn(Server::start()).await.unwrap();
    server.create("f", json!({"Environment": {"Variables": {"PREPARE_MS": "700"}}})).await;
    assert_eq!(server.invoke("f", "").await.status, 409);
    let Server { data, backend, .. } = server;
    drop(backend);
    // As a crash does, this ends the preparation in the middle.
    tokio::task::spawn_blocking(move || drop(doomed)).await.unwrap();
    let server = Server::start_on(data).await;
    assert_eq!(server.settled("f").await["State"], "Active");
    assert_eq!(server.invoke("f", "").await.body, "{}");
    server.stop().await;
}

#[tokio::test]
async fn hostile_requests_get_answers() {
    let server = Server::start().await;
    server.create("f", json!({"Environment": {"Variables": {"REFUSE": "account"}}})).await;
    server.settled("f").await;
    let throttled = server.invoke("f", "").await;
    assert!(throttled.status == 429 && throttled.head.contains("retry-after: 1"));
    let expected =
        json!({"Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."});
    assert_eq!(throttled.json(), expected);
    let large = server.invoke("f", &"1".repeat(6 * 1024 * 1024 + 1)).await;
    assert_eq!(
        (large.status, large.json()["message"].as_str().unwrap()),
        (413, "Request must be smaller than 6291456 bytes for the InvokeFunction operation")
    );
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/2015-03-31/functions/a/b/c", 404),
        ("PATCH", "/2015-03-31/functions", 405),
        ("GET", "/2018-10-31/layers", 501),
        ("GET", "/2015-03-31/functions/%ff", 400),
        ("GET", "/2015-03-31/functions/a%2Fb", 400),
        ("GET", "/_hearth/code/../../etc/passwd", 403),
        ("GET", "/2015-03-31/functions?MaxItems=x", 400),
    ] {
        let answer = server.call(method, path, "", b"").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.head.contains("x-amzn-errortype"));
    }
    let header = format!("X-Big: {}\r\n", "a".repeat(70_000));
    assert_eq!(server.call("GET", "/", &header, b"").await.status, 431);
    let idle = TcpStream::connect(server.address).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), server.stop()).await.unwrap();
    drop(idle);
}
