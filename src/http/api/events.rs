//! `GET /events`: the journal as server-sent events, from now on or after an event that is known.
//!
//! A reader holds a place in the journal, not a queue. One that does not take what it is given for 30 s, or
//! falls behind what the journal keeps, is disconnected; with `Last-Event-ID` it can go on where it was.

use crate::events::{EventFilter, EventId, InvalidEventId, News, Reader};
use crate::http::App;
use crate::http::event_stream::{self, COMMENT, HELLO, KEEP_ALIVE};
use crate::http::problem::Problem;
use crate::http::request::Hangup;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Readers at a time.
const MOST: usize = 64;
/// A reader that takes nothing for so long is disconnected.
const PATIENCE: Duration = Duration::from_secs(30);
const LAST_EVENT_ID: &str = "last-event-id";

/// What is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Names of streams between commas; left out: all.
    #[serde(default)]
    #[param(required = false, example = "show")]
    stream: String,
    /// Types or groups of types between commas; left out: all.
    #[serde(default)]
    #[param(required = false, example = "stream,viewers.joined")]
    r#type: String,
    /// The id of the last event that is known. `Last-Event-ID`, which clients send by themselves, wins.
    #[param(example = "1764422024123-42")]
    after: Option<String>,
}

/// Who reads now.
#[derive(Default)]
pub(in crate::http) struct EventReaders {
    seats: Arc<Mutex<Vec<Arc<Seat>>>>,
}

/// One reader.
struct Seat {
    /// Since when it has not asked for more; `None` while it waits for news.
    full: Mutex<Option<Instant>>,
    hangup: Hangup,
}

/// Frees the seat.
struct Seated {
    seats: Arc<Mutex<Vec<Arc<Seat>>>>,
    seat: Arc<Seat>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

/// What happens
///
/// Server-sent events, until the client has enough or the gateway ends. Each has an id to resume after; a
/// first event `gap` tells that some are no longer known.
#[utoipa::path(
    get, path = "/events", tag = "Events", operation_id = "readEvents",
    params(
        Wanted,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that is known"),
    ),
    responses((status = 200, description = "The events", body = String, content_type = "text/event-stream")),
)]
async fn read(
    State(app): State<Arc<App>>,
    method: Method,
    hangup: Hangup,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::bad_request("bad-query", error.body_text()))?;
    let filter = EventFilter::new(names(&wanted.r#type), names(&wanted.stream))
        .map_err(|error| Problem::bad_request("bad-filter", error.to_string()))?;
    let after = match headers.get(LAST_EVENT_ID) {
        Some(value) => Some(value.to_str().unwrap_or_default()),
        None => wanted.after.as_deref(),
    };
    let after: Option<EventId> = after
        .filter(|text| !text.is_empty())
        .map(str::parse)
        .transpose()
        .map_err(|error: InvalidEventId| Problem::bad_request("bad-event-id", error.to_string()))?;
    if method == Method::HEAD {
        return Ok(event_stream::response(Body::empty()));
    }
    let journal = &app.rooms.journal;
    let reader = match after {
        Some(last) => journal.read_after(last),
        None => journal.read(),
    };
    let seated = app.event_readers.sit(hangup)?;
    let feed = Feed { reader, filter, after, seated, told: None };
    let body = Body::from_stream(futures_util::stream::unfold(feed, |mut feed| async {
        let text = feed.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), feed))
    }));
    Ok(event_stream::response(body))
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

impl EventReaders {
    /// Disconnects those that take nothing. Call it every few seconds.
    pub(in crate::http) fn sweep(&self, now: Instant) {
        for seat in self.seats.lock().iter() {
            if seat.full.lock().is_some_and(|since| now - since > PATIENCE) {
                tracing::info!("A reader of events takes nothing: it is disconnected.");
                seat.hangup.hang_up();
            }
        }
    }

    fn sit(&self, hangup: Hangup) -> Result<Seated, Problem> {
        let mut seats = self.seats.lock();
        if seats.len() >= MOST {
            let detail =
                format!("{MOST} clients read events already: end one of them first, or use webhooks");
            return Err(
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-readers", detail).retry_after(10)
            );
        }
        let seat = Arc::new(Seat { full: Mutex::new(None), hangup });
        seats.push(seat.clone());
        Ok(Seated { seats: self.seats.clone(), seat })
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.seats.lock().retain(|seat| !Arc::ptr_eq(seat, &self.seat));
    }
}

