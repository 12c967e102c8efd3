//! `/streams/{stream}/targets`, `/streams/{stream}/targets/{id}` and its `/test`. A target may be added before
//! its stream is live: it waits.

use super::list::{List, Page};
use crate::http::problem::Problem;
use crate::http::request::{StreamPath, parameter};
use crate::http::{App, body};
use crate::media::Secret;
use crate::restream::{NewTarget, TargetChange, TargetError, TargetView, Trial};
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{ETAG, IF_MATCH, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Deserializer};
use std::sync::Arc;

/// The body of POST.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Posted {
    /// `rtmp://` or `rtmps://`, with the stream key; or a preset: `twitch://key`.
    url: String,
    /// For people.
    name: Option<String>,
    /// False: it is kept, and nothing is sent.
    enabled: Option<bool>,
    /// Bits a second of the sound; null: as it comes.
    audio_bitrate: Option<u32>,
}

/// The body of PATCH, a JSON merge patch (RFC 7396): what is absent stays, null restores the default.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Patched {
    #[serde(default, deserialize_with = "some")]
    url: Option<String>,
    #[serde(default, deserialize_with = "some")]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "some")]
    enabled: Option<Option<bool>>,
    #[serde(default, deserialize_with = "some")]
    audio_bitrate: Option<Option<u32>>,
}

/// The target that the path names.
struct TargetPath(String);

/// The version of the target that `If-Match` names; `None`: any.
struct Version(Option<u32>);

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/streams/{stream}/targets", get(list).post(add))
        .route("/streams/{stream}/targets/{id}", get(one).patch(change).delete(remove))
        .route("/streams/{stream}/targets/{id}/test", post(test))
}

async fn list(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    page: Page,
) -> Json<List<TargetView>> {
    Json(page.of(app.rooms.restreams.list(&name), |target| target))
}

async fn add(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    request: Request<Body>,
) -> Result<impl IntoResponse, Problem> {
    if app.closing.is_cancelled() {
        return Err(Problem::closing());
    }
    let Posted { url, name: title, enabled, audio_bitrate } = body::json(request).await?;
    let target =
        NewTarget { url: Secret::new(url), name: title, enabled: enabled.unwrap_or(true), audio_bitrate };
    let target = app.rooms.restreams.add(name.clone(), target).await?;
    let location = format!("/api/v1/streams/{name}/targets/{}", target.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], shown(target)))
}

async fn one(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
) -> Result<impl IntoResponse, Problem> {
    let target = app.rooms.restreams.get(&name, &id).ok_or(TargetError::Unknown)?;
    Ok(shown(target))
}

/// Answers when a connection that was not as it should be now has ended cleanly.
async fn change(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
    Version(version): Version,
    request: Request<Body>,
) -> Result<impl IntoResponse, Problem> {
    let Patched { url, name: title, enabled, audio_bitrate } = body::json(request).await?;
    let change = TargetChange {
        url: url.map(Secret::new),
        name: title,
        enabled: enabled.map(|enabled| enabled.unwrap_or(true)),
        audio_bitrate,
    };
    let target = app.rooms.restreams.change(name, id, version, change).await?;
    Ok(shown(target))
}

/// Answers when the target has ended cleanly.
async fn remove(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
    Version(version): Version,
) -> Result<StatusCode, Problem> {
    app.rooms.restreams.remove(name, id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says how far a connection gets; a target that does not work is no fault of the request.
async fn test(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
) -> Result<Json<Trial>, Problem> {
    Ok(Json(app.rooms.restreams.test(&name, &id).await?))
}

/// A target with the entity tag of its settings: its state may change, and the tag stays.
fn shown(target: TargetView) -> impl IntoResponse {
    ([(ETAG, format!("\"{}\"", target.version))], Json(target))
}

/// A field that is there, be it null.
fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<S: Send + Sync> FromRequestParts<S> for TargetPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parameter(parts, state, "id").await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Version {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        version(&parts.headers).map(Self).ok_or_else(|| TargetError::Changed.into())
    }
}

/// RFC 9110 §13.1.1: one tag of ours, or `*` for any; `None` if nothing could match.
fn version(headers: &HeaderMap) -> Option<Option<u32>> {
    let Some(value) = headers.get(IF_MATCH) else { return Some(None) };
    match value.to_str().ok()?.trim() {
        "*" => Some(None),
        tag => tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_null_and_a_value_are_three_things() {
        let patch = |text: &str| serde_json::from_str::<Patched>(text);
        let empty = patch("{}").expect("valid");
        assert!(empty.url.is_none() && empty.name.is_none() && empty.enabled.is_none());
        let nulls = patch(r#"{"name": null, "enabled": null, "audioBitrate": null}"#).expect("valid");
        assert_eq!((nulls.name, nulls.enabled, nulls.audio_bitrate), (Some(None), Some(None), Some(None)));
        let values = patch(r#"{"name": "x", "enabled": false, "audioBitrate": 96000}"#).expect("valid");
        assert_eq!((values.enabled, values.audio_bitrate), (Some(Some(false)), Some(Some(96_000))));
        assert!(patch(r#"{"url": null}"#).is_err(), "a target has a URL");
        assert!(patch(r#"{"state": "live"}"#).is_err());
    }

    #[test]
    fn if_match_names_a_version() {
        let of = |value: &str| version(&HeaderMap::from_iter([(IF_MATCH, value.parse().expect("a value"))]));
        assert_eq!(version(&HeaderMap::new()), Some(None));
        assert_eq!(of("*"), Some(None));
        assert_eq!(of("\"7\""), Some(Some(7)));
        assert_eq!(of("\"x\""), None);
        assert_eq!(of("7"), None);
    }
}
