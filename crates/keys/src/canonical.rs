//! The canonical request of Signature Version 4.
//!
//! Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, for services other than S3: the path is
//! normalized and encoded once more than it was sent.

use std::borrow::Cow;
use std::fmt::Write;

use crate::asked::Asked;
use crate::refusal::Refusal;

/// The canonical request but for its last line, the hash of the payload. `signed` are lower-case names in order; a parameter of
/// the query that is called `without` is left out.
pub(crate) fn request(asked: &Asked<'_>, signed: &[&str], without: Option<&str>) -> Result<String, Refusal> {
    let mut text = String::with_capacity(512);
    text.push_str(asked.method.as_str());
    text.push('\n');
    encode(normal(asked.path).as_bytes(), true, &mut text);
    text.push('\n');
    query(asked.query, without, &mut text);
    text.push('\n');
    for name in signed {
        text.push_str(name);
        text.push(':');
        header(asked, name, &mut text)?;
        text.push('\n');
    }
    text.push('\n');
    for (at, name) in signed.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { ";" });
        text.push_str(name);
    }
    text.push('\n');
    Ok(text)
}

/// Whether a path is one that normalizing does not change: what is signed is then what is answered.
#[must_use]
pub fn is_normal(path: &str) -> bool {
    path.starts_with('/') && !path.contains("//") && !path.split('/').any(|part| matches!(part, "." | ".."))
}

/// A path without empty parts, `.` and `..`.
fn normal(path: &str) -> Cow<'_, str> {
    if is_normal(path) {
        return Cow::Borrowed(path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut text = format!("/{}", parts.join("/"));
    let last = path.rsplit('/').next().unwrap_or_default();
    if !parts.is_empty() && matches!(last, "" | "." | "..") {
        text.push('/');
    }
    Cow::Owned(text)
}

/// The parameters in order of their encoded names and values.
fn query(query: &str, without: Option<&str>, text: &mut String) {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encoded(&decode(name)), encoded(&decode(value)))
        })
        .filter(|(name, _)| Some(name.as_str()) != without)
        .collect();
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.iter().enumerate() {
        let _ = write!(text, "{}{name}={value}", if at == 0 { "" } else { "&" });
    }
}

/// The values of a header, each without spaces around it and with one where it has several.
fn header(asked: &Asked<'_>, name: &str, text: &mut String) -> Result<(), Refusal> {
    if name == "host"
        && let Some(authority) = asked.authority
    {
        text.push_str(authority);
        return Ok(());
    }
    let mut values = asked.headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Err(Refusal::Invalid(format!("The header '{name}' is signed, but the request has none.")));
    }
    for (at, value) in values.enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Refusal::Mismatch)?;
        for (at, word) in value.split([' ', '\t']).filter(|word| !word.is_empty()).enumerate() {
            text.push_str(if at == 0 { "" } else { " " });
            text.push_str(word);
        }
    }
    Ok(())
}

/// Undoes percent-encoding, and a plus that stands for a space; what is no encoding stands for itself.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        match (first, digit(more.first()), digit(more.get(1))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = &more[2..];
            }
            (b'+', ..) => decoded.push(b' '),
            (byte, ..) => decoded.push(*byte),
        }
    }
    decoded
}

pub(crate) fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    encode(bytes, false, &mut text);
    text
}

fn encode(bytes: &[u8], keep_slash: bool, text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) || (keep_slash && *byte == b'/') {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            for half in [byte >> 4, byte & 15] {
                text.push(char::from(DIGITS[usize::from(half)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    fn of(path: &str, query: &str, headers: &HeaderMap, signed: &[&str]) -> Result<String, Refusal> {
        let asked = Asked { method: &Method::GET, path, query, authority: None, headers };
        request(&asked, signed, Some("X-Amz-Signature"))
    }

    #[test]
    fn paths_are_normalized_and_encoded_once_more() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/a/b/", "/a/b/"),
            ("//a///b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../..", "/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a%2Fb", "/a%252Fb"),
            ("/arn:aws", "/arn%3Aaws"),
            ("/arn%3aaws", "/arn%253aaws"),
        ] {
            let text = of(path, "", &HeaderMap::new(), &[]).unwrap();
            assert_eq!(text, format!("GET\n{expected}\n\n\n\n"), "{path}");
        }
    }

    #[test]
    fn the_query_is_sorted_and_encoded_in_one_way() {
        for (query, expected) in [
            ("b=2&a=1", "a=1&b=2"),
            ("a=b&a=a&a", "a=&a=a&a=b"),
            ("a=%7e&b=%2f", "a=~&b=%2F"),
            ("a=x+y&b=x%20y&c=x%2By", "a=x%20y&b=x%20y&c=x%2By"),
            ("&&a=1&&", "a=1"),
            ("a=%zz%4", "a=%25zz%254"),
            ("a=1&X-Amz-Signature=f&x-amz-signature=g", "a=1&x-amz-signature=g"),
            ("A=1&a=1&a-b=1&ab=1", "A=1&a=1&a-b=1&ab=1"),
            ("a==b", "a=%3Db"),
        ] {
            let text = of("/", query, &HeaderMap::new(), &[]).unwrap();
            assert_eq!(text, format!("GET\n/\n{expected}\n\n\n"), "{query}");
        }
    }

    #[test]
    fn headers_have_one_space_where_they_had_several_and_all_their_values() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("  one   two \t three "));
        headers.append("x-a", HeaderValue::from_static("four"));
        assert_eq!(of("/", "", &headers, &["x-a"]).unwrap(), "GET\n/\n\nx-a:one two three,four\n\nx-a\n");
        assert!(of("/", "", &headers, &["x-b"]).is_err());
        let asked =
            Asked { method: &Method::GET, path: "/", query: "", authority: Some("a:1"), headers: &headers };
        assert!(request(&asked, &["host"], None).unwrap().contains("host:a:1\n"));
    }
}
