//! Playlists and media of HLS.
//!
//! Players ask far more often for these than for anything else, and thousands of them wait for the same
//! part. So a request whose path is plain is answered by the accept loop itself ([`Asked::read`],
//! [`answer`]), past the router and its layers; any other comes here through the router, to the same
//! answer. While a request is held, only what is needed of it is kept.

use super::problem::{self, Problem};
use super::range::Wanted;
use super::request::{Peer, StreamPath, parameter};
use super::{App, cors};
use crate::hls::{self, Cache, Served, Viewer};
use crate::media::StreamName;
use crate::metrics::Request as Counted;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, USER_AGENT, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use http_body_util::{Either, Full};
use hyper::body::Body as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Bytes that are there, or what a handler made.
pub(super) type Answer = Either<Full<Bytes>, Body>;

/// The last segment of the path.
struct FilePath(String);

/// A GET or HEAD of a stream's file: what is needed of the request.
pub(super) struct Asked {
    name: StreamName,
    /// Path and query, apart from the request: a slice of it would keep hyper's buffer of 8 KB from being used again.
    target: Box<str>,
    wants: Wants,
    is_head: bool,
    began: Instant,
}

/// What the headers say, and who says it.
struct Wants {
    gzip: bool,
    range: Wanted,
    viewer: Viewer,
}

/// The pattern of all its paths.
const ROUTE: &str = "/{stream}/{file}";

/// [`ROUTE`].
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(ROUTE, get(serve))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn(cors::media))
}

async fn serve(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    FilePath(file): FilePath,
    Peer(remote): Peer,
    uri: Uri,
    headers: HeaderMap,
) -> axum::response::Response {
    respond(&app, &name, &file, uri.query(), &Wants::read(&headers, remote)).await.map(Body::new)
}

impl Asked {
    /// `None`: it is something else, or its path is not plain, and the router's.
    pub(super) fn read<B>(request: &Request<B>, peer: SocketAddr) -> Option<Self> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let (stream, _) = plain(request.uri().path())?;
        let name = stream.parse().ok()?;
        Some(Self {
            name,
            target: request.uri().path_and_query()?.as_str().into(),
            wants: Wants::read(request.headers(), peer),
            is_head: *request.method() == Method::HEAD,
            began: Instant::now(),
        })
    }
}

/// The answer. That to HEAD tells the length of what GET would bring.
pub(super) async fn answer(app: &App, asked: Asked) -> Response<Answer> {
    let (path, query) = match asked.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*asked.target, None),
    };
    let (_, file) = plain(path).unwrap_or_default();
    let mut response = respond(app, &asked.name, file, query, &asked.wants).await;
    let headers = response.headers_mut();
    cors::open(headers);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    app.rooms.metrics.http().count(Counted {
        route: ROUTE,
        method: if asked.is_head { "HEAD" } else { "GET" },
        status: response.status().as_u16(),
        duration: asked.began.elapsed(),
        body: if asked.is_head { 0 } else { response.body().size_hint().exact().unwrap_or(0) },
    });
    if asked.is_head {
        *response.body_mut() = Either::Left(Full::default()); // hyper would send it over HTTP/2
    }
    response
}

impl Wants {
    fn read(headers: &HeaderMap, peer: SocketAddr) -> Self {
        let viewer = Viewer { address: peer.ip(), user_agent_hash: user_agent_hash(headers) };
        Self { gzip: accepts_gzip(headers), range: Wanted::read(headers), viewer }
    }
}

/// The stream and the file of a path that needs no decoding.
fn plain(path: &str) -> Option<(&str, &str)> {
    let (stream, file) = path.strip_prefix('/')?.split_once('/')?;
    let is_file = [".m3u8", ".m4s", ".mp4"].iter().any(|suffix| file.ends_with(suffix));
    (is_file && !file.contains(['/', '%'])).then_some((stream, file))
}

async fn respond(
    app: &App,
    name: &StreamName,
    file: &str,
    query: Option<&str>,
    wants: &Wants,
) -> Response<Answer> {
    let request = hls::Request { file, query, gzip: wants.gzip, viewer: wants.viewer };
    match app.rooms.hls.serve(name, request).await {
        Ok(served) => success(served, &wants.range).map(Either::Left),
        Err(error) => Problem::from(error).into_response().map(Either::Right),
    }
}

