use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::sign::{Credentials, sign};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: i64 = 1_767_225_600;

fn signing(scope: &Scope) -> SigningKey {
    SigningKey::derive(SECRET, scope)
}

fn signed(method: &Method, target: &str, body: &[u8]) -> HeaderMap {
    let credentials = Credentials { key_id: "AKIDEXAMPLE".into(), secret: SECRET.into(), token: None };
    let payload = Hash::of(body).to_string();
    let place = ("us-east-1", "lambda");
    sign(&credentials, (method, "h:1", target), &payload, place, &HeaderMap::new(), NOW).unwrap()
}

fn check(method: &Method, target: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked = Asked { method, path, query, authority: None, headers };
    let claim = Claim::read(&asked)?;
    claim.check_scope(&["lambda"], "us-east-1")?;
    claim.check_time(NOW)?;
    claim.verify(&signing(claim.scope()), body)
}

fn with(headers: &HeaderMap, name: &'static str, value: &str) -> HeaderMap {
    let mut headers = headers.clone();
    headers.insert(name, HeaderValue::from_str(value).unwrap());
    headers
}

#[test]
fn what_was_signed_is_taken_and_nothing_else() {
    let target = "/2015-03-31/functions/arn%3Aaws/invocations?Qualifier=a%20b&A=";
    let headers = signed(&Method::POST, target, b"{}");
    assert_eq!(check(&Method::POST, target, &headers, b"{}"), Ok(()));
    let mismatch = Err(Refusal::Mismatch);
    assert_eq!(check(&Method::GET, target, &headers, b"{}"), mismatch);
    assert_eq!(check(&Method::POST, target, &headers, b"{ }"), mismatch);
    assert_eq!(
        check(
            &Method::POST,
            "/2015-03-31/functions/arn%3aaws/invocations?A&Qualifier=a%20b",
            &headers,
            b"{}"
        ),
        mismatch
    );
    assert_eq!(
        check(&Method::POST, "/2015-03-31/functions/arn%3Aaws/invocations?Qualifier=b", &headers, b"{}"),
        mismatch
    );
    // Another order of the query is the same query.
    let turned = "/2015-03-31/functions/arn%3Aaws/invocations?A&Qualifier=a+b";
    assert_eq!(check(&Method::POST, turned, &headers, b"{}"), Ok(()));
    assert_eq!(check(&Method::POST, target, &with(&headers, "host", "h:2"), b"{}"), mismatch);
    let mut twice = headers.clone();
    twice.append("host", HeaderValue::from_static("h:2"));
    assert_eq!(check(&Method::POST, target, &twice, b"{}"), mismatch);
}

#[test]
fn every_byte_of_the_signature_counts() {
    let headers = signed(&Method::GET, "/", b"");
    let text = headers["authorization"].to_str().unwrap().to_owned();
    let start = text.len() - 64;
    for at in start..text.len() {
        let other = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
        let mut wrong = text.clone();
        wrong.replace_range(at..=at, other);
        let refused = check(&Method::GET, "/", &with(&headers, "authorization", &wrong), b"");
        assert_eq!(refused, Err(Refusal::Mismatch), "{at}");
    }
    let upper = format!("{}{}", &text[..start], text[start..].to_uppercase());
    assert_eq!(
        check(&Method::GET, "/", &with(&headers, "authorization", &upper), b""),
        Err(Refusal::Mismatch)
    );
}

#[test]
fn a_signature_is_good_for_five_minutes_in_both_directions() {
    let headers = signed(&Method::GET, "/", b"");
    let asked = Asked { method: &Method::GET, path: "/", query: "", authority: None, headers: &headers };
    let claim = Claim::read(&asked).unwrap();
    for (after, fits) in [(-301, false), (-300, true), (300, true), (301, false)] {
        assert_eq!(claim.check_time(NOW + after).is_ok(), fits, "{after}");
    }
    assert!(claim.check_time(i64::MAX).is_err() && claim.check_time(i64::MIN).is_err());
    let late = claim.check_time(NOW + 600).unwrap_err().to_string();
    assert_eq!(
        late,
        "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z (20260101T001000Z - 5 min.)"
    );
}

