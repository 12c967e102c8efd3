//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) over HTTP.
//!
//! Both speak alike: POST an offer to the endpoint (here), PATCH candidates, DELETE the session
//! (`resource`). They differ in who may come (publishers show their key), in what HEAD says, and in WHEP's
//! extensions: events for the player (`events`) and the choice of a layer (`layer`). `table` knows which
//! sessions there are and who began them.

mod events;
mod layer;
mod resource;
mod subscription;
mod table;

pub(super) use table::{Known, Sessions};

use super::access::bearer;
use super::problem::{self, Problem};
use super::request::{Peer, StreamPath};
use super::{App, body, cors};
use crate::media::{Secret, StreamName};
use crate::webrtc::{Answer, SessionError, SessionKind as Kind};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use table::Entry;

const SDP: &str = "application/sdp";
/// RFC 8840 §9.
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// `/{stream}/whip`, `/{stream}/whep` and what is below them.
pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/{stream}/whip", endpoint(Kind::Whip))
        .route("/{stream}/whep", endpoint(Kind::Whep))
        .route("/{stream}/whip/{session}", resource::routes(Kind::Whip))
        .route("/{stream}/whep/{session}", resource::routes(Kind::Whep))
        .route("/{stream}/whep/{session}/layer", layer::routes())
        .route("/{stream}/whep/{session}/sse", subscription::endpoint())
        .route("/{stream}/whep/{session}/sse/{subscription}", subscription::resource())
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), cors::sessions))
}

fn endpoint(kind: Kind) -> MethodRouter<Arc<App>> {
    post(move |State(app): State<Arc<App>>, Peer(remote), StreamPath(name), request: Request<Body>| async move {
        if let Err(problem) = app.admit_new(kind, &name, remote.ip(), request.headers()).await {
            body::forget(request).await;
            return Err(problem);
        }
        let principal = bearer(request.headers()).map(Secret::new);
        let offer = body::text(request, SDP, body::SDP_LIMIT).await?;
        let webrtc = &app.rooms.webrtc;
        let answer = match kind {
            Kind::Whip => webrtc.whip(name.clone(), &offer, remote).await?,
            Kind::Whep => match webrtc.whep(&name, &offer, remote).await {
                // Known to the API, so it may be live in a while.
                Err(SessionError::UnknownStream(name)) if app.rooms.declarations.get(&name).is_some() => {
                    return Err(SessionError::NotLive(name).into());
                }
                answer => answer?,
            },
        };
        let entry = Entry {
            kind,
            codecs: app.codecs(&name, answer.transcoded),
            transcoded: answer.transcoded,
            video: video_index(&offer),
            stream: name,
            number: Entry::next_number(),
            remote,
            since: SystemTime::now(),
            traffic: answer.traffic.clone(),
            principal,
            ended: answer.ended.clone(),
            rate: app.rates.for_session(remote.ip()),
            subscriptions: Default::default(),
        };
        let response = created(&app, &entry, answer.clone());
        app.sessions.insert(answer.session, entry);
        response
    })
    .get(move |_: StreamPath| async move {
        match kind {
            // RFC 9725 §4.2: GET and HEAD are kept for later use and succeed.
            Kind::Whip => StatusCode::NO_CONTENT.into_response(),
            // draft-ietf-wish-whep §4.1: how players discover WHEP.
            Kind::Whep => (StatusCode::OK, [(CONTENT_TYPE, SDP)], Body::empty()).into_response(),
        }
    })
    .options(|| async {
        // No auth: browsers send none with a preflight. So no TURN credentials either (RFC 9725 §4.6).
        let mut response = cors::preflight("OPTIONS, GET, HEAD, POST");
        response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(SDP));
        response
    })
}

/// RFC 9725 §4.2: 201, the session's URL, its entity tag, the answer; §4.6: STUN and TURN servers; §4.9:
/// extensions.
fn created(app: &App, entry: &Entry, answer: Answer) -> Result<Response, Problem> {
    let location = format!("/{}/{}/{}", entry.stream, segment(entry.kind), answer.session);
    let mut headers = HeaderMap::new();
    let user = format!("{:08x}", rand::random::<u32>());
    for link in app.ice_servers.links(SystemTime::now(), &user) {
        headers.append(LINK, link);
    }
    let extensions = match entry.kind {
        Kind::Whip => Vec::new(),
        Kind::Whep => vec![subscription::link(&location), layer::link(&location)],
    };
    let text = |value: String| {
        HeaderValue::try_from(value).map_err(|_| Problem::internal("session", "a header that is no text"))
    };
    for link in extensions {
        headers.append(LINK, text(link)?);
    }
    headers.insert(LOCATION, text(location)?);
    headers.insert(ETAG, text(strong(&answer.etag))?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((StatusCode::CREATED, headers, answer.sdp).into_response())
}

impl App {
    /// Who may open a session: publishers with their key, all viewers, not too often, and nobody while the
    /// gateway shuts down.
    async fn admit_new(
        &self,
        kind: Kind,
        stream: &StreamName,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        self.rates.post(peer)?;
        self.admit_to(kind, stream, peer, headers).await?;
        if self.closing.is_cancelled() { Err(Problem::closing()) } else { Ok(()) }
    }

    /// Publishers need their key, on the endpoint and on the session; viewers need none.
    async fn admit_to(
        &self,
        kind: Kind,
        stream: &StreamName,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        match kind {
            Kind::Whip => self.admit_publisher(peer, stream, headers).await,
            Kind::Whep => Ok(()),
        }
    }

    /// What viewers of the stream get now; `transcoded`: those that lack its video codec.
    fn codecs(&self, name: &StreamName, transcoded: bool) -> Option<table::Codecs> {
        let stream = self.rooms.hub.get(name)?;
        table::codecs_now(&stream, transcoded)
    }
}

fn segment(kind: Kind) -> &'static str {
    match kind {
        Kind::Whip => "whip",
        Kind::Whep => "whep",
    }
}

/// A strong entity tag (RFC 9110 §8.8.3) of an opaque text.
fn strong(tag: &str) -> String {
    if tag.starts_with('"') { tag.to_owned() } else { format!("\"{tag}\"") }
}

/// Which of the m-sections of an offer is the video's.
fn video_index(offer: &str) -> Option<usize> {
    let mut sections = offer.lines().filter_map(|line| line.strip_prefix("m="));
    sections.position(|section| section.starts_with("video "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_video_is_found_among_the_sections() {
        assert_eq!(video_index("v=0\r\nm=audio 9 x\r\na=mid:0\r\nm=video 9 x\r\n"), Some(1));
        assert_eq!(video_index("v=0\r\nm=video 9 x\r\nm=audio 9 x\r\n"), Some(0));
        assert_eq!(video_index("v=0\r\nm=audio 9 x\r\na=m=video\r\n"), None);
    }

    #[test]
    fn w32_entity_tags_are_strong() {
        assert_eq!(strong("0123"), "\"0123\"");
        assert_eq!(strong("\"0123\""), "\"0123\"");
    }
}
