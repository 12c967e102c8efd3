//! Cross-origin access (the Fetch standard): any origin may play, publish with its key, and nothing else.
//! The API has no such headers, so no foreign page can read its answers.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HeaderName, HeaderValue,
};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Headers of a session's answers that a page may read (RFC 9725 §4.2, §4.3, §4.6).
const EXPOSED: &str = "Location, Link, ETag, Accept-Patch, Retry-After, WWW-Authenticate";
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, If-Match";
const METHODS: &str = "OPTIONS, GET, HEAD, POST, PATCH, DELETE";

/// Lets any origin read the answer: pages of WHIP and WHEP.
pub(super) async fn sessions(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    set(&mut response, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(&mut response, ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    response
}

/// Lets any origin read the answer: media and playlists.
pub(super) async fn media(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    set(&mut response, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(&mut response, ACCESS_CONTROL_EXPOSE_HEADERS, "Date, Retry-After");
    response
}

/// The answer to OPTIONS of WHIP and WHEP, preflight or not; `allow` lists what the resource knows.
pub(super) fn preflight(allow: &'static str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    set(&mut response, ALLOW, allow);
    set(&mut response, ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    set(&mut response, ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    set(&mut response, ACCESS_CONTROL_MAX_AGE, "86400");
    response
}

fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}
