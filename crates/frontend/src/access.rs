//! Who signed a request. Signatures are not checked yet: whoever names an account is taken to be it.

use hearth_types::AccountId;
use hyper::header::{AUTHORIZATION, HeaderMap};

/// What a signed request says of who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) account: AccountId,
    pub(crate) key: String,
}

/// Who signed the request, in its header or its query; nobody if it is not signed, or by a key that names no account.
pub(crate) fn signed(headers: &HeaderMap, query: &str) -> Option<Signed> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credential = match header {
        Some(header) => {
            let parts = header.strip_prefix("AWS4-HMAC-SHA256 ")?;
            if !parts.contains("Signature=") {
                return None;
            }
            parts.split_once("Credential=")?.1
        }
        None => {
            let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
            value("X-Amz-Signature=")?;
            value("X-Amz-Credential=")?
        }
    };
    let key = credential.split(['/', '%', ',']).next()?;
    Some(Signed { account: key.parse().ok()?, key: key.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(header: Option<&str>, query: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        signed(&headers, query).map(|signed| signed.account.to_string())
    }

    #[test]
    fn only_what_is_signed_names_an_account() {
        let whole = "AWS4-HMAC-SHA256 Credential=123456789012/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=ab";
        assert_eq!(account(Some(whole), "").as_deref(), Some("123456789012"));
        let query = "a=b&X-Amz-Credential=123456789012%2F20260101&X-Amz-Signature=ab";
        assert_eq!(account(None, query).as_deref(), Some("123456789012"));
        for header in [
            "Bearer x",
            "AWS4-HMAC-SHA256 Credential=123456789012/x",
            "AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=ab",
            "Basic Credential=123456789012/x, Signature=ab",
        ] {
            assert_eq!(account(Some(header), query), None, "{header}");
        }
        assert_eq!(account(None, "X-Amz-Credential=123456789012"), None);
        assert_eq!(account(None, ""), None);
    }
}
