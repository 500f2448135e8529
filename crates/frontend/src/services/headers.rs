//! What a service is told of who asks, and what of either side's connection is not passed on.

use hyper::header::{
    CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Version};

use super::Client;
use crate::hop::is_hop_by_hop;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest id of a request that is taken over from the client, bytes.
const MAX_REQUEST_ID: usize = 128;

/// Whether a request asks for another protocol on its connection.
pub(super) fn wants_upgrade<T>(request: &Request<T>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().contains_key(UPGRADE)
        && has_token(request.headers(), &CONNECTION, "upgrade")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// Makes a client's head one for the service; the request's id.
pub(super) fn for_service(
    head: &mut Parts,
    host: Option<&str>,
    prefix: usize,
    client: Client,
) -> Option<HeaderValue> {
    let upgrade = (head.version == Version::HTTP_11 && has_token(&head.headers, &CONNECTION, "upgrade"))
        .then(|| head.headers.get(UPGRADE).cloned())
        .flatten();
    let takes_trailers = has_token(&head.headers, &TE, "trailers");
    let named = head.uri.authority().and_then(|named| HeaderValue::from_str(named.as_str()).ok());
    strip(&mut head.headers);
    let headers = &mut head.headers;
    headers.remove(EXPECT);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(named) = named {
        headers.insert(HOST, named);
    }
    if prefix > 0
        && let Some(taken) = head.uri.path().get(..prefix).and_then(|path| HeaderValue::from_str(path).ok())
    {
        headers.insert(FORWARDED_PREFIX, taken);
    } else {
        headers.remove(FORWARDED_PREFIX);
    }
    forwarded(headers, host, client);
    head.version = Version::HTTP_11;
    head.headers.get(REQUEST_ID).cloned()
}

fn forwarded(headers: &mut HeaderMap, host: Option<&str>, client: Client) {
    let ip = client.ip.to_string();
    let before = headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok());
    let chain = before.map_or_else(|| ip.clone(), |before| format!("{before}, {ip}"));
    if let Ok(chain) = HeaderValue::from_str(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(client.proto()));
    let named = headers.get(HOST).cloned().or_else(|| host.and_then(|host| HeaderValue::from_str(host).ok()));
    if let Some(named) = named {
        headers.insert(FORWARDED_HOST, named);
    }
    let fits = |value: &HeaderValue| value.len() <= MAX_REQUEST_ID && value.to_str().is_ok();
    if !headers.get(REQUEST_ID).is_some_and(fits)
        && let Ok(id) = HeaderValue::from_str(&client.request_id.to_string())
    {
        headers.insert(REQUEST_ID, id);
    }
    if !headers.contains_key(TRACEPARENT) {
        let mut id = client.request_id.to_string();
        id.retain(|digit| digit != '-');
        let parent = id.get(16..).unwrap_or_default();
        if let Ok(trace) = HeaderValue::from_str(&format!("00-{id}-{parent}-00")) {
            headers.insert(TRACEPARENT, trace);
        }
    }
}

/// Takes away what is between two neighbours: the known headers, and those that `Connection` names. `Trailer` stays, which
/// says what comes behind the body.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .filter(|name| *name != HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    let hops: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in hops.into_iter().filter(|name| *name != TRAILER) {
        headers.remove(name);
    }
}

/// Makes a service's head one for the client.
pub(super) fn for_client<T>(response: &mut Response<T>, request_id: Option<HeaderValue>) {
    let upgrade = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
        .then(|| response.headers().get(UPGRADE).cloned())
        .flatten();
    let headers = response.headers_mut();
    strip(headers);
    headers.remove(TRANSFER_ENCODING);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    if let Some(id) = request_id {
        headers.entry(REQUEST_ID).or_insert(id);
    }
    *response.version_mut() = Version::HTTP_11;
}

#[cfg(test)]
mod tests {
    use hearth_types::RequestId;

    use super::*;

    fn passed(target: &str, headers: &[(&str, &str)]) -> HeaderMap {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        let client = Client { ip: [10, 0, 0, 1].into(), request_id: RequestId::random(), tls: false };
        for_service(&mut head, None, 0, client);
        head.headers
    }

    #[test]
    fn what_is_between_neighbours_is_not_passed_on() {
        let headers = passed(
            "/",
            &[
                ("host", "a"),
                ("connection", "keep-alive, X-Secret, Host"),
                ("keep-alive", "timeout=5"),
                ("x-secret", "1"),
                ("te", "gzip, trailers"),
                ("transfer-encoding", "chunked"),
                ("proxy-authorization", "x"),
                ("upgrade", "websocket"),
                ("expect", "100-continue"),
                ("trailer", "x-sum"),
            ],
        );
        for gone in [
            "connection",
            "keep-alive",
            "x-secret",
            "transfer-encoding",
            "proxy-authorization",
            "upgrade",
            "expect",
        ] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(
            (&headers["host"], &headers["te"], &headers["trailer"]),
            (&"a".parse().unwrap(), &"trailers".parse().unwrap(), &"x-sum".parse().unwrap())
        );
    }

    #[test]
    fn an_upgrade_is_passed_on() {
        let headers =
            passed("/", &[("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
    }

    #[test]
    fn a_service_hears_who_asked_what_and_how() {
        let headers = passed(
            "/",
            &[
                ("host", "a:9000"),
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-prefix", "/evil"),
                ("x-request-id", "mine"),
            ],
        );
        assert_eq!(headers["x-forwarded-for"], "1.2.3.4, 10.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a:9000");
        assert_eq!(headers["x-request-id"], "mine");
        assert!(!headers.contains_key("x-forwarded-prefix"));
        assert!(
            regex_lite::Regex::new("^00-[0-9a-f]{32}-[0-9a-f]{16}-00$")
                .unwrap()
                .is_match(headers["traceparent"].to_str().unwrap())
        );
        let headers = passed("http://b.localhost:9000/", &[("host", "a"), ("traceparent", "00-1-2-01")]);
        assert_eq!(headers["host"], "b.localhost:9000");
        assert_eq!(headers["traceparent"], "00-1-2-01");
    }
}
