//! What a request says of who sends it. Nothing of it is checked: it is for servers without keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};

/// Whose key a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) key_id: String,
    /// Whether it has the form of a request that is signed.
    pub(super) is_signed: bool,
}

/// The id and the secret that clients of registries say.
pub(super) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let pair = STANDARD.decode(header.strip_prefix("Basic ")?.trim()).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
    Some((user.to_owned(), password.to_owned()))
}

/// What a request says in its header or its query; nothing if it names no key.
pub(super) fn said(headers: &HeaderMap, query: &str) -> Option<Said> {
    if let Some((key_id, _)) = basic(headers) {
        return Some(Said { key_id, is_signed: false });
    }
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
    let (credential, is_signed) = match header.and_then(|text| Some((text, text.split_once("Credential=")?)))
    {
        Some((text, (_, rest))) => {
            (rest, text.starts_with("AWS4-HMAC-SHA256 ") && text.contains("Signature="))
        }
        None => {
            let is_signed = header.is_none() && value("X-Amz-Signature=").is_some();
            (value("X-Amz-Credential=")?, is_signed)
        }
    };
    let key_id = credential.split(['/', '%', ',']).next()?.to_owned();
    Some(Said { key_id, is_signed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: Option<&str>, query: &str) -> Option<(String, bool)> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        said(&headers, query).map(|said| (said.key_id, said.is_signed))
    }

    fn yes(key: &str, is_signed: bool) -> Option<(String, bool)> {
        Some((key.to_owned(), is_signed))
    }

    #[test]
    fn a_request_names_a_key_in_any_of_its_forms() {
        let whole = "AWS4-HMAC-SHA256 Credential=123456789012/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=ab";
        assert_eq!(of(Some(whole), ""), yes("123456789012", true));
        let query = "a=b&X-Amz-Credential=123456789012%2F20260101&X-Amz-Signature=ab";
        assert_eq!(of(None, query), yes("123456789012", true));
        assert_eq!(of(None, "X-Amz-Credential=111122223333/x"), yes("111122223333", false));
        assert_eq!(of(Some("AWS4-HMAC-SHA256 Credential=AKIA/x"), ""), yes("AKIA", false));
        assert_eq!(of(Some("Basic Credential=1/x, Signature=ab"), ""), yes("1", false));
        assert_eq!(of(Some("Basic MTExMTExMTExMTExOng="), ""), yes("111111111111", false));
        assert_eq!(of(Some("Bearer x"), ""), None);
        assert_eq!(of(None, ""), None);
    }
}
