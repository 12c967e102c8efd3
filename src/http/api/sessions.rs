//! `/sessions`: WHIP, WHEP and RTMP connections. HLS players have none.
//!
//! A session's id here is a number behind its kind, for the id in a WHIP or WHEP session's URL lets one change
//! and end it.

use super::list::{List, Page};
use crate::http::App;
use crate::http::live::rfc3339;
use crate::http::problem::Problem;
use crate::http::request::parameter;
use crate::http::sessions::Known;
use crate::media::StreamName;
use crate::rtmp::RtmpSession;
use crate::webrtc::{SessionError, SessionKind};
use axum::Json;
use axum::extract::{FromRequestParts, RawQuery, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::Serialize;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A connection that publishes or views.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Session)]
struct SessionView {
    /// Names it in URLs; not the id of its WHIP or WHEP URL.
    #[schema(example = "rtmp-12")]
    id: String,
    kind: Kind,
    #[schema(example = "show")]
    stream: String,
    /// The peer's address and port; behind a proxy, the proxy's.
    #[schema(example = "192.0.2.1:50123")]
    remote: String,
    since: String,
    bytes_received: u64,
    bytes_sent: u64,
    /// In milliseconds; `null` where it is not known: RTMP and WHIP peers don't tell.
    round_trip: Option<f64>,
    /// The part of the packets that was lost lately, from 0 to 1; `null` where it is not known.
    loss: Option<f64>,
}

/// What kind a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionKind)]
enum Kind {
    Whip,
    Whep,
    Rtmp,
}

/// A session of whatever room.
enum Session {
    WebRtc(Known),
    Rtmp(Arc<RtmpSession>),
}

/// Kind and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SessionNumber(Kind, u64);

/// Which sessions are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // it describes, and is never made
struct Filters {
    /// Only those of this stream.
    #[param(required = false)]
    stream: Option<String>,
    /// Only those of this kind.
    #[param(required = false, inline)]
    kind: Option<Kind>,
}

/// How [`SessionNumber`] is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // it describes, and is never made
struct SessionParameter {
    /// The session's id.
    #[param(example = "rtmp-12")]
    id: String,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one, kick))
}

/// All sessions
///
/// Connections that publish or view by WHIP, WHEP or RTMP. Players of HLS have no sessions.
#[utoipa::path(
    get, path = "/sessions", tag = "Sessions", operation_id = "listSessions",
    params(Page, Filters),
    responses((status = 200, description = "A page of them, the oldest first", body = List<SessionView>)),
)]
async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let (page, [stream, kind]) = Page::read(query.as_deref().unwrap_or_default(), ["stream", "kind"])?;
    let kind = kind
        .map(|kind| kind.parse::<Kind>())
        .transpose()
        .map_err(|()| Problem::bad_request("bad-query", "kind must be whip, whep or rtmp"))?;
    let stream = stream.map(|name| name.parse::<StreamName>()).transpose()?;
    let webrtc = app.sessions.list().into_iter().map(Session::WebRtc);
    let rtmp = app.rooms.rtmp.list().into_iter().map(Session::Rtmp);
    let mut sessions: Vec<Session> = webrtc.chain(rtmp).collect();
    sessions.retain(|session| {
        stream.as_ref().is_none_or(|name| session.stream() == name)
            && kind.is_none_or(|kind| session.kind() == kind)
    });
    sessions.sort_by_key(Session::since);
    Ok(page.answer(sessions, |session| session.view()).await)
}

/// One session
#[utoipa::path(
    get, path = "/sessions/{id}", tag = "Sessions", operation_id = "getSession",
    params(SessionParameter),
    responses((status = 200, description = "The session", body = SessionView)),
)]
async fn one(State(app): State<Arc<App>>, number: SessionNumber) -> Result<Json<SessionView>, Problem> {
    Ok(Json(find(&app, number)?.view()))
}

