//! The API, `/api/v1`: always with an admin token, JSON in camelCase, lists in pages.
//!
//! A resource has a file; its routes carry their description (`#[utoipa::path]`), from which `description`
//! makes the OpenAPI document. What resources share: `list` cuts pages, `merge_patch` reads PATCHes,
//! `entity_tag` guards them by `If-Match`, `idempotency` makes POSTs safe to repeat.

mod description;
mod entity_tag;
mod events;
mod idempotency;
mod info;
mod keys;
mod list;
mod merge_patch;
mod sessions;
mod stream_view;
mod streams;
mod targets;
mod webhooks;

pub(super) use events::EventReaders;
pub(super) use idempotency::Idempotency;
pub use info::About;

use super::problem::{self, Problem};
use super::request::Peer;
use super::{App, body};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

/// All resources of the API, below `/api/v1`.
pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let resources = OpenApiRouter::with_openapi(description::begin());
    let resources = resources
        .merge(streams::routes())
        .merge(targets::routes())
        .merge(keys::routes())
        .merge(sessions::routes())
        .merge(info::routes())
        .merge(events::routes())
        .merge(webhooks::routes());
    let (resources, described) = resources.split_for_parts();
    let description = description::Description::of(described);
    // The token is asked for before anything else, so that nothing can be probed without it.
    let guarded = resources
        .fallback(|| async { Problem::not_found("the API has no such resource") })
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), idempotency::layer))
        .layer(middleware::from_fn_with_state(app.clone(), guard));
    Router::new()
        .nest("/api/v1", guarded)
        // No secret: a client may read it before it has a token.
        .route("/api/v1/openapi.json", get(move || async move { description.answer() }))
        .method_not_allowed_fallback(problem::method_not_allowed)
}

async fn guard(
    State(app): State<Arc<App>>,
    Peer(peer): Peer,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let admitted = match app.is_ours(&request) {
        true => app.admit_administrator(peer.ip(), request.headers()).await,
        false => Err(misdirected()),
    };
    if let Err(problem) = admitted {
        body::forget(request).await;
        return Err(problem);
    }
    let mut response = next.run(request).await;
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    Ok(response)
}

impl App {
    /// Whether a request came to a name that the operator listed; without a list any name will do, for a foreign
    /// page has no token to send, whatever name it makes lead here.
    fn is_ours(&self, request: &Request) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        let authority = request.uri().authority().map(Authority::as_str);
        let host = authority.or_else(|| request.headers().get(HOST)?.to_str().ok()).unwrap_or_default();
        // Without the port; an IPv6 address is in brackets.
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => name,
            _ => host,
        };
        hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// RFC 9110 §15.5.20.
fn misdirected() -> Problem {
    let detail = "the API is served under the names in http.hosts only; this is none of them";
    Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown-host", detail)
}
