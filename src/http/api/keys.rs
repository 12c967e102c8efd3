//! `/streams/{stream}/keys` and `/tokens`: publish keys and admin tokens, made here and told once.

use super::list::{List, Page};
use crate::auth::{KeyError, KeyView, NewKey, Purpose};
use crate::http::problem::Problem;
use crate::http::request::{StreamParameter, StreamPath, parameter};
use crate::http::{App, body};
use crate::media::Secret;
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The longest overlap: a week, in seconds.
const LONGEST_OVERLAP: u32 = 7 * 24 * 3600;

/// A key or token to be made.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewKey)]
struct Posted {
    /// What people call it.
    #[schema(max_length = 100)]
    name: Option<String>,
    /// From when on it opens nothing; `null`: never.
    expires_at: Option<DateTime<Utc>>,
}

/// How a key is replaced.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct Rotation {
    /// Seconds for which the old key goes on opening its door.
    #[schema(maximum = 604_800)]
    overlap: u32,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
struct IssuedKey {
    /// The key or token itself: it is shown this once.
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

/// The key that the path names.
struct KeyPath(String);

/// How [`KeyPath`] is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // it describes, and is never made
struct KeyParameter {
    /// The id of the key or token.
    #[param(example = "0123456789abcdef")]
    id: String,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_keys, issue_key))
        .routes(routes!(get_key, revoke_key))
        .routes(routes!(rotate_key))
        .routes(routes!(list_tokens, issue_token))
        .routes(routes!(get_token, revoke_token))
        .routes(routes!(rotate_token))
}

/// The publish keys of a stream
///
/// With their hints: the keys themselves are kept nowhere.
#[utoipa::path(
    get, path = "/streams/{stream}/keys", tag = "Publish keys", operation_id = "listKeys",
    params(StreamParameter, Page),
    responses((status = 200, description = "A page of them, the oldest first", body = List<KeyView>)),
)]
async fn list_keys(State(app): State<Arc<App>>, StreamPath(name): StreamPath, page: Page) -> Response {
    list(&app, &Purpose::Publish(name), page).await
}

/// Makes a publish key
///
/// It opens this stream only: as OBS's stream key (alone, or as `show?key=…`) and as WHIP's bearer token. The
/// stream need not be live or declared.
#[utoipa::path(
    post, path = "/streams/{stream}/keys", tag = "Publish keys", operation_id = "issueKey",
    params(StreamParameter),
    request_body(content = Posted, example = json!({"name": "Studio"})),
    responses((
        status = 201, description = "The key, this once", body = IssuedKey,
        headers(("Location" = String, description = "Its path")),
    )),
)]
async fn issue_key(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let path = format!("/api/v1/streams/{name}/keys");
    issue(&app, Purpose::Publish(name), &path, request).await
}

/// One publish key
#[utoipa::path(
    get, path = "/streams/{stream}/keys/{id}", tag = "Publish keys", operation_id = "getKey",
    params(StreamParameter, KeyParameter),
    responses((status = 200, description = "What is known of it", body = KeyView)),
)]
async fn get_key(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    KeyPath(id): KeyPath,
) -> Result<Json<KeyView>, Problem> {
    get(&app, &Purpose::Publish(name), &id)
}

/// Revokes a publish key
///
/// It opens nothing from now on. Who has published with it goes on: kick the publisher to end that.
#[utoipa::path(
    delete, path = "/streams/{stream}/keys/{id}", tag = "Publish keys", operation_id = "revokeKey",
    params(StreamParameter, KeyParameter),
    responses((status = 204, description = "It is gone")),
)]
async fn revoke_key(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    KeyPath(id): KeyPath,
) -> Result<StatusCode, Problem> {
    revoke(&app, &Purpose::Publish(name), &id).await
}

/// Replaces a publish key
///
/// A new key with the name of the old one, which expires after the overlap.
#[utoipa::path(
    post, path = "/streams/{stream}/keys/{id}/rotate", tag = "Publish keys", operation_id = "rotateKey",
    params(StreamParameter, KeyParameter),
    request_body(content = Rotation, example = json!({"overlap": 3600})),
    responses((
        status = 201, description = "The new key, this once", body = IssuedKey,
        headers(("Location" = String, description = "Its path")),
    )),
)]
async fn rotate_key(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    KeyPath(id): KeyPath,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let path = format!("/api/v1/streams/{name}/keys");
    rotate(&app, &Purpose::Publish(name), &id, &path, request).await
}

