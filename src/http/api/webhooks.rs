//! `/webhooks`, `/webhooks/{id}` and what was sent to them, `/webhooks/{id}/deliveries`.

use super::entity_tag::{EntityTag, IfMatch};
use super::list::{List, Page};
use super::merge_patch::{self, Member};
use crate::http::problem::Problem;
use crate::http::request::parameter;
use crate::http::{App, body};
use crate::store::{DeliveryState, StoredDelivery};
use crate::webhooks::{NewWebhook, Webhook, WebhookChange, WebhookError};
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawQuery, State};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A webhook to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWebhook)]
struct Posted {
    /// Where events are POSTed to: `https://` or `http://`.
    url: String,
    /// Types of events (`stream.started`) and groups of types (`stream`); empty: all.
    #[serde(default)]
    #[schema(max_items = 100)]
    events: Vec<String>,
    /// Names of streams; empty: all.
    #[serde(default)]
    #[schema(max_items = 100)]
    streams: Vec<String>,
    /// What deliveries are signed with: `whsec_` and 24 to 64 bytes in base64. Left out: one is made.
    #[serde(default)]
    secret: Option<String>,
    /// `false`: nothing is sent yet.
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// What is to change of a webhook.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookChange)]
struct Patched {
    /// Where events are POSTed to. Can't be `null`.
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    url: Member<String>,
    /// Types and groups of types; `null`: all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    events: Member<Vec<String>>,
    /// Names of streams; `null`: all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    streams: Member<Vec<String>>,
    /// Another secret; `null`: one is made. The answer shows it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    secret: Member<String>,
    /// `false`: nothing is sent, what waits goes on waiting. Can't be `null`.
    #[serde(default)]
    #[schema(value_type = bool, required = false)]
    enabled: Member<bool>,
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
struct WebhookView {
    /// Names it in paths.
    id: String,
    /// With user info, path and query hidden.
    url: String,
    /// Types and groups of types that it gets; empty: all.
    events: Vec<String>,
    /// Streams of which it gets them; empty: all.
    streams: Vec<String>,
    /// Whether anything is sent.
    enabled: bool,
    /// When it was added.
    created_at: DateTime<Utc>,
    /// Deliveries that wait.
    pending: usize,
    /// What deliveries are signed with. Shown only when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// One event for one webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Delivery)]
struct DeliveryView {
    /// Names it in paths.
    id: i64,
    /// The event's id, which is the `Webhook-Id` as well.
    event: String,
    /// The event's type.
    r#type: String,
    /// The event's stream.
    stream: Option<String>,
    /// `pending` or `dead`.
    state: &'static str,
    /// Attempts that have failed.
    attempts: u32,
    /// When the next attempt is due; `null` for a dead one.
    next_try: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    error: Option<String>,
    /// When it came about.
    created_at: DateTime<Utc>,
}

/// How a test went.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookTest)]
struct TestView {
    /// Whether it was answered with a 2xx.
    delivered: bool,
    /// The status of that answer.
    status: Option<u16>,
    /// How long it took, in milliseconds.
    took_ms: Option<u64>,
    /// Why it was not delivered.
    error: Option<String>,
}

/// The webhook that the path names.
struct WebhookPath(String);

/// How [`WebhookPath`] is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // it describes, and is never made
struct WebhookParameter {
    /// The webhook's id.
    #[param(example = "0123456789abcdef")]
    id: String,
}

/// The delivery that the path names.
struct DeliveryPath(i64);

/// How [`DeliveryPath`] is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // it describes, and is never made
struct DeliveryParameter {
    /// The delivery's id.
    #[param(example = 1, minimum = 1)]
    delivery: i64,
}

/// Which deliveries are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // it describes, and is never made
struct StateParameter {
    /// `pending` or `dead`; left out: both.
    #[param(pattern = "^(pending|dead)$")]
    state: Option<String>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(one, change, remove))
        .routes(routes!(test))
        .routes(routes!(deliveries))
        .routes(routes!(redeliver))
}

/// The webhooks
#[utoipa::path(
    get, path = "/webhooks", tag = "Webhooks", operation_id = "listWebhooks",
    params(Page),
    responses((status = 200, description = "A page of them, in the order in which they were added", body = List<WebhookView>)),
)]
async fn list(State(app): State<Arc<App>>, page: Page) -> Response {
    page.answer(app.rooms.webhooks.list(), |webhook| view(&app, &webhook)).await
}

