//! `/streams/{stream}/targets` and `/streams/{stream}/targets/{id}`. A target may be added before its
//! stream is live: it waits.

use super::list::{List, Page};
use crate::http::problem::Problem;
use crate::http::request::{StreamPath, parameter};
use crate::http::{App, body};
use crate::restream::{NewTarget, TargetView};
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;

/// The body of POST.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    /// `rtmp://` or `rtmps://`, with the stream key.
    url: String,
    /// For people.
    #[serde(default)]
    name: Option<String>,
}

/// The target that the path names.
struct TargetPath(String);

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/streams/{stream}/targets", get(list).post(add))
        .route("/streams/{stream}/targets/{id}", get(one).delete(remove))
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
    let posted: Posted = body::json(request).await?;
    let target = NewTarget { url: posted.url, name: posted.name };
    let target = app.rooms.restreams.add(name.clone(), target)?;
    let location = format!("/api/v1/streams/{name}/targets/{}", target.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(target)))
}

async fn one(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    TargetPath(id): TargetPath,
) -> Result<Json<TargetView>, Problem> {
    app.rooms.restreams.get(&name, &id).map(Json).ok_or_else(unknown_target)
}

/// Answers when the target has ended cleanly.
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
