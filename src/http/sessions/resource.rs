//! A session's URL: PATCH brings candidates or restarts ICE, DELETE ends it (RFC 9725 §4.3, §4.5).

use super::table::Entry;
use super::{ACCEPT_PATCH, FRAGMENT, strong};
use crate::http::access::bearer;
use crate::http::problem::Problem;
use crate::http::request::{Peer, StreamPath, parameter};
use crate::http::{App, body, cors};
use crate::media::StreamName;
use crate::webrtc::{Patched, SessionError, SessionId, SessionKind as Kind};
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete};
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::sync::Arc;

/// The session that the path names, of whatever kind.
pub(super) struct SessionPath {
    pub(super) stream: StreamName,
    pub(super) session: SessionId,
}

pub(super) fn routes(kind: Kind) -> MethodRouter<Arc<App>> {
    delete(move |State(app): State<Arc<App>>, Peer(peer), path: SessionPath, headers: HeaderMap| async move {
        // RFC 9725 §4.5: whatever If-Match says, the session ends.
        app.admit_change(kind, peer.ip(), &headers, &path).await??;
        app.rooms.webrtc.close(kind, &path.session).await?;
        Ok::<_, Problem>(StatusCode::OK)
    })
    .patch(
        move |State(app): State<Arc<App>>, Peer(peer), path: SessionPath, request: Request<Body>| async move {
            let found = match app.admit_change(kind, peer.ip(), request.headers(), &path).await {
                Ok(found) => found,
                Err(problem) => {
                    body::forget(request).await;
                    return Err(problem);
                }
            };
            let if_match =
                request.headers().get(IF_MATCH).map(|value| value.to_str().unwrap_or_default().to_owned());
            let fragment = body::text(request, FRAGMENT, body::SDP_LIMIT).await?;
            // RFC 9725 §4.3.1.
            let if_match = if_match.ok_or_else(if_match_missing)?;
            found?.take()?;
            let patched = app.rooms.webrtc.patch(kind, &path.session, &if_match, &fragment).await?;
            Ok::<_, Problem>(answer(patched))
        },
    )
    // RFC 9725 §4.2: kept for later use.
    .get(|_: SessionPath| async { StatusCode::NO_CONTENT })
    .options(|| async {
        let mut response = cors::preflight("OPTIONS, GET, HEAD, PATCH, DELETE");
        response.headers_mut().insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
        response
    })
}

fn answer(patched: Patched) -> Response {
    match patched {
        // RFC 9725 §4.3.2: no body, no entity tag.
        Patched::Trickled => StatusCode::NO_CONTENT.into_response(),
        // RFC 9725 §4.3.3: our side of the new ICE session, and its entity tag.
        Patched::Restarted { fragment, etag } => {
            let headers = [
                (CONTENT_TYPE, FRAGMENT.to_owned()),
                (ETAG, strong(&etag)),
                (CACHE_CONTROL, "no-store".to_owned()),
            ];
            (StatusCode::OK, headers, fragment).into_response()
        }
    }
}

impl App {
    /// Who may change or end a session: the one who began it, not too often. The inner error says that there
    /// is no such session.
    pub(super) async fn admit_change(
        &self,
        kind: Kind,
        peer: IpAddr,
        headers: &HeaderMap,
        path: &SessionPath,
    ) -> Result<Result<Arc<Entry>, Problem>, Problem> {
        self.rates.session_request(peer)?;
        let found = self.sessions.find(kind, &path.stream, &path.session);
        // Who began it may end it, also when the key has expired meanwhile.
        if let Ok(entry) = &found
            && let (Some(principal), Some(shown)) = (&entry.principal, bearer(headers))
            && principal.matches(shown)
        {
            // Not even the right key of a source that has guessed too often: the answer would confirm the guess.
            self.rates.may_show_key(peer)?;
            return Ok(found);
        }
        self.admit_to(kind, &path.stream, peer, headers).await?;
        if let Ok(entry) = &found {
            self.admit_principal(peer, headers, entry.principal.as_ref()).await?;
        }
        Ok(found)
    }

    /// A viewer's wish, by POST to one of its session's extensions: whoever may change the session may wish, as
    /// often as the session may be changed. Without a body it is the default.
    pub(super) async fn admit_wish<T: DeserializeOwned + Default>(
        &self,
        peer: IpAddr,
        path: &SessionPath,
        request: Request<Body>,
    ) -> Result<(Arc<Entry>, T), Problem> {
        let admitted = self.admit_change(Kind::Whep, peer, request.headers(), path).await;
        let entry = match admitted.and_then(|found| found) {
            Ok(entry) => entry,
            Err(problem) => {
                body::forget(request).await;
                return Err(problem);
            }
        };
        entry.take()?;
        Ok((entry, body::json_or_default(request).await?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let StreamPath(stream) = StreamPath::from_request_parts(parts, state).await?;
        let id = parameter(parts, state, "session").await?;
        let session = id.parse().map_err(|_| Problem::from(SessionError::UnknownSession))?;
        Ok(Self { stream, session })
    }
}

fn if_match_missing() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_REQUIRED,
        "if-match-missing",
        "PATCH needs If-Match with the ETag of the 201 answer, or * for an ICE restart",
    )
}
