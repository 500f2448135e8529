//! What an extension subscribes to, and how it wants it: the document that it sends, checked.
//!
//! Source: docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html and .../dg/runtimes-logs-api.html.

use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where the Runtime API is: no place for an extension's own.
const RESERVED_PORT: u16 = 9001;
/// Names under which an extension finds its own instance.
const HOSTS: [&str; 2] = ["sandbox.localdomain", "sandbox"];
/// Longest address of an extension, bytes.
const MAX_URI: usize = 2_048;

/// Through which of the two an extension subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Api {
    /// The Telemetry API.
    Telemetry,
    /// The older Logs API.
    Logs,
}

/// In which form it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Schema {
    /// The Logs API's first.
    #[serde(rename = "2020-08-15")]
    Logs2020,
    /// The Logs API's second: with `platform.runtimeDone`.
    #[serde(rename = "2021-03-18")]
    Logs2021,
    /// The Telemetry API's first.
    #[serde(rename = "2022-07-01")]
    July2022,
    /// With restorations from snapshots.
    #[serde(rename = "2022-12-13")]
    December2022,
    /// As that, for instances that take one request at a time and those that take several.
    #[serde(rename = "2025-01-29")]
    January2025,
}

/// What is told: by the platform, or by whom it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Platform,
    Function,
    Extension,
}

/// How much is gathered before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Buffering {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// Where to, inside of the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Destination {
    Http {
        port: u16,
        authority: String,
        path: String,
        /// PUT instead of POST, which the Logs API allows.
        put: bool,
    },
    /// A document a line.
    Tcp { port: u16 },
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) api: Api,
    pub(crate) schema: Schema,
    pub(crate) streams: Vec<Stream>,
    pub(crate) buffering: Buffering,
    pub(crate) destination: Destination,
}

// === impl Api ===

impl Api {
    /// What its errors' types begin with.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "Telemetry",
            Self::Logs => "Logs",
        }
    }

    /// The event that an extension has subscribed.
    pub(crate) fn subscription_event(self) -> &'static str {
        match self {
            Self::Telemetry => "platform.telemetrySubscription",
            Self::Logs => "platform.logsSubscription",
        }
    }

    fn schema(self, version: Option<&Value>) -> Result<Schema, String> {
        use Schema::{December2022, January2025, July2022, Logs2020, Logs2021};
        let known: &[(&str, Schema)] = match self {
            Self::Telemetry => {
                &[("2022-07-01", July2022), ("2022-12-13", December2022), ("2025-01-29", January2025)]
            }
            Self::Logs => &[("2020-08-15", Logs2020), ("2021-03-18", Logs2021)],
        };
        match version {
            None | Some(Value::Null) if self == Self::Logs => Ok(Logs2020),
            None | Some(Value::Null) => Err("schemaVersion is not provided".to_owned()),
            Some(version) => {
                let found = known.iter().find(|(name, _)| version == name).map(|(_, schema)| *schema);
                found.ok_or_else(|| {
                    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                    format!("schemaVersion should be one of {}", names.join(", "))
                })
            }
        }
    }
}

// === impl Stream ===

impl Stream {
    /// Its bit in a set of them.
    pub(crate) fn bit(self) -> u8 {
        match self {
            Self::Platform => 1,
            Self::Function => 2,
            Self::Extension => 4,
        }
    }

    /// Its name in documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Function => "function",
            Self::Extension => "extension",
        }
    }

    /// Its name in a log of text.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Function => "Function",
            Self::Extension => "Extension",
        }
    }

    fn named(name: &Value) -> Option<Self> {
        [Self::Platform, Self::Function, Self::Extension].into_iter().find(|stream| name == stream.name())
    }
}

// === impl Subscription ===

impl Subscription {
    /// What a document subscribes to, or all that is wrong with it.
    pub(crate) fn read(api: Api, document: &[u8]) -> Result<Self, String> {
        let document: Map<String, Value> = serde_json::from_slice(document)
            .map_err(|_| "the subscription is not a JSON object".to_owned())?;
        let mut wrong = Vec::new();
        let schema = noted(api.schema(document.get("schemaVersion")), &mut wrong);
        let destination = noted(read_destination(api, document.get("destination")), &mut wrong);
        let streams = noted(read_types(document.get("types")), &mut wrong);
        let buffering = read_buffering(api, document.get("buffering"), &mut wrong);
        match (schema, destination, streams) {
            (Some(schema), Some(destination), Some(streams)) if wrong.is_empty() => {
                Ok(Self { api, schema, streams, buffering, destination })
            }
            _ => Err(wrong.join("; ")),
        }
    }

