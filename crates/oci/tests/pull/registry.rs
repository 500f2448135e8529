//! A registry that does what it is told, badly if it must.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hearth_oci::{Digest, Platform, Reference, media};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// An image as a registry has it.
pub(crate) struct Offered {
    pub(crate) manifest: Vec<u8>,
    pub(crate) media_type: &'static str,
    pub(crate) blobs: HashMap<Digest, Vec<u8>>,
    names: HashMap<&'static str, Digest>,
}

impl Offered {
    pub(crate) fn blob_of(&self, name: &str) -> Digest {
        self.names[name]
    }
}

/// An image of one layer, which is no archive: nothing here unpacks it.
pub(crate) fn image(layer: &[u8]) -> Offered {
    let here = Platform::here();
    let config = json!({"os": here.os, "architecture": here.architecture,
        "rootfs": {"diff_ids": [Digest::of(layer)]}});
    let config = config.to_string().into_bytes();
    let describe = |media_type, content: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST,
        "config": describe(media::CONFIG, &config), "layers": [describe(media::LAYER, layer)]});
    let names = HashMap::from([("config", Digest::of(&config)), ("layer", Digest::of(layer))]);
    let blobs = HashMap::from([(Digest::of(&config), config), (Digest::of(layer), layer.to_vec())]);
    Offered { manifest: manifest.to_string().into(), media_type: media::MANIFEST, blobs, names }
}

/// What is said instead of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Say {
    Status(u16),
    Hang,
    Drop,
    /// Redirects to itself.
    Circle,
    /// Redirects to no place.
    Away,
}

pub(crate) struct Registry {
    state: Arc<State>,
}

struct State {
    address: SocketAddr,
    offered: Offered,
    next: Mutex<VecDeque<Say>>,
    always: Mutex<Option<Say>>,
    token: AtomicBool,
    redirect: AtomicBool,
    stall: AtomicBool,
    /// Bytes of a blob's body after which a connection ends.
    cut: Mutex<Option<usize>>,
    asked: AtomicUsize,
    ranges: AtomicUsize,
    told: AtomicUsize,
}

impl Registry {
    pub(crate) async fn with(offered: Offered) -> (Self, Reference) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            address,
            offered,
            next: Mutex::default(),
            always: Mutex::default(),
            token: AtomicBool::default(),
            redirect: AtomicBool::default(),
            stall: AtomicBool::default(),
            cut: Mutex::default(),
            asked: AtomicUsize::default(),
            ranges: AtomicUsize::default(),
            told: AtomicUsize::default(),
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                tokio::spawn(async move { drop(serve(&state, stream).await) });
            }
        });
        (Self { state }, format!("{address}/team/app:v1").parse().unwrap())
    }

    pub(crate) fn manifest_digest(&self) -> Digest {
        Digest::of(&self.state.offered.manifest)
    }

    pub(crate) fn say_next(&self, say: &[Say]) {
        self.state.next.lock().unwrap().extend(say);
    }

    pub(crate) fn always(&self, say: Say) {
        *self.state.always.lock().unwrap() = Some(say);
    }

    pub(crate) fn demand_token(&self) {
        self.state.token.store(true, Ordering::SeqCst);
    }

    pub(crate) fn redirect_blobs(&self) {
        self.state.redirect.store(true, Ordering::SeqCst);
    }

    pub(crate) fn stall_blobs(&self) {
        self.state.stall.store(true, Ordering::SeqCst);
    }

    pub(crate) fn cut_blobs(&self, after: usize) {
        *self.state.cut.lock().unwrap() = Some(after);
    }

    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn ranges(&self) -> usize {
        self.state.ranges.load(Ordering::SeqCst)
    }

    pub(crate) fn strangers_told(&self) -> usize {
        self.state.told.load(Ordering::SeqCst)
    }
}

/// One request of a connection.
async fn serve(state: &State, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let mut stream = stream.into_inner();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let authorization = header("authorization");
    if path.starts_with("/token") {
        assert!(path.contains("scope=repository:team/app:pull") && path.contains("service=test"), "{path}");
        return answer(&mut stream, "200 OK", "", b"{\"token\":\"secret\"}").await;
    }
    state.asked.fetch_add(1, Ordering::SeqCst);
    let (next, always) = (state.next.lock().unwrap().pop_front(), *state.always.lock().unwrap());
    match next.or(always) {
        Some(Say::Status(status)) => return answer(&mut stream, &format!("{status} No"), "", b"{}").await,
        Some(Say::Drop) => return Ok(()),
        Some(Say::Hang) => return hang().await,
        Some(Say::Circle) => return redirect(&mut stream, &path).await,
        Some(Say::Away) => return redirect(&mut stream, "ftp://nowhere/").await,
        None => {}
    }
    let elsewhere = path.strip_prefix("/elsewhere/");
    if elsewhere.is_some() && authorization.is_some() {
        state.told.fetch_add(1, Ordering::SeqCst);
    }
    if state.token.load(Ordering::SeqCst)
        && elsewhere.is_none()
        && authorization.as_deref() != Some("Bearer secret")
    {
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"test\"\r\n", state.address);
        return answer(&mut stream, "401 Unauthorized", &challenge, b"{}").await;
    }
    if path.starts_with("/v2/team/app/manifests/") {
        let kind = format!("Content-Type: {}\r\n", state.offered.media_type);
        return answer(&mut stream, "200 OK", &kind, &state.offered.manifest).await;
    }
    let name = elsewhere.or_else(|| path.strip_prefix("/v2/team/app/blobs/")).unwrap_or_default();
    if elsewhere.is_none() && state.redirect.load(Ordering::SeqCst) {
        // The same socket under another name.
        let place = format!("http://localhost:{}/elsewhere/{name}", state.address.port());
        return redirect(&mut stream, &place).await;
    }
    match name.parse().ok().and_then(|digest: Digest| state.offered.blobs.get(&digest)) {
        None => answer(&mut stream, "404 Not Found", "", b"{}").await,
        Some(content) => blob(state, &mut stream, content, header("range")).await,
    }
}

async fn blob(
    state: &State,
    stream: &mut TcpStream,
    content: &[u8],
    range: Option<String>,
) -> std::io::Result<()> {
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let (status, more) = if from > 0 {
        state.ranges.fetch_add(1, Ordering::SeqCst);
        let (last, all) = (content.len() - 1, content.len());
        ("206 Partial Content", format!("Content-Range: bytes {from}-{last}/{all}\r\n"))
    } else {
        ("200 OK", String::new())
    };
    let rest = &content[from..];
    let head =
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n", rest.len());
    stream.write_all(head.as_bytes()).await?;
    let cut = state.cut.lock().unwrap().unwrap_or(usize::MAX);
    // Small ones come whole, so that a test is of what it is about.
    let sent = if content.len() < 10_000 { rest.len() } else { rest.len().min(cut) };
    stream.write_all(&rest[..sent]).await?;
    stream.flush().await?;
    if sent < rest.len() && state.stall.load(Ordering::SeqCst) {
        return hang().await;
    }
    Ok(())
}

async fn hang() -> std::io::Result<()> {
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    Ok(())
}

async fn redirect(stream: &mut TcpStream, place: &str) -> std::io::Result<()> {
    answer(stream, "307 Temporary Redirect", &format!("Location: {place}\r\n"), b"").await
}

async fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}
