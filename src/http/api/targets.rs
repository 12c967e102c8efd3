//! `/streams/{stream}/targets` and `/streams/{stream}/targets/{id}`. A target may be added before its
//! stream is live: it waits.

use super::list::{List, Page};
use crate::http::problem::Problem;
use crate::http::request::{StreamParameter, StreamPath, parameter};
use crate::http::{App, body};
use crate::restream::{NewTarget, TargetView};
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A target to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTarget)]
struct Posted {
    /// `rtmp://` or `rtmps://`, with the stream key.
    url: String,
    /// For people.
    #[serde(default)]
    name: Option<String>,
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
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(one, remove))
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
    request_body(content = Posted, example = json!({"url": "rtmp://live.example.net/app/KEY", "name": "Example"})),
    responses((
        status = 201, description = "It was added", body = TargetView,
        headers(("Location" = String, description = "Its path")),
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
    let posted: Posted = body::json(request).await?;
    let target = NewTarget { url: posted.url, name: posted.name };
    let target = app.rooms.restreams.add(name.clone(), target)?;
    let location = format!("/api/v1/streams/{name}/targets/{}", target.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(target)))
}

/// One restream target
#[utoipa::path(
    get, path = "/streams/{stream}/targets/{id}", tag = "Targets", operation_id = "getTarget",
    params(StreamParameter, TargetParameter),
    responses((status = 200, description = "The target, with what it does", body = TargetView)),
)]
async fn one(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
) -> Result<Json<TargetView>, Problem> {
    app.rooms.restreams.get(&name, &id).map(Json).ok_or_else(unknown_target)
}

/// Removes a restream target
///
/// Answers when its connection has ended cleanly.
#[utoipa::path(
    delete, path = "/streams/{stream}/targets/{id}", tag = "Targets", operation_id = "removeTarget",
    params(StreamParameter, TargetParameter),
    responses((status = 204, description = "It has ended, and is gone")),
)]
async fn remove(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
) -> Result<StatusCode, Problem> {
    match app.rooms.restreams.remove(&name, &id).await {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown_target()),
    }
}

fn unknown_target() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown-target", "the stream has no target with this id")
}

impl<S: Send + Sync> FromRequestParts<S> for TargetPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parameter(parts, state, "id").await.map(Self)
    }
}
