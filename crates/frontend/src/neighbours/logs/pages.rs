//! Pages of events: at most so many, and no more bytes than CloudWatch answers at once.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::filter::Filter;
use super::streams::{Event, Place, Stream};

/// Bytes on one page.
const BYTES: usize = 1 << 20;
/// What an event counts beside its text.
const OVERHEAD: usize = 26;

/// Which end of the page is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    /// It begins at this index.
    From(usize),
    /// It ends before this one.
    To(usize),
}

/// What is asked of a group.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: Filter,
    /// Only these streams.
    pub(super) names: Option<HashSet<String>>,
    /// Only streams whose names begin so.
    pub(super) prefix: String,
    /// Only what comes after this event, which is named by its place and its stream: two functions of a group may each have
    /// one at the same place.
    pub(super) after: Option<(Place, String)>,
    pub(super) limit: usize,
}

/// An event's place in a group, as [`of_group`] writes it.
pub(super) fn read_place(text: &str) -> Option<(Place, String)> {
    let (place, stream) = text.split_once(':')?;
    Some((place.parse().ok()?, stream.to_owned()))
}

/// The page of a stream's events.
pub(super) fn of_stream(events: &[Event], direction: Direction, limit: usize) -> &[Event] {
    let range = match direction {
        Direction::From(start) => {
            let rest = events.get(start..).unwrap_or_default();
            start..start + fitting(rest.iter(), limit)
        }
        Direction::To(end) => {
            let rest = events.get(..end).unwrap_or_default();
            end - fitting(rest.iter().rev(), limit)..end
        }
    };
    events.get(range).unwrap_or_default()
}

/// The answer of FilterLogEvents.
pub(super) fn of_group(streams: &[Stream], wanted: &Wanted, times: impl Fn(&Event) -> bool) -> Value {
    let after = wanted.after.as_ref().map(|(place, stream)| (*place, stream.as_str()));
    let mut events: Vec<_> = streams
        .iter()
        .filter(|stream| wanted.names.as_ref().is_none_or(|names| names.contains(&stream.name)))
        .filter(|stream| stream.name.starts_with(&wanted.prefix))
        .flat_map(|stream| stream.events.iter().map(|event| (event, stream.name.as_str())))
        .filter(|(event, stream)| after.is_none_or(|after| (event.place, *stream) > after))
        .filter(|(event, _)| times(event) && wanted.filter.takes(&event.text))
        .collect();
    events.sort_by_key(|(event, stream)| (event.place, *stream));
    let count = fitting(events.iter().map(|(event, _)| *event), wanted.limit);
    let more = count < events.len();
    events.truncate(count);
    let shown: Vec<_> = events
        .iter()
        .map(|(event, stream)| {
            let mut shown = event.shown();
            shown["logStreamName"] = (*stream).into();
            shown["eventId"] = format!("{}:{stream}", event.place).into();
            shown
        })
        .collect();
    let mut document = json!({"events": shown, "searchedLogStreams": []});
    if let Some((last, stream)) = events.last().filter(|_| more) {
        document["nextToken"] = format!("f/{}:{stream}", last.place).into();
    }
    document
}

/// How many events, from the first, make a page; one always does.
fn fitting<'a>(events: impl Iterator<Item = &'a Event>, limit: usize) -> usize {
    let mut bytes = 0;
    let fits = |(index, event): &(usize, &Event)| {
        bytes += event.text.len() + OVERHEAD;
        *index == 0 || bytes <= BYTES
    };
    events.take(limit).enumerate().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::LogLine;
    use crate::neighbours::logs::streams;

    fn logged(instance: &str, lines: usize, bytes: usize) -> Vec<Stream> {
        let line = LogLine { epoch_ms: 1_000, instance: instance.to_owned(), text: "x".repeat(bytes) };
        streams::of(vec![line; lines])
    }

    fn wanted(limit: usize, after: Option<(Place, String)>) -> Wanted {
        Wanted { filter: Filter::default(), names: None, prefix: String::new(), after, limit }
    }

    #[test]
    fn events_of_two_functions_at_the_same_place_are_all_on_some_page_and_have_names_of_their_own() {
        let streams: Vec<_> = [logged("a", 3, 1), logged("b", 3, 1)].into_iter().flatten().collect();
        let (mut ids, mut after) = (HashSet::new(), None);
        for page in 0..6 {
            let answer = of_group(&streams, &wanted(1, after), |_| true);
            let id = answer["events"][0]["eventId"].as_str().unwrap_or_default();
            assert!(ids.insert(id.to_owned()), "page {page} repeats {id}");
            let token = answer["nextToken"].as_str();
            assert_eq!(token.is_none(), page == 5);
            after = token.and_then(|token| read_place(token.strip_prefix("f/")?));
        }
    }

    #[test]
    fn a_page_has_a_mebibyte_at_most_and_one_event_at_least() {
        let streams = logged("a", 10, 300 << 10);
        let answer = of_group(&streams, &wanted(10, None), |_| true);
        assert_eq!(answer["events"].as_array().map(Vec::len), Some(3));
        assert!(answer["nextToken"].is_string());
        let events = &streams[0].events;
        let places = |direction, limit| {
            let page = of_stream(events, direction, limit);
            page.iter().map(|event| event.place.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(places(Direction::From(1), 10), ["1000-1", "1000-2", "1000-3"]);
        assert_eq!(places(Direction::To(10), 10), ["1000-7", "1000-8", "1000-9"]);
        assert_eq!(places(Direction::To(1), 10), ["1000-0"]);
        assert_eq!(places(Direction::From(10), 10), Vec::<String>::new());
        assert_eq!(of_stream(&logged("a", 2, 2 << 20)[0].events, Direction::From(0), 9).len(), 1);
    }
}
