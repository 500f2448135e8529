//! One trace under two names: X-Ray's header, and W3C's `traceparent`.
//!
//! An id of either is sixteen bytes, of which X-Ray sets the first four, a time, apart.

/// X-Ray's header for what a `traceparent` says; nothing if it is malformed.
#[must_use]
pub fn xray_of(traceparent: &str) -> Option<String> {
    let mut parts = traceparent.trim().split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A later version may have more behind; the first has not.
    if !hex(version, 2) || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    if !id(trace, 32) || !id(parent, 16) || !hex(flags, 2) {
        return None;
    }
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1;
    Some(format!("Root=1-{}-{};Parent={parent};Sampled={sampled}", &trace[..8], &trace[8..]))
}

/// The `traceparent` for what X-Ray's header says; nothing if it has no root or no parent.
#[must_use]
pub fn traceparent_of(xray: &str) -> Option<String> {
    let value =
        |name: &str| xray.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='));
    let (time, random) = value("Root")?.strip_prefix("1-")?.split_once('-')?;
    let parent = value("Parent")?;
    if !hex(time, 8) || !hex(random, 24) || !id(parent, 16) || !id(&format!("{time}{random}"), 32) {
        return None;
    }
    let sampled = u8::from(value("Sampled") == Some("1"));
    Some(format!("00-{time}{random}-{parent}-0{sampled}"))
}

fn hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Hexadecimal digits that are not all zero, which means none.
fn id(text: &str, length: usize) -> bool {
    hex(text, length) && text.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn either_name_is_made_of_the_other() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let xray = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1";
        assert_eq!(xray_of(parent).as_deref(), Some(xray));
        assert_eq!(traceparent_of(xray).as_deref(), Some(parent));
        assert_eq!(xray_of(&parent.replacen("00-", "cc-", 1)).as_deref(), Some(xray));
        assert!(xray_of(&format!("{}-more", parent.replacen("00-", "cc-", 1))).is_some());
        let lineage = format!("{xray};Lineage=1:a:0");
        assert_eq!(traceparent_of(&lineage).as_deref(), Some(parent));
    }

    #[test]
    fn what_is_neither_is_left_out() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        ] {
            assert_eq!(xray_of(text), None, "{text}");
        }
        for text in [
            "",
            "Root=1-0af76519-16cd43dd8448eb211c80319c",
            "Root=1-0-0;Parent=b7ad6b7169203331",
            "Root=2-x;Parent=y",
        ] {
            assert_eq!(traceparent_of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_way_there_and_back_is_the_same(trace in 1_u128.., parent in 1_u64.., sampled: bool) {
            let text = format!("00-{trace:032x}-{parent:016x}-0{}", u8::from(sampled));
            prop_assert_eq!(traceparent_of(&xray_of(&text).unwrap()), Some(text));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,80}") {
            let _ = (xray_of(&text), traceparent_of(&text));
        }
    }
}
