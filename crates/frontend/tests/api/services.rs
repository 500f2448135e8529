//! HTTP services, and what becomes of their leases.

use hearth_types::LeaseOutcome;
use serde_json::json;

use crate::server::Server;

/// A request to the service `f` of the default account: its status, and what became of the leases.
async fn ask(server: &Server, method: &str, path: &str) -> (u16, String, Vec<LeaseOutcome>) {
    server.backend.released.lock().unwrap().clear();
    let path = format!("/_/f{path}");
    let answer = server.call(method, &path, "", b"").await;
    let released = server.backend.released.lock().unwrap().iter().map(|(_, outcome)| *outcome).collect();
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned(), released)
}

#[tokio::test]
async fn a_request_is_tried_elsewhere_only_while_it_was_not_delivered() {
    let server = Server::start().await;
    server.create("f", json!({"Tags": {"hearth:http-port": "80"}})).await;
    server.settled("f").await;
    let (good, gone) = (LeaseOutcome::Reusable, LeaseOutcome::InstanceLost);
    for (path, status, outcomes) in [
        ("/a?b=c", 200, vec![good]),
        ("/failed", 502, vec![good]),
        ("/late", 504, vec![good]),
        ("/undelivered", 502, vec![gone, gone, good]),
    ] {
        let (seen, body, released) = ask(&server, "GET", path).await;
        assert_eq!((seen, released), (status, outcomes), "{path}: {body}");
    }
    let leases = &server.backend.leases;
    if leases.load(std::sync::atomic::Ordering::Relaxed) % 2 == 1 {
        ask(&server, "GET", "/").await;
    }
    let (status, body, released) = ask(&server, "GET", "/undelivered-once").await;
    assert_eq!((status, released), (200, vec![gone, good]), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn only_services_are_reached_and_their_settings_are_checked() {
    let server = Server::start().await;
    server.create("plain", json!({})).await;
    server.settled("plain").await;
    assert_eq!(server.call("GET", "/_/plain/", "", b"").await.status, 404);
    assert_eq!(server.call("GET", "/_/none/", "", b"").await.status, 404);
    assert_eq!(server.call("GET", "/_/", "", b"").await.status, 404);
    for tags in [
        json!({"hearth:http-port": "0"}),
        json!({"hearth:http-port": "9001"}),
        json!({"hearth:http-port": "65536"}),
        json!({"hearth:http-port": "80", "hearth:http-health": "health"}),
        json!({"hearth:http-health": "/health"}),
        json!({"hearth:hosts": "a.example"}),
        json!({"hearth:http-port": "80", "hearth:hosts": "localhost"}),
    ] {
        let answer = server.create("wrong", json!({"Tags": tags})).await;
        assert_eq!(answer.status, 400, "{tags}");
    }
    server.create("f", json!({"Tags": {"hearth:http-port": "80"}})).await;
    server.settled("f").await;
    let refused = server.invoke("f", "1").await;
    assert_eq!(refused.status, 400, "{}", refused.json());
    server.stop().await;
}
