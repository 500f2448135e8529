//! An S3 that does what none should: nothing of it reaches further than an error.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use hearth_aws::{Account, CallError, Object, Patience, S3};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Patience =
    Patience { head: Duration::from_secs(2), pause: Duration::from_secs(2), whole: Duration::from_secs(60) };
const MOST: u64 = 100_000;

/// What the server answers to each key, raw.
fn script(key: &str) -> (String, bool) {
    let ok = |headers: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{body}");
    let xml = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    match key {
        "good" => (ok("content-length: 5", "hello"), false),
        "short" => (ok("content-length: 10", "hello"), false),
        "huge" => (ok("content-length: 99999999999", "hello"), true),
        "endless" => (ok("transfer-encoding: chunked", &chunk.repeat(8)), false),
        "stalls" => (ok("content-length: 10", "hello"), true),
        "silent" => (String::new(), true),
        "redirect" => (
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            false,
        ),
        "no-http" => ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), false),
        "bare" => (xml("404 Not Found", ""), false),
        "bomb" => (xml("403 Forbidden", "<!DOCTYPE a [<!ENTITY b \"c\">]><Error><Code>&b;</Code></Error>"), false),
        "long-error" => (xml("400 Bad Request", &"x".repeat(1 << 20)), false),
        _ => (xml("404 Not Found", "<Error><Code>NoSuchKey</Code><Message>No.</Message></Error>"), false),
    }
}

async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains("authorization: AWS4-HMAC-SHA256 Credential=key/"), "{head}");
    let key = head.split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
    let (text, stays) = script(&key);
    let _ = stream.write_all(text.as_bytes()).await;
    if stays {
        // Until the client has had enough.
        let _ = stream.read_u8().await;
    }
}

async fn s3() -> S3 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    let account = Account::new("us-east-1", Some(("key", "secret")));
    S3::new(endpoint.parse().unwrap(), account).unwrap().with_patience(PATIENCE)
}

#[tokio::test]
async fn whatever_it_answers_becomes_one_of_a_few_errors() {
    let s3 = s3().await;
    let read = async |key: &str| {
        let mut to = Vec::new();
        let read = s3.read(Object { bucket: "bucket", key, version: None }, MOST, &mut to).await;
        assert!(to.len() as u64 <= MOST, "{key}");
        (read, to)
    };
    let (size, content) = read("good").await;
    assert_eq!((size.unwrap(), content.as_slice()), (5, b"hello".as_slice()));
    for key in ["huge", "endless", "long-error"] {
        let (answer, _) = read(key).await;
        assert!(matches!(answer, Err(CallError::TooLarge { .. })), "{key}: {answer:?}");
    }
    let (short, _) = read("short").await;
    assert!(matches!(short, Err(CallError::BrokeOff { .. })), "{short:?}");
    for key in ["stalls", "silent"] {
        let (answer, _) = read(key).await;
        assert!(matches!(answer, Err(CallError::Late { .. })), "{key}: {answer:?}");
    }
    let (strange, _) = read("no-http").await;
    assert!(matches!(strange, Err(CallError::Unreachable { .. })), "{strange:?}");
    for (key, status, word) in [
        ("redirect", 307, "PermanentRedirect"),
        ("bare", 404, "NoSuchKey"),
        ("bomb", 403, "AccessDenied"),
        ("other", 404, "NoSuchKey"),
    ] {
        match read(key).await.0 {
            Err(CallError::Refused { status: found, code, .. }) => {
                assert_eq!((found, code.as_str()), (status, word));
            }
            answer => assert!(answer.is_err() && word.is_empty(), "{key}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_there_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let s3 = S3::new(endpoint, Account::new("us-east-1", None)).unwrap();
    let answer = s3.read(Object { bucket: "b", key: "k", version: None }, MOST, &mut Vec::new()).await;
    assert!(matches!(answer, Err(CallError::Unreachable { .. })), "{answer:?}");
}
