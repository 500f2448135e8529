//! Tags: how many and of what names, and those through which Hearth is told what Lambda's API has no words for.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_types::{Concurrency, Isolation, limits};

use crate::error::ApiError;

/// The tags that are settings.
const SETTINGS: [&str; 3] = ["hearth:concurrency", "hearth:idle-timeout", "hearth:isolation"];
/// Tags of one resource.
const MOST_TAGS: usize = 50;
/// The longest idle timeout.
const LONGEST_IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// The most requests at once in one instance.
const MOST_CONCURRENCY: u32 = 1_000;

/// What the tags of a function say about how it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) idle_timeout: Duration,
    pub(crate) isolation: Isolation,
    pub(crate) concurrency: Concurrency,
}

impl Settings {
    /// Reads and checks all tags that a function is going to have.
    ///
    /// # Errors
    /// The first tag that is wrong, and what it should be.
    pub(crate) fn read(tags: &BTreeMap<String, String>) -> Result<Self, ApiError> {
        if tags.len() > MOST_TAGS {
            let message =
                format!("A function can have at most {MOST_TAGS} tags; this one would have {}", tags.len());
            return Err(ApiError::parameter(message));
        }
        if let Some(key) = tags.keys().find(|key| key.starts_with("aws:")) {
            let message =
                format!("The tag key {key:?} is reserved: system tags that start with aws: cannot be set");
            return Err(ApiError::parameter(message));
        }
        if let Some(key) =
            tags.keys().find(|key| key.starts_with("hearth:") && !SETTINGS.contains(&key.as_str()))
        {
            let message =
                format!("The tag {key:?} is no setting of Hearth; those are {}", SETTINGS.join(", "));
            return Err(ApiError::parameter(message));
        }
        let wrong = |key: &str, expected: &str| {
            let value = tags.get(key).map_or("", String::as_str);
            ApiError::parameter(format!("The tag {key} has the value {value:?}; it must be {expected}"))
        };
        let get = |key: &str| tags.get(key).map(|value| value.trim());
        let idle_timeout = match get("hearth:idle-timeout") {
            None => limits::IDLE_TIMEOUT,
            Some(text) => duration(text).ok_or_else(|| {
                wrong("hearth:idle-timeout", "a time of at most 24 hours such as 90, 90s, 5m or 1h")
            })?,
        };
        let isolation = get("hearth:isolation").unwrap_or("auto").parse();
        let isolation = isolation.map_err(|_| wrong("hearth:isolation", "auto or container"))?;
        let concurrency = match get("hearth:concurrency") {
            None => Concurrency::default(),
            Some(text) => concurrency(text).ok_or_else(|| {
                let expected = "soft=N,hard=N with whole numbers, 1 <= soft <= hard <= 1000";
                wrong("hearth:concurrency", expected)
            })?,
        };
        Ok(Self { idle_timeout, isolation, concurrency })
    }
}

/// Seconds, or a number with `s`, `m` or `h` behind it.
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = match text.as_bytes().last()? {
        b's' => (&text[..text.len() - 1], 1),
        b'm' => (&text[..text.len() - 1], 60),
        b'h' => (&text[..text.len() - 1], 3_600),
        _ => (text, 1),
    };
    let duration = Duration::from_secs(u64::from(number(digits)?).checked_mul(unit)?);
    (duration <= LONGEST_IDLE).then_some(duration)
}

/// `soft=N,hard=N` in either order; a space will do for the comma, which AWS's own tag pattern forbids.
fn concurrency(text: &str) -> Option<Concurrency> {
    let (mut soft, mut hard) = (None, None);
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=')?;
        let slot = match name {
            "soft" => &mut soft,
            "hard" => &mut hard,
            _ => return None,
        };
        if slot.replace(number(value)?).is_some() {
            return None;
        }
    }
    let hard = hard?;
    let soft = soft.unwrap_or(hard);
    (1 <= soft && soft <= hard && hard <= MOST_CONCURRENCY).then_some(Concurrency { soft, hard })
}

fn number(digits: &str) -> Option<u32> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<Settings, ApiError> {
        Settings::read(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn without_tags_the_defaults_hold() {
        let settings = Settings::read(&BTreeMap::new()).unwrap();
        assert_eq!(settings.idle_timeout, limits::IDLE_TIMEOUT);
        assert_eq!(settings.concurrency, Concurrency { soft: 1, hard: 1 });
        assert!(read("team", "hearth").is_ok());
    }

    #[test]
    fn idle_timeouts_have_units() {
        for (text, seconds) in
            [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("1h", 3_600), ("24h", 86_400)]
        {
            assert_eq!(read("hearth:idle-timeout", text).unwrap().idle_timeout.as_secs(), seconds);
        }
        for wrong in ["", "s", "-1", "+1", "1.5m", "25h", "1d", "99999999999999999999", "5é", "é"] {
            let error = read("hearth:idle-timeout", wrong).unwrap_err();
            assert_eq!(error.code, "InvalidParameterValueException", "{wrong}");
            assert!(error.message.contains("90s"), "{}", error.message);
        }
    }

    #[test]
    fn concurrency_is_two_ordered_numbers() {
        let good = Concurrency { soft: 2, hard: 8 };
        for text in ["soft=2,hard=8", "hard=8,soft=2", "soft=2 hard=8", "soft=2, hard=8"] {
            assert_eq!(read("hearth:concurrency", text).unwrap().concurrency, good, "{text}");
        }
        for wrong in
            ["", "8", "soft=8", "soft=0,hard=1", "soft=9,hard=8", "hard=1001", "hard=1,hard=2", "x=1"]
        {
            assert!(read("hearth:concurrency", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn isolation_names_a_driver_and_aws_tags_are_not_ours() {
        assert!(read("hearth:isolation", "container").is_ok());
        assert!(read("hearth:isolation", "vm").is_err());
        assert!(read("aws:cloudformation:stack-name", "x").is_err());
        let many = (0..51).map(|i| (i.to_string(), String::new())).collect();
        assert!(Settings::read(&many).is_err());
    }
}
