//! Reserved and provisioned concurrency, and what the backend is told of it.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::server::{Reply, Server, said};

const RESERVED: &str = "/2017-10-31/functions/f/concurrency";

async fn put(server: &Server, path: &str, body: Value) -> Reply {
    server.call("PUT", path, "", body.to_string().as_bytes()).await
}

fn provisioned(name: &str, qualifier: &str) -> String {
    format!("/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier={qualifier}")
}

async fn provision(server: &Server, qualifier: &str, count: u32) -> Reply {
    let body = json!({"ProvisionedConcurrentExecutions": count});
    put(server, &provisioned("f", qualifier), body).await
}

async fn publish(server: &Server) -> Reply {
    server.call("POST", "/2015-03-31/functions/f/versions", "", b"").await
}

fn told(server: &Server, what: &str) -> Vec<String> {
    let told = std::mem::take(&mut *server.backend.told.lock().unwrap());
    told.into_iter().filter(|line| line.starts_with(what)).collect()
}

/// A function with one version.
async fn published() -> Server {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    assert_eq!(publish(&server).await.status, 201);
    server
}

#[tokio::test]
async fn what_is_reserved_leaves_enough_to_others_and_is_told_now_and_at_start() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let get = "/2019-09-30/functions/f/concurrency";
    assert_eq!(server.call("GET", get, "", b"").await.json(), json!({}));
    let (status, text) = said(&put(&server, RESERVED, json!({"ReservedConcurrentExecutions": 901})).await);
    assert_eq!(
        (status, text.as_str()),
        (
            400,
            "Specified ReservedConcurrentExecutions for function decreases account's \
             UnreservedConcurrentExecution below its minimum value of [100]."
        )
    );
    for reserved in [0, 900, 7] {
        let body = json!({"ReservedConcurrentExecutions": reserved});
        assert_eq!(put(&server, RESERVED, body.clone()).await.json(), body);
        assert_eq!(told(&server, "reserved"), [format!("reserved f Some({reserved})")]);
        assert_eq!(server.call("GET", get, "", b"").await.json(), body);
        let shown = server.call("GET", "/2015-03-31/functions/f", "", b"").await.json();
        assert_eq!(shown["Concurrency"], body);
    }
    let limits = server.call("GET", "/2016-08-19/account-settings", "", b"").await.json();
    assert_eq!(limits["AccountLimit"]["UnreservedConcurrentExecutions"], 993);
    let server = Server::start_on(server.stop().await).await;
    assert_eq!(told(&server, "reserved"), ["reserved f Some(7)"]);
    assert_eq!(server.call("DELETE", RESERVED, "", b"").await.status, 204);
    assert_eq!(told(&server, "reserved"), ["reserved f None"]);
    server.stop().await;
}

#[tokio::test]
async fn a_function_that_is_switched_off_refuses_with_lambdas_reason() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    put(&server, RESERVED, json!({"ReservedConcurrentExecutions": 0})).await;
    let refused = server.invoke("f", "1").await;
    assert_eq!((refused.status, &refused.json()["message"]), (429, &json!("Rate Exceeded.")));
    assert_eq!(refused.json()["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded");
    assert!(refused.head.contains("retry-after: 1"));
    let whole = said(
        &put(&server, &RESERVED.replace("/f/", "/f:1/"), json!({"ReservedConcurrentExecutions": 1})).await,
    );
    assert!(whole.0 == 400 && whole.1.starts_with("This operation is permitted on Lambda functions only."));
    server.stop().await;
}

