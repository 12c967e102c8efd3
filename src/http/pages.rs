//! The embedded pages and their assets.

use super::App;
use super::problem::Problem;
use super::request::{StreamPath, parameter};
use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::fmt::Write;
use std::sync::Arc;

/// Pages, styles and modules of ours.
#[derive(RustEmbed)]
#[folder = "static/"]
#[allow_missing = true]
struct Static;

/// The player library, from npm at build time. The full build: the light one knows no audio renditions.
#[derive(RustEmbed)]
#[folder = "node_modules/hls.js/dist/"]
#[include = "hls.min.mjs"]
#[allow_missing = true]
struct HlsJs;

/// Only what this server serves is loaded; players make their media and workers from blobs.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob: mediastream:; \
    worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'";
const FEATURES: &str = "camera=(self), microphone=(self), display-capture=(self)";
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// Which pages other sites may show in a frame.
#[derive(Clone, Copy)]
enum Framing {
    /// The watch page: players are embedded.
    Anyone,
    /// The other pages.
    Ourselves,
}

/// What follows `/assets/`.
struct AssetPath(String);

/// `/`, `/{stream}`, `/{stream}/publish` and `/assets/…`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { page("index.html", Framing::Ourselves, &headers) }))
        .route("/api", get(|headers: HeaderMap| async move { page("api.html", Framing::Ourselves, &headers) }))
        .route(
            "/{stream}",
            get(|_: StreamPath, headers: HeaderMap| async move { page("watch.html", Framing::Anyone, &headers) }),
        )
        .route(
            "/{stream}/publish",
            get(|_: StreamPath, headers: HeaderMap| async move {
                page("publish.html", Framing::Ourselves, &headers)
            }),
        )
        // The name was checked, so this leads to no other host.
        .route("/{stream}/", get(|StreamPath(name)| async move { Redirect::permanent(&format!("/{name}")) }))
        .route("/assets/{*path}", get(asset))
        .route("/favicon.ico", get(favicon))
        .route("/robots.txt", get(|| async { "User-agent: *\nDisallow: /api/\n" }))
}

async fn asset(AssetPath(path): AssetPath, headers: HeaderMap) -> Result<Response, Problem> {
    // hls.js has one name, whatever the file in its package is called.
    let file = if path == "hls.js" { HlsJs::get("hls.min.mjs") } else { Static::get(&path) };
    // Pages have their own addresses and their own headers.
    let file = file.filter(|_| !path.ends_with(".html"));
    let file = file.ok_or_else(|| Problem::not_found("there is no such asset"))?;
    Ok(embedded(file, media_type(&path), &headers))
}

async fn favicon(headers: HeaderMap) -> Response {
    match Static::get("favicon.svg") {
        Some(file) => embedded(file, "image/svg+xml", &headers),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

fn page(file: &'static str, framing: Framing, request: &HeaderMap) -> Result<Response, Problem> {
    let found = Static::get(file).ok_or_else(|| Problem::not_found("this build holds no pages"))?;
    let mut response = embedded(found, "text/html; charset=utf-8", request);
    let ancestors = match framing {
        Framing::Anyone => "*",
        Framing::Ourselves => "'self'",
    };
    let policy = format!("{POLICY}; frame-ancestors {ancestors}");
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_str(&policy).expect("the policy is made of visible ASCII"),
    );
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(PERMISSIONS_POLICY, HeaderValue::from_static(FEATURES));
    Ok(response)
}

/// Caches ask each time; unless the file has changed, the answer has no body.
fn embedded(file: EmbeddedFile, media_type: &'static str, request: &HeaderMap) -> Response {
    // Weak: the same tag for the compressed form.
    let mut tag = String::from("W/\"");
    for byte in &file.metadata.sha256_hash()[..12] {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    let known = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let fresh = known.is_some_and(|known| known.split(',').any(|candidate| candidate.trim() == tag));
    let headers =
        [(ETAG, tag), (CACHE_CONTROL, "no-cache".to_owned()), (CONTENT_TYPE, media_type.to_owned())];
    if fresh {
        return (StatusCode::NOT_MODIFIED, headers, Body::empty()).into_response();
    }
    (headers, Body::from(file.data)).into_response()
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" | "map" | "webmanifest" => "application/json",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AssetPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parameter(parts, state, "path").await.map(Self)
    }
}
