//! Which events somebody wants.

use super::{Event, EventType};
use crate::media::StreamName;

/// Some types of events of some streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Empty: all.
    types: Vec<EventType>,
    /// Empty: all, and what concerns no stream.
    streams: Vec<StreamName>,
}

/// Why a filter can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Neither a type nor a group.
    #[error("there is no event type {0:?}; there are {known}, and the groups {groups}", known = names(), groups = GROUPS.join(", "))]
    Type(String),
    /// Not the name of a stream.
    #[error("{0:?} is no stream's name: {1}")]
    Stream(String, crate::media::InvalidStreamName),
}

/// Types that share what stands before the dot.
const GROUPS: [&str; 4] = ["stream", "publisher", "viewers", "target"];

fn names() -> String {
    EventType::ALL.map(EventType::as_str).join(", ")
}

impl EventFilter {
    /// From names: a type (`stream.started`) or a group (`stream`) each, and streams. None of a kind: all.
    pub fn new<'a>(
        types: impl IntoIterator<Item = &'a str>,
        streams: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidFilter> {
        let mut filter = Self::default();
        for name in types {
            let known = filter.types.len();
            let all = EventType::ALL.into_iter();
            filter.types.extend(all.filter(|kind| kind.as_str() == name || is_group_of(name, *kind)));
            if filter.types.len() == known {
                return Err(InvalidFilter::Type(name.to_owned()));
            }
        }
        for name in streams {
            let stream = name.parse().map_err(|error| InvalidFilter::Stream(name.to_owned(), error))?;
            filter.streams.push(stream);
        }
        Ok(filter)
    }

    /// Whether `event` is wanted.
    pub fn wants(&self, event: &Event) -> bool {
        (self.types.is_empty() || self.types.contains(&event.kind))
            && (self.streams.is_empty()
                || event.stream.as_ref().is_some_and(|stream| self.streams.contains(stream)))
    }
}

fn is_group_of(name: &str, kind: EventType) -> bool {
    GROUPS.contains(&name) && kind.group() == name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventId;
    use std::time::SystemTime;

    fn event(kind: EventType, stream: Option<&str>) -> Event {
        let stream = stream.map(|name| name.parse().expect("a name"));
        Event::new(EventId { start: 1, sequence: 1 }, SystemTime::UNIX_EPOCH, kind, stream, &().into())
    }

    #[test]
    fn types_groups_and_streams_are_chosen_by_name() {
        let started = event(EventType::StreamStarted, Some("a"));
        let left = event(EventType::PublisherLeft, Some("b"));
        let nobodys = event(EventType::TargetStateChanged, None);
        let wants = |types: &[&str], streams: &[&str]| {
            let filter = EventFilter::new(types.iter().copied(), streams.iter().copied()).expect("a filter");
            [&started, &left, &nobodys].map(|event| filter.wants(event))
        };
        assert_eq!(wants(&[], &[]), [true, true, true]);
        assert_eq!(wants(&["stream"], &[]), [true, false, false]);
        assert_eq!(wants(&["stream.started", "publisher"], &[]), [true, true, false]);
        assert_eq!(wants(&[], &["b", "c"]), [false, true, false]);
        assert_eq!(wants(&["stream"], &["b"]), [false, false, false]);
    }

    #[test]
    fn what_is_not_known_is_named_with_what_there_is() {
        let error = EventFilter::new(["stream", "weather"], []).expect_err("unknown").to_string();
        assert!(error.contains("weather") && error.contains("stream.tracksChanged"), "{error}");
        let error = EventFilter::new([], ["a/b"]).expect_err("no name").to_string();
        assert!(error.contains("a/b"), "{error}");
    }
}
