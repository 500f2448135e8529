//! AWS's own signer against this verifier: whatever it signs is taken, and nothing that was changed since.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use hearth_keys::{Asked, Claim, Refusal, SigningKey};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use proptest::prelude::*;

const SECRET: &str = "a secret/with+signs=";
const NOW: u64 = 1_767_225_600;

/// A request as AWS's signer leaves it.
fn signed(
    uri: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    in_query: bool,
    token: Option<&str>,
) -> (String, HeaderMap) {
    let identity = Credentials::new("AKIDEXAMPLE", SECRET, token.map(str::to_owned), None, "test").into();
    let mut settings = SigningSettings::default();
    if in_query {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(600));
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("lambda")
        .time(UNIX_EPOCH + Duration::from_secs(NOW))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let given = headers.iter().copied();
    let asked = SignableRequest::new("POST", uri, given, SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(asked, &params).unwrap().into_parts();
    let mut builder = Request::builder().method("POST").uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let mut request = builder.body(()).unwrap();
    instructions.apply_to_request_http1x(&mut request);
    let uri = request.uri().clone();
    let mut headers = request.headers().clone();
    headers.insert("host", HeaderValue::from_str(uri.authority().unwrap().as_str()).unwrap());
    (uri.path_and_query().unwrap().as_str().to_owned(), headers)
}

fn check(target: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked = Asked { method: &http::Method::POST, path, query, authority: None, headers };
    let claim = Claim::read(&asked)?;
    claim.check_scope(&["lambda"], "us-east-1")?;
    claim.check_time(i64::try_from(NOW).unwrap())?;
    claim.verify(&SigningKey::derive(SECRET, claim.scope()), body)
}

proptest! {
    #[test]
    fn what_awss_signer_signs_is_taken_and_a_change_is_not(
        parts in proptest::collection::vec("[a-zA-Z0-9._~:$-]{1,8}|%[2-7][0-9A-F]|\\.|\\.\\.", 0..5),
        query in proptest::collection::vec(("[a-zA-Z0-9._~-]{1,6}", "([a-zA-Z0-9._~-]|%2[0-9A-F]){0,6}"), 0..4),
        value in "[!-~]{1,6}( {1,3}[!-~]{1,6})?",
        body in proptest::collection::vec(any::<u8>(), 0..64),
        in_query: bool,
        token in proptest::option::of("[a-zA-Z0-9+/=]{1,20}"),
    ) {
        let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        let uri = format!("http://host.example:9000/{}{mark}{}", parts.join("/"), pairs.join("&"));
        let headers = [("x-amz-client-context", value.as_str()), ("content-type", "application/json")];
        let (target, headers) = signed(&uri, &headers, &body, in_query, token.as_deref());
        prop_assert_eq!(check(&target, &headers, &body), Ok(()), "{} {:?}", target, headers);
        let mut longer = body.clone();
        longer.push(1);
        prop_assert_eq!(check(&target, &headers, &longer), Err(Refusal::Mismatch));
        let more = format!("{target}{}more=1", if target.contains('?') { "&" } else { "?" });
        prop_assert_eq!(check(&more, &headers, &body), Err(Refusal::Mismatch));
        let mut other = headers.clone();
        other.insert(HeaderName::from_static("x-amz-client-context"), HeaderValue::from_static("other-than-it-was"));
        prop_assert_eq!(check(&target, &other, &body), Err(Refusal::Mismatch));
    }
}
