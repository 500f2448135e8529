//! Clients that are slow, broken or hostile.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, pause};

use crate::server::{Server, rest};

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
        ("GET", "/2025-11-30/capacity-providers", 501),
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

/// What comes back, and after how long, when a client sends `bytes` and then nothing. The clock jumps over the wait.
async fn after_silence(server: &Server, bytes: &[u8]) -> (String, Duration) {
    let stream = server.raw(bytes).await;
    pause();
    let began = Instant::now();
    let answer = rest(stream).await;
    let waited = began.elapsed();
    tokio::time::resume();
    (answer, waited)
}

#[tokio::test]
async fn clients_that_fall_silent_are_given_up() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let patience = Duration::from_secs(10)..Duration::from_secs(60);
    for silent in [&b""[..], b"G", b"GET / HTTP/1.1\r\nHos", b"GET / HTTP/1.1\r\nHost: x\r\n"] {
        let (answer, waited) = after_silence(&server, silent).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(patience.contains(&waited), "{waited:?} after {silent:?}");
    }
    let (answer, waited) = after_silence(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404") && patience.contains(&waited), "{answer} {waited:?}");
    let half = b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{";
    let (answer, waited) = after_silence(&server, half).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
    assert!(patience.contains(&waited), "{waited:?}");
    assert_eq!(server.invoke("f", "1").await.status, 200);
    assert_eq!(server.backend.released.lock().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_waits_for_permission_gets_it_or_its_answer_at_once() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let head = |length: usize| {
        format!(
            "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut stream = server.raw(head(2).as_bytes()).await;
    let mut permission = [0; 25];
    stream.read_exact(&mut permission).await.unwrap();
    assert_eq!(&permission, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"42").await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("42"), "{answer}");
    let answer = rest(server.raw(head(700_000_000).as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_smuggled_behind_a_request_with_two_lengths() {
    let server = Server::start().await;
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: +4",
        "Transfer-Encoding : chunked",
    ] {
        let text = format!("POST /visible HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n0\r\n\r\n{hidden}");
        let answer = rest(server.raw(text.as_bytes()).await).await;
        assert!(!answer.contains("smuggled"), "{lengths}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lengths}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_answer_to_head_or_options_has_no_surprise() {
    let server = Server::start().await;
    let head = rest(server.raw(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await).await;
    assert!(head.starts_with("HTTP/1.1 404") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(server.call("OPTIONS", "/2015-03-31/functions", "", b"").await.status, 405);
    assert_eq!(server.call("OPTIONS", "*", "", b"").await.status, 404);
    server.stop().await;
}
