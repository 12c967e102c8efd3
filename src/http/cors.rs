//! Cross-origin access (the Fetch standard): media is for all origins, WHIP and WHEP for those that the
//! operator chose, the API for none.
//!
//! The API has no such headers, so no foreign page can read its answers.

use super::App;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HeaderName, HeaderValue, ORIGIN, VARY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Headers of a session's answers that a page may read (RFC 9725 §4.2, §4.3, §4.6).
const EXPOSED: &str = "Location, Link, ETag, Accept-Patch, Retry-After, WWW-Authenticate";
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, If-Match";
const METHODS: &str = "OPTIONS, GET, HEAD, POST, PATCH, DELETE";

/// The origins whose pages may use WHIP and WHEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// These, as browsers write them: `https://example.net`, with the port if it is not the usual one.
    Only(Vec<String>),
}

impl Origins {
    /// The value of `Access-Control-Allow-Origin` for a page of `origin`.
    fn allow(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Only(known) => origin
                .filter(|origin| known.iter().any(|known| known.as_bytes() == origin.as_bytes()))
                .cloned(),
        }
    }
}

/// Lets pages of the chosen origins use WHIP and WHEP and read the answers.
pub(super) async fn sessions(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let allowed = app.origins.allow(request.headers().get(ORIGIN));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    if app.origins != Origins::Any {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// Lets any origin read the answer: media and playlists.
pub(super) async fn media(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    open(response.headers_mut());
    response
}

/// The same for an answer that is made already. `Age`: how old a cache's playlist is.
pub(super) fn open(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = HeaderValue::from_static("Age, Content-Range, Date, Retry-After");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// The answer to OPTIONS of WHIP and WHEP, preflight or not: 200 (RFC 9725 §4.2); `allow` lists what the
/// resource knows.
pub(super) fn preflight(allow: &'static str) -> Response {
    let mut response = StatusCode::OK.into_response();
    set(&mut response, ALLOW, allow);
    set(&mut response, ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    set(&mut response, ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    set(&mut response, ACCESS_CONTROL_MAX_AGE, "86400");
    response
}

fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w41_all_origins_or_those_that_were_chosen() {
        let page = HeaderValue::from_static("https://example.net");
        let other = HeaderValue::from_static("https://example.net.evil");
        assert_eq!(Origins::Any.allow(None), Some(HeaderValue::from_static("*")));
        let some = Origins::Only(vec!["https://example.net".to_owned()]);
        assert_eq!(some.allow(Some(&page)), Some(page));
        assert_eq!(some.allow(Some(&other)), None);
        assert_eq!(some.allow(None), None);
    }
}
