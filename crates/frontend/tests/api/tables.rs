//! What holds for every row: all operations of the documentation, and all sizes of a page.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn every_operation_of_the_documentation_is_there_or_says_that_it_is_not() {
    let server = Server::start().await;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/LAMBDA-API.md");
    let page = fs::read_to_string(page).unwrap();
    let mut rows = 0;
    for row in page.lines().filter(|row| row.contains(" /20")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, name, request, here, ..] = cells[..] else { panic!("{row}") };
        let (method, template) = request.trim_matches('`').split_once(' ').unwrap();
        let path: Vec<_> =
            template.split('/').map(|part| if part.starts_with('{') { "nobody" } else { part }).collect();
        let answer = server.call(method, &path.join("/"), "", b"{}").await;
        let text = String::from_utf8_lossy(&answer.body);
        let lacking = answer.status == 501 && text.contains(&format!("the operation {name} "));
        assert_eq!(lacking, here == "-", "{row}: {} {text}", answer.status);
        rows += 1;
    }
    assert_eq!(rows, 91);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_every_size_show_each_function_once_and_in_order() {
    let server = Server::start().await;
    let mut names: Vec<_> = (0..7).map(|number| format!("f{number}")).collect();
    names.extend(["F0", "f-0", "f_0", "a"].map(str::to_owned));
    for name in &names {
        assert_eq!(server.create(name, json!({})).await.status, 201);
    }
    names.sort();
    for size in 1..=names.len() + 1 {
        let (mut shown, mut marker, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let path = format!("/2015-03-31/functions?MaxItems={size}{marker}");
            let page = server.call("GET", &path, "", b"").await.json();
            let functions = page["Functions"].as_array().unwrap();
            shown.extend(functions.iter().map(|f| f["FunctionName"].as_str().unwrap().to_owned()));
            pages += 1;
            match page["NextMarker"].as_str() {
                Some(next) => marker = format!("&Marker={next}"),
                None => break,
            }
        }
        assert_eq!((&shown, pages), (&names, names.len().div_ceil(size)));
    }
    // Other accounts see nothing of it.
    let other =
        "Authorization: AWS4-HMAC-SHA256 Credential=111122223333/20260101/us-east-1/lambda/aws4_request\r\n";
    assert_eq!(
        server.call("GET", "/2015-03-31/functions", other, b"").await.json(),
        json!({"Functions": []})
    );
    server.stop().await;
}
