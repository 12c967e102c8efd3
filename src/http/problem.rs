//! The only mapping of errors to statuses: problem documents (RFC 9457).
//!
//! A client's fault is never a 5xx. Texts are bounded and hold no control characters, for parts of them
//! come from the client.

use crate::auth::KeyError;
use crate::declarations::DeclarationError;
use crate::hls::HlsError;
use crate::media::InvalidStreamName;
use crate::restream::TargetError;
use crate::webhooks::WebhookError;
use crate::webrtc::SessionError;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Longest detail, in characters.
const DETAIL_LIMIT: usize = 512;

/// An error response.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// A stable word for programs.
    code: &'static str,
    detail: String,
    retry_after: Option<u32>,
    challenge: Option<&'static str>,
    cache: &'static str,
}

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    /// Always `about:blank`: `code` tells problems apart.
    r#type: &'static str,
    /// What the status means.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What was wrong, and what to change.
    detail: &'a str,
    /// A stable word for programs.
    code: &'a str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl AsRef<str>) -> Self {
        let clean = detail.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c });
        let detail = clean.take(DETAIL_LIMIT).collect();
        Self { status, code, detail, retry_after: None, challenge: None, cache: "no-store" }
    }

    /// The status.
    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// 400.
    pub(super) fn bad_request(code: &'static str, detail: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401, with the challenge of RFC 6750 §3; `shown`: a token was shown, but a wrong one.
    pub(super) fn unauthorized(shown: bool) -> Self {
        let mut problem = Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "this needs the right token, as \"Authorization: Bearer <token>\"",
        );
        problem.challenge = Some(match shown {
            true => "Bearer realm=\"tidegate\", error=\"invalid_token\"",
            false => "Bearer realm=\"tidegate\"",
        });
        problem
    }

    /// 403: a good token, but for something else.
    pub(super) fn forbidden() -> Self {
        let mut problem = Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this token is for something else: the API takes admin tokens, publishing the publish key or the stream's own",
        );
        problem.challenge = Some("Bearer realm=\"tidegate\", error=\"insufficient_scope\"");
        problem
    }

    /// 404.
    pub(super) fn not_found(detail: impl AsRef<str>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 422 for the field `name` of a body.
    pub(super) fn unfit_name(error: InvalidStreamName) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-field", format!("field \"name\": {error}"))
    }

    /// 404 for a stream that is neither live nor declared.
    pub(super) fn unknown_stream(name: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown-stream",
            format!("there is no stream {name}, live or declared"),
        )
    }

    /// 415.
    pub(super) fn media_type(wanted: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            format!("the body must be sent as \"Content-Type: {wanted}\""),
        )
    }

    /// 500: a fault of ours, whose cause goes to the log.
    pub(super) fn internal(what: &'static str, cause: &str) -> Self {
        internal(what, cause)
    }

    /// 503 while the gateway shuts down.
    pub(super) fn closing() -> Self {
        Self::from(SessionError::Closing)
    }

    /// Says when to try again, in seconds.
    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Caches keep it for a second, as errors about media that is not there yet may be kept.
    pub(super) fn cached_briefly(mut self) -> Self {
        self.cache = "public, max-age=1";
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            // RFC 9457 §4.2.1: the title is that of the status.
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(self.cache));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        use KeyError as E;
        let detail = error.to_string();
        let of = |status, code| Self::new(status, code, &detail);
        match error {
            E::Unknown => of(StatusCode::NOT_FOUND, "unknown-key"),
            E::TooMany(_) => of(StatusCode::CONFLICT, "too-many-keys"),
            E::NameTooLong | E::AlreadyExpired => of(StatusCode::UNPROCESSABLE_ENTITY, "bad-field"),
            E::Random(_) | E::Store(_) => internal("keys", &detail),
        }
    }
}

impl From<DeclarationError> for Problem {
    fn from(error: DeclarationError) -> Self {
        use DeclarationError as E;
        let detail = error.to_string();
        let of = |status, code| Self::new(status, code, &detail);
        match error {
            E::Exists(_) => of(StatusCode::CONFLICT, "stream-exists"),
            E::Unknown(_) => of(StatusCode::NOT_FOUND, "undeclared-stream"),
            E::TooMany => of(StatusCode::CONFLICT, "too-many-streams"),
            E::TitleTooLong | E::GraceTooLong(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "bad-field"),
            E::Store(_) => internal("store", &detail),
        }
    }
}

