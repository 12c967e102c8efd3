//! `/streams/{stream}/targets`, `/streams/{stream}/targets/{id}` and its `/test`. A target may be added before
//! its stream is live: it waits.

use super::entity_tag::IfMatch;
use super::list::{List, Page};
use super::merge_patch;
use crate::http::problem::Problem;
use crate::http::request::{StreamParameter, StreamPath, parameter};
use crate::http::{App, body};
use crate::media::Secret;
use crate::restream::{NewTarget, TargetChange, TargetError, TargetView, Trial};
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{ETAG, IF_MATCH, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A target to be added.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewTarget)]
struct Posted {
    /// `rtmp://` or `rtmps://`, with the stream key; or a preset: `twitch://key`.
    url: String,
    /// For people.
    name: Option<String>,
    /// False: it is kept, and nothing is sent.
    enabled: Option<bool>,
    /// Bits a second of the sound; `null`: as it comes.
    #[schema(minimum = 16_000, maximum = 320_000)]
    audio_bitrate: Option<u32>,
}

/// A change of a target (RFC 7396): what is absent stays, `null` restores the default.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TargetPatch)]
struct Patched {
    /// `rtmp://` or `rtmps://`, with the stream key; or a preset: `twitch://key`.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = String, nullable = false, required = false)]
    url: Option<String>,
    /// For people; `null`: the host.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// False: it is kept, and nothing is sent.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<bool>)]
    enabled: Option<Option<bool>>,
    /// Bits a second of the sound; `null`: as it comes.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<u32>, minimum = 16_000, maximum = 320_000)]
    audio_bitrate: Option<Option<u32>>,
}

/// The target that the path names.
struct TargetPath(String);

/// The version of the target that `If-Match` names; `None`: any.
struct Version(Option<u32>);

/// How [`TargetPath`] is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // it describes, and is never made
struct TargetParameter {
    /// The target's id.
    #[param(example = "0123456789abcdef")]
    id: String,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(one, change, remove))
        .routes(routes!(test))
}

/// The restream targets of a stream
#[utoipa::path(
    get, path = "/streams/{stream}/targets", tag = "Targets", operation_id = "listTargets",
    params(StreamParameter, Page),
    responses((status = 200, description = "A page of them, in the order in which they were added", body = List<TargetView>)),
)]
async fn list(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    page: Page,
) -> Json<List<TargetView>> {
    Json(page.of(app.rooms.restreams.list(&name), |target| target))
}

/// Adds a restream target
///
/// The stream need not be live: the target waits.
#[utoipa::path(
    post, path = "/streams/{stream}/targets", tag = "Targets", operation_id = "addTarget",
    params(StreamParameter),
    request_body(content = Posted, example = json!({"url": "rtmp://192.0.2.1/app/KEY", "name": "Example", "enabled": false})),
    responses((
        status = 201, description = "It was added", body = TargetView,
        headers(("Location" = String, description = "Its path"), ("ETag" = String, description = "For `If-Match`")),
    )),
)]
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

/// One restream target
#[utoipa::path(
    get, path = "/streams/{stream}/targets/{id}", tag = "Targets", operation_id = "getTarget",
    params(StreamParameter, TargetParameter),
    responses((
        status = 200, description = "The target, with what it does", body = TargetView,
        headers(("ETag" = String, description = "For `If-Match`")),
    )),
)]
async fn one(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
) -> Result<impl IntoResponse, Problem> {
    let target = app.rooms.restreams.get(&name, &id).ok_or(TargetError::Unknown)?;
    Ok(shown(target))
}

/// Changes a restream target
///
/// Answers when a connection that was not as it should be now has ended cleanly.
#[utoipa::path(
    patch, path = "/streams/{stream}/targets/{id}", tag = "Targets", operation_id = "changeTarget",
    params(StreamParameter, TargetParameter, IfMatch),
    request_body(
        content = Patched, content_type = "application/merge-patch+json",
        example = json!({"name": "Main", "audioBitrate": 96000}),
    ),
    responses((
        status = 200, description = "The target as it is now", body = TargetView,
        headers(("ETag" = String, description = "For `If-Match`")),
    )),
)]
async fn change(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
    Version(version): Version,
    request: Request<Body>,
) -> Result<impl IntoResponse, Problem> {
    let Patched { url, name: title, enabled, audio_bitrate } = merge_patch::read(request).await?;
    let change = TargetChange {
        url: url.map(Secret::new),
        name: title,
        enabled: enabled.map(|enabled| enabled.unwrap_or(true)),
        audio_bitrate,
    };
    let target = app.rooms.restreams.change(name, id, version, change).await?;
    Ok(shown(target))
}

/// Removes a restream target
///
/// Answers when its connection has ended cleanly.
#[utoipa::path(
    delete, path = "/streams/{stream}/targets/{id}", tag = "Targets", operation_id = "removeTarget",
    params(StreamParameter, TargetParameter, IfMatch),
    responses((status = 204, description = "It has ended, and is gone")),
)]
async fn remove(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
    Version(version): Version,
) -> Result<StatusCode, Problem> {
    app.rooms.restreams.remove(name, id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tries a restream target
///
/// Connects and asks to publish, where that disturbs nobody, and sends no media. A target that does not work is no
/// fault of the request.
#[utoipa::path(
    post, path = "/streams/{stream}/targets/{id}/test", tag = "Targets", operation_id = "testTarget",
    params(StreamParameter, TargetParameter),
    responses((status = 200, description = "How far it got, with the time of each step", body = Trial)),
)]
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