/// What one reader is given.
struct Feed {
    reader: Reader,
    filter: EventFilter,
    after: Option<EventId>,
    seated: Seated,
    /// When something was written last; `None` before the first words.
    told: Option<Instant>,
}

impl Feed {
    /// What is to be told next; `None` when there will be nothing more. The connection asks for it when it has
    /// room for it.
    async fn next(&mut self) -> Option<String> {
        *self.seated.seat.full.lock() = None;
        let text = self.news().await;
        let now = Instant::now();
        self.told = Some(now);
        *self.seated.seat.full.lock() = Some(now);
        text
    }

    async fn news(&mut self) -> Option<String> {
        let Some(told) = self.told else { return Some(HELLO.to_owned()) };
        loop {
            let Ok(news) = timeout_at(told + KEEP_ALIVE, self.reader.next()).await else {
                return Some(COMMENT.to_owned());
            };
            let mut text = String::new();
            match news? {
                News::Event(event) if self.filter.wants(&event) => {
                    self.after = None;
                    event_stream::write_with_id(&mut text, event.id, event.kind.as_str(), event.json());
                    return Some(text);
                }
                News::Event(_) => self.after = None,
                News::Gap => {
                    // Only whoever asked for the past can be told; one that fell behind is to ask again.
                    let after = self.after.take()?;
                    event_stream::write(&mut text, "gap", json!({ "after": after.to_string() }));
                    return Some(text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventType, Journal};
    use serde_json::Value;
    use std::time::SystemTime;

    fn feed(reader: Reader, readers: &EventReaders) -> (Feed, Hangup) {
        let hangup = Hangup::default();
        let seated = readers.sit(hangup.clone()).expect("a free seat");
        (Feed { reader, filter: EventFilter::default(), after: None, seated, told: None }, hangup)
    }

    fn record(journal: &Journal, count: usize) {
        for _ in 0..count {
            journal.record(SystemTime::UNIX_EPOCH, EventType::StreamStarted, None, &Value::Null);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_disconnected_and_who_waits_is_not() {
        let journal = Journal::new(SystemTime::UNIX_EPOCH, 3);
        let readers = EventReaders::default();
        let (mut slow, slow_hangup) = feed(journal.read(), &readers);
        let (mut patient, patient_hangup) = feed(journal.read(), &readers);
        assert!(slow.next().await.is_some(), "the first words");
        let waiting = tokio::spawn(async move {
            let mut comments = 0;
            while let Some(text) = patient.next().await {
                comments += usize::from(text == COMMENT);
            }
            comments
        });
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        readers.sweep(Instant::now());
        assert!(slow_hangup.is_hung_up() && !patient_hangup.is_hung_up());
        drop(slow);
        assert_eq!(readers.seats.lock().len(), 1, "its seat is free");
        journal.close();
        assert_eq!(waiting.await.expect("no panic"), 2, "a comment each 15 s");
    }

    #[tokio::test]
    async fn who_falls_behind_what_is_kept_is_disconnected() {
        let journal = Journal::new(SystemTime::UNIX_EPOCH, 3);
        let readers = EventReaders::default();
        let (mut slow, _hangup) = feed(journal.read(), &readers);
        assert!(slow.next().await.is_some(), "the first words");
        record(&journal, 3);
        assert!(slow.next().await.is_some_and(|text| text.starts_with("id: 0-1\nevent: stream.started\n")));
        record(&journal, 3);
        assert_eq!(slow.next().await, None);
    }

    #[tokio::test]
    async fn there_are_only_so_many_seats() {
        let journal = Journal::new(SystemTime::UNIX_EPOCH, 3);
        let readers = EventReaders::default();
        let mut seated: Vec<Feed> = (0..MOST).map(|_| feed(journal.read(), &readers).0).collect();
        let refusal = readers.sit(Hangup::default()).err().expect("refused");
        assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
        seated.pop();
        assert!(readers.sit(Hangup::default()).is_ok());
    }
}
