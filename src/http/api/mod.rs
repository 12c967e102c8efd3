//! The API, `/api/v1`: always with the admin token, JSON in camelCase, lists in pages.

mod events;
mod list;
mod streams;
mod targets;

pub(super) use events::EventReaders;

use super::problem::{self, Problem};
use super::request::Peer;
use super::{App, body};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::{self, Next};
use axum::response::Response;
use std::sync::Arc;

/// All resources of the API, below `/api/v1`.
pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let resources = streams::routes().merge(targets::routes()).merge(events::routes());
    // The token is asked for before anything else, so that nothing can be probed without it.
    let guarded = resources
        .fallback(|| async { Problem::not_found("the API has no such resource") })
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), guard));
    Router::new().nest("/api/v1", guarded)
}

async fn guard(
    State(app): State<Arc<App>>,
    Peer(peer): Peer,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Err(problem) = app.admit_administrator(peer.ip(), request.headers()).await {
        body::forget(request).await;
        return Err(problem);
    }
    let mut response = next.run(request).await;
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    Ok(response)
}
