//! `/streams/{stream}/targets`, `/streams/{stream}/targets/{id}` and its `/test`. A target may be added before
//! its stream is live: it waits.

use super::entity_tag::{EntityTag, IfMatch};
use super::list::{List, Page};
use super::merge_patch::{self, Member};
use crate::http::problem::Problem;
use crate::http::request::{StreamParameter, StreamPath, parameter};
use crate::http::{App, body};
use crate::media::Secret;
use crate::restream::{NewTarget, TargetChange, TargetError, TargetView, Trial};
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A target to be added.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewTarget)]
struct Posted {
    /// `rtmp://` or `rtmps://`, with the stream key; or a preset: `twitch://KEY`, `youtube://KEY`,
    /// `facebook://KEY`.
    url: String,
    /// For people; the host if absent.
    name: Option<String>,
    /// False: it is kept, and nothing is sent.
    enabled: Option<bool>,
    /// Bits a second of its sound, encoded again; `null`: as it comes.
    #[schema(minimum = 16_000, maximum = 320_000)]
    audio_bitrate: Option<u32>,
}

/// Changes of a target: what is absent stays, `null` restores the default.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TargetPatch)]
struct Patched {
    /// Another destination. Can't be `null`.
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    url: Member<String>,
    /// Another name; `null`: the host.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Member<String>,
    /// Pause or go on.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    enabled: Member<bool>,
    /// Bits a second of its sound; `null`: as it comes.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 16_000, maximum = 320_000)]
    audio_bitrate: Member<u32>,
}

/// The target that the path names.
struct TargetPath(String);

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
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(one, change, remove)).routes(routes!(test))
}

/// The restream targets of a stream
#[utoipa::path(
    get, path = "/streams/{stream}/targets", tag = "Targets", operation_id = "listTargets",
    params(StreamParameter, Page),
    responses((status = 200, description = "A page of them, in the order in which they were added", body = List<TargetView>)),
)]
async fn list(State(app): State<Arc<App>>, StreamPath(name): StreamPath, page: Page) -> Response {
    page.answer(app.rooms.restreams.list(&name), |target| target).await
}

/// Adds a restream target
///
/// The stream need not be live: the target waits. When this answers, the target is kept over restarts.
#[utoipa::path(
    post, path = "/streams/{stream}/targets", tag = "Targets", operation_id = "addTarget",
    params(StreamParameter),
    request_body(content = Posted, example = json!({"url": "rtmp://192.0.2.1/app/KEY", "name": "Example", "enabled": false})),
    responses((
        status = 201, description = "It was added", body = TargetView,
        headers(
            ("Location" = String, description = "Its path"),
            ("ETag" = String, description = "The tag of its settings"),
        ),
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
        headers(("ETag" = String, description = "The tag of its settings")),
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
/// Answers when a connection that was not as it should be now has ended cleanly. A changed target is tried at
/// once.
#[utoipa::path(
    patch, path = "/streams/{stream}/targets/{id}", tag = "Targets", operation_id = "changeTarget",
    params(StreamParameter, TargetParameter, ("If-Match" = Option<String>, Header, description = "The tag of what is changed")),
    request_body(content = Patched, content_type = "application/merge-patch+json", example = json!({"enabled": false})),
    responses((
        status = 200, description = "The target as it is now", body = TargetView,
        headers(("ETag" = String, description = "The tag of its settings")),
    )),
)]
async fn change(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
    if_match: IfMatch,
    request: Request<Body>,
) -> Result<impl IntoResponse, Problem> {
    let Patched { url, name: title, enabled, audio_bitrate } = merge_patch::read(request).await?;
    let url = match url.change() {
        Some(None) => return Err(merge_patch::not_null("url")),
        url => url.flatten().map(Secret::new),
    };
    let enabled = enabled.change().map(|enabled| enabled.unwrap_or(true));
    let change = TargetChange { url, name: title.change(), enabled, audio_bitrate: audio_bitrate.change() };
    let restreams = &app.rooms.restreams;
    let version = expected(&if_match, restreams.get(&name, &id))?;
    Ok(shown(restreams.change(name, id, version, change).await?))
}

/// Removes a restream target
///
/// Answers when its connection has ended cleanly.
#[utoipa::path(
    delete, path = "/streams/{stream}/targets/{id}", tag = "Targets", operation_id = "removeTarget",
    params(StreamParameter, TargetParameter, ("If-Match" = Option<String>, Header, description = "The tag of what is removed")),
    responses((status = 204, description = "It has ended, and is gone")),
)]
async fn remove(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let restreams = &app.rooms.restreams;
    let version = expected(&if_match, restreams.get(&name, &id))?;
    restreams.remove(name, id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tries a restream target
///
/// Connects and asks to publish, sends no media, and says how far it got. Nothing is published where a target
/// is on air with the same key. That the target does not work is no fault of the request: it is answered
/// with 200.
#[utoipa::path(
    post, path = "/streams/{stream}/targets/{id}/test", tag = "Targets", operation_id = "testTarget",
    params(StreamParameter, TargetParameter),
    responses((status = 200, description = "Each step with its time", body = Trial)),
)]
async fn test(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
) -> Result<Json<Trial>, Problem> {
    Ok(Json(app.rooms.restreams.test(&name, &id).await?))
}

/// A target with the tag of its settings.
fn shown(target: TargetView) -> impl IntoResponse {
    (tag(&target).header(), Json(target))
}

/// The same whatever the target does; another with each change of its settings.
fn tag(target: &TargetView) -> EntityTag {
    EntityTag::of(&(&target.id, target.version))
}

/// The version that the client believes to change; `None` if it doesn't say.
fn expected(if_match: &IfMatch, target: Option<TargetView>) -> Result<Option<u32>, Problem> {
    let target = target.ok_or(TargetError::Unknown)?;
    if_match.allows(Some(&tag(&target)))?;
    Ok(if_match.is_given().then_some(target.version))
}

impl<S: Send + Sync> FromRequestParts<S> for TargetPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parameter(parts, state, "id").await.map(Self)
    }
}
