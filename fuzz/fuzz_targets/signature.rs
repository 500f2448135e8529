//! Any request as a signed one: what it says of its signature is read without harm, and never believed without the secret.
//!
//! `cargo +nightly fuzz run signature`. The parts, parted by 0xff: path, query, Authorization, X-Amz-Date, another header, body.

#![no_main]

use hearth_keys::{Asked, Claim, Grant, Sealer, Session, SigningKey, like};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|byte| *byte == 0xff);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (path, query, authorization, date, another) = (text(), text(), text(), text(), text());
    let mut headers = HeaderMap::new();
    for (name, value) in [("authorization", &authorization), ("x-amz-date", &date)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    }
    let (name, value) = another.split_once(':').unwrap_or((&another, ""));
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        headers.append(name, value);
    }
    let asked = Asked { method: &Method::POST, path: &path, query: &query, authority: None, headers: &headers };
    if let Ok(claim) = Claim::read(&asked) {
        let _ = claim.check_time(1_767_225_600);
        let _ = claim.check_scope(&["lambda"], "us-east-1");
        let key = SigningKey::derive("a secret that the fuzzer does not have", claim.scope());
        assert!(claim.verify(&key, parts.next().unwrap_or_default()).is_err());
        assert!(claim.verify_head(&key).is_err());
        if let (Some(token), Some(sealer)) = (claim.token(), Sealer::new(&[7; Sealer::BYTES])) {
            assert!(Session::read(token, claim.key_id(), &sealer).is_none());
        }
    }
    if let Ok(grant) = serde_json::from_str::<Grant>(&authorization) {
        let _ = grant.check();
        let _ = grant.allows(&path, None);
    }
    let _ = like(&path, &query);
});
