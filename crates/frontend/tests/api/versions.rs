//! Versions and aliases: published, found by their qualifiers, invoked, and deleted.

use serde_json::{Value, json};

use crate::server::{Reply, Server, said};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";
const ALIASES: &str = "/2015-03-31/functions/f/aliases";
const VERSIONS: &str = "/2015-03-31/functions/f/versions";

async fn call(server: &Server, method: &str, path: &str, body: Value) -> Reply {
    server.call(method, path, "", body.to_string().as_bytes()).await
}

/// Makes `count` versions, each with another timeout, beginning with one second.
async fn with_versions(count: u32) -> Server {
    let server = Server::start().await;
    server.create("f", json!({"Timeout": 1, "Publish": true})).await;
    server.settled("f").await;
    for timeout in 2..=count {
        change(&server, json!({"Timeout": timeout})).await;
        let version = call(&server, "POST", VERSIONS, json!({})).await;
        assert_eq!((version.status, &version.json()["Version"]), (201, &json!(timeout.to_string())));
    }
    server
}

async fn change(server: &Server, members: Value) {
    let path = "/2015-03-31/functions/f/configuration";
    assert_eq!(call(server, "PUT", path, members).await.status, 200);
    server.settled("f").await;
}

async fn executed(server: &Server, qualifier: &str) -> String {
    let path = format!("/2015-03-31/functions/f/invocations?Qualifier={qualifier}");
    let answer = server.call("POST", &path, "", b"1").await;
    assert_eq!(answer.status, 200, "{:?}", said(&answer));
    let (_, version) = answer.head.split_once("x-amz-executed-version: ").unwrap();
    version.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_version_stays_what_it_was_and_is_found_by_its_number() {
    let server = with_versions(2).await;
    change(&server, json!({"Timeout": 9})).await;
    for (qualifier, timeout, version) in [("1", 1, "1"), ("2", 2, "2"), ("$LATEST", 9, "$LATEST")] {
        let path =
            format!("/2015-03-31/functions/f/configuration?Qualifier={}", qualifier.replace('$', "%24"));
        let shown = server.call("GET", &path, "", b"").await.json();
        assert_eq!((&shown["Timeout"], &shown["Version"]), (&json!(timeout), &json!(version)));
        assert_eq!(
            (&shown["FunctionArn"], &shown["State"]),
            (&json!(format!("{ARN}:{qualifier}")), &json!("Active"))
        );
        let behind =
            server.call("GET", &format!("/2015-03-31/functions/f:{qualifier}"), "", b"").await.json();
        assert_eq!(behind["Configuration"], shown);
        assert_eq!(executed(&server, &qualifier.replace('$', "%24")).await, version);
    }
    let context =
        server.call("POST", "/2015-03-31/functions/f:1/invocations", "", b"\"context\"").await.json();
    assert_eq!(context["arn"], format!("{ARN}:1"));
    for qualifier in ["3", "99999999999999999999999"] {
        let path = format!("/2015-03-31/functions/f?Qualifier={qualifier}");
        let missing = said(&server.call("GET", &path, "", b"").await);
        assert_eq!(missing, (404, format!("Function not found: {ARN}:{qualifier}")));
    }
    let missing = said(&server.call("POST", "/2015-03-31/functions/f:no/invocations", "", b"1").await);
    assert_eq!(missing, (404, format!("Cannot find alias arn: {ARN}:no")));
    server.stop().await;
}

#[tokio::test]
async fn what_is_published_is_what_the_caller_saw_and_only_once() {
    let server = with_versions(1).await;
    let shown = server.settled("f").await;
    let digest = shown["CodeSha256"].as_str().unwrap();
    let wrong = said(&call(&server, "POST", VERSIONS, json!({"CodeSha256": "x"})).await);
    let text = format!(
        "CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ({digest}). Please try again with the CodeSHA256 \
         in $LATEST."
    );
    assert_eq!(wrong, (400, text));
    assert_eq!(call(&server, "POST", VERSIONS, json!({"RevisionId": "x"})).await.status, 412);
    let same = json!({"RevisionId": shown["RevisionId"], "CodeSha256": digest, "Description": "other"});
    let again = call(&server, "POST", VERSIONS, same).await;
    assert_eq!(
        (again.status, &again.json()["Version"], &again.json()["Description"]),
        (201, &json!("1"), &json!(""))
    );
    change(&server, json!({"Timeout": 2, "Description": "latest"})).await;
    let second = call(&server, "POST", VERSIONS, json!({"Description": "second"})).await.json();
    assert_eq!((&second["Version"], &second["Description"]), (&json!("2"), &json!("second")));
    assert_eq!(second["FunctionArn"], format!("{ARN}:2"));
    // A name that comes back does not give its numbers out again.
    server.call("DELETE", "/2015-03-31/functions/f", "", b"").await;
    assert_eq!(server.create("f", json!({"Publish": true})).await.json()["Version"], "3");
    server.stop().await;
}

#[tokio::test]
async fn a_version_that_comes_with_the_code_runs_when_that_is_ready() {
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let server = doomed.spawn(Server::start()).await.unwrap();
    let gated = json!({"Publish": true, "Environment": {"Variables": {"GATED": "1"}}});
    let made = server.create("f", gated).await.json();
    assert_eq!(
        (&made["Version"], &made["State"], &made["FunctionArn"]),
        (&json!("1"), &json!("Pending"), &json!(ARN))
    );
    assert_eq!(server.invoke("f:1", "1").await.status, 409);
    assert_eq!(call(&server, "POST", VERSIONS, json!({})).await.status, 409);
    // What a crash interrupts is taken up again, for the version too.
    let Server { data, backend, .. } = server;
    drop(backend);
    tokio::task::spawn_blocking(move || drop(doomed)).await.unwrap();
    let server = Server::start_on(data).await;
    server.backend.gate.add_permits(2);
    server.settled("f").await;
    assert_eq!(executed(&server, "1").await, "1");
    change(&server, json!({"Environment": {}})).await;
    let code = json!({"ZipFile": base64_archive(), "Publish": true});
    let updated = call(&server, "PUT", "/2015-03-31/functions/f/code", code).await.json();
    assert_eq!((&updated["Version"], &updated["FunctionArn"]), (&json!("2"), &json!(format!("{ARN}:2"))));
    server.settled("f").await;
    assert_eq!(executed(&server, "2").await, "2");
    change(&server, json!({"Handler": "broken"})).await;
    assert_eq!(call(&server, "POST", VERSIONS, json!({})).await.status, 409);
    assert_eq!(executed(&server, "2").await, "2");
    server.stop().await;
}

fn base64_archive() -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(crate::server::archive())
}

