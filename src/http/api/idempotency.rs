//! `Idempotency-Key` on POST (draft-ietf-httpapi-idempotency-key-header): who hears no answer may ask again.
//!
//! The same key with the same request gets the first answer again, whatever happened since; with another
//! request it is a 422. Answers are kept in memory, a bounded number for a bounded time, and not across
//! restarts. A 5xx is not kept: asking again tries again.

use crate::http::problem::Problem;
use crate::http::{App, body};
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The header.
pub(in crate::http) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is not the first of its kind.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(600);
/// How many requests are remembered.
const MOST: usize = 1000;
/// Larger answers are not kept; ours are smaller.
const ANSWER_LIMIT: usize = 64 * 1024;
const KEY_LENGTH: usize = 255;

type Digest = [u8; SHA256_OUTPUT_LEN];

/// The requests that came with a key.
#[derive(Default)]
pub(in crate::http) struct Idempotency(Mutex<HashMap<Digest, Entry>>);

/// One request, known by its path and key.
struct Entry {
    body: Digest,
    begun: Instant,
    /// `None` while it is being answered.
    answer: Option<Answer>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What is to be done with a request.
enum Verdict {
    First,
    Again(Box<Answer>),
}

/// Forgets a request whose handling was given up.
struct Claim<'a> {
    idempotency: &'a Idempotency,
    id: Digest,
    answer: Option<Answer>,
}

/// Answers a POST with a key from memory, or passes it on and keeps the answer.
pub(super) async fn layer(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let keys: Vec<_> = request.headers().get_all(IDEMPOTENCY_KEY).iter().collect();
    let key = match (request.method(), keys.as_slice()) {
        (&Method::POST, [key]) => parse(key)?,
        (&Method::POST, [_, ..]) => return Err(bad_key()),
        _ => return Ok(next.run(request).await),
    };
    let id = of(&[request.uri().path().as_bytes(), b"\0", key.as_bytes()]);
    let (parts, sent) = request.into_parts();
    let sent = body::bytes(sent, body::JSON_LIMIT).await?;
    let media_type = parts.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let fingerprint = of(&[media_type, b"\0", &sent]);
    match app.idempotency.begin(id, fingerprint, Instant::now())? {
        Verdict::Again(answer) => Ok(answer.again()),
        Verdict::First => {
            let mut claim = Claim { idempotency: &app.idempotency, id, answer: None };
            let response = next.run(Request::from_parts(parts, Body::from(sent))).await;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            if !head.status.is_server_error() && body.len() <= ANSWER_LIMIT {
                let (status, headers) = (head.status, head.headers.clone());
                claim.answer = Some(Answer { status, headers, body: body.clone() });
            }
            Ok(Response::from_parts(head, Body::from(body)))
        }
    }
}

impl Idempotency {
    fn begin(&self, id: Digest, body: Digest, now: Instant) -> Result<Verdict, Problem> {
        let mut entries = self.0.lock();
        if let Some(entry) = entries.get(&id).filter(|entry| !entry.is_over(now)) {
            return match &entry.answer {
                _ if entry.body != body => Err(reused()),
                None => Err(in_progress()),
                Some(answer) => Ok(Verdict::Again(Box::new(answer.clone()))),
            };
        }
        if entries.len() >= MOST {
            entries.retain(|_, entry| !entry.is_over(now));
        }
        if entries.len() >= MOST {
            let answered = entries.iter().filter(|(_, entry)| entry.answer.is_some());
            let oldest = answered.min_by_key(|(_, entry)| entry.begun).map(|(id, _)| *id);
            entries.remove(&oldest.ok_or_else(too_many)?);
        }
        entries.insert(id, Entry { body, begun: now, answer: None });
        Ok(Verdict::First)
    }

    /// Forgets what is kept no longer. Call it every few seconds.
    pub(in crate::http) fn sweep(&self, now: Instant) {
        let mut entries = self.0.lock();
        entries.retain(|_, entry| !entry.is_over(now));
        if entries.is_empty() {
            entries.shrink_to_fit();
        }
    }
}

