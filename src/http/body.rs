//! Reading request bodies within bounds of size and time.

use super::problem::Problem;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A session description or a fragment of one.
pub(super) const SDP_LIMIT: usize = 64 * 1024;
/// A body of the API.
pub(super) const JSON_LIMIT: usize = 16 * 1024;
/// Read beyond a limit before the connection is given up.
const FORGOTTEN: usize = 4 * 1024 * 1024;
/// For a body that nobody wants.
const FORGET_TIMEOUT: Duration = Duration::from_secs(1);
/// From the first byte to the last.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The body as text of at most `limit` bytes, if it is of the type `media_type` (parameters don't matter).
pub(super) async fn text(request: Request<Body>, media_type: &str, limit: usize) -> Result<String, Problem> {
    text_as(request, &[media_type], limit).await
}

/// As [`text`], of one of several types.
async fn text_as(request: Request<Body>, media_types: &[&str], limit: usize) -> Result<String, Problem> {
    if !media_types.iter().any(|media_type| is_of_type(request.headers(), media_type)) {
        forget(request).await;
        return Err(Problem::media_type(&media_types.join("\" or \"")));
    }
    let bytes = bytes(request.into_body(), limit).await?;
    String::from_utf8(bytes).map_err(|_| Problem::bad_request("not-utf8", "the body is not UTF-8 text"))
}

/// At most `limit` bytes of a body, whatever they are.
pub(super) async fn bytes(body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let reading = tokio::time::timeout(READ_TIMEOUT, read(body, limit, FORGOTTEN));
    reading.await.map_err(|_| too_slow())?
}

/// The body as JSON. The error names the field, what was wrong and what would be right.
pub(super) async fn json<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Problem> {
    json_as(request, &["application/json"]).await
}

/// As [`json`], sent as one of several media types.
pub(super) async fn json_as<T: DeserializeOwned>(
    request: Request<Body>,
    media_types: &[&str],
) -> Result<T, Problem> {
    let text = text_as(request, media_types, JSON_LIMIT).await?;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        if error.is_data() {
            let place = if field == "." { "the body".to_owned() } else { format!("field {field:?}") };
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-field", format!("{place}: {error}"))
        } else {
            Problem::bad_request("malformed-json", format!("the body is not JSON: {error}"))
        }
    })?;
    let end = deserializer.end();
    end.map_err(|error| Problem::bad_request("malformed-json", format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// The body as JSON, or the default if there is no body.
pub(super) async fn json_or_default<T: DeserializeOwned + Default>(
    request: Request<Body>,
) -> Result<T, Problem> {
    if hyper::body::Body::is_end_stream(request.body()) { Ok(T::default()) } else { json(request).await }
}

/// Reads a body that nobody wants, within narrow bounds: a client that is still sending when the connection
/// closes would lose the answer that tells it why it is refused.
pub(super) async fn forget(request: Request<Body>) {
    let _ = tokio::time::timeout(FORGET_TIMEOUT, read(request.into_body(), 0, SDP_LIMIT)).await;
}

/// At most `limit` bytes. Of a longer body up to `beyond_limit` bytes more are read and forgotten.
async fn read(mut body: Body, limit: usize, beyond_limit: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut beyond = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::bad_request("broken-body", format!("the body did not arrive whole: {error}"))
        })?;
        let Ok(chunk) = frame.into_data() else { continue };
        if beyond == 0 && bytes.len() + chunk.len() <= limit {
            bytes.extend_from_slice(&chunk);
            continue;
        }
        beyond += chunk.len();
        if beyond > beyond_limit {
            break;
        }
    }
    if beyond == 0 { Ok(bytes) } else { Err(too_large(limit)) }
}

fn is_of_type(headers: &HeaderMap, media_type: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media_type))
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body may have at most {limit} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
}

fn too_slow() -> Problem {
    let detail = format!("the body must arrive within {} s", READ_TIMEOUT.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use serde::Deserialize;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Sample {
        url: String,
        count: Option<u8>,
    }

    fn request(media_type: &str, body: impl Into<Body>) -> Request<Body> {
        Request::post("/").header(CONTENT_TYPE, media_type).body(body.into()).expect("a request")
    }

    async fn fault(body: &'static str) -> (u16, String) {
        let problem = json::<Sample>(request("application/json", body)).await.expect_err("a fault");
        (problem.status().as_u16(), format!("{problem:?}"))
    }

    #[tokio::test]
    async fn w01_only_the_wanted_type_is_read() {
        for (media_type, fits) in [
            ("application/sdp", true),
            ("Application/SDP; charset=utf-8", true),
            ("application/sdpx", false),
            ("text/plain", false),
            ("", false),
        ] {
            let result = text(request(media_type, "v=0"), "application/sdp", SDP_LIMIT).await;
            assert_eq!(
                result.map_err(|problem| problem.status().as_u16()).err(),
                (!fits).then_some(415),
                "{media_type}"
            );
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused() {
        let exact =
            text(request("application/sdp", "x".repeat(SDP_LIMIT)), "application/sdp", SDP_LIMIT).await;
        assert_eq!(exact.expect("at the limit").len(), SDP_LIMIT);
        let beyond =
            text(request("application/sdp", "x".repeat(SDP_LIMIT + 1)), "application/sdp", SDP_LIMIT).await;
        assert_eq!(beyond.expect_err("beyond").status().as_u16(), 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let result = text(request("application/sdp", Body::new(Never)), "application/sdp", SDP_LIMIT).await;
        assert_eq!(result.expect_err("slow").status().as_u16(), 408);
    }

    #[tokio::test]
    async fn json_errors_name_the_field_and_what_would_be_right() {
        let (status, text) = fault(r#"{"url": 5}"#).await;
        assert!(status == 422 && text.contains("url") && text.contains("expected a string"), "{text}");
        let (status, text) = fault(r#"{"url": "x", "count": 300}"#).await;
        assert!(status == 422 && text.contains("count") && text.contains("expected u8"), "{text}");
        let (status, text) = fault(r#"{"url": "x", "nmae": ""}"#).await;
        assert!(status == 422 && text.contains("nmae") && text.contains("`count`"), "{text}");
        let (status, text) = fault("{}").await;
        assert!(status == 422 && text.contains("missing field `url`"), "{text}");
        assert_eq!(fault(r#"{"url": "x""#).await.0, 400);
        assert_eq!(fault(r#"{"url": "x"} x"#).await.0, 400);
    }

    struct Never;

    impl hyper::body::Body for Never {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }
}