impl From<InvalidStreamName> for Problem {
    fn from(error: InvalidStreamName) -> Self {
        Self::bad_request("invalid-stream-name", error.to_string())
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        use SessionError as E;
        let detail = error.to_string();
        let of = |status, code| Self::new(status, code, &detail);
        match error {
            E::MalformedOffer(_) => of(StatusCode::BAD_REQUEST, "malformed-offer"),
            E::UnacceptableOffer(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "unacceptable-offer"),
            E::NoCommonCodec { .. } => of(StatusCode::UNPROCESSABLE_ENTITY, "no-common-codec"),
            E::BFrames(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "b-frames"),
            // A publisher that falls silent loses its name after 2 s.
            E::StreamTaken(_) => of(StatusCode::CONFLICT, "stream-taken").retry_after(2),
            E::NotLive(_) => of(StatusCode::CONFLICT, "stream-not-live").retry_after(2),
            E::UnknownStream(_) => of(StatusCode::NOT_FOUND, "unknown-stream"),
            E::UnknownSession => of(StatusCode::NOT_FOUND, "unknown-session"),
            E::MalformedFragment(_) => of(StatusCode::BAD_REQUEST, "malformed-fragment"),
            E::StaleEntityTag => of(StatusCode::PRECONDITION_FAILED, "stale-entity-tag"),
            E::UnknownLayer { .. } => of(StatusCode::UNPROCESSABLE_ENTITY, "unknown-layer"),
            E::Overloaded => of(StatusCode::SERVICE_UNAVAILABLE, "overloaded").retry_after(2),
            E::Closing => of(StatusCode::SERVICE_UNAVAILABLE, "closing").retry_after(5),
            E::Internal(_) => internal("session", &detail),
        }
    }
}

impl From<HlsError> for Problem {
    fn from(error: HlsError) -> Self {
        use HlsError as E;
        let detail = error.to_string();
        let of = |status, code| Self::new(status, code, &detail).cached_briefly();
        match error {
            E::UnknownStream(_) => of(StatusCode::NOT_FOUND, "unknown-stream"),
            // Players try a missing playlist again, but give up at a 5xx.
            E::NotReady(_) => of(StatusCode::NOT_FOUND, "not-ready").retry_after(1),
            E::UnknownFile(_) => of(StatusCode::NOT_FOUND, "unknown-file"),
            // Whoever asks too early must not keep those from it who ask in time.
            E::NotYet(_) => Self::new(StatusCode::NOT_FOUND, "not-yet", &detail),
            // RFC 8216bis §6.2.5.2: a directive that can't be honoured is 400.
            E::BadDirective { .. } => of(StatusCode::BAD_REQUEST, "bad-directive"),
            E::TooFarAhead { .. } => of(StatusCode::BAD_REQUEST, "too-far-ahead"),
            // RFC 8216bis §6.2.5.2: blocked for three target durations.
            E::TimedOut => of(StatusCode::SERVICE_UNAVAILABLE, "timed-out").retry_after(1),
        }
    }
}

impl From<TargetError> for Problem {
    fn from(error: TargetError) -> Self {
        use TargetError as E;
        let detail = error.to_string();
        let of = |status, code| Self::new(status, code, &detail);
        match error {
            E::BadUrl(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "bad-url"),
            E::TooMany { .. } => of(StatusCode::CONFLICT, "too-many-targets"),
            E::NameTooLong => of(StatusCode::UNPROCESSABLE_ENTITY, "name-too-long"),
            E::BadAudioBitrate(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "bad-field"),
            E::Unknown => of(StatusCode::NOT_FOUND, "unknown-target"),
            E::Changed => of(StatusCode::PRECONDITION_FAILED, "stale-entity-tag"),
            E::Store(_) => internal("store", &detail),
            E::Closing => of(StatusCode::SERVICE_UNAVAILABLE, "closing").retry_after(5),
        }
    }
}

impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Self {
        use WebhookError as E;
        let detail = error.to_string();
        let of = |status, code| Self::new(status, code, &detail);
        match error {
            E::BadUrl(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "bad-url"),
            E::NotAllowed(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "not-allowed"),
            E::BadSecret(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "bad-secret"),
            E::BadFilter(_) | E::TooManyNames => of(StatusCode::UNPROCESSABLE_ENTITY, "bad-filter"),
            E::TooMany(_) => of(StatusCode::CONFLICT, "too-many-webhooks"),
            E::Unknown => of(StatusCode::NOT_FOUND, "unknown-webhook"),
            E::UnknownDelivery => of(StatusCode::NOT_FOUND, "unknown-delivery"),
            E::Store(_) => internal("store", &detail),
            E::Closing => of(StatusCode::SERVICE_UNAVAILABLE, "closing").retry_after(5),
        }
    }
}

/// A fault of ours: the cause goes to the log, not to the client.
fn internal(what: &'static str, cause: &str) -> Problem {
    tracing::error!(what, cause, "A request failed.");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "something went wrong here; the log says what",
    )
}

/// For a method that a resource does not know; the router adds `Allow`.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "this resource does not know the method; Allow lists those it knows",
    )
}

/// For a handler that panicked: `cause` as the runtime gives it.
pub(super) fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text =
        cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    internal("panic", text.unwrap_or("unknown")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn demo() -> crate::media::StreamName {
        "demo".parse().expect("a name")
    }

    fn mapped(problem: impl Into<Problem>) -> (u16, bool) {
        let response = problem.into().into_response();
        (response.status().as_u16(), response.headers().contains_key(RETRY_AFTER))
    }

    #[test]
    fn session_errors_have_the_statuses_of_whip_and_whep() {
        use SessionError as E;
        assert_eq!(mapped(E::MalformedOffer("x".into())), (400, false), "W02");
        assert_eq!(mapped(E::UnacceptableOffer("x".into())), (422, false), "W05, W12");
        assert_eq!(mapped(E::StreamTaken(demo())), (409, true), "W22, REL-03");
        assert_eq!(mapped(E::NotLive(demo())), (409, true), "E03");
        assert_eq!(mapped(E::UnknownStream(demo())), (404, false), "E03");
        assert_eq!(mapped(E::UnknownSession), (404, false), "W39");
        assert_eq!(mapped(E::MalformedFragment("x".into())), (400, false), "W30");
        assert_eq!(mapped(E::StaleEntityTag), (412, false), "W33");
        assert_eq!(mapped(E::Overloaded), (503, true), "W18");
        assert_eq!(mapped(E::Closing), (503, true), "REL-09");
        assert_eq!(mapped(E::Internal("x".into())), (500, false));
    }

    #[test]
    fn hls_errors_are_cached_for_a_second() {
        for (error, status) in [
            (HlsError::UnknownStream(demo()), 404),
            (HlsError::NotReady(demo()), 404),
            (HlsError::UnknownFile("x".into()), 404),
            (HlsError::TimedOut, 503),
        ] {
            let response = Problem::from(error).into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=1", "L17");
        }
        let early = Problem::from(HlsError::NotYet("x".into())).into_response();
        assert_eq!(early.status().as_u16(), 404);
        assert_eq!(early.headers()[CACHE_CONTROL], "no-store", "L17");
    }

    #[tokio::test]
    async fn a_problem_is_a_document_of_rfc_9457() {
        let long = format!("line\r\nbreak {}", "x".repeat(2000));
        let response = Problem::bad_request("malformed-offer", long).into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(document["status"], 400);
        assert_eq!(document["title"], "Bad Request");
        assert_eq!(document["type"], "about:blank");
        let detail = document["detail"].as_str().expect("a detail");
        assert!(detail.starts_with("line  break x") && detail.len() == DETAIL_LIMIT);
    }

    #[tokio::test]
    async fn an_internal_cause_is_not_shown() {
        let response = Problem::from(SessionError::Internal("canary".into())).into_response();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("canary"));
    }
}
