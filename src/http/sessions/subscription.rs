//! The server-sent events extension of WHEP, as resources: a player subscribes to events of its session with
//! POST, reads them with GET, and unsubscribes with DELETE (draft-ietf-wish-whep-events, "Server Sent Events
//! extension"). What the events are is told in `events`.

use super::events::{self, Kind};
use super::resource::SessionPath;
use super::table::Entry;
use crate::http::problem::Problem;
use crate::http::request::{Peer, parameter};
use crate::http::{App, cors, event_stream};
use crate::stream::StreamState;
use crate::webrtc::{SessionError, SessionKind};
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

const RELATION: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
/// Subscriptions of one session.
const MOST: usize = 4;

/// A player's wish for events.
pub(super) struct Subscription {
    /// 128 random bits: browsers can't send a token with the GET.
    id: u128,
    pub(super) wanted: Vec<Kind>,
    /// Cancelled by DELETE and at the end of the session.
    pub(super) closed: CancellationToken,
    /// The player has been told, or is about to be told, that the stream is active.
    pub(super) active: AtomicBool,
    /// Who reads now; a newer reader takes its place.
    reader: Mutex<CancellationToken>,
}

/// The `Link` that tells of the extension; `session` is the session's path.
pub(super) fn link(session: &str) -> String {
    format!("<{session}/sse>; rel=\"{RELATION}\"; events=\"{}\"", Kind::names().join(","))
}

/// `…/sse`: POST subscribes.
pub(super) fn endpoint() -> MethodRouter<Arc<App>> {
    post(|State(app): State<Arc<App>>, Peer(peer), path: SessionPath, request: Request<Body>| async move {
        let (entry, names): (_, Option<Vec<String>>) = app.admit_wish(peer.ip(), &path, request).await?;
        let wanted = match names {
            Some(names) => events::parse(&names)?,
            None => Kind::ALL.to_vec(),
        };
        let live =
            app.rooms.hub.get(&path.stream).is_some_and(|stream| stream.state().0 == StreamState::Live);
        let id = entry.subscribe(wanted, live)?;
        let location = format!("/{}/whep/{}/sse/{id:032x}", path.stream, path.session);
        let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned())];
        Ok::<_, Problem>((StatusCode::CREATED, headers))
    })
    .options(|| async { cors::preflight("OPTIONS, POST") })
}

/// `…/sse/{subscription}`: GET reads, DELETE unsubscribes.
pub(super) fn resource() -> MethodRouter<Arc<App>> {
    get(|State(app): State<Arc<App>>, Peer(peer), method: Method, path: SubscriptionPath| async move {
        app.rates.session_request(peer.ip())?;
        let (entry, subscription) = path.find(&app)?;
        let stream = app.rooms.hub.get(&entry.stream).ok_or_else(unknown)?;
        let body = match method {
            Method::HEAD => Body::empty(),
            _ => {
                let reader = subscription.read();
                events::body(stream, entry, subscription, reader, app.closing.clone())
            }
        };
        Ok::<Response, Problem>(event_stream::response(body))
    })
    .delete(
        |State(app): State<Arc<App>>, Peer(peer), path: SubscriptionPath, headers: HeaderMap| async move {
            let entry = app.admit_change(SessionKind::Whep, peer.ip(), &headers, &path.session).await??;
            let (_, subscription) = path.find(&app)?;
            subscription.closed.cancel();
            entry.subscriptions.lock().retain(|known| known.id != subscription.id);
            Ok::<_, Problem>(StatusCode::OK)
        },
    )
    .options(|| async { cors::preflight("OPTIONS, GET, HEAD, DELETE") })
}

impl Entry {
    fn subscribe(&self, wanted: Vec<Kind>, live: bool) -> Result<u128, Problem> {
        let mut subscriptions = self.subscriptions.lock();
        if subscriptions.len() >= MOST {
            let detail = format!("a session may have {MOST} event streams: DELETE one of them first");
            return Err(Problem::new(StatusCode::CONFLICT, "too-many-event-streams", detail));
        }
        let subscription = Subscription {
            id: rand::random(),
            wanted,
            closed: self.ended.child_token(),
            active: AtomicBool::new(live),
            reader: Mutex::default(),
        };
        let id = subscription.id;
        subscriptions.push(Arc::new(subscription));
        Ok(id)
    }
}

impl Subscription {
    /// A new reader; the one before ends.
    fn read(&self) -> CancellationToken {
        let reader = self.closed.child_token();
        let before = std::mem::replace(&mut *self.reader.lock(), reader.clone());
        before.cancel();
        reader
    }

    /// Takes note of whether the stream is active. What was known before.
    pub(super) fn note_active(&self, active: bool) -> bool {
        self.active.swap(active, Ordering::Relaxed)
    }
}

/// The subscription that the path names.
struct SubscriptionPath {
    session: SessionPath,
    id: u128,
}

impl SubscriptionPath {
    fn find(&self, app: &App) -> Result<(Arc<Entry>, Arc<Subscription>), Problem> {
        let entry = app.sessions.find(SessionKind::Whep, &self.session.stream, &self.session.session)?;
        let found = entry.subscriptions.lock().iter().find(|known| known.id == self.id).cloned();
        let subscription = found.ok_or_else(unknown)?;
        Ok((entry, subscription))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SubscriptionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let session = SessionPath::from_request_parts(parts, state).await?;
        let text = parameter(parts, state, "subscription").await?;
        // Of the same form as a session's id.
        let fits = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = u128::from_str_radix(&text, 16).ok().filter(|_| fits);
        Ok(Self { session, id: id.ok_or_else(|| Problem::from(SessionError::UnknownSession))? })
    }
}

fn unknown() -> Problem {
    Problem::not_found("there is no such event stream")
}