    pub(crate) fn wants(&self, stream: Stream) -> bool {
        self.streams.contains(&stream)
    }
}

fn noted<T>(read: Result<T, String>, wrong: &mut Vec<String>) -> Option<T> {
    read.map_err(|reason| wrong.push(reason)).ok()
}

fn read_types(types: Option<&Value>) -> Result<Vec<Stream>, String> {
    let types = match types {
        Some(Value::Array(types)) if !types.is_empty() => types,
        Some(Value::Array(_) | Value::Null) | None => return Err("types should not be empty".to_owned()),
        Some(_) => return Err("types should be an array of strings".to_owned()),
    };
    let mut streams = Vec::new();
    for name in types {
        let stream = Stream::named(name)
            .ok_or_else(|| "types should be of platform, function and extension".to_owned())?;
        if !streams.contains(&stream) {
            streams.push(stream);
        }
    }
    Ok(streams)
}

fn read_buffering(api: Api, buffering: Option<&Value>, wrong: &mut Vec<String>) -> Buffering {
    let items = if api == Api::Logs { 10_000 } else { 1_000 };
    let none = Map::new();
    let given = match buffering {
        None | Some(Value::Null) => &none,
        Some(Value::Object(given)) => given,
        Some(_) => {
            wrong.push("buffering should be an object".to_owned());
            &none
        }
    };
    let mut number = |name: &str, default: u64, least: u64, most: u64| match given.get(name) {
        None | Some(Value::Null) => default,
        Some(value) => value.as_u64().filter(|value| (least..=most).contains(value)).unwrap_or_else(|| {
            wrong.push(format!("buffering.{name} should be between {least} and {most}"));
            default
        }),
    };
    let items = number("maxItems", items, 1_000, 10_000);
    let bytes = number("maxBytes", 262_144, 262_144, 1_048_576);
    let time = number("timeoutMs", 1_000, 25, 30_000);
    let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
    Buffering { items: size(items), bytes: size(bytes), time: Duration::from_millis(time) }
}

fn read_destination(api: Api, destination: Option<&Value>) -> Result<Destination, String> {
    let destination = match destination {
        Some(Value::Object(destination)) => destination,
        Some(Value::Null) | None => return Err("destination is not provided".to_owned()),
        Some(_) => return Err("destination should be an object".to_owned()),
    };
    let text = |name: &str| match destination.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("destination.{name} should be a string")),
    };
    let uri = text("URI")?;
    if text("encoding")?.is_some_and(|encoding| encoding != "JSON") {
        return Err("destination.encoding should be JSON".to_owned());
    }
    match text("protocol")? {
        Some("HTTP") => {
            let put = match text("method")? {
                None | Some("POST") => false,
                Some("PUT") if api == Api::Logs => true,
                Some(_) => return Err("destination.method is not supported".to_owned()),
            };
            let (port, authority, path) = read_uri(uri, "http")?;
            Ok(Destination::Http { port, authority, path, put })
        }
        Some("TCP") => {
            let port = match destination.get("port") {
                None | Some(Value::Null) => read_uri(uri, "tcp")?.0,
                Some(port) => port.as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
            };
            Ok(Destination::Tcp { port: allowed(port)? })
        }
        Some(_) => Err("destination.protocol should be HTTP or TCP".to_owned()),
        None => Err("destination.protocol is not provided".to_owned()),
    }
}

fn read_uri(uri: Option<&str>, scheme: &str) -> Result<(u16, String, String), String> {
    let uri = uri.filter(|uri| !uri.is_empty()).ok_or("URI is not provided")?;
    let invalid = || "URI is not valid".to_owned();
    if uri.len() > MAX_URI {
        return Err(invalid());
    }
    let uri: Uri = uri.parse().map_err(|_| invalid())?;
    if uri.scheme_str() != Some(scheme) {
        return Err(format!("URI should begin with {scheme}://"));
    }
    let authority = uri.authority().ok_or_else(invalid)?;
    if !HOSTS.contains(&authority.host()) || authority.as_str().contains('@') {
        return Err(format!("URI host should be {}", HOSTS[0]));
    }
    let port = authority.port_u16().ok_or("URI port is not provided")?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((allowed(port)?, authority.as_str().to_owned(), path))
}