/// Kicks a session
///
/// A publisher's stream waits for its return, as ever.
#[utoipa::path(
    delete, path = "/sessions/{id}", tag = "Sessions", operation_id = "kickSession",
    params(SessionParameter),
    responses((status = 204, description = "It is being ended")),
)]
async fn kick(State(app): State<Arc<App>>, number: SessionNumber) -> Result<StatusCode, Problem> {
    let session = find(&app, number)?;
    tracing::info!(stream = %session.stream(), session = %number, remote = %session.remote(), "Session kicked by the API.");
    match session {
        Session::WebRtc(known) => app.rooms.webrtc.close(known.entry.kind, &known.id).await?,
        Session::Rtmp(session) => session.kick(),
    }
    Ok(StatusCode::NO_CONTENT)
}

fn find(app: &App, SessionNumber(kind, number): SessionNumber) -> Result<Session, Problem> {
    let found = match kind {
        Kind::Rtmp => app.rooms.rtmp.get(number).map(Session::Rtmp),
        Kind::Whip | Kind::Whep => app.sessions.by_number(number).map(Session::WebRtc),
    };
    found.filter(|session| session.kind() == kind).ok_or_else(|| SessionError::UnknownSession.into())
}

impl Session {
    fn kind(&self) -> Kind {
        match self {
            Self::WebRtc(known) => match known.entry.kind {
                SessionKind::Whip => Kind::Whip,
                SessionKind::Whep => Kind::Whep,
            },
            Self::Rtmp(_) => Kind::Rtmp,
        }
    }

    fn number(&self) -> SessionNumber {
        match self {
            Self::WebRtc(known) => SessionNumber(self.kind(), known.entry.number),
            Self::Rtmp(session) => SessionNumber(Kind::Rtmp, session.number),
        }
    }

    fn stream(&self) -> &StreamName {
        match self {
            Self::WebRtc(known) => &known.entry.stream,
            Self::Rtmp(session) => &session.stream,
        }
    }

    fn remote(&self) -> SocketAddr {
        match self {
            Self::WebRtc(known) => known.entry.remote,
            Self::Rtmp(session) => session.remote,
        }
    }

    fn since(&self) -> SystemTime {
        match self {
            Self::WebRtc(known) => known.entry.since,
            Self::Rtmp(session) => session.since,
        }
    }

    fn view(&self) -> SessionView {
        let traffic = match self {
            Self::WebRtc(known) => known.entry.traffic.snapshot(),
            Self::Rtmp(session) => {
                let (received, sent) = (session.received(), session.sent());
                crate::webrtc::TrafficSnapshot { received, sent, ..Default::default() }
            }
        };
        SessionView {
            id: self.number().to_string(),
            kind: self.kind(),
            stream: self.stream().to_string(),
            remote: self.remote().to_string(),
            since: rfc3339(self.since()),
            bytes_received: traffic.received,
            bytes_sent: traffic.sent,
            round_trip: traffic.round_trip.map(|time| time.as_secs_f64() * 1000.0),
            loss: traffic.loss,
        }
    }
}

impl fmt::Display for SessionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Kind::Whip => "whip",
            Kind::Whep => "whep",
            Kind::Rtmp => "rtmp",
        };
        write!(f, "{kind}-{}", self.1)
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "whip" => Ok(Self::Whip),
            "whep" => Ok(Self::Whep),
            "rtmp" => Ok(Self::Rtmp),
            _ => Err(()),
        }
    }
}

impl FromStr for SessionNumber {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, number) = text.split_once('-').ok_or(())?;
        Ok(Self(kind.parse()?, number.parse().map_err(|_| ())?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SessionNumber {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = parameter(parts, state, "id").await?;
        id.parse().map_err(|()| SessionError::UnknownSession.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_kind_and_a_number() {
        assert_eq!("rtmp-12".parse(), Ok(SessionNumber(Kind::Rtmp, 12)));
        assert_eq!(SessionNumber(Kind::Whep, 3).to_string(), "whep-3");
        for text in ["", "rtmp", "rtmp-", "hls-1", "rtmp--1", "0123456789abcdef0123456789abcdef"] {
            assert!(text.parse::<SessionNumber>().is_err(), "{text}");
        }
    }
}