#[tokio::test]
async fn what_answered_before_a_failed_update_answers_after_a_restart() {
    let server = Server::start().await;
    server.create("f", json!({})).await;
    server.settled("f").await;
    let revision = |answer: &Reply| {
        let document = answer.json();
        document["instance"].as_str().unwrap_or_else(|| panic!("{document}"))[..16].to_owned()
    };
    let first = revision(&server.invoke("f", "\"context\"").await);
    for _ in 0..2 {
        change(&server, json!({"Handler": "broken"})).await;
        assert_eq!(revision(&server.invoke("f", "\"context\"").await), first);
    }
    let server = Server::start_on(server.stop().await).await;
    assert_eq!(revision(&server.invoke("f", "\"context\"").await), first);
    change(&server, json!({"Handler": "h"})).await;
    assert_ne!(revision(&server.invoke("f", "\"context\"").await), first);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_versions_begin_with_latest_and_lack_none() {
    let server = with_versions(5).await;
    for size in 1..=7 {
        let (mut shown, mut marker, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page =
                server.call("GET", &format!("{VERSIONS}?MaxItems={size}{marker}"), "", b"").await.json();
            let versions = page["Versions"].as_array().unwrap();
            assert!(versions.iter().all(|version| version.get("State").is_none()));
            shown.extend(versions.iter().map(|version| version["Version"].as_str().unwrap().to_owned()));
            pages += 1;
            match page["NextMarker"].as_str() {
                Some(next) => marker = format!("&Marker={next}"),
                None => break,
            }
        }
        assert_eq!((shown.join(" "), pages), ("$LATEST 1 2 3 4 5".to_owned(), 6_usize.div_ceil(size)));
    }
    assert_eq!(server.call("GET", &format!("{VERSIONS}?Marker=*"), "", b"").await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn all_versions_of_all_functions_are_listed_in_pages_of_every_size() {
    let server = with_versions(3).await;
    for name in ["a", "z"] {
        server.create(name, json!({"Publish": name == "z"})).await;
    }
    for size in 1..=8 {
        let (mut shown, mut marker, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let path = format!("/2015-03-31/functions?FunctionVersion=ALL&MaxItems={size}{marker}");
            let page = server.call("GET", &path, "", b"").await.json();
            let arns =
                page["Functions"].as_array().unwrap().iter().map(|f| f["FunctionArn"].as_str().unwrap());
            shown.extend(arns.map(|arn| arn.rsplit("function:").next().unwrap().to_owned()));
            pages += 1;
            match page["NextMarker"].as_str() {
                Some(next) => marker = format!("&Marker={next}"),
                None => break,
            }
        }
        let expected = "a:$LATEST f:$LATEST f:1 f:2 f:3 z:$LATEST z:1";
        assert_eq!((shown.join(" ").as_str(), pages), (expected, 7_usize.div_ceil(size)));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_version_that_an_alias_means_cannot_be_deleted() {
    let server = with_versions(2).await;
    call(&server, "POST", ALIASES, json!({"Name": "live", "FunctionVersion": "1"})).await;
    let delete = |qualifier: &str| {
        let path = format!("/2015-03-31/functions/f?Qualifier={qualifier}");
        async { said(&server.call("DELETE", &{ path }, "", b"").await) }
    };
    let text = "Unable to delete version because the following aliases reference it: [live]";
    assert_eq!(delete("1").await, (409, text.to_owned()));
    assert_eq!(delete("live").await.0, 400);
    assert_eq!(delete("%24LATEST").await.0, 400);
    assert_eq!(executed(&server, "2").await, "2");
    assert_eq!(delete("2").await.0, 204);
    assert_eq!(delete("2").await.0, 204);
    let gone = said(&server.invoke("f:2", "1").await);
    assert_eq!(gone, (404, format!("Function not found: {ARN}:2")));
    assert!(server.backend.told.lock().unwrap().iter().any(|told| told.starts_with("replaced f ")));
    assert_eq!(executed(&server, "live").await, "1");
    server.stop().await;
}

#[tokio::test]
async fn an_alias_is_made_shown_changed_and_deleted() {
    let server = with_versions(2).await;
    let made =
        call(&server, "POST", ALIASES, json!({"Name": "live", "FunctionVersion": "1", "Description": "d"}))
            .await;
    let mut expected = json!({
        "AliasArn": format!("{ARN}:live"),
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "d",
        "RevisionId": made.json()["RevisionId"],
    });
    assert_eq!((made.status, made.json()), (201, expected.clone()));
    let path = format!("{ALIASES}/live");
    assert_eq!(server.call("GET", &path, "", b"").await.json(), expected);
    assert_eq!(executed(&server, "live").await, "1");
    let context =
        server.call("POST", "/2015-03-31/functions/f:live/invocations", "", b"\"context\"").await.json();
    assert_eq!(context["arn"], format!("{ARN}:live"));
    let shown = server.call("GET", "/2015-03-31/functions/f:live", "", b"").await.json();
    assert_eq!(shown["Configuration"]["FunctionArn"], format!("{ARN}:live"));
    assert_eq!(shown["Configuration"]["Version"], "1");
    let again = call(&server, "POST", ALIASES, json!({"Name": "live", "FunctionVersion": "2"})).await;
    assert_eq!(said(&again), (409, format!("Alias already exists: {ARN}:live")));

    assert_eq!(call(&server, "PUT", &path, json!({"RevisionId": "x"})).await.status, 412);
    let change = json!({"RevisionId": expected["RevisionId"], "FunctionVersion": "2"});
    let changed = call(&server, "PUT", &path, change).await.json();
    assert_ne!(changed["RevisionId"], expected["RevisionId"]);
    expected["RevisionId"] = changed["RevisionId"].clone();
    expected["FunctionVersion"] = json!("2");
    assert_eq!(changed, expected);
    assert_eq!(executed(&server, "live").await, "2");
    call(&server, "PUT", &path, json!({"FunctionVersion": "$LATEST"})).await;
    assert_eq!(executed(&server, "live").await, "$LATEST");
    for _ in 0..2 {
        assert_eq!(server.call("DELETE", &path, "", b"").await.status, 204);
    }
    let gone = (404, format!("Cannot find alias arn: {ARN}:live"));
    assert_eq!(said(&server.call("GET", &path, "", b"").await), gone);
    assert_eq!(said(&server.invoke("f:live", "1").await), gone);
    let update = said(&call(&server, "PUT", &path, json!({"FunctionVersion": "1"})).await);
    assert_eq!(update, (404, format!("Alias not found: {ARN}:live")));
    server.stop().await;
}

#[tokio::test]
async fn an_alias_that_cannot_be_is_refused() {
    let server = with_versions(2).await;
    let weights = |weights: Value| json!({"AdditionalVersionWeights": weights});
    for (members, status, words) in [
        (json!({"Name": "a", "FunctionVersion": "7"}), 404, format!("Function not found: {ARN}:7")),
        (
            json!({"Name": "7", "FunctionVersion": "1"}),
            400,
            "regular expression pattern: (?!^[0-9]+$)".to_owned(),
        ),
        (json!({"Name": "a.b", "FunctionVersion": "1"}), 400, "regular expression pattern".to_owned()),
        (
            json!({"Name": "a"}),
            400,
            "'functionVersion' failed to satisfy constraint: Member must not be null".to_owned(),
        ),
        (
            json!({"Name": "a", "FunctionVersion": "1", "RoutingConfig": weights(json!({"2": 1.5}))}),
            400,
            "'routingConfig.additionalVersionWeights' failed to satisfy constraint".to_owned(),
        ),
        (
            json!({"Name": "a", "FunctionVersion": "1", "RoutingConfig": weights(json!({"1": 0.5}))}),
            400,
            "Function version 1 is already included in routing configuration.".to_owned(),
        ),
        (
            json!({"Name": "a", "FunctionVersion": "1", "RoutingConfig": weights(json!({"2": 0.1, "3": 0.1}))}),
            400,
            "Number of items in AdditionalVersionWeights cannot be greater than 1".to_owned(),
        ),
        (
            json!({"Name": "a", "FunctionVersion": "$LATEST", "RoutingConfig": weights(json!({"2": 0.1}))}),
            400,
            "$LATEST is not supported for an alias pointing to more than 1 version".to_owned(),
        ),
        (
            json!({"Name": "a", "FunctionVersion": "1", "RoutingConfig": weights(json!({"9": 0.1}))}),
            404,
            format!("Function not found: {ARN}:9"),
        ),
    ] {
        let (got, text) = said(&call(&server, "POST", ALIASES, members.clone()).await);
        assert!(got == status && text.contains(&words), "{members}: {got} {text}");
    }
    assert_eq!(server.call("GET", ALIASES, "", b"").await.json(), json!({"Aliases": []}));
    server.stop().await;
}

#[tokio::test]
async fn weights_share_the_requests_of_an_alias() {
    let server = with_versions(2).await;
    let weights = json!({"AdditionalVersionWeights": {"2": 0.3}});
    let alias = json!({"Name": "live", "FunctionVersion": "1", "RoutingConfig": weights});
    assert_eq!(call(&server, "POST", ALIASES, alias).await.json()["RoutingConfig"], weights);
    let mut second = 0;
    for _ in 0..200 {
        second += usize::from(executed(&server, "live").await == "2");
    }
    assert!((56..=64).contains(&second), "{second} of 200");
    let path = format!("{ALIASES}/live");
    let plain = call(&server, "PUT", &path, json!({"RoutingConfig": {}})).await.json();
    assert!(plain.get("RoutingConfig").is_none());
    assert_eq!(executed(&server, "live").await, "1");
    server.stop().await;
}

#[tokio::test]
async fn aliases_are_listed_in_pages_and_by_version() {
    let server = with_versions(2).await;
    for (name, version) in [("c", "1"), ("a", "2"), ("b", "1")] {
        call(&server, "POST", ALIASES, json!({"Name": name, "FunctionVersion": version})).await;
    }
    let names = |page: &Value| -> String {
        page["Aliases"].as_array().unwrap().iter().map(|alias| alias["Name"].as_str().unwrap()).collect()
    };
    let first = server.call("GET", &format!("{ALIASES}?MaxItems=2"), "", b"").await.json();
    assert_eq!(names(&first), "ab");
    let next = format!("{ALIASES}?MaxItems=2&Marker={}", first["NextMarker"].as_str().unwrap());
    let second = server.call("GET", &next, "", b"").await.json();
    assert_eq!((names(&second), second.get("NextMarker")), ("c".to_owned(), None));
    let of_one = server.call("GET", &format!("{ALIASES}?FunctionVersion=1"), "", b"").await.json();
    assert_eq!(names(&of_one), "bc");
    server.stop().await;
}
