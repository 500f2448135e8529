//! Cross-origin requests: what a URL's `Cors` allows browsers, in the headers that they ask and are told with.

use hyper::Method;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use serde::Deserialize;

/// `Cors`, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Cors {
    allow_credentials: bool,
    allow_headers: Vec<String>,
    allow_methods: Vec<String>,
    allow_origins: Vec<String>,
    expose_headers: Vec<String>,
    max_age: u64,
}

/// Whether a browser asks if it may ask.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// What goes with the answer to a request with these headers, instead of what the function says of it.
    pub(super) fn tell(&self, asked: &HeaderMap, preflight: bool, told: &mut HeaderMap) {
        let all = [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ];
        for name in &all {
            told.remove(name);
        }
        let Some(origin) = asked.get(ORIGIN) else { return };
        let Some(allowed) = self.allowed(origin) else { return };
        told.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        told.append(VARY, HeaderValue::from_static("Origin"));
        if self.allow_credentials {
            told.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        list(told, ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose_headers);
        if preflight {
            list(told, ACCESS_CONTROL_ALLOW_METHODS, &self.allow_methods);
            list(told, ACCESS_CONTROL_ALLOW_HEADERS, &self.allow_headers);
            told.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.into());
        }
    }

    /// The origin as it is to be told, if it may ask.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let text = origin.to_str().ok()?;
        let any = self.allow_origins.iter().any(|one| one == "*");
        let named = self.allow_origins.iter().any(|one| matches(one, text));
        match (any, named) {
            // With credentials a browser does not take a star.
            (true, _) if !self.allow_credentials => Some(HeaderValue::from_static("*")),
            (true, _) | (_, true) => Some(origin.clone()),
            _ => None,
        }
    }
}

/// Whether an origin is what a pattern with at most one star says.
fn matches(pattern: &str, origin: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(origin),
        Some((before, after)) => {
            origin.len() >= before.len() + after.len()
                && origin.starts_with(before)
                && origin.ends_with(after)
        }
    }
}

fn list(told: &mut HeaderMap, name: HeaderName, values: &[String]) {
    if let Ok(value) = HeaderValue::try_from(values.join(",")).map_err(drop)
        && !values.is_empty()
    {
        told.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cors: &str, origin: &str, preflight: bool) -> HeaderMap {
        let cors: Cors = serde_json::from_str(cors).unwrap();
        let mut asked = HeaderMap::new();
        asked.insert(ORIGIN, origin.parse().unwrap());
        let mut told = HeaderMap::new();
        told.insert(ACCESS_CONTROL_ALLOW_ORIGIN, "https://what-the-function-says".parse().unwrap());
        cors.tell(&asked, preflight, &mut told);
        told
    }

    #[test]
    fn an_origin_is_told_what_it_may() {
        let cors = r#"{"AllowOrigins": ["https://a.example", "https://*.b.example"], "AllowMethods": ["GET", "PUT"],
            "AllowHeaders": ["x-a"], "ExposeHeaders": ["x-b", "x-c"], "MaxAge": 60, "AllowCredentials": true}"#;
        let preflight = told(cors, "https://a.example", true);
        assert_eq!(preflight[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(preflight[ACCESS_CONTROL_ALLOW_METHODS], "GET,PUT");
        assert_eq!(preflight[ACCESS_CONTROL_ALLOW_HEADERS], "x-a");
        assert_eq!(preflight[ACCESS_CONTROL_MAX_AGE], "60");
        assert_eq!(preflight[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        let plain = told(cors, "https://x.b.example", false);
        assert_eq!(plain[ACCESS_CONTROL_ALLOW_ORIGIN], "https://x.b.example");
        assert_eq!(plain[ACCESS_CONTROL_EXPOSE_HEADERS], "x-b,x-c");
        assert!(!plain.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
        assert!(told(cors, "https://evil.example", true).is_empty());
        assert!(told(cors, "https://a.example.evil", true).is_empty());
    }

    #[test]
    fn a_star_is_told_as_a_star_only_without_credentials() {
        let star = told(r#"{"AllowOrigins": ["*"]}"#, "https://a", false);
        assert_eq!(star[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let named = told(r#"{"AllowOrigins": ["*"], "AllowCredentials": true}"#, "https://a", false);
        assert_eq!(named[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a");
    }
}
