//! One event: what happened, when, to which stream.

use crate::media::StreamName;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

/// What there is to be told. The part before the dot is the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// A stream came to life: its first publisher is there.
    StreamStarted,
    /// No media have come from the publisher for 2 s.
    StreamStalled,
    /// The publisher that had stalled sends again.
    StreamResumed,
    /// The stream is over.
    StreamEnded,
    /// What the publisher sends is known, or is something else than before.
    StreamTracksChanged,
    /// The publisher left; the stream waits for its return.
    PublisherLeft,
    /// A publisher is there again.
    PublisherReturned,
    /// So many watch that a threshold is reached.
    ViewersJoined,
    /// So few watch that a threshold is no longer reached.
    ViewersLeft,
    /// A restream target does something else than before.
    TargetStateChanged,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::StreamStarted,
        Self::StreamStalled,
        Self::StreamResumed,
        Self::StreamEnded,
        Self::StreamTracksChanged,
        Self::PublisherLeft,
        Self::PublisherReturned,
        Self::ViewersJoined,
        Self::ViewersLeft,
        Self::TargetStateChanged,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StreamStarted => "stream.started",
            Self::StreamStalled => "stream.stalled",
            Self::StreamResumed => "stream.resumed",
            Self::StreamEnded => "stream.ended",
            Self::StreamTracksChanged => "stream.tracksChanged",
            Self::PublisherLeft => "publisher.left",
            Self::PublisherReturned => "publisher.returned",
            Self::ViewersJoined => "viewers.joined",
            Self::ViewersLeft => "viewers.left",
            Self::TargetStateChanged => "target.stateChanged",
        }
    }

    /// `stream`, `publisher`, `viewers` or `target`.
    pub fn group(self) -> &'static str {
        self.as_str().split('.').next().unwrap_or_default()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one event: `START-SEQUENCE`, the start of the process in milliseconds since 1970 and the number of
/// the event since then. Later events have greater ids, also after a restart if the clock was not set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// When the journal began.
    pub start: u64,
    /// From 1.
    pub sequence: u64,
}

/// A text that is no id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event's id is two numbers with a dash between them, such as 1764422024123-42")]
pub struct InvalidEventId;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.sequence)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (start, sequence) = text.split_once('-').ok_or(InvalidEventId)?;
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or(InvalidEventId)
        };
        Ok(Self { start: number(start)?, sequence: number(sequence)? })
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name.
    pub id: EventId,
    /// What happened.
    pub kind: EventType,
    /// To which stream.
    pub stream: Option<StreamName>,
    json: Arc<str>,
}

#[derive(Serialize)]
struct Document<'a> {
    id: EventId,
    r#type: &'static str,
    time: String,
    stream: Option<&'a str>,
    data: &'a Value,
}

impl Event {
    pub(super) fn new(
        id: EventId,
        time: SystemTime,
        kind: EventType,
        stream: Option<StreamName>,
        data: &Value,
    ) -> Self {
        let document = Document {
            id,
            r#type: kind.as_str(),
            time: rfc3339(time),
            stream: stream.as_ref().map(StreamName::as_str),
            data,
        };
        let json = serde_json::to_string(&document).expect("texts, numbers and a JSON value serialise");
        Self { id, kind, stream, json: json.into() }
    }

    /// `{"id", "type", "time", "stream", "data"}`, without a line break. Written once, for all readers.
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }
}

/// RFC 3339, in UTC, to the millisecond.
pub(super) fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_ordered_by_time() {
        let id = |text: &str| text.parse::<EventId>();
        let one = id("1764422024123-9").expect("an id");
        assert_eq!(one.to_string(), "1764422024123-9");
        assert!(one < id("1764422024123-10").expect("an id") && one < id("1764422024124-1").expect("an id"));
        for text in ["", "-", "1", "1-", "-1", "1-x", "1--1", "+1-1", "1-99999999999999999999999"] {
            assert_eq!(id(text), Err(InvalidEventId), "{text}");
        }
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let id = EventId { start: 5, sequence: 7 };
        let stream = "cam".parse().ok();
        let data = serde_json::json!({ "reason": "line\nbreak" });
        let event = Event::new(id, SystemTime::UNIX_EPOCH, EventType::StreamEnded, stream, &data);
        assert_eq!(
            &**event.json(),
            r#"{"id":"5-7","type":"stream.ended","time":"1970-01-01T00:00:00.000Z","stream":"cam","data":{"reason":"line\nbreak"}}"#
        );
    }
}