#[tokio::test]
async fn what_is_provisioned_is_shown_as_far_as_it_has_come() {
    let server = published().await;
    server.backend.room.store(1, Ordering::Relaxed);
    let made = provision(&server, "1", 4).await;
    assert_eq!(made.status, 202);
    let mut expected = json!({
        "RequestedProvisionedConcurrentExecutions": 4,
        "AllocatedProvisionedConcurrentExecutions": 1,
        "AvailableProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": made.json()["LastModified"],
    });
    assert_eq!(made.json(), expected);
    assert_eq!(told(&server, "provision"), ["provision f 1 4 of 1"]);
    server.backend.room_is_all.store(true, Ordering::Relaxed);
    (expected["Status"], expected["StatusReason"]) = (json!("FAILED"), json!("scripted"));
    let path = provisioned("f", "1");
    assert_eq!(server.call("GET", &path, "", b"").await.json(), expected);
    server.backend.room.store(4, Ordering::Relaxed);
    let ready = server.call("GET", &path, "", b"").await.json();
    assert_eq!(
        (&ready["Status"], &ready["AvailableProvisionedConcurrentExecutions"]),
        (&json!("READY"), &json!(2))
    );
    assert!(ready.get("StatusReason").is_none());
    let list = "/2019-09-30/functions/f/provisioned-concurrency?List=ALL";
    let listed = server.call("GET", list, "", b"").await.json();
    let item = &listed["ProvisionedConcurrencyConfigs"][0];
    assert_eq!(item["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:f:1");
    assert_eq!(item["Status"], "READY");

    let server = Server::start_on(server.stop().await).await;
    assert_eq!(told(&server, "provision"), ["provision f 1 4 of 1"]);
    assert_eq!(server.call("DELETE", &path, "", b"").await.status, 204);
    assert_eq!(told(&server, "provision"), ["provision f 1 0 of 1"]);
    let gone = server.call("GET", &path, "", b"").await;
    assert!(gone.head.contains("ProvisionedConcurrencyConfigNotFoundException"));
    assert_eq!(said(&gone), (404, "No Provisioned Concurrency Config found for this function".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_provisioned_is_said_in_lambdas_words() {
    let server = published().await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
    for (qualifier, count, status, text) in [
        (
            "%24LATEST",
            1,
            400,
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.".to_owned(),
        ),
        ("7", 1, 404, format!("Function not found: {arn}:7")),
        ("live", 1, 404, format!("Cannot find alias arn: {arn}:live")),
        (
            "1",
            1_001,
            400,
            "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000]."
                .to_owned(),
        ),
        (
            "1",
            901,
            400,
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its \
             minimum value of [100]."
                .to_owned(),
        ),
    ] {
        assert_eq!(said(&provision(&server, qualifier, count).await), (status, text));
    }
    assert_eq!(provision(&server, "1", 0).await.status, 400);
    put(&server, RESERVED, json!({"ReservedConcurrentExecutions": 5})).await;
    let (status, text) = said(&provision(&server, "1", 6).await);
    assert_eq!(
        (status, text.as_str()),
        (
            400,
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
        )
    );
    assert_eq!(provision(&server, "1", 5).await.status, 202);
    let lower = said(&put(&server, RESERVED, json!({"ReservedConcurrentExecutions": 4})).await);
    assert!(
        lower.0 == 400
            && lower.1.ends_with("should not be lower than function's total provisioned concurrency [5].")
    );
    assert_eq!(said(&server.call("GET", &provisioned("f", "%24LATEST"), "", b"").await).0, 400);
    server.stop().await;
}

#[tokio::test]
async fn each_version_is_told_the_sum_of_what_comes_to_it() {
    let server = published().await;
    put(&server, "/2015-03-31/functions/f/configuration", json!({"Timeout": 9})).await;
    server.settled("f").await;
    assert_eq!(publish(&server).await.json()["Version"], "2");
    let aliases = "/2015-03-31/functions/f/aliases";
    for name in ["a", "b"] {
        let body = json!({"Name": name, "FunctionVersion": "1"}).to_string();
        assert_eq!(server.call("POST", aliases, "", body.as_bytes()).await.status, 201);
    }
    told(&server, "");
    assert_eq!(provision(&server, "a", 4).await.status, 202);
    assert_eq!(provision(&server, "b", 2).await.status, 202);
    assert_eq!(told(&server, "provision"), ["provision f 1 4 of 1", "provision f 1 6 of 1"]);
    assert_eq!(
        said(&provision(&server, "1", 1).await),
        (409, "Version is pointed by a Provisioned Concurrency alias".to_owned())
    );
    // An alias takes what it has with it.
    let weights = json!({"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.25}}});
    assert_eq!(put(&server, &format!("{aliases}/a"), weights).await.status, 200);
    assert_eq!(told(&server, "provision"), ["provision f 1 5 of 1", "provision f 2 1 of 1"]);
    assert_eq!(
        said(&provision(&server, "a", 1).await),
        (400, "Alias with weights can not be used with Provisioned Concurrency".to_owned())
    );
    let moved = json!({"FunctionVersion": "2", "RoutingConfig": {}});
    assert_eq!(put(&server, &format!("{aliases}/a"), moved).await.status, 200);
    assert_eq!(told(&server, "provision"), ["provision f 1 2 of 1", "provision f 2 4 of 1"]);
    let latest = put(&server, &format!("{aliases}/a"), json!({"FunctionVersion": "$LATEST"})).await;
    assert_eq!(latest.status, 400);
    assert_eq!(server.call("DELETE", &format!("{aliases}/b"), "", b"").await.status, 204);
    assert_eq!(told(&server, "provision"), ["provision f 2 4 of 1", "provision f 1 0 of 1"]);
    let tag = "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af";
    server.call("POST", tag, "", br#"{"Tags": {"hearth:concurrency": "hard=3"}}"#).await;
    assert_eq!(told(&server, "provision"), ["provision f 2 4 of 3"]);
    server.stop().await;
}

#[tokio::test]
async fn requests_at_once_in_an_instance_can_be_set_as_lambda_has_it_and_the_tag_wins() {
    let server = Server::start().await;
    let capacity = json!({"LambdaManagedInstancesCapacityProviderConfig": {
        "CapacityProviderArn": "arn:aws:lambda:us-east-1:000000000000:capacity-provider:p",
        "PerExecutionEnvironmentMaxConcurrency": 12,
    }});
    let made = server.create("f", json!({"CapacityProviderConfig": capacity, "Publish": true})).await;
    assert_eq!((made.status, &made.json()["CapacityProviderConfig"]), (201, &capacity));
    server.settled("f").await;
    assert_eq!(provision(&server, "1", 1).await.status, 202);
    assert_eq!(told(&server, "provision"), ["provision f 1 1 of 12"]);
    let tag = "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af";
    server.call("POST", tag, "", br#"{"Tags": {"hearth:concurrency": "hard=3"}}"#).await;
    assert_eq!(told(&server, "provision"), ["provision f 1 1 of 3"]);
    let mut wrong = capacity;
    wrong["LambdaManagedInstancesCapacityProviderConfig"]["PerExecutionEnvironmentMaxConcurrency"] =
        json!(1_601);
    let path = "/2015-03-31/functions/f/configuration";
    assert_eq!(put(&server, path, json!({"CapacityProviderConfig": wrong})).await.status, 400);
    server.stop().await;
}