fn allowed(port: u16) -> Result<u16, String> {
    match port {
        0 => Err("port should be between 1 and 65535".to_owned()),
        RESERVED_PORT => Err(format!("port {RESERVED_PORT} is reserved")),
        port => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(api: Api, document: &Value) -> Result<Subscription, String> {
        Subscription::read(api, document.to_string().as_bytes())
    }

    fn whole() -> Value {
        json!({
            "schemaVersion": "2022-12-13",
            "types": ["platform", "function", "platform"],
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/logs?x=1"},
        })
    }

    #[test]
    fn a_subscription_says_what_where_to_and_how_much_at_once() {
        let read = read(Api::Telemetry, &whole()).unwrap();
        assert_eq!(read.streams, [Stream::Platform, Stream::Function]);
        assert_eq!(read.schema, Schema::December2022);
        let second = Duration::from_secs(1);
        assert_eq!(read.buffering, Buffering { items: 1_000, bytes: 262_144, time: second });
        let authority = "sandbox.localdomain:8080".to_owned();
        let path = "/logs?x=1".to_owned();
        assert_eq!(read.destination, Destination::Http { port: 8080, authority, path, put: false });
        let note = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Subscription>(&note).unwrap(), read);
    }

    #[test]
    fn the_logs_api_has_defaults_and_ways_of_its_own() {
        let mut document = whole();
        assert!(read(Api::Logs, &document).unwrap_err().contains("2020-08-15, 2021-03-18"));
        document.as_object_mut().unwrap().remove("schemaVersion");
        document["destination"]["method"] = "PUT".into();
        let read_it = read(Api::Logs, &document).unwrap();
        assert_eq!((read_it.schema, read_it.buffering.items), (Schema::Logs2020, 10_000));
        assert!(matches!(read_it.destination, Destination::Http { put: true, .. }));
        assert!(read(Api::Telemetry, &document).is_err());
        document["destination"] = json!({"protocol": "TCP", "port": 9_000});
        assert_eq!(read(Api::Logs, &document).unwrap().destination, Destination::Tcp { port: 9_000 });
        document["destination"] = json!({"protocol": "TCP", "URI": "tcp://sandbox:9000"});
        assert_eq!(read(Api::Logs, &document).unwrap().destination, Destination::Tcp { port: 9_000 });
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let document = json!({
            "schemaVersion": "2022-07-01", "types": [],
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain"},
            "buffering": {"maxItems": 999, "maxBytes": 1_048_577, "timeoutMs": 24},
        });
        assert_eq!(
            read(Api::Telemetry, &document).unwrap_err(),
            "URI port is not provided; types should not be empty; \
             buffering.maxItems should be between 1000 and 10000; \
             buffering.maxBytes should be between 262144 and 1048576; \
             buffering.timeoutMs should be between 25 and 30000"
        );
    }

    #[test]
    fn telemetry_stays_inside_the_instance() {
        for uri in [
            "http://example.com:80",
            "http://127.0.0.1:8080",
            "http://x@sandbox:8080",
            "https://sandbox.localdomain:8080",
            "http://sandbox.localdomain:9001/2018-06-01/runtime/invocation/next",
            "http://sandbox.localdomain:0",
            "http://sandbox.localdomain:65536",
            "sandbox.localdomain:8080",
            "",
        ] {
            let mut document = whole();
            document["destination"]["URI"] = uri.into();
            assert!(read(Api::Telemetry, &document).is_err(), "{uri}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_refused(text in "\\PC{0,200}", bytes: Vec<u8>) {
            let mut document = whole();
            document["destination"]["URI"] = format!("http://sandbox:{text}").into();
            for api in [Api::Telemetry, Api::Logs] {
                let _ = Subscription::read(api, &bytes);
                let _ = read(api, &document);
            }
        }
    }
}
