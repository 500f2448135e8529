//! A request as an event: Lambda's payload format 2.0.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, COOKIE, USER_AGENT};
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};

use crate::names::percent_decode;
use crate::render::civil;

/// Who asks, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The name that the URL has in front.
    pub(super) url_id: &'a str,
    /// The whole name that the client used.
    pub(super) domain: &'a str,
    pub(super) source_ip: &'a str,
    pub(super) request_id: &'a str,
    /// The account, the key and the ARN of who asks, of a URL that wants to know.
    pub(super) caller: Option<(&'a str, &'a str, &'a str)>,
    pub(super) now_ms: u64,
}

/// The event of a request.
pub(super) fn of(head: &Parts, body: &[u8], asked: Asked<'_>) -> Value {
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or("");
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers(&head.headers),
        "requestContext": context(head, path, asked),
        "isBase64Encoded": false,
    });
    let Some(members) = event.as_object_mut() else { return event };
    let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
    let cookies = cookies(&head.headers);
    if !cookies.is_empty() {
        add("cookies", cookies.into());
    }
    let parameters = parameters(query);
    if !parameters.is_empty() {
        add("queryStringParameters", parameters.into());
    }
    if !body.is_empty() {
        match std::str::from_utf8(body) {
            Ok(text) if is_text(&head.headers) => add("body", text.into()),
            _ => {
                add("isBase64Encoded", true.into());
                add("body", STANDARD.encode(body).into())
            }
        };
    }
    event
}

fn context(head: &Parts, path: &str, asked: Asked<'_>) -> Value {
    let agent = head.headers.get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let (account, authorizer) = match asked.caller {
        None => ("anonymous", Value::Null),
        Some((account, key, arn)) => (
            account,
            json!({"iam": {
                "accessKey": key,
                "accountId": account,
                "callerId": account,
                "cognitoIdentity": null,
                "principalOrgId": null,
                "userArn": arn,
                "userId": account,
            }}),
        ),
    };
    let mut context = json!({
        "accountId": account,
        "apiId": asked.url_id,
        "domainName": asked.domain,
        "domainPrefix": asked.url_id,
        "http": {
            "method": head.method.as_str(),
            "path": path,
            "protocol": format!("{:?}", head.version),
            "sourceIp": asked.source_ip,
            "userAgent": agent,
        },
        "requestId": asked.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": time(asked.now_ms),
        "timeEpoch": asked.now_ms,
    });
    if let Some(members) = context.as_object_mut().filter(|_| !authorizer.is_null()) {
        members.insert("authorizer".to_owned(), authorizer);
    }
    context
}

/// Names in lower case; values of the same name together.
fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let joined = headers.keys().map(|name| {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (name.as_str().to_owned(), values.join(",").into())
    });
    joined.collect()
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies = lines.flat_map(|line| line.split(';')).map(str::trim);
    cookies.filter(|cookie| !cookie.is_empty()).map(str::to_owned).collect()
}

/// Decoded; values of the same name together.
fn parameters(query: &str) -> Map<String, Value> {
    let mut parameters: Map<String, Value> = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| percent_decode(&text.replace('+', " ")).unwrap_or_else(|| text.to_owned());
        let (name, value) = (decoded(name), decoded(value));
        match parameters.get_mut(&name) {
            Some(Value::String(values)) => {
                values.push(',');
                values.push_str(&value);
            }
            _ => {
                parameters.insert(name, value.into());
            }
        }
    }
    parameters
}

/// Whether a body of this type goes into the event as it is, if it is UTF-8.
fn is_text(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return true };
    let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || matches!(kind.as_str(), "application/json" | "application/xml" | "application/javascript")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
}

/// As API gateways and web servers write it in their logs: `12/Mar/2020:19:03:58 +0000`.
fn time(now_ms: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (date, second) = (now_ms / 86_400_000, now_ms / 1000 % 86_400);
    let (year, month, day) = civil(date);
    let name = MONTHS.get(usize::try_from(month - 1).unwrap_or(0)).copied().unwrap_or("Jan");
    format!("{day:02}/{name}/{year}:{:02}:{:02}:{:02} +0000", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const ASKED: Asked<'_> = Asked {
        url_id: "abc",
        domain: "abc.lambda-url.us-east-1.localhost",
        source_ip: "127.0.0.1",
        request_id: "r",
        caller: None,
        now_ms: 1_583_348_638_390,
    };

    #[test]
    fn the_event_says_all_that_the_request_said() {
        let head = head(
            "/my/pa%20th?p1=a&p1=b&p2=%C3%BC+x&flag",
            &[
                ("Header1", "v"),
                ("header2", "v1"),
                ("Header2", "v2"),
                ("cookie", "a=1; b=2"),
                ("user-agent", "me"),
            ],
        );
        let event = of(&head, b"hi", ASKED);
        assert_eq!(event["rawPath"], "/my/pa%20th");
        assert_eq!(event["rawQueryString"], "p1=a&p1=b&p2=%C3%BC+x&flag");
        assert_eq!(event["queryStringParameters"], json!({"p1": "a,b", "p2": "ü x", "flag": ""}));
        assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
        assert_eq!(event["headers"]["header1"], "v");
        assert_eq!(event["headers"]["header2"], "v1,v2");
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("hi"), &json!(false)));
        let context = &event["requestContext"];
        assert_eq!(
            context["http"],
            json!({"method": "POST", "path": "/my/pa%20th", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "me"})
        );
        assert_eq!(
            (&context["time"], &context["accountId"]),
            (&json!("04/Mar/2020:19:03:58 +0000"), &json!("anonymous"))
        );
        assert!(context.get("authorizer").is_none());
        let signed = of(&head, b"", Asked { caller: Some(("123456789012", "key", "arn")), ..ASKED });
        assert_eq!(signed["requestContext"]["authorizer"]["iam"]["accountId"], "123456789012");
        assert!(signed.get("body").is_none());
    }

    #[test]
    fn a_body_that_is_no_text_comes_in_base64() {
        for (kind, body, is_base64) in [
            ("application/json; charset=utf-8", &b"{}"[..], false),
            ("application/vnd.api+json", b"{}", false),
            ("text/csv", b"a", false),
            ("text/plain", b"\xff", true),
            ("application/x-www-form-urlencoded", b"a=b", true),
            ("application/octet-stream", b"a", true),
        ] {
            let event = of(&head("/", &[("content-type", kind)]), body, ASKED);
            assert_eq!(event["isBase64Encoded"], is_base64, "{kind}");
        }
    }
}
