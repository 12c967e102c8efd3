//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) endpoints and their sessions.
//!
//! Both speak alike: POST an offer, PATCH candidates, DELETE the session. They differ in who may come
//! (publishers show their key) and in what HEAD says.

use super::problem::{self, Problem};
use super::request::{Peer, StreamPath, parameter};
use super::{App, body, cors};
use crate::webrtc::{Patched, SessionError, SessionId, SessionKind as Kind};
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, delete, post};
use std::sync::Arc;

const SDP: &str = "application/sdp";
/// RFC 8840 §9.
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The session that the path names.
struct SessionPath(SessionId);

/// `/{stream}/whip`, `/{stream}/whep` and the sessions below them.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/{stream}/whip", endpoint(Kind::Whip))
        .route("/{stream}/whep", endpoint(Kind::Whep))
        .route("/{stream}/whip/{session}", session(Kind::Whip))
        .route("/{stream}/whep/{session}", session(Kind::Whep))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn(cors::sessions))
}

fn endpoint(kind: Kind) -> MethodRouter<Arc<App>> {
    post(move |State(app): State<Arc<App>>, Peer(remote), StreamPath(name), request: Request<Body>| async move {
        if let Err(problem) = app.admit_new(kind, request.headers()) {
            body::forget(request).await;
            return Err(problem);
        }
        let offer = body::text(request, SDP, body::SDP_LIMIT).await?;
        let webrtc = &app.rooms.webrtc;
        let answer = match kind {
            Kind::Whip => webrtc.whip(name.clone(), &offer, remote).await?,
            Kind::Whep => webrtc.whep(&name, &offer, remote).await?,
        };
        let location = format!("/{name}/{}/{}", segment(kind), answer.session);
        // RFC 9725 §4.2: 201, the session's URL, its entity tag, the answer.
        let headers = [
            (CONTENT_TYPE, SDP.to_owned()),
            (LOCATION, location),
            (ETAG, strong(&answer.etag)),
            (ACCEPT_PATCH, FRAGMENT.to_owned()),
            (CACHE_CONTROL, "no-store".to_owned()),
        ];
        Ok((StatusCode::CREATED, headers, answer.sdp))
    })
    .get(move |_: StreamPath| async move {
        match kind {
            // RFC 9725 §4.2: GET and HEAD are kept for later use and succeed.
            Kind::Whip => StatusCode::NO_CONTENT.into_response(),
            Kind::Whep => (StatusCode::OK, [(CONTENT_TYPE, SDP)], Body::empty()).into_response(),
        }
    })
    .options(|| async {
        // No auth: browsers send none with a preflight.
        let mut response = cors::preflight("OPTIONS, GET, HEAD, POST");
        response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(SDP));
        response
    })
}

fn session(kind: Kind) -> MethodRouter<Arc<App>> {
    delete(move |State(app): State<Arc<App>>, SessionPath(session), headers: HeaderMap| async move {
        app.admit(kind, &headers)?;
        app.rooms.webrtc.close(kind, &session).await?;
        Ok::<_, Problem>(StatusCode::OK)
    })
    .patch(move |State(app): State<Arc<App>>, SessionPath(session), request: Request<Body>| async move {
        if let Err(problem) = app.admit(kind, request.headers()) {
            body::forget(request).await;
            return Err(problem);
        }
        let if_match =
            request.headers().get(IF_MATCH).map(|value| value.to_str().unwrap_or_default().to_owned());
        let fragment = body::text(request, FRAGMENT, body::SDP_LIMIT).await?;
        // RFC 9725 §4.3.1.
        let if_match = if_match.ok_or_else(if_match_missing)?;
        match app.rooms.webrtc.patch(kind, &session, &if_match, &fragment).await? {
            Patched::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
            Patched::Restarted { fragment, etag } => {
                let headers = [(CONTENT_TYPE, FRAGMENT.to_owned()), (ETAG, strong(&etag))];
                Ok((StatusCode::OK, headers, fragment).into_response())
            }
        }
    })
    .get(|_: SessionPath| async { StatusCode::NO_CONTENT })
    .options(|| async {
        let mut response = cors::preflight("OPTIONS, GET, HEAD, PATCH, DELETE");
        response.headers_mut().insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
        response
    })
}

impl App {
    /// Publishers need their key, on the endpoint and on the session; viewers need none.
    fn admit(&self, kind: Kind, headers: &HeaderMap) -> Result<(), Problem> {
        match kind {
            Kind::Whip => self.access.publish(headers),
            Kind::Whep => Ok(()),
        }
    }

    /// Nobody new comes while the gateway shuts down.
    fn admit_new(&self, kind: Kind, headers: &HeaderMap) -> Result<(), Problem> {
        self.admit(kind, headers)?;
        if self.closing.is_cancelled() { Err(Problem::closing()) } else { Ok(()) }
    }
}

fn segment(kind: Kind) -> &'static str {
    match kind {
        Kind::Whip => "whip",
        Kind::Whep => "whep",
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = parameter(parts, state, "session").await?;
        id.parse().map(Self).map_err(|_| SessionError::UnknownSession.into())
    }
}

/// A strong entity tag (RFC 9110 §8.8.3) of an opaque text.
fn strong(tag: &str) -> String {
    if tag.starts_with('"') { tag.to_owned() } else { format!("\"{tag}\"") }
}

fn if_match_missing() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_REQUIRED,
        "if-match-missing",
        "PATCH needs If-Match with the ETag of the 201 answer, or * for an ICE restart",
    )
}