/// The admin tokens
///
/// The token of the configuration, or of the first start, is not among them.
#[utoipa::path(
    get, path = "/tokens", tag = "Admin tokens", operation_id = "listTokens",
    params(Page),
    responses((status = 200, description = "A page of them, the oldest first", body = List<KeyView>)),
)]
async fn list_tokens(State(app): State<Arc<App>>, page: Page) -> Response {
    list(&app, &Purpose::Administer, page).await
}

/// Makes an admin token
#[utoipa::path(
    post, path = "/tokens", tag = "Admin tokens", operation_id = "issueToken",
    request_body(content = Posted, example = json!({"name": "Automation", "expiresAt": "2126-01-01T00:00:00Z"})),
    responses((
        status = 201, description = "The token, this once", body = IssuedKey,
        headers(("Location" = String, description = "Its path")),
    )),
)]
async fn issue_token(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Problem> {
    issue(&app, Purpose::Administer, "/api/v1/tokens", request).await
}

/// One admin token
#[utoipa::path(
    get, path = "/tokens/{id}", tag = "Admin tokens", operation_id = "getToken",
    params(KeyParameter),
    responses((status = 200, description = "What is known of it", body = KeyView)),
)]
async fn get_token(State(app): State<Arc<App>>, KeyPath(id): KeyPath) -> Result<Json<KeyView>, Problem> {
    get(&app, &Purpose::Administer, &id)
}

/// Revokes an admin token
#[utoipa::path(
    delete, path = "/tokens/{id}", tag = "Admin tokens", operation_id = "revokeToken",
    params(KeyParameter),
    responses((status = 204, description = "It is gone")),
)]
async fn revoke_token(State(app): State<Arc<App>>, KeyPath(id): KeyPath) -> Result<StatusCode, Problem> {
    revoke(&app, &Purpose::Administer, &id).await
}

/// Replaces an admin token
///
/// A new token with the name of the old one, which expires after the overlap.
#[utoipa::path(
    post, path = "/tokens/{id}/rotate", tag = "Admin tokens", operation_id = "rotateToken",
    params(KeyParameter),
    request_body(content = Rotation, example = json!({"overlap": 3600})),
    responses((
        status = 201, description = "The new token, this once", body = IssuedKey,
        headers(("Location" = String, description = "Its path")),
    )),
)]
async fn rotate_token(
    State(app): State<Arc<App>>,
    KeyPath(id): KeyPath,
    request: Request<Body>,
) -> Result<Response, Problem> {
    rotate(&app, &Purpose::Administer, &id, "/api/v1/tokens", request).await
}

async fn list(app: &App, purpose: &Purpose, page: Page) -> Response {
    page.answer(app.access.keyring.list(purpose, Utc::now()), |key| key).await
}

fn get(app: &App, purpose: &Purpose, id: &str) -> Result<Json<KeyView>, Problem> {
    app.access.keyring.view(purpose, id, Utc::now()).map(Json).ok_or_else(|| KeyError::Unknown.into())
}

async fn issue(app: &App, purpose: Purpose, path: &str, request: Request<Body>) -> Result<Response, Problem> {
    let Posted { name, expires_at } = body::json(request).await?;
    let issued = app.access.keyring.issue(purpose, NewKey { name, expires_at }, Utc::now()).await?;
    Ok(created(path, issued))
}

async fn rotate(
    app: &App,
    purpose: &Purpose,
    id: &str,
    path: &str,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let Rotation { overlap } = body::json(request).await?;
    if overlap > LONGEST_OVERLAP {
        let detail = format!("field \"overlap\": it is {overlap} s, and must be from 0 to {LONGEST_OVERLAP}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-field", detail));
    }
    let overlap = Duration::from_secs(overlap.into());
    Ok(created(path, app.access.keyring.rotate(purpose, id, overlap, Utc::now()).await?))
}

async fn revoke(app: &App, purpose: &Purpose, id: &str) -> Result<StatusCode, Problem> {
    app.access.keyring.revoke(purpose, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn created(path: &str, (view, key): (KeyView, Secret)) -> Response {
    let location = format!("{path}/{}", view.id);
    let issued = IssuedKey { key: key.reveal().to_owned(), view };
    (StatusCode::CREATED, [(LOCATION, location)], Json(issued)).into_response()
}

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parameter(parts, state, "id").await.map(Self)
    }
}
