//! CloudWatch Logs, for reading: groups, streams and events out of the logs that Hearth keeps of functions.
//!
//! A group is the `LogGroup` of a function's `LoggingConfig`, a stream is what one instance wrote. Only the newest
//! [`LINES`] lines of each function are seen, the same as with `hearth logs`, and of a group that many functions write to
//! no more than [`READ_BYTES`]. A call holds that in memory, so only a few are answered at once.

mod filter;
mod pages;
mod streams;

use std::time::Duration;

use bytes::Bytes;
use hearth_store::FunctionRecord;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::filter::Filter;
use self::pages::{Direction, Wanted};
use self::streams::{Event, Stream};
use crate::Backend;
use crate::access::Caller;
use crate::body::{Body, full};
use crate::core::Core;
use crate::error::ApiError;

/// What one is told who may not call.
pub(super) fn refused(error: &ApiError) -> Response<Body> {
    said(error.status, &json!({"__type": error.code, "message": error.message}))
}

fn said(status: StatusCode, document: &Value) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(document.to_string())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Lines of each function that are looked at.
const LINES: usize = 10_000;
/// Functions that are looked through for those that write to a group.
const FUNCTIONS: usize = 10_000;
/// Functions read from the store at once.
const PAGE: usize = 500;
/// Groups or streams on one page.
const LISTED: u64 = 50;
/// Events on one page.
const EVENTS: u64 = 10_000;

/// Calls that are answered at once.
pub(crate) const LOG_READERS: usize = 2;
/// How long a call waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a group's lines at which no further function's log is read.
const READ_BYTES: usize = 64 << 20;
/// Longest filter pattern, as CloudWatch has it.
const PATTERN: usize = 1_024;

/// Who reads, and what that is called where rights are given.
struct Reader<'a> {
    caller: &'a Caller,
    action: String,
}

/// What a caller is told went wrong.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterException", message)
    }

    fn internal(message: &str) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { status, code: "ServiceUnavailableException", message: message.to_owned() }
    }
}

/// The members of a request.
struct Request(Map<String, Value>);

impl Request {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The group's name, which may also come as an ARN.
    fn group(&self) -> Result<&str, Fault> {
        let name = self.text("logGroupName").or_else(|| {
            let arn = self.text("logGroupIdentifier")?;
            arn.split_once(":log-group:").map_or(Some(arn), |(_, rest)| rest.split(':').next())
        });
        name.ok_or_else(|| Fault::invalid("logGroupName must be given"))
    }

    fn number(&self, name: &str, usual: u64, most: u64) -> Result<u64, Fault> {
        match self.0.get(name).filter(|value| !value.is_null()) {
            None => Ok(usual),
            Some(value) => value
                .as_u64()
                .filter(|number| *number <= most)
                .ok_or_else(|| Fault::invalid(format!("{name} must be a number from 0 to {most}"))),
        }
    }

