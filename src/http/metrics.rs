//! `GET /metrics` for Prometheus, and the counting of requests.
//!
//! What runs here and how much is not for everybody: the page wants the admin token, which Prometheus sends as
//! `authorization: credentials`. No exception is made for this machine, for behind a proxy on it all clients
//! look like one of its own; `metrics.open` opens the page to all.

use super::App;
use super::body;
use super::problem::Problem;
use super::request::Peer;
use crate::metrics::{OPEN_METRICS, PROMETHEUS, Request as Counted};
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Body as _;
use std::sync::Arc;
use std::time::Instant;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(page))
}

async fn page(
    State(app): State<Arc<App>>,
    Peer(peer): Peer,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    if !app.open_metrics
        && let Err(problem) = app.admit_administrator(peer.ip(), &headers).await
    {
        body::forget(request).await;
        return Err(problem);
    }
    // Prometheus names both formats, OpenMetrics with the greater weight.
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (media_type, page) = match accept.contains("application/openmetrics-text") {
        true => (OPEN_METRICS, app.rooms.metrics.open_metrics()),
        false => (PROMETHEUS, app.rooms.metrics.prometheus()),
    };
    Ok(([(CONTENT_TYPE, media_type), (CACHE_CONTROL, "no-store")], page).into_response())
}

/// Counts each request by the pattern of its route.
pub(super) async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let method: Method = request.method().clone();
    let is_head = method == Method::HEAD;
    let response = next.run(request).await;
    app.rooms.metrics.http().count(Counted {
        route: path.as_ref().map_or("none", MatchedPath::as_str),
        method: method.as_str(),
        status: response.status().as_u16(),
        duration: began.elapsed(),
        body: if is_head { 0 } else { response.body().size_hint().exact().unwrap_or(0) },
    });
    response
}
