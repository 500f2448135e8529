//! What a function's answer means to an HTTP client: a response that it describes, or a body and nothing else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest metadata in front of a streamed body, bytes.
pub(super) const MAX_METADATA: usize = 64 << 10;
/// What divides metadata and body of a stream.
const DIVIDER: [u8; 8] = [0; 8];

/// An answer that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is not JSON")]
    NotJson,
    #[error("its statusCode is none")]
    Status,
    #[error("it has a header that cannot be sent: {0}")]
    Header(String),
    #[error("its body is not a text, or not base64 where it says so")]
    Body,
    #[error("its metadata is longer than {MAX_METADATA} bytes, or not JSON")]
    Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    status_code: Option<Value>,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// The response that a whole answer means.
pub(super) fn whole(payload: &Bytes) -> Result<Response<Bytes>, Malformed> {
    let is_described = payload.trim_ascii_start().first() == Some(&b'{');
    let described: Option<Described> = if is_described { serde_json::from_slice(payload).ok() } else { None };
    match described {
        Some(described) if described.status_code.is_some() => respond(&described),
        _ => {
            serde_json::from_slice::<serde::de::IgnoredAny>(payload).map_err(|_| Malformed::NotJson)?;
            let mut response = Response::new(payload.clone());
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
    }
}

fn respond(described: &Described) -> Result<Response<Bytes>, Malformed> {
    let body = match (&described.body, described.is_base64_encoded) {
        (None | Some(Value::Null), _) => Bytes::new(),
        (Some(Value::String(text)), true) => STANDARD.decode(text).map_err(|_| Malformed::Body)?.into(),
        (Some(Value::String(text)), false) => Bytes::copy_from_slice(text.as_bytes()),
        _ => return Err(Malformed::Body),
    };
    let mut response = Response::new(body);
    describe(described, &mut response)?;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().entry(CONTENT_TYPE).or_insert(kind);
    Ok(response)
}

/// Sets what is described of a response beside its body.
fn describe<T>(described: &Described, response: &mut Response<T>) -> Result<(), Malformed> {
    let status = match &described.status_code {
        None => StatusCode::OK,
        Some(Value::String(text)) => text.parse().map_err(|_| Malformed::Status)?,
        Some(value) => {
            let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
            StatusCode::from_u16(number.unwrap_or(0)).map_err(|_| Malformed::Status)?
        }
    };
    if status.is_informational() {
        return Err(Malformed::Status);
    }
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in described.headers.iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(Malformed::Header(shown(name)));
            }
        };
        add(headers, name, &text)?;
    }
    for cookie in described.cookies.iter().flatten() {
        add(headers, SET_COOKIE.as_str(), cookie)?;
    }
    Ok(())
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Malformed> {
    let wrong = || Malformed::Header(shown(name));
    let header = HeaderName::try_from(name).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
    // How the bytes travel is not the function's to say.
    if !crate::hop::is_hop_by_hop(&header) && header != hyper::header::CONTENT_LENGTH {
        headers.try_append(header, value).map_err(|_| wrong())?;
    }
    Ok(())
}

fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}

/// Takes the metadata off the beginning of a stream, `start` of which is there: the response without its body, and where in
/// `start` that begins. Nothing while it is not all there, as it was not when `start` had `searched` bytes.
pub(super) fn metadata(start: &[u8], searched: usize) -> Result<Option<(Response<()>, usize)>, Malformed> {
    let from = searched.saturating_sub(DIVIDER.len() - 1);
    let new = start.get(from..).unwrap_or_default();
    let Some(end) = new.windows(DIVIDER.len()).position(|eight| eight == DIVIDER).map(|place| from + place)
    else {
        return if start.len() > MAX_METADATA + DIVIDER.len() { Err(Malformed::Metadata) } else { Ok(None) };
    };
    let text = start.get(..end).unwrap_or_default();
    if text.len() > MAX_METADATA {
        return Err(Malformed::Metadata);
    }
    let described: Described = serde_json::from_slice(text).map_err(|_| Malformed::Metadata)?;
    let mut response = Response::new(());
    describe(&described, &mut response)?;
    Ok(Some((response, end + DIVIDER.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Response<Bytes>, Malformed> {
        whole(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn an_answer_without_status_is_a_body_in_json() {
        for text in ["\"Hello\"", "{\"a\":1}", "null", "[1]", "{\"body\":\"x\"}"] {
            let response = read(text).unwrap();
            assert_eq!((response.status(), &response.body()[..]), (StatusCode::OK, text.as_bytes()));
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        }
        assert_eq!(read("{").unwrap_err(), Malformed::NotJson);
        assert_eq!(read("").unwrap_err(), Malformed::NotJson);
    }

    #[test]
    fn a_described_response_is_what_it_says() {
        let response = read(
            r#"{"statusCode": 201, "headers": {"Content-Type": "text/plain", "X-N": 7, "Connection": "close",
                "Content-Length": "999", "Transfer-Encoding": "chunked"},
                "cookies": ["a=1", "b=2"], "body": "aGk=", "isBase64Encoded": true}"#,
        )
        .unwrap();
        assert_eq!((response.status().as_u16(), &response.body()[..]), (201, &b"hi"[..]));
        let headers = response.headers();
        assert_eq!(
            (&headers[CONTENT_TYPE], &headers["x-n"]),
            (&"text/plain".parse().unwrap(), &"7".parse().unwrap())
        );
        assert_eq!(headers.get_all(SET_COOKIE).iter().count(), 2);
        assert_eq!(headers.len(), 4);
        assert_eq!(read(r#"{"statusCode": "204"}"#).unwrap().status(), StatusCode::NO_CONTENT);
    }

    #[test]
    fn what_cannot_be_sent_is_malformed() {
        for wrong in [
            r#"{"statusCode": 99}"#,
            r#"{"statusCode": 100}"#,
            r#"{"statusCode": 70000}"#,
            r#"{"statusCode": "x"}"#,
            r#"{"statusCode": 200, "body": {"a": 1}}"#,
            r#"{"statusCode": 200, "body": "*", "isBase64Encoded": true}"#,
            r#"{"statusCode": 200, "headers": {"a b": "c"}}"#,
            r#"{"statusCode": 200, "headers": {"a": "b\r\nSet-Cookie: c"}}"#,
            r#"{"statusCode": 200, "headers": {"a": ["b"]}}"#,
            r#"{"statusCode": 200, "cookies": ["a\nb"]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn metadata_ends_with_eight_zeros_wherever_the_pieces_end() {
        let stream = b"{\"statusCode\":404,\"headers\":{\"a\":\"b\"}}\0\0\0\0\0\0\0\0\0body";
        let divider = stream.iter().position(|byte| *byte == 0).unwrap();
        for end in 0..divider + 8 {
            assert!(matches!(metadata(&stream[..end], 0), Ok(None)), "{end}");
            // Wherever the piece before ended, the one that completes it is enough.
            let (response, body) = metadata(stream, end).unwrap().unwrap();
            assert_eq!((response.status().as_u16(), &stream[body..]), (404, &b"\0body"[..]));
        }
        assert_eq!(metadata(&vec![b' '; MAX_METADATA + 9], MAX_METADATA).unwrap_err(), Malformed::Metadata);
        assert!(metadata(b"x\0\0\0\0\0\0\0\0", 0).is_err());
    }
}