/// Adds a webhook
///
/// Events from now on are sent to it, signed as Standard Webhooks has it. The answer shows the secret, this
/// once.
#[utoipa::path(
    post, path = "/webhooks", tag = "Webhooks", operation_id = "addWebhook",
    request_body(content = Posted, example = json!({"url": "https://example.net/hook", "events": ["stream"]})),
    responses((
        status = 201, description = "It was added", body = WebhookView,
        headers(("Location" = String, description = "Its path"), ("ETag" = String, description = "For If-Match")),
    )),
)]
async fn add(State(app): State<Arc<App>>, request: Request<Body>) -> Result<impl IntoResponse, Problem> {
    if app.closing.is_cancelled() {
        return Err(Problem::closing());
    }
    let Posted { url, events, streams, secret, enabled } = body::json(request).await?;
    let new = NewWebhook { url, events, streams, secret, enabled };
    let webhook = app.rooms.webhooks.add(new).await?;
    let location = format!("/api/v1/webhooks/{}", webhook.id);
    let shown = WebhookView { secret: Some(webhook.secret.reveal()), ..view(&app, &webhook) };
    Ok((StatusCode::CREATED, [(LOCATION, location)], tag(&webhook).header(), Json(shown)))
}

/// One webhook
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "Webhooks", operation_id = "getWebhook",
    params(WebhookParameter),
    responses((
        status = 200, description = "The webhook", body = WebhookView,
        headers(("ETag" = String, description = "For If-Match")),
    )),
)]
async fn one(
    State(app): State<Arc<App>>,
    WebhookPath(id): WebhookPath,
) -> Result<impl IntoResponse, Problem> {
    let webhook = app.rooms.webhooks.get(&id)?;
    Ok((tag(&webhook).header(), Json(view(&app, &webhook))))
}

/// Changes a webhook
///
/// What waits is sent to where it leads then.
#[utoipa::path(
    patch, path = "/webhooks/{id}", tag = "Webhooks", operation_id = "changeWebhook",
    params(WebhookParameter, IfMatch),
    request_body(content = Patched, content_type = "application/merge-patch+json", example = json!({"enabled": false})),
    responses((
        status = 200, description = "The webhook as it is now, with a secret that is new", body = WebhookView,
        headers(("ETag" = String, description = "For If-Match")),
    )),
)]
async fn change(
    State(app): State<Arc<App>>,
    WebhookPath(id): WebhookPath,
    if_match: IfMatch,
    request: Request<Body>,
) -> Result<impl IntoResponse, Problem> {
    let patch: Patched = merge_patch::read(request).await?;
    let present = app.rooms.webhooks.get(&id)?;
    if_match.allows(Some(&tag(&present)))?;
    let secret = patch.secret.change();
    let is_new = secret.is_some();
    let change = WebhookChange {
        url: required(patch.url, "url")?,
        events: patch.events.change().map(Option::unwrap_or_default),
        streams: patch.streams.change().map(Option::unwrap_or_default),
        secret,
        enabled: required(patch.enabled, "enabled")?,
    };
    let webhook = app.rooms.webhooks.change(&id, change).await?;
    let secret = is_new.then(|| webhook.secret.reveal());
    Ok((tag(&webhook).header(), Json(WebhookView { secret, ..view(&app, &webhook) })))
}

/// The change of what can't be absent.
fn required<T>(member: Member<T>, name: &str) -> Result<Option<T>, Problem> {
    match member.change() {
        Some(None) => Err(merge_patch::not_null(name)),
        change => Ok(change.flatten()),
    }
}

