//! A frontend to ask, and how to ask it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_frontend::{Frontend, FrontendConfig};
use hearth_image::ImageStore;
use hearth_oci::{Images, PullConfig, Puller};
use hearth_store::SqliteStore;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::scripted::Scripted;

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// A frontend and the folder it keeps things in.
pub(crate) struct Server {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) backend: Arc<Scripted>,
    pub(crate) data: tempfile::TempDir,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) serving: JoinHandle<()>,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The status of an answer, and what an error says.
pub(crate) fn said(reply: &Reply) -> (u16, String) {
    let document = reply.json();
    let text = document["message"].as_str().or_else(|| document["Message"].as_str());
    (reply.status, text.unwrap_or_default().to_owned())
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_on(tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn start_on(data: tempfile::TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = FrontendConfig {
            region: "us-east-1".to_owned(),
            default_account: "000000000000".parse().unwrap(),
            public_endpoint: format!("http://{address}"),
            service_domains: Vec::new(),
            s3: None,
            connections: 10_000,
            client_timeout: Duration::from_secs(20),
            account_concurrency: 1_000,
            access: hearth_frontend::AccessConfig {
                always: false,
                sealer: hearth_keys::Sealer::random().unwrap(),
                failures_per_minute: 60,
            },
        };
        let store = Arc::new(SqliteStore::open(&data.path().join("hearth.db")).unwrap());
        let images = Arc::new(ImageStore::open(&data.path().join("code")).unwrap());
        let backend = Arc::new(Scripted::new());
        let containers = Arc::new(Images::open(&data.path().join("images")).unwrap());
        let puller = Arc::new(Puller::new(containers, PullConfig::default()));
        let frontend = Arc::new(Frontend::new(config, store, images, puller, Arc::clone(&backend)));
        frontend.resume().await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(frontend.serve(listener, stopped));
        Self { address, backend, data, stop, serving }
    }

    pub(crate) async fn stop(self) -> tempfile::TempDir {
        // It may have stopped by itself.
        let _ = self.stop.send(true);
        tokio::time::timeout(Duration::from_secs(10), self.serving).await.unwrap().unwrap();
        self.data
    }

    pub(crate) async fn call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
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

    /// Sends bytes as they are on a connection of their own.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    pub(crate) async fn create(&self, name: &str, extra: Value) -> Reply {
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

    pub(crate) async fn invoke(&self, name: &str, payload: &str) -> Reply {
        self.call("POST", &format!("/2015-03-31/functions/{name}/invocations"), "", payload.as_bytes()).await
    }

    pub(crate) async fn settled(&self, name: &str) -> Value {
        let path = format!("/2015-03-31/functions/{name}/configuration");
        let end = Instant::now() + PATIENCE;
        loop {
            let document = self.call("GET", &path, "", b"").await.json();
            if document["LastUpdateStatus"] != "InProgress" {
                return document;
            }
            assert!(Instant::now() < end, "{name} is still being prepared");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// All that is still to come on a connection.
pub(crate) async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// An archive with an executable bootstrap.
pub(crate) fn archive() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("bootstrap", zip::write::SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
    std::io::Write::write_all(&mut zip, b"#!/bin/sh\n").unwrap();
    zip.finish().unwrap().into_inner()
}
