//! Tags: how many and of what names, and those through which Hearth is told what Lambda's API has no words for.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_types::{Concurrency, Egress, HttpService, Isolation, KeepAlive, Queue, limits};

use crate::error::ApiError;
use crate::services::read_hosts;

/// The tag about requests at once in one instance.
pub(crate) const CONCURRENCY: &str = "hearth:concurrency";
/// The tag with hosts of an HTTP service's own.
pub(crate) const HOSTS: &str = "hearth:hosts";
/// Requests at once in one instance of an HTTP service that does not say: what an ordinary server bears. Source:
/// `maxConcurrencyPerEnvironment` of botocore's `lambda-web` model goes from 1 to 128.
const SERVICE_CONCURRENCY: u32 = 64;
/// The longest path of a health check, bytes.
const LONGEST_PATH: usize = 1_024;
/// The tags that are settings.
const SETTINGS: [&str; 9] = [
    CONCURRENCY,
    "hearth:egress",
    HOSTS,
    "hearth:http-health",
    "hearth:http-port",
    "hearth:idle-timeout",
    "hearth:isolation",
    "hearth:keep-alive",
    "hearth:queue",
];
/// Tags of one resource.
pub(crate) const MOST_TAGS: usize = 50;
/// Where an instance's Runtime API is.
const RUNTIME_API_PORT: u32 = 9_001;
/// The longest idle timeout.
const LONGEST_IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// The most requests at once in one instance.
const MOST_CONCURRENCY: u32 = 1_000;
/// The longest time in the queue: as long as a function may run.
const LONGEST_WAIT: Duration = Duration::from_secs(900);
/// The most requests that may wait.
const DEEPEST_QUEUE: u32 = 10_000;

/// What the tags of a function say about how it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) idle_timeout: Duration,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) egress: Egress,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) concurrency: Concurrency,
    pub(crate) queue: Queue,
    pub(crate) http: Option<HttpService>,
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
            Some(text) => duration(text).filter(|idle| *idle <= LONGEST_IDLE).ok_or_else(|| {
                wrong("hearth:idle-timeout", "a time of at most 24 hours such as 90, 90s, 5m or 1h")
            })?,
        };
        let isolation = match get("hearth:isolation").unwrap_or("auto") {
            "auto" => None,
            name => Some(
                name.parse()
                    .map_err(|_| wrong("hearth:isolation", "auto, container, qemu or firecracker"))?,
            ),
        };
        let egress = match get("hearth:egress") {
            None => Egress::None,
            Some(text) => text.parse().map_err(|error: hearth_types::ParseEgressError| {
                ApiError::parameter(format!("The tag hearth:egress has the value {text:?}: {error}"))
            })?,
        };
        let concurrency = match get(CONCURRENCY) {
            None if tags.contains_key("hearth:http-port") => {
                Concurrency::new(SERVICE_CONCURRENCY, SERVICE_CONCURRENCY)
            }
            None => Concurrency::default(),
            Some(text) => concurrency(text).ok_or_else(|| {
                let expected = "soft=N,hard=N with whole numbers, 1 <= soft <= hard <= 1000; adaptive=off keeps \
                                the limit where it is";
                wrong(CONCURRENCY, expected)
            })?,
        };
        // Who names a time wants that time.
        let usual = if tags.contains_key("hearth:idle-timeout") { "fixed" } else { "learned" };
        let keep_alive = match get("hearth:keep-alive").unwrap_or(usual) {
            "learned" => KeepAlive::Learned,
            "fixed" => KeepAlive::Fixed,
            _ => return Err(wrong("hearth:keep-alive", "learned or fixed")),
        };
        let queue = match get("hearth:queue") {
            None => Queue::default(),
            Some(text) => queue(text).ok_or_else(|| {
                let expected = "wait=TIME,depth=N, either or both; a time is 0 to 900 s such as 2s, at most \
                                10000 requests wait";
                wrong("hearth:queue", expected)
            })?,
        };
        let http = service(tags)?;
        Ok(Self { idle_timeout, isolation, egress, keep_alive, concurrency, queue, http })
    }
}