    fn limit(&self, most: u64) -> Result<usize, Fault> {
        let limit = self.number("limit", most, most)?.max(1);
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// Whether an event's time is one that is asked for.
    fn times(&self) -> Result<impl Fn(&Event) -> bool + use<>, Fault> {
        let most = u64::MAX >> 1;
        let (from, to) = (self.number("startTime", 0, most)?, self.number("endTime", most, most)?);
        Ok(move |event: &Event| (from..to).contains(&event.place.epoch_ms))
    }

    /// Where the page before ended, as `read` has it.
    fn token<T>(&self, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Fault> {
        let Some(token) = self.text("nextToken") else { return Ok(None) };
        let place = token.split_once('/').and_then(|(_, place)| read(place));
        place.map(Some).ok_or_else(|| Fault::invalid("The specified nextToken is invalid."))
    }
}

impl<B: Backend> Core<B> {
    /// Answers an operation, by the text of its header.
    pub(super) async fn logs(&self, target: &str, body: &Bytes, caller: &Caller) -> Response<Body> {
        match self.logs_operation(target, body, caller).await {
            Ok(document) => said(StatusCode::OK, &document),
            Err(fault) => said(fault.status, &json!({"__type": fault.code, "message": fault.message})),
        }
    }

    async fn logs_operation(&self, target: &str, body: &Bytes, caller: &Caller) -> Result<Value, Fault> {
        let reader =
            Reader { caller, action: format!("logs:{}", target.rsplit('.').next().unwrap_or_default()) };
        let request = match serde_json::from_slice(body) {
            Ok(members) => Request(members),
            Err(error) => return Err(Fault::new("SerializationException", error.to_string())),
        };
        let Ok(Ok(_turn)) = timeout(PATIENCE, self.log_readers.acquire()).await else {
            return Err(Fault::new(
                "ThrottlingException",
                "Rate exceeded: others are reading logs; try again",
            ));
        };
        match target.strip_prefix("Logs_20140328.") {
            Some("DescribeLogGroups") => self.describe_groups(&request, &reader).await,
            Some("DescribeLogStreams") => self.describe_streams(&request, &reader).await,
            Some("GetLogEvents") => self.get_events(&request, &reader).await,
            Some("FilterLogEvents") => self.filter_events(&request, &reader).await,
            _ => {
                let text = format!("Hearth does not have {target:?} of CloudWatch Logs");
                Err(Fault::new("UnknownOperationException", text))
            }
        }
    }

    async fn describe_groups(&self, request: &Request, reader: &Reader<'_>) -> Result<Value, Fault> {
        let prefix = request.text("logGroupNamePrefix").unwrap_or_default();
        let pattern = request.text("logGroupNamePattern").unwrap_or_default();
        let (limit, after) = (request.limit(LISTED)?, request.text("nextToken").unwrap_or_default());
        let mut groups: Vec<_> = self
            .functions_of(reader)
            .await?
            .into_iter()
            .map(|function| (function.config.logging.group, function.modified_ms))
            .filter(|(group, _)| group.starts_with(prefix) && group.contains(pattern) && **group > *after)
            .collect();
        groups.sort();
        groups.dedup_by(|a, b| a.0 == b.0);
        let more = groups.len() > limit;
        groups.truncate(limit);
        let shown: Vec<_> = groups
            .iter()
            .map(|(group, created)| {
                let arn = self.group_arn(reader, group);
                json!({"logGroupName": group, "creationTime": created, "arn": format!("{arn}:*"),
                       "logGroupArn": arn, "storedBytes": 0, "metricFilterCount": 0, "logGroupClass": "STANDARD"})
            })
            .collect();
        let mut document = json!({"logGroups": shown});
        if let Some((last, _)) = groups.last().filter(|_| more) {
            document["nextToken"] = last.as_str().into();
        }
        Ok(document)
    }

    async fn describe_streams(&self, request: &Request, reader: &Reader<'_>) -> Result<Value, Fault> {
        let group = request.group()?;
        let mut streams = self.streams(reader, group).await?;
        if let Some(prefix) = request.text("logStreamNamePrefix") {
            streams.retain(|stream| stream.name.starts_with(prefix));
        }
        if request.text("orderBy") == Some("LastEventTime") {
            streams.sort_by_key(Stream::last_ms);
        } else {
            streams.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if request.0.get("descending").and_then(Value::as_bool) == Some(true) {
            streams.reverse();
        }
        let limit = request.limit(LISTED)?;
        let skipped = match request.text("nextToken") {
            None => 0,
            Some(token) => {
                let place = streams.iter().position(|stream| stream.name == token);
                place.ok_or_else(|| Fault::invalid("The specified nextToken is invalid."))? + 1
            }
        };
        let page: Vec<_> = streams.iter().skip(skipped).take(limit).collect();
        let arn = self.group_arn(reader, group);
        let shown: Vec<_> = page.iter().map(|stream| stream.shown(&arn)).collect();
        let mut document = json!({"logStreams": shown});
        if let Some(last) = page.last().filter(|_| skipped + page.len() < streams.len()) {
            document["nextToken"] = last.name.as_str().into();
        }
        Ok(document)
    }

    async fn get_events(&self, request: &Request, reader: &Reader<'_>) -> Result<Value, Fault> {
        let name = request.text("logStreamName");
        let name = name.ok_or_else(|| Fault::invalid("logStreamName must be given"))?;
        let streams = self.streams(reader, request.group()?).await?;
        let stream = streams.into_iter().find(|stream| stream.name == name).ok_or_else(|| {
            Fault::new("ResourceNotFoundException", "The specified log stream does not exist.")
        })?;
        let (wanted, limit) = (request.times()?, request.limit(EVENTS)?);
        let token = request.token(|place| place.parse().ok())?;
        let events: Vec<_> = stream.events.into_iter().filter(wanted).collect();
        let backwards = request.text("nextToken").is_some_and(|token| token.starts_with("b/"));
        let head = request.0.get("startFromHead").and_then(Value::as_bool) == Some(true);
        let direction = match token {
            None if head => Direction::From(0),
            None => Direction::To(events.len()),
            Some(place) if backwards => Direction::To(events.partition_point(|event| event.place < place)),
            Some(place) => Direction::From(events.partition_point(|event| event.place <= place)),
        };
        let page = pages::of_stream(&events, direction, limit);
        // Where there is nothing more, the token is that of the request, which is how clients know.
        let before = page.first().map(|event| event.place).or(token).unwrap_or_default();
        let after = page.last().map(|event| event.place).or(token).unwrap_or_default();
        Ok(json!({
            "events": page.iter().map(Event::shown).collect::<Vec<_>>(),
            "nextForwardToken": format!("f/{after}"),
            "nextBackwardToken": format!("b/{before}"),
        }))
    }

    async fn filter_events(&self, request: &Request, reader: &Reader<'_>) -> Result<Value, Fault> {
        let pattern = request.text("filterPattern").unwrap_or_default();
        if pattern.chars().count() > PATTERN {
            return Err(Fault::invalid(format!("filterPattern must have at most {PATTERN} characters")));
        }
        let names = request.0.get("logStreamNames").and_then(Value::as_array);
        let names = names.map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let wanted = Wanted {
            filter: Filter::read(pattern).map_err(Fault::invalid)?,
            names,
            prefix: request.text("logStreamNamePrefix").unwrap_or_default().to_owned(),
            after: request.token(pages::read_place)?,
            limit: request.limit(EVENTS)?,
        };
        let times = request.times()?;
        let streams = self.streams(reader, request.group()?).await?;
        // Looking for many words in many lines takes its time.
        let filtered = spawn_blocking(move || pages::of_group(&streams, &wanted, times)).await;
        filtered.map_err(|_| Fault::internal("Filtering failed; Hearth's own log says why"))
    }

    fn group_arn(&self, reader: &Reader<'_>, group: &str) -> String {
        format!("arn:aws:logs:{}:{}:log-group:{group}", self.region, reader.caller.account)
    }

    /// What every instance of the functions that write to a group wrote.
    async fn streams(&self, reader: &Reader<'_>, group: &str) -> Result<Vec<Stream>, Fault> {
        let mut functions = self.functions_of(reader).await?;
        functions.retain(|function| function.config.logging.group == group);
        if functions.is_empty() {
            let text = "The specified log group does not exist.";
            return Err(Fault::new("ResourceNotFoundException", text));
        }
        let (mut streams, mut bytes) = (Vec::new(), 0);
        for function in functions {
            if bytes > READ_BYTES {
                tracing::warn!(account = %reader.caller.account, group, "so much was logged to a group that not all of it is answered");
                break;
            }
            let lines = self.backend.log(&function.id, LINES).await.map_err(|error| {
                tracing::warn!(function = %function.id, %error, "a log cannot be read");
                Fault::internal("The log cannot be read; Hearth's own log says why")
            })?;
            bytes += lines.iter().map(|line| line.text.len()).sum::<usize>();
            streams.extend(streams::of(lines));
        }
        Ok(streams)
    }

    /// The functions whose logs the caller may read.
    async fn functions_of(&self, reader: &Reader<'_>) -> Result<Vec<FunctionRecord>, Fault> {
        let mut all: Vec<FunctionRecord> = Vec::new();
        while all.len() < FUNCTIONS {
            let after = all.last().map(|function| function.id.name.to_string());
            let page =
                self.store.list_functions(&reader.caller.account, after.as_deref(), PAGE).await.map_err(
                    |error| {
                        tracing::error!(%error, "the store failed");
                        Fault::internal("Hearth's store failed; its log says why")
                    },
                )?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                break;
            }
        }
        all.retain(|function| {
            let (id, arn) = (&function.id, self.arn(&function.id));
            reader.caller.check_function(&reader.action, (&id.account, &id.name), &arn).is_ok()
        });
        Ok(all)
    }
}
