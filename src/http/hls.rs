//! Playlists and media of HLS.

use super::problem::{self, Problem};
use super::request::{Peer, StreamPath, parameter};
use super::{App, cors};
use crate::hls::{Cache, Served, Viewer};
use axum::Router;
use axum::extract::{FromRequestParts, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The last segment of the path.
struct FilePath(String);

/// `/{stream}/{file}`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/{stream}/{file}", get(serve))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn(cors::media))
}

async fn serve(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    FilePath(file): FilePath,
    Peer(remote): Peer,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let viewer = Viewer { address: remote.ip(), user_agent_hash: user_agent_hash(&headers) };
    let served = app.rooms.hls.serve(&name, &file, query.as_deref(), viewer).await?;
    Ok(response(served))
}

fn response(served: Served) -> Response {
    let cache = match served.cache {
        Cache::Immutable => "public, max-age=31536000, immutable".to_owned(),
        Cache::Playlist { max_age } if max_age.as_secs() == 0 => "public, no-cache".to_owned(),
        Cache::Playlist { max_age } => format!("public, max-age={}", max_age.as_secs()),
    };
    let headers: [(HeaderName, String); 2] =
        [(CONTENT_TYPE, served.content_type.to_owned()), (CACHE_CONTROL, cache)];
    (headers, served.body).into_response()
}

/// Tells players behind one address apart, without keeping what they said.
fn user_agent_hash(headers: &HeaderMap) -> u64 {
    let mut hasher = DefaultHasher::new();
    headers.get(USER_AGENT).map(|value| value.as_bytes()).hash(&mut hasher);
    hasher.finish()
}

impl<S: Send + Sync> FromRequestParts<S> for FilePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parameter(parts, state, "file").await.map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;

    #[test]
    fn l17_media_is_kept_for_ever_and_playlists_shortly() {
        for (cache, header) in [
            (Cache::Immutable, "public, max-age=31536000, immutable"),
            (Cache::Playlist { max_age: Duration::from_secs(1) }, "public, max-age=1"),
            (Cache::Playlist { max_age: Duration::from_millis(500) }, "public, no-cache"),
        ] {
            let served = Served { content_type: "video/mp4", cache, body: Bytes::from_static(b"x") };
            let response = response(served);
            assert_eq!(response.headers()[CACHE_CONTROL], header);
            assert_eq!(response.headers()[CONTENT_TYPE], "video/mp4");
        }
    }
}
