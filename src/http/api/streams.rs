//! `/streams`, `/streams/{stream}` and `/streams/{stream}/publisher`.
//!
//! Streams that are live and streams that were declared are one list. DELETE forgets the declaration alone:
//! a stream that is live goes on, and its targets and keys are kept, for they need no declaration.

use super::entity_tag::IfMatch;
use super::list::{List, Page};
use super::merge_patch::{self, Member};
use super::stream_view::{StreamView, WholeStreamView, tag, view, whole_view};
use crate::declarations::Declaration;
use crate::http::problem::Problem;
use crate::http::request::{StreamParameter, StreamPath};
use crate::http::{App, body};
use crate::media::StreamName;
use crate::stream::Stream;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A stream to be declared.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewStream {
    /// 1 to 64 letters, digits, `-`, `_` and `.`; not beginning with a dot, and none of the server's own paths.
    #[schema(example = "show", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]
    name: String,
    /// What people call it.
    #[serde(default)]
    #[schema(max_length = 200)]
    title: Option<String>,
    /// Seconds that it waits for its publisher's return; `null`: as configured.
    #[serde(default)]
    #[schema(maximum = 600)]
    grace: Option<u32>,
}

/// A change of a declared stream (RFC 7396): what is absent stays, `null` takes it back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StreamPatch {
    /// What people call it.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    title: Member<String>,
    /// Seconds that it waits for its publisher's return, from its next start on.
    #[serde(default)]
    #[schema(value_type = Option<u32>, maximum = 600)]
    grace: Member<u32>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, declare))
        .routes(routes!(one, change, forget))
        .routes(routes!(kick))
}

/// All streams
///
/// Live ones, and those that were declared. Their targets are counted; one stream alone has them whole.
#[utoipa::path(
    get, path = "/streams", tag = "Streams", operation_id = "listStreams",
    params(Page),
    responses((status = 200, description = "A page of them, by name", body = List<StreamView>)),
)]
async fn list(State(app): State<Arc<App>>, page: Page) -> Response {
    type Sides = (Option<Arc<Declaration>>, Option<Arc<Stream>>);
    let mut streams: BTreeMap<StreamName, Sides> = BTreeMap::new();
    for declaration in app.rooms.declarations.list() {
        streams.insert(declaration.name.clone(), (Some(declaration), None));
    }
    for stream in &app.rooms.hub.list() {
        streams.entry(stream.name().clone()).or_default().1 = Some(stream.clone());
    }
    let show =
        |(name, (declared, live)): (StreamName, Sides)| view(&app, &name, declared.as_deref(), live.as_ref());
    page.answer(streams, show).await
}

/// Declares a stream
///
/// A stream needs no declaration to go live; one that is declared is listed while it is offline, too, and has
/// settings of its own.
#[utoipa::path(
    post, path = "/streams", tag = "Streams", operation_id = "declareStream",
    request_body(content = NewStream, example = json!({"name": "show", "title": "The evening show", "grace": 120})),
    responses((
        status = 201, description = "It was declared", body = WholeStreamView,
        headers(("Location" = String, description = "Its path"), ("ETag" = String, description = "For `If-Match`")),
    )),
)]
async fn declare(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Problem> {
    let NewStream { name, title, grace } = body::json(request).await?;
    let name: StreamName = name.parse().map_err(Problem::unfit_name)?;
    let declaration = app.rooms.declarations.declare(name, title, grace, Utc::now()).await?;
    let location = format!("/api/v1/streams/{}", declaration.name);
    Ok((StatusCode::CREATED, [(LOCATION, location)], shown(&app, &declaration)).into_response())
}

/// One stream
#[utoipa::path(
    get, path = "/streams/{stream}", tag = "Streams", operation_id = "getStream",
    params(StreamParameter),
    responses((
        status = 200, description = "The stream", body = WholeStreamView,
        headers(("ETag" = String, description = "For `If-Match`, if the stream is declared")),
    )),
)]
async fn one(State(app): State<Arc<App>>, StreamPath(name): StreamPath) -> Result<Response, Problem> {
    match (app.rooms.declarations.get(&name), app.rooms.hub.get(&name)) {
        (Some(declaration), _) => Ok(shown(&app, &declaration)),
        (None, Some(stream)) => Ok(Json(whole_view(&app, &name, None, Some(&stream))).into_response()),
        (None, None) => Err(Problem::unknown_stream(&name)),
    }
}

/// Changes a declared stream
#[utoipa::path(
    patch, path = "/streams/{stream}", tag = "Streams", operation_id = "changeStream",
    params(StreamParameter, IfMatch),
    request_body(
        content = StreamPatch, content_type = "application/merge-patch+json",
        example = json!({"title": "The late show", "grace": null}),
    ),
    responses((
        status = 200, description = "The stream as it is now", body = WholeStreamView,
        headers(("ETag" = String, description = "For `If-Match`")),
    )),
)]
async fn change(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    if_match: IfMatch,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let patch: StreamPatch = merge_patch::read(request).await?;
    let change = |declaration: &mut Declaration| {
        if_match.allows(Some(&tag(declaration)))?;
        patch.title.apply(&mut declaration.title);
        patch.grace.apply(&mut declaration.grace);
        Ok::<_, Problem>(())
    };
    let declaration = app.rooms.declarations.change(&name, Utc::now(), change).await?;
    Ok(shown(&app, &declaration))
}

/// Forgets a declared stream
///
/// A publisher that is live goes on. Targets and keys of the stream are kept: delete them by themselves.
#[utoipa::path(
    delete, path = "/streams/{stream}", tag = "Streams", operation_id = "forgetStream",
    params(StreamParameter, IfMatch),
    responses((status = 204, description = "It is forgotten")),
)]
async fn forget(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let judge = |declaration: &Declaration| if_match.allows(Some(&tag(declaration)));
    app.rooms.declarations.forget(&name, judge).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Kicks the publisher
///
/// Its session ends; the stream follows after its grace, unless a publisher returns.
#[utoipa::path(
    delete, path = "/streams/{stream}/publisher", tag = "Streams", operation_id = "kickPublisher",
    params(StreamParameter),
    responses((status = 204, description = "Its session is being ended")),
)]
async fn kick(State(app): State<Arc<App>>, StreamPath(name): StreamPath) -> Result<StatusCode, Problem> {
    let stream = app.rooms.hub.get(&name).ok_or_else(|| Problem::unknown_stream(&name))?;
    if stream.kick_publisher() {
        tracing::info!(stream = %name, "Publisher kicked by the API.");
        Ok(StatusCode::NO_CONTENT)
    } else {
        let detail = format!("stream {name} has no publisher now; it waits for one to return");
        Err(Problem::new(StatusCode::CONFLICT, "no-publisher", detail))
    }
}

/// A declared stream, with its tag.
fn shown(app: &App, declaration: &Declaration) -> Response {
    let live = app.rooms.hub.get(&declaration.name);
    let view = whole_view(app, &declaration.name, Some(declaration), live.as_ref());
    (tag(declaration).header(), Json(view)).into_response()
}