/// Removes a webhook
///
/// What waits for it is forgotten.
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "Webhooks", operation_id = "removeWebhook",
    params(WebhookParameter),
    responses((status = 204, description = "It is gone")),
)]
async fn remove(State(app): State<Arc<App>>, WebhookPath(id): WebhookPath) -> Result<StatusCode, Problem> {
    app.rooms.webhooks.remove(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tries a webhook
///
/// Sends an event of the type `webhook.test`, at once and once, and answers when it is known how it went.
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "Webhooks", operation_id = "testWebhook",
    params(WebhookParameter),
    responses((status = 200, description = "How it went", body = TestView)),
)]
async fn test(State(app): State<Arc<App>>, WebhookPath(id): WebhookPath) -> Result<Json<TestView>, Problem> {
    let view = match app.rooms.webhooks.test(&id).await? {
        Ok(attempted) => TestView {
            delivered: true,
            status: Some(attempted.status),
            took_ms: u64::try_from(attempted.took.as_millis()).ok(),
            error: None,
        },
        Err(error) => {
            TestView { delivered: false, status: None, took_ms: None, error: Some(error.to_string()) }
        }
    };
    Ok(Json(view))
}

/// The deliveries of a webhook
///
/// Those that wait, and those that were given up. What was delivered is forgotten.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", tag = "Webhooks", operation_id = "listDeliveries",
    params(WebhookParameter, StateParameter, Page),
    responses((status = 200, description = "A page of them, the oldest first", body = List<DeliveryView>)),
)]
async fn deliveries(
    State(app): State<Arc<App>>,
    WebhookPath(id): WebhookPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (page, [state]) = Page::read(&query.unwrap_or_default(), ["state"])?;
    let state = match state.as_deref() {
        None => None,
        Some("pending") => Some(DeliveryState::Pending),
        Some("dead") => Some(DeliveryState::Dead),
        Some(other) => {
            let detail = format!("state is {other:?}; it must be \"pending\" or \"dead\"");
            return Err(Problem::bad_request("bad-query", detail));
        }
    };
    let all = app.rooms.webhooks.deliveries(&id, state).await?;
    Ok(page.answer(all, |delivery| delivery_view(&delivery)).await)
}

/// Has a dead delivery tried again
///
/// It goes behind what waits for its stream.
#[utoipa::path(
    post, path = "/webhooks/{id}/deliveries/{delivery}/redeliver", tag = "Webhooks", operation_id = "redeliver",
    params(WebhookParameter, DeliveryParameter),
    responses((status = 202, description = "It waits", body = DeliveryView)),
)]
async fn redeliver(
    State(app): State<Arc<App>>,
    WebhookPath(id): WebhookPath,
    DeliveryPath(delivery): DeliveryPath,
) -> Result<impl IntoResponse, Problem> {
    let delivery = app.rooms.webhooks.redeliver(&id, delivery).await?;
    Ok((StatusCode::ACCEPTED, Json(delivery_view(&delivery))))
}

fn tag(webhook: &Webhook) -> EntityTag {
    EntityTag::of(&(&webhook.id, webhook.version))
}

fn view(app: &App, webhook: &Webhook) -> WebhookView {
    WebhookView {
        id: webhook.id.clone(),
        url: webhook.masked_url(),
        events: webhook.events.clone(),
        streams: webhook.streams.clone(),
        enabled: webhook.enabled,
        created_at: webhook.created_at,
        pending: app.rooms.webhooks.pending(&webhook.id),
        secret: None,
    }
}

fn delivery_view(delivery: &StoredDelivery) -> DeliveryView {
    let is_pending = delivery.state == DeliveryState::Pending;
    DeliveryView {
        id: delivery.id,
        event: delivery.event.clone(),
        r#type: delivery.kind.clone(),
        stream: delivery.stream.as_ref().map(ToString::to_string),
        state: if is_pending { "pending" } else { "dead" },
        attempts: delivery.attempts,
        next_try: is_pending.then_some(delivery.next_try),
        error: delivery.error.clone(),
        created_at: delivery.created_at,
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WebhookPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parameter(parts, state, "id").await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for DeliveryPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = parameter(parts, state, "delivery").await?;
        text.parse().map(Self).map_err(|_| Problem::from(WebhookError::UnknownDelivery))
    }
}
