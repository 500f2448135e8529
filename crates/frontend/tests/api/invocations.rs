//! Invocations, and what becomes of their leases.

use std::sync::atomic::Ordering;

use hearth_types::LeaseOutcome;
use serde_json::json;

use crate::server::{Server, until};

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
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_costs_no_lease() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let head =
        "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n\"gated\"";
    let client = server.raw(head.as_bytes()).await;
    until("the function has the request", || server.backend.leases.load(Ordering::Relaxed) == 1).await;
    drop(client);
    // Whether the server has noticed makes no difference.
    server.backend.gate.add_permits(1);
    until("the lease is released", || server.backend.released.lock().unwrap().len() == 1).await;
    assert_eq!(server.backend.released.lock().unwrap()[0].1, LeaseOutcome::Reusable);
    server.stop().await;
}

#[tokio::test]
async fn a_stop_lets_the_request_in_flight_finish() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let answer = tokio::join!(server.invoke("f", "\"gated\""), async {
        until("the function has the request", || server.backend.leases.load(Ordering::Relaxed) == 1).await;
        server.stop.send(true).unwrap();
        until("the port is closed", || std::net::TcpStream::connect(server.address).is_err()).await;
        server.backend.gate.add_permits(1);
    })
    .0;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"\"gated\""[..]));
    server.stop().await;
}

#[tokio::test]
async fn the_function_is_told_who_asked_and_the_caller_what_came_of_it() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let headers = "X-Amz-Client-Context: eyJjdXN0b20iOjF9\r\nX-Amzn-Trace-Id: Root=1-2-3\r\n";
    let path = "/2015-03-31/functions/f/invocations?Qualifier=%24LATEST";
    let told = server.call("POST", path, headers, b"\"context\"").await.json();
    assert_eq!(told["arn"], "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST");
    assert_eq!((&told["trace"], &told["client"]), (&json!("Root=1-2-3"), &json!({"custom": 1})));
    let tail = server.call("POST", path, "X-Amz-Log-Type: Tail\r\n", b"1").await;
    assert!(tail.head.contains("x-amz-log-result: dGhlIGxvZw=="), "{}", tail.head);
    let dry = server.call("POST", path, "X-Amz-Invocation-Type: DryRun\r\n", b"").await;
    assert_eq!(dry.status, 204);
    let event = server.call("POST", path, "X-Amz-Invocation-Type: Event\r\n", b"").await;
    assert!(event.status == 202 && event.body.is_empty());
    assert_eq!(server.call("POST", path, "X-Amz-Client-Context: e\r\n", b"").await.status, 400);
    server.stop().await;
}

/// The events of an event stream, with their payloads.
fn events(body: &[u8]) -> Vec<(String, String)> {
    let mut rest = body;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let message = aws_smithy_eventstream::frame::read_message_from(&mut rest).unwrap();
        let kind = message.headers().iter().find(|header| header.name().as_str() == ":event-type").unwrap();
        let kind = kind.value().as_string().unwrap().as_str().to_owned();
        found.push((kind, String::from_utf8(message.payload().to_vec()).unwrap()));
    }
    found
}

/// The payload of a chunked body.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..][..length]);
        body = &body[end + 2 + length + 2..];
    }
}

#[tokio::test]
async fn a_stream_is_framed_piece_by_piece_and_its_lease_released_at_the_end() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let chunk = |text: &str| ("PayloadChunk".to_owned(), text.to_owned());
    let complete = |document: &str| ("InvokeComplete".to_owned(), document.to_owned());
    let tail = r#"{"LogResult":"dGhlIGxvZw=="}"#;
    for (payload, expected) in [
        ("\"stream\"", vec![chunk("one"), chunk("two"), complete(tail)]),
        (
            "\"stream then fail\"",
            vec![
                chunk("one"),
                chunk("two"),
                complete(r#"{"ErrorCode":"Mine","ErrorDetails":"{}","LogResult":"dGhlIGxvZw=="}"#),
            ],
        ),
        ("7", vec![chunk("7"), complete("{}")]),
        (
            "\"fail\"",
            vec![complete(r#"{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorMessage\":\"x\"}"}"#)],
        ),
    ] {
        server.backend.released.lock().unwrap().clear();
        let path = "/2021-11-15/functions/f/response-streaming-invocations";
        let answer = server.call("POST", path, "", payload.as_bytes()).await;
        assert_eq!(answer.status, 200, "{payload}");
        assert!(answer.head.contains("application/vnd.amazon.eventstream"), "{}", answer.head);
        let is_chunked = answer.head.contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunked(&answer.body) } else { answer.body.to_vec() };
        assert_eq!(events(&body), expected, "{payload}");
        let released: Vec<_> = server.backend.released.lock().unwrap().iter().map(|(_, o)| *o).collect();
        let outcome = if payload == "\"fail\"" { LeaseOutcome::InstanceLost } else { LeaseOutcome::Reusable };
        assert_eq!(released, [outcome], "{payload}");
    }
    server.stop().await;
}