/// What tags say of an HTTP service.
fn service(tags: &BTreeMap<String, String>) -> Result<Option<HttpService>, ApiError> {
    let wrong = |key: &str, expected: &str| {
        let value = tags.get(key).map_or("", String::as_str);
        Err(ApiError::parameter(format!("The tag {key} has the value {value:?}; it must be {expected}")))
    };
    let get = |key: &str| tags.get(key).map(|value| value.trim());
    let port = match get("hearth:http-port").map(number) {
        None => None,
        Some(Some(port)) if (1..=65_535).contains(&port) && port != RUNTIME_API_PORT => {
            u16::try_from(port).ok()
        }
        Some(_) => return wrong("hearth:http-port", "a port from 1 to 65535, but not 9001"),
    };
    let health = get("hearth:http-health");
    let is_path = |path: &str| {
        path.starts_with('/')
            && path.len() <= LONGEST_PATH
            && path.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if health.is_some_and(|path| !is_path(path)) {
        return wrong("hearth:http-health", "a path such as /health");
    }
    if tags.get(HOSTS).is_some_and(|text| read_hosts(text).is_none()) {
        return wrong(
            HOSTS,
            "one to 16 names of hosts, each in a domain, such as www.example.com, or live@www.example.com for an alias",
        );
    }
    let Some(port) = port else {
        if let Some(key) = [HOSTS, "hearth:http-health"].into_iter().find(|key| tags.contains_key(*key)) {
            return wrong(key, "with the tag hearth:http-port, which says where the service listens");
        }
        return Ok(None);
    };
    Ok(Some(HttpService { port, health: health.map(str::to_owned) }))
}

/// Seconds, or a number with `s`, `m` or `h` behind it.
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = match text.as_bytes().last()? {
        b's' => (&text[..text.len() - 1], 1),
        b'm' => (&text[..text.len() - 1], 60),
        b'h' => (&text[..text.len() - 1], 3_600),
        _ => (text, 1),
    };
    Some(Duration::from_secs(u64::from(number(digits)?).checked_mul(unit)?))
}

/// `NAME=VALUE,NAME=VALUE` in any order, each name once; a space will do for the comma, which AWS's own tag pattern
/// forbids. The values are in the order of the names.
fn pairs<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Option<[Option<&'a str>; N]> {
    let mut values = [None; N];
    let mut parts = text.split([',', ' ']).filter(|part| !part.is_empty()).peekable();
    parts.peek()?;
    for part in parts {
        let (name, value) = part.split_once('=')?;
        let at = names.iter().position(|known| *known == name)?;
        if values[at].replace(value).is_some() {
            return None;
        }
    }
    Some(values)
}

fn concurrency(text: &str) -> Option<Concurrency> {
    let [soft, hard, adaptive] = pairs(text, ["soft", "hard", "adaptive"])?;
    let hard = number(hard?)?;
    let soft = soft.map_or(Some(hard), number)?;
    let adaptive = match adaptive {
        None | Some("on") => true,
        Some("off") => false,
        Some(_) => return None,
    };
    let limits = Concurrency { soft, hard, adaptive };
    (1 <= soft && soft <= hard && hard <= MOST_CONCURRENCY).then_some(limits)
}

fn queue(text: &str) -> Option<Queue> {
    let [wait, depth] = pairs(text, ["wait", "depth"])?;
    let usual = Queue::default();
    let wait = wait.map_or(Some(usual.wait), duration)?;
    let depth = depth.map_or(Some(usual.depth), number)?;
    (wait <= LONGEST_WAIT && depth <= DEEPEST_QUEUE).then_some(Queue { wait, depth })
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
        assert_eq!(settings.concurrency, Concurrency::new(1, 1));
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
        let good = Concurrency::new(2, 8);
        for text in ["soft=2,hard=8", "hard=8,soft=2", "soft=2 hard=8", "soft=2, hard=8"] {
            assert_eq!(read("hearth:concurrency", text).unwrap().concurrency, good, "{text}");
        }
        for wrong in [
            "",
            "8",
            "soft=8",
            "soft=0,hard=1",
            "soft=9,hard=8",
            "hard=1001",
            "hard=1,hard=2",
            "x=1",
            "hard=2,adaptive=maybe",
        ] {
            assert!(read("hearth:concurrency", wrong).is_err(), "{wrong}");
        }
        assert!(!read("hearth:concurrency", "hard=4,adaptive=off").unwrap().concurrency.adaptive);
    }

    #[test]
    fn a_queue_has_a_time_and_a_depth() {
        let usual = Queue::default();
        let wait = Duration::from_secs(30);
        for (text, good) in [
            ("wait=30s", Queue { wait, ..usual }),
            ("depth=0", Queue { depth: 0, ..usual }),
            ("depth=7 wait=30", Queue { wait, depth: 7 }),
        ] {
            assert_eq!(read("hearth:queue", text).unwrap().queue, good, "{text}");
        }
        for wrong in ["", "30", "wait=", "wait=901", "depth=10001", "depth=-1", "wait=1s,wait=2s", "x=1"] {
            assert!(read("hearth:queue", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_named_idle_timeout_is_kept_unless_learning_is_asked_for() {
        assert_eq!(read("hearth:idle-timeout", "60").unwrap().keep_alive, KeepAlive::Fixed);
        assert_eq!(read("hearth:keep-alive", "fixed").unwrap().keep_alive, KeepAlive::Fixed);
        assert_eq!(read("team", "x").unwrap().keep_alive, KeepAlive::Learned);
        assert!(read("hearth:keep-alive", "forever").is_err());
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