impl Entry {
    /// A request that is being answered is never over.
    fn is_over(&self, now: Instant) -> bool {
        self.answer.is_some() && now.saturating_duration_since(self.begun) >= KEPT
    }
}

impl Answer {
    fn again(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut entries = self.idempotency.0.lock();
        match self.answer.take() {
            None => {
                entries.remove(&self.id);
            }
            Some(answer) => {
                if let Some(entry) = entries.get_mut(&self.id) {
                    entry.answer = Some(answer);
                }
            }
        }
    }
}

/// With or without the quotation marks of a structured field (RFC 9651 §3.3.3).
fn parse(value: &HeaderValue) -> Result<String, Problem> {
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let fits = (1..=KEY_LENGTH).contains(&key.len()) && key.chars().all(|c| c.is_ascii_graphic() && c != '"');
    if fits { Ok(key.to_owned()) } else { Err(bad_key()) }
}

fn of(parts: &[&[u8]]) -> Digest {
    let whole = digest(&SHA256, &parts.concat());
    whole.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn bad_key() -> Problem {
    let detail = format!("Idempotency-Key must be one text of 1 to {KEY_LENGTH} visible ASCII characters");
    Problem::bad_request("bad-idempotency-key", detail)
}

fn reused() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "this Idempotency-Key came with another body before; take a new key for a new request",
    )
}

fn in_progress() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "request-in-progress",
        "the first request with this Idempotency-Key is still being answered; try again in a moment",
    )
    .retry_after(1)
}

fn too_many() -> Problem {
    let detail = format!("{MOST} requests with an Idempotency-Key are being answered; try again in a moment");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-requests-in-progress", detail).retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Option<Answer> {
        Some(Answer { status: StatusCode::CREATED, headers: HeaderMap::new(), body: Bytes::new() })
    }

    fn status(verdict: Result<Verdict, Problem>) -> u16 {
        match verdict {
            Ok(Verdict::First) => 0,
            Ok(Verdict::Again(answer)) => answer.status.as_u16(),
            Err(problem) => problem.status().as_u16(),
        }
    }

    #[test]
    fn a_key_stands_for_one_request_and_its_answer() {
        let (idempotency, now) = (Idempotency::default(), Instant::now());
        let (id, body, other) = (of(&[b"id"]), of(&[b"body"]), of(&[b"other"]));
        assert_eq!(status(idempotency.begin(id, body, now)), 0);
        assert_eq!(status(idempotency.begin(id, body, now)), 409, "still being answered");
        drop(Claim { idempotency: &idempotency, id, answer: None });
        assert_eq!(status(idempotency.begin(id, body, now)), 0, "given up");
        drop(Claim { idempotency: &idempotency, id, answer: answer() });
        assert_eq!(status(idempotency.begin(id, body, now)), 201);
        assert_eq!(status(idempotency.begin(id, other, now)), 422);
        idempotency.sweep(now + KEPT);
        assert_eq!(status(idempotency.begin(id, other, now + KEPT)), 0, "forgotten");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (idempotency, now) = (Idempotency::default(), Instant::now());
        let body = of(&[b"body"]);
        let begin = |number: usize| idempotency.begin(of(&[&number.to_le_bytes()]), body, now);
        for number in 0..MOST {
            assert_eq!(status(begin(number)), 0);
        }
        assert_eq!(status(begin(MOST)), 503, "all of them are being answered");
        drop(Claim { idempotency: &idempotency, id: of(&[&5_usize.to_le_bytes()]), answer: answer() });
        assert_eq!(status(begin(MOST)), 0, "in place of the one that was answered");
        assert_eq!(idempotency.0.lock().len(), MOST);
    }

    #[test]
    fn keys_are_short_visible_texts() {
        let parsed = |text: &str| parse(&HeaderValue::from_str(text).expect("a value")).ok();
        assert_eq!(parsed("\"a-b\"").as_deref(), Some("a-b"));
        assert_eq!(parsed("a-b").as_deref(), Some("a-b"));
        assert!(
            [parsed(""), parsed("\"\""), parsed("a b"), parsed(&"x".repeat(256))] == [None, None, None, None]
        );
    }
}
