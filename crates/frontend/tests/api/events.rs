//! Events are taken when they are on disk, and refused with a reason otherwise.

use serde_json::json;

use crate::server::{Server, said};

const EVENT: &str = "X-Amz-Invocation-Type: Event\r\n";

async fn with_function() -> Server {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    server
}

async fn send(server: &Server, name: &str, payload: &[u8]) -> crate::server::Reply {
    server.call("POST", &format!("/2015-03-31/functions/{name}/invocations"), EVENT, payload).await
}

#[tokio::test]
async fn an_accepted_event_has_the_id_and_the_age_that_its_caller_was_told() {
    let server = with_function().await;
    let config = "/2019-09-25/functions/f/event-invoke-config";
    server.call("PUT", config, "", br#"{"MaximumEventAgeInSeconds": 60}"#).await;
    let reply = send(&server, "f", br#"{"a":1}"#).await;
    assert_eq!((reply.status, &reply.body[..]), (202, &b""[..]));
    let asynchronous = server.call("POST", "/2014-11-13/functions/f/invoke-async", "", b"[2]").await;
    assert_eq!(asynchronous.status, 202);
    let accepted = server.backend.accepted.lock().unwrap();
    let [first, second] = &accepted[..] else { panic!("{accepted:?}") };
    assert!(reply.head.contains(&first.request_id.to_string()), "{}", reply.head);
    assert_eq!((&first.payload[..], &second.payload[..]), (&br#"{"a":1}"#[..], &b"[2]"[..]));
    assert_eq!(first.expires_ms - first.accepted_ms, 60_000);
    assert!(first.context.trace.as_ref().unwrap().starts_with("Root=1-"));
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_said_at_once() {
    let server = with_function().await;
    assert_eq!(send(&server, "f", b"{").await.status, 400);
    assert_eq!(send(&server, "missing", b"{}").await.status, 404);
    let most = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    assert_eq!(send(&server, "f", most.as_bytes()).await.status, 202);
    let reply = send(&server, "f", format!("{most} ").as_bytes()).await;
    assert_eq!(reply.status, 413);
    assert!(reply.head.contains("RequestTooLargeException"), "{}", reply.head);
    let (status, text) = said(&send(&server, "f", b"\"no room\"").await);
    assert_eq!((status, text.as_str()), (429, "Rate Exceeded. Scripted"));
    let full = send(&server, "f", b"\"no disk\"").await;
    assert_eq!(full.status, 503);
    assert!(full.head.contains("retry-after: 1"), "{}", full.head);
    assert_eq!(server.backend.accepted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_event_invoke_config_is_put_changed_listed_and_deleted() {
    let server = with_function().await;
    let path = "/2019-09-25/functions/f/event-invoke-config";
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST";
    let (status, text) = said(&server.call("GET", path, "", b"").await);
    assert_eq!((status, text), (404, format!("The function {arn} doesn't have an EventInvokeConfig")));
    assert_eq!(server.call("POST", path, "", br#"{"MaximumRetryAttempts": 1}"#).await.status, 404);
    let put = server.call("PUT", path, "", br#"{"MaximumRetryAttempts": 1}"#).await.json();
    assert_eq!((&put["FunctionArn"], &put["MaximumRetryAttempts"]), (&json!(arn), &json!(1)));
    let queue = "arn:aws:sqs:us-east-1:000000000000:q";
    let change =
        json!({"MaximumEventAgeInSeconds": 90, "DestinationConfig": {"OnFailure": {"Destination": queue}}});
    let changed = server.call("POST", path, "", change.to_string().as_bytes()).await.json();
    assert_eq!(
        (&changed["MaximumRetryAttempts"], &changed["MaximumEventAgeInSeconds"]),
        (&json!(1), &json!(90))
    );
    assert_eq!(changed["DestinationConfig"], json!({"OnSuccess": {}, "OnFailure": {"Destination": queue}}));
    assert_eq!(server.call("GET", path, "", b"").await.json(), changed);
    let listed = server.call("GET", &format!("{path}/list"), "", b"").await.json();
    assert_eq!(listed, json!({"FunctionEventInvokeConfigs": [changed]}));
    let put = server.call("PUT", path, "", br#"{"MaximumRetryAttempts": 0}"#).await.json();
    assert!(put.get("MaximumEventAgeInSeconds").is_none());
    assert_eq!(server.call("DELETE", path, "", b"").await.status, 204);
    assert_eq!(server.call("DELETE", path, "", b"").await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_configured_is_refused_with_its_reason() {
    let server = with_function().await;
    let path = "/2019-09-25/functions/f/event-invoke-config";
    for (body, wanted) in [
        (json!({}), "You must specify at least one"),
        (json!({"MaximumRetryAttempts": 3}), "Member must have value less than or equal to 2"),
        (json!({"MaximumEventAgeInSeconds": 59}), "Member must have value greater than or equal to 60"),
        (json!({"DestinationConfig": {"OnSuccess": {"Destination": "here"}}}), "regular expression"),
        (
            json!({"DestinationConfig": {"OnSuccess": {"Destination": "arn:aws:sns:us-east-1:000000000000:t"}}}),
            "is scripted to be nowhere",
        ),
    ] {
        let (status, text) = said(&server.call("PUT", path, "", body.to_string().as_bytes()).await);
        assert!(status == 400 && text.contains(wanted), "{status} {text}");
    }
    let elsewhere = json!({"DestinationConfig": {
        "OnSuccess": {"Destination": "arn:aws:lambda:us-east-1:999999999999:function:f"}}});
    assert_eq!(server.call("PUT", path, "", elsewhere.to_string().as_bytes()).await.status, 403);
    assert_eq!(server.call("GET", &format!("{path}?Qualifier=nope"), "", b"").await.status, 404);
}

#[tokio::test]
async fn a_deleted_function_leaves_no_event_and_no_config_behind() {
    let server = with_function().await;
    let path = "/2019-09-25/functions/f/event-invoke-config";
    server.call("PUT", path, "", br#"{"MaximumRetryAttempts": 1}"#).await;
    send(&server, "f", b"{}").await;
    assert_eq!(server.call("DELETE", "/2015-03-31/functions/f", "", b"").await.status, 204);
    server.create("f", json!({})).await;
    server.settled("f").await;
    assert_eq!(server.call("GET", path, "", b"").await.status, 404);
}

#[tokio::test]
async fn an_alias_or_a_version_takes_its_config_with_it() {
    let server = with_function().await;
    let function = "/2015-03-31/functions/f";
    for again in [false, true] {
        let version = server.call("POST", &format!("{function}/versions"), "", b"").await.json();
        let version = version["Version"].as_str().unwrap().to_owned();
        let alias = json!({"Name": "live", "FunctionVersion": version}).to_string();
        assert_eq!(
            server.call("POST", &format!("{function}/aliases"), "", alias.as_bytes()).await.status,
            201
        );
        for qualifier in ["live", &version] {
            let path = format!("/2019-09-25/functions/f/event-invoke-config?Qualifier={qualifier}");
            assert_eq!(server.call("GET", &path, "", b"").await.status, 404, "{qualifier} {again}");
            assert_eq!(server.call("PUT", &path, "", br#"{"MaximumRetryAttempts": 1}"#).await.status, 200);
        }
        assert_eq!(server.call("DELETE", &format!("{function}/aliases/live"), "", b"").await.status, 204);
        let path = format!("{function}?Qualifier={version}");
        assert_eq!(server.call("DELETE", &path, "", b"").await.status, 204);
    }
    let listed = server.call("GET", "/2019-09-25/functions/f/event-invoke-config/list", "", b"").await.json();
    assert_eq!(listed, json!({"FunctionEventInvokeConfigs": []}));
}