fn success(served: Served, wanted: &Wanted) -> Response<Full<Bytes>> {
    let Served { content_type, cache, gzipped, body } = served;
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, cache_control(cache));
    let (mut status, mut range) = (StatusCode::OK, 0..body.len());
    if cache == Cache::Immutable {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let length = body.len();
        match wanted.within(length) {
            // RFC 9110 §15.5.17
            None => {
                status = StatusCode::RANGE_NOT_SATISFIABLE;
                headers.insert(CONTENT_RANGE, text(format!("bytes */{length}")));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=1"));
                range = 0..0;
            }
            Some(_) if *wanted == Wanted::Whole => {}
            Some(part) => {
                status = StatusCode::PARTIAL_CONTENT;
                headers
                    .insert(CONTENT_RANGE, text(format!("bytes {}-{}/{length}", part.start, part.end - 1)));
                range = part;
            }
        }
    } else {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if gzipped {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.len()));
    let mut response = Response::new(Full::new(body.slice(range)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn cache_control(cache: Cache) -> HeaderValue {
    match cache {
        Cache::Immutable => HeaderValue::from_static("public, max-age=31536000, immutable"),
        Cache::Playlist { max_age } if max_age.as_secs() == 0 => HeaderValue::from_static("public, no-cache"),
        Cache::Playlist { max_age } => text(format!("public, max-age={}", max_age.as_secs())),
    }
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("digits and words are visible ASCII")
}

/// RFC 9110 §12.5.3. Without the header anything may be sent, but not everybody who sends none can read it.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for coding in values.flat_map(|value| value.split(',')) {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().trim_start_matches(['q', 'Q']).trim_start_matches([' ', '=']);
        let refused = weight.parse::<f32>() == Ok(0.0);
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => return !refused,
            "*" => any = !refused,
            _ => {}
        }
    }
    any
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
    use std::time::Duration;

    fn served(cache: Cache) -> Served {
        let body = Bytes::from_static(b"0123456789");
        Served { content_type: "video/mp4", cache, gzipped: false, body }
    }

    #[test]
    fn l17_media_is_kept_for_ever_and_playlists_shortly() {
        for (cache, header) in [
            (Cache::Immutable, "public, max-age=31536000, immutable"),
            (Cache::Playlist { max_age: Duration::from_secs(1) }, "public, max-age=1"),
            (Cache::Playlist { max_age: Duration::from_millis(500) }, "public, no-cache"),
        ] {
            let response = success(served(cache), &Wanted::Whole);
            let headers = response.headers();
            assert_eq!(headers[CACHE_CONTROL], header);
            assert_eq!(headers[CONTENT_TYPE], "video/mp4");
            assert_eq!(headers[CONTENT_LENGTH], "10");
            // One name, two forms: a cache must know.
            assert_eq!(headers.contains_key(VARY), cache != Cache::Immutable);
        }
    }

    #[test]
    fn media_is_sent_by_ranges() {
        let whole = success(served(Cache::Immutable), &Wanted::Whole);
        assert_eq!(whole.headers()[ACCEPT_RANGES], "bytes");
        let part = success(served(Cache::Immutable), &Wanted::From(2, Some(5)));
        assert_eq!(part.status(), 206);
        assert_eq!(
            (&part.headers()[CONTENT_RANGE], &part.headers()[CONTENT_LENGTH]),
            (&text("bytes 2-5/10".into()), &text("4".into()))
        );
        let beyond = success(served(Cache::Immutable), &Wanted::From(10, None));
        assert_eq!(beyond.status(), 416);
        assert_eq!(beyond.headers()[CONTENT_RANGE], "bytes */10");
        assert_eq!(beyond.headers()[CACHE_CONTROL], "public, max-age=1");
        // A playlist changes: a range of it means nothing.
        let playlist = Cache::Playlist { max_age: Duration::from_secs(1) };
        assert_eq!(success(served(playlist), &Wanted::Last(3)).status(), 200);
    }

    #[test]
    fn l15_who_accepts_gzip_gets_it() {
        for (value, accepted) in [
            (None, false),
            (Some("gzip"), true),
            (Some("deflate, GZIP;q=0.5, br"), true),
            (Some("br"), false),
            (Some("gzip;q=0"), false),
            (Some("gzip; q=0.000, *"), false),
            (Some("*"), true),
            (Some("identity, *;q=0"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(accepts_gzip(&headers), accepted, "{value:?}");
        }
    }

    #[test]
    fn only_plain_paths_go_past_the_router() {
        let plain = |path: &'static str| plain(Uri::from_static(path).path()).is_some();
        assert!(
            plain("/show/index.m3u8") && plain("/show/video_a_p1.m4s?x=/y%20") && plain("/a/b_init1.mp4")
        );
        for path in
            ["/", "/show", "/show/", "/show/whep", "/assets/js/x.m4s", "/a/%69ndex.m3u8", "/a/b/index.m3u8"]
        {
            assert!(!plain(path), "{path}");
        }
    }
}
