//! Server-sent events on the wire: `text/event-stream` (WHATWG HTML §9.2). What is told, and when, is told
//! where it is written: to players in `sessions/events`, to operators in `api/events`.

use axum::body::Body;
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use std::fmt::{Display, Write};
use std::time::Duration;

/// A comment so often keeps a connection from being taken for dead.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The comment.
pub(super) const COMMENT: &str = ":\n\n";
/// The first words: headers leave at once with them. The time is for the pause before a client asks again.
pub(super) const HELLO: &str = "retry: 2000\n\n";
/// Proxies must not hold events back.
const NO_BUFFER: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Appends one event. `data` must hold no line break: serialised JSON doesn't.
pub(super) fn write(text: &mut String, event: &str, data: impl Display) {
    let _ = write!(text, "event: {event}\ndata: {data}\n\n");
}

/// Appends one event that a client can resume after.
pub(super) fn write_with_id(text: &mut String, id: impl Display, event: &str, data: impl Display) {
    let _ = writeln!(text, "id: {id}");
    write(text, event, data);
}

/// The answer with these events.
pub(super) fn response(body: Body) -> Response {
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store"), (NO_BUFFER, "no")], body)
        .into_response()
}
