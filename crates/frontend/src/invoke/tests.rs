//! Headers and payloads, good and bad.

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn payloads_must_be_json() {
    assert_eq!(payload(Bytes::new()).unwrap(), "{}");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for good in ["1", "null", r#""x""#, " {\"a\": [1, 2]} ", &deep] {
        assert_eq!(payload(Bytes::from(good.to_owned())).unwrap(), good);
    }
    for bad in [&b"{"[..], b"x", b"{} {}", b"\"\xff\"", b" ", b"NaN"] {
        let error = payload(Bytes::copy_from_slice(bad)).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (400, "InvalidRequestContentException"));
        assert!(error.message.starts_with("Could not parse request body into json: "));
    }
}

#[test]
fn headers_say_what_is_wanted() {
    assert_eq!(Wanted::read(&HeaderMap::new()), Ok(Wanted::default()));
    let context = STANDARD.encode(r#"{"custom":{}}"#);
    let all = headers(&[
        ("x-amz-invocation-type", "RequestResponse"),
        ("x-amz-log-type", "Tail"),
        ("x-amz-tenant-id", "Blue team"),
        ("x-amz-client-context", &context),
        ("x-amzn-trace-id", "Root=1-0-0"),
    ]);
    let expected = Wanted {
        dry_run: false,
        event: false,
        log_tail: true,
        tenant: Some("Blue team".parse().unwrap()),
        client_context: Some(r#"{"custom":{}}"#.to_owned()),
        trace: Some("Root=1-0-0".to_owned()),
    };
    assert_eq!(Wanted::read(&all), Ok(expected));
    assert!(Wanted::read(&headers(&[("x-amz-invocation-type", "Event")])).unwrap().event);
    let both =
        Wanted::read(&headers(&[("x-amz-invocation-type", "a"), ("x-amz-log-type", "b")])).unwrap_err();
    assert!(both.message.starts_with("2 validation errors detected"), "{}", both.message);
}

#[test]
fn a_trace_of_w3c_is_one_of_x_ray_unless_there_is_one() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let xray = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1";
    assert_eq!(given_trace(&headers(&[("traceparent", parent)])).as_deref(), Some(xray));
    let both = headers(&[("traceparent", parent), ("x-amzn-trace-id", "Root=1-2-3")]);
    assert_eq!(given_trace(&both).as_deref(), Some("Root=1-2-3"));
    assert_eq!(given_trace(&headers(&[("traceparent", "00-0-0-0")])), None);
}

#[test]
fn client_contexts_are_small_json_objects_in_base64() {
    let filler = "x".repeat(2_687 - r#"{"a":""}"#.len());
    let largest = STANDARD.encode(format!(r#"{{"a":"{filler}"}}"#));
    assert!(client_context(&largest).is_err());
    for bad in ["***", "", &STANDARD.encode("1"), &STANDARD.encode(b"\"\xff\"")] {
        assert_eq!(client_context(bad).unwrap_err().code, "InvalidRequestContentException");
    }
    assert!(client_context(&STANDARD.encode("{}")).is_ok());
}

#[test]
fn trace_headers_have_the_form_that_x_ray_wants() {
    let trace = new_trace(RequestId::random());
    let pattern = "^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0$";
    assert!(regex_lite::Regex::new(pattern).unwrap().is_match(&trace), "{trace}");
}
