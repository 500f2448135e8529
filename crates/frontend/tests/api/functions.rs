//! Functions made, shown, changed, listed and deleted.

use serde_json::json;

use crate::server::{Reply, Server, archive};

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
async fn an_update_serves_when_it_is_ready_and_not_if_it_fails() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let revision = |answer: &Reply| answer.json()["instance"].as_str().unwrap()[..16].to_owned();
    let first = revision(&server.invoke("f", "\"context\"").await);
    let path = "/2015-03-31/functions/f/configuration";
    let gated = br#"{"Environment": {"Variables": {"GATED": "1"}}}"#;
    assert_eq!(server.call("PUT", path, "", gated).await.json()["LastUpdateStatus"], "InProgress");
    assert_eq!(revision(&server.invoke("f", "\"context\"").await), first);
    assert_eq!(server.call("PUT", path, "", b"{\"Timeout\": 5}").await.status, 409);
    server.backend.gate.add_permits(1);
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
    server.create("f", json!({"Environment": {"Variables": {"GATED": "1"}}})).await;
    assert_eq!(server.invoke("f", "").await.status, 409);
    let Server { data, backend, .. } = server;
    drop(backend);
    // As a crash does, this ends the preparation in the middle.
    tokio::task::spawn_blocking(move || drop(doomed)).await.unwrap();
    let server = Server::start_on(data).await;
    server.backend.gate.add_permits(1);
    assert_eq!(server.settled("f").await["State"], "Active");
    assert_eq!(server.invoke("f", "").await.body, "{}");
    server.stop().await;
}
