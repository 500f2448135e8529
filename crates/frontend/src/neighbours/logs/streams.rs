//! A function's log taken apart into what each instance wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::backend::LogLine;
use crate::render::date;

/// Where an event is among all of a function: its time, and how many of that time came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) epoch_ms: u64,
    ordinal: u64,
}

/// A line.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) place: Place,
    pub(super) text: String,
}

/// What one instance wrote.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) events: Vec<Event>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch_ms, self.ordinal)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch_ms, ordinal) = text.split_once('-').ok_or(())?;
        Ok(Self { epoch_ms: epoch_ms.parse().map_err(drop)?, ordinal: ordinal.parse().map_err(drop)? })
    }
}

impl Event {
    /// `OutputLogEvent` of the API.
    pub(super) fn shown(&self) -> Value {
        let time = self.place.epoch_ms;
        json!({"timestamp": time, "ingestionTime": time, "message": format!("{}\n", self.text)})
    }
}

impl Stream {
    /// The time of the last event.
    pub(super) fn last_ms(&self) -> u64 {
        self.events.last().map_or(0, |event| event.place.epoch_ms)
    }

    /// `LogStream` of the API.
    pub(super) fn shown(&self, group_arn: &str) -> Value {
        let (first, last) = (self.events.first().map_or(0, |event| event.place.epoch_ms), self.last_ms());
        json!({
            "logStreamName": self.name,
            "creationTime": first,
            "firstEventTimestamp": first,
            "lastEventTimestamp": last,
            "lastIngestionTime": last,
            "uploadSequenceToken": "0",
            "arn": format!("{group_arn}:log-stream:{}", self.name),
            "storedBytes": 0,
        })
    }
}

/// The streams of a log, whose lines are in order of time.
pub(super) fn of(lines: Vec<LogLine>) -> Vec<Stream> {
    let mut by_instance: BTreeMap<String, (String, Vec<Event>)> = BTreeMap::new();
    let mut place = Place::default();
    for LogLine { epoch_ms, instance, text } in lines {
        let same = epoch_ms <= place.epoch_ms;
        place = Place { epoch_ms, ordinal: if same { place.ordinal + 1 } else { 0 } };
        let (version, events) =
            by_instance.entry(instance).or_insert_with(|| ("$LATEST".to_owned(), Vec::new()));
        if let Some((_, told)) =
            text.strip_prefix("START RequestId: ").and_then(|rest| rest.split_once("Version: "))
        {
            told.trim().clone_into(version);
        }
        events.push(Event { place, text });
    }
    by_instance
        .into_iter()
        .map(|(instance, (version, events))| {
            let first = events.first().map_or(0, |event| event.place.epoch_ms);
            Stream { name: format!("{}/[{version}]{instance}", date(first)), events }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_has_a_stream_named_as_its_environment_says() {
        let line = |epoch_ms, instance: &str, text: &str| LogLine {
            epoch_ms,
            instance: instance.to_owned(),
            text: text.to_owned(),
        };
        let streams = of(vec![
            line(1_000, "b", "START RequestId: 1 Version: 7"),
            line(1_000, "a", "START RequestId: 2 Version: $LATEST"),
            line(1_000, "b", "x"),
            line(2_000, "b", "y"),
        ]);
        let names: Vec<_> = streams.iter().map(|stream| stream.name.as_str()).collect();
        assert_eq!(names, ["1970/01/01/[$LATEST]a", "1970/01/01/[7]b"]);
        let places: Vec<_> = streams[1].events.iter().map(|event| event.place.to_string()).collect();
        assert_eq!(places, ["1000-0", "1000-2", "2000-0"]);
        assert_eq!("1000-2".parse(), Ok(streams[1].events[1].place));
        assert!("1000".parse::<Place>().is_err());
    }
}
