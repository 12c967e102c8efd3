//! All routes together, and what holds for every answer.

use super::problem::{self, Problem};
use super::{App, api, hls, live, metrics, pages, sessions};
use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

type Compressible = fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool;

/// The whole site.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(pages::routes())
        .merge(sessions::routes(&app))
        .merge(hls::routes())
        .merge(live::routes())
        .merge(metrics::routes())
        .merge(api::routes(&app))
        .route("/healthz", get(|| async { ([(CACHE_CONTROL, "no-store")], "ok\n") }))
        .route("/readyz", get(ready))
        .fallback(|| async { Problem::not_found("there is nothing here") })
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(compression())
        .layer(SetResponseHeaderLayer::if_not_present(
            X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::count))
        .with_state(app)
}

/// Level 1: pages are wanted at once.
fn compression() -> CompressionLayer<Compressible> {
    CompressionLayer::new()
        .gzip(true)
        .quality(CompressionLevel::Fastest)
        .compress_when(is_compressible as Compressible)
}

/// 503 from the moment of shutdown on, so that a load balancer sends nobody new.
async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    match app.closing.is_cancelled() {
        true => Err(Problem::closing()),
        false => Ok(([(CACHE_CONTROL, "no-store")], "ready\n")),
    }
}

/// Page assets. Playlists come compressed, media is by nature, and the API's answers are small.
fn is_compressible(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    matches!(essence, "text/html" | "text/css" | "text/javascript" | "image/svg+xml")
}

#[cfg(test)]
mod tests;