#[test]
fn what_is_not_whole_or_cannot_be_is_refused_in_awss_words() {
    let whole = signed(&Method::GET, "/", b"");
    let text = whole["authorization"].to_str().unwrap();
    let changed = |from: &str, to: &str| {
        check(&Method::GET, "/", &with(&whole, "authorization", &text.replace(from, to)), b"")
    };
    let code = |refused: Result<(), Refusal>| refused.unwrap_err().code();
    assert_eq!(check(&Method::GET, "/", &HeaderMap::new(), b""), Err(Refusal::Missing));
    for (from, to, expected) in [
        ("AWS4-HMAC-SHA256 ", "Bearer ", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "UnsupportedSignatureException"),
        ("SignedHeaders=", "Signed=", "IncompleteSignatureException"),
        ("Credential=", "Credential", "IncompleteSignatureException"),
        ("Signature=", "Signature=00, Signature=", "IncompleteSignatureException"),
        ("/aws4_request", "", "IncompleteSignatureException"),
        ("/aws4_request", "/aws5_request", "InvalidSignatureException"),
        ("/lambda/", "/s3/", "InvalidSignatureException"),
        ("/us-east-1/", "/eu-west-1/", "InvalidSignatureException"),
        ("/20260101/", "/20260102/", "InvalidSignatureException"),
        ("host;", "", "InvalidSignatureException"),
        ("host;", "host;host;", "IncompleteSignatureException"),
        ("host;", "Host;", "IncompleteSignatureException"),
        ("host;", "host;;", "IncompleteSignatureException"),
        ("host;", "host;x-none;", "InvalidSignatureException"),
    ] {
        assert_eq!(code(changed(from, to)), expected, "{from} {to}");
    }
    let mut twice = whole.clone();
    twice.append("authorization", HeaderValue::from_str(text).unwrap());
    assert_eq!(code(check(&Method::GET, "/", &twice, b"")), "IncompleteSignatureException");
    assert_eq!(code(check(&Method::GET, "/?X-Amz-Algorithm=a", &whole, b"")), "IncompleteSignatureException");
    let unsigned = with(&whole, "x-amz-invocation-type", "Event");
    assert_eq!(code(check(&Method::GET, "/", &unsigned, b"")), "InvalidSignatureException");
    let chunked = with(&whole, "x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    assert_eq!(code(check(&Method::GET, "/", &chunked, b"")), "UnsupportedSignatureException");
    for date in
        ["", "20260101", "20260101T000000", "2026-01-01T00:00:00Z", "20261301T000000Z", "20260101T000060Z"]
    {
        let refused = check(&Method::GET, "/", &with(&whole, "x-amz-date", date), b"");
        assert_eq!(code(refused), "IncompleteSignatureException", "{date}");
    }
}

#[test]
fn a_payload_that_is_not_signed_may_be_any_and_one_that_is_streamed_must_be_told() {
    let credentials = Credentials { key_id: "k".into(), secret: SECRET.into(), token: Some("t".into()) };
    let request = (&Method::POST, "h:1", "/");
    let headers =
        sign(&credentials, request, UNSIGNED, ("us-east-1", "lambda"), &HeaderMap::new(), NOW).unwrap();
    assert_eq!(check(&Method::POST, "/", &headers, b"anything"), Ok(()));
    let asked = Asked { method: &Method::POST, path: "/", query: "", authority: None, headers: &headers };
    let claim = Claim::read(&asked).unwrap();
    assert_eq!((claim.key_id(), claim.token()), ("k", Some("t")));
    assert_eq!(claim.verify_head(&signing(claim.scope())), Ok(()));
    let untold = Claim { payload: Payload::Untold, ..claim };
    assert_eq!(
        untold.verify_head(&signing(untold.scope())).unwrap_err().code(),
        "IncompleteSignatureException"
    );
}

proptest! {
    #[test]
    fn nothing_that_a_stranger_says_breaks_the_reader(
        authorization in "(AWS4-HMAC-SHA256 )?(Credential=[a-z0-9/%]{0,40},? ?)?(SignedHeaders=[a-zA-Z;-]{0,30},? ?)?(Signature=[0-9a-f]{0,66})?\\PC{0,10}",
        date in "[0-9]{0,9}T?[0-9]{0,7}Z?",
        query in "(X-Amz-[A-Za-z]{1,12}=[a-zA-Z0-9%/;+-]{0,40}&?){0,6}",
        path in "/[a-z./%]{0,30}",
        with_header: bool,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-date", HeaderValue::from_str(&date).unwrap());
        if with_header && let Ok(value) = HeaderValue::from_str(&authorization) {
            headers.insert("authorization", value);
        }
        let asked = Asked { method: &Method::GET, path: &path, query: &query, authority: None, headers: &headers };
        if let Ok(claim) = Claim::read(&asked) {
            let _ = claim.check_time(NOW);
            prop_assert!(claim.verify(&signing(claim.scope()), b"").is_err());
        }
    }

    #[test]
    fn a_byte_more_or_another_in_what_was_signed_is_refused(
        name in "[a-zA-Z0-9._~-]{1,12}", value in "[ -~]{0,12}", body in proptest::collection::vec(any::<u8>(), 0..40),
        at: proptest::sample::Index,
    ) {
        let target = format!("/{name}?q={}", canonical::encoded(value.as_bytes()));
        let headers = signed(&Method::PUT, &target, &body);
        prop_assert_eq!(check(&Method::PUT, &target, &headers, &body), Ok(()));
        let mut other = body.clone();
        if other.is_empty() { other.push(0) } else { let at = at.index(other.len()); other[at] ^= 1 }
        prop_assert_eq!(check(&Method::PUT, &target, &headers, &other), Err(Refusal::Mismatch));
        prop_assert_eq!(check(&Method::PUT, &format!("{target}x"), &headers, &body), Err(Refusal::Mismatch));
    }
}

#[test]
fn a_case_of_awss_own_suite_has_its_signature() {
    // Signature Version 4 test suite, get-vanilla-query-order-key-case.
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "example.amazonaws.com"),
        ("x-amz-date", "20150830T123600Z"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
             Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let query = "Param2=value2&Param1=value1";
    let asked = Asked { method: &Method::GET, path: "/", query, authority: None, headers: &headers };
    let claim = Claim::read(&asked).unwrap();
    let key = SigningKey::derive("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", claim.scope());
    assert_eq!(claim.verify(&key, b""), Ok(()));
}
