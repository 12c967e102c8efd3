//! One connection: HTTP/1.1, or HTTP/2 by prior knowledge (RFC 9113 §3.3), within bounds of time and size.
//!
//! Who says nothing, or says it too slowly, is closed; a request that is being answered may take its time, up to
//! the last byte of the answer.

use super::hls::Answer;
use super::request::Hangup;
use super::site::Site;
use crate::admission::Place;
use axum::http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

const FIRST_BYTE: Duration = Duration::from_secs(5);
/// For the headers of one request, and for the pause between two.
const HEADERS: Duration = Duration::from_secs(10);
pub(super) const HEADER_COUNT: usize = 100;
pub(super) const HEADER_BYTES: usize = 32 * 1024;
/// Requests of one HTTP/2 connection that are answered at a time.
const STREAMS: u32 = 128;
/// An HTTP/2 client from which nothing is heard is asked whether it is there …
const PING_AFTER: Duration = Duration::from_secs(20);
/// … and has so long for the answer.
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// What the preface of HTTP/2 begins with, and no method does.
const PREFACE: &[u8] = b"PRI";

/// An accepted connection.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) site: Site,
    pub(super) place: Place,
}

impl Connection {
    /// Answers its requests until it ends. On `cancel`, those that are being answered are the last.
    pub(super) async fn serve(self, watcher: Watcher, cancel: CancellationToken) {
        let Self { stream, peer, site, place: _place } = self;
        let hangup = Hangup::default();
        let site = site.of_connection(hangup.clone());
        // Small answers (a playlist, a part) should leave at once.
        let _ = stream.set_nodelay(true);
        let mut first = [0; PREFACE.len()];
        let spoke = tokio::select! {
            () = cancel.cancelled() => return,
            peeked = timeout(FIRST_BYTE, stream.peek(&mut first)) => peeked,
        };
        let Ok(Ok(1..)) = spoke else { return };
        let io = TokioIo::new(stream);
        let served = async {
            match first == PREFACE {
                // Boxed, so that connections of HTTP/1.1, thousands of which wait for a part, are no larger for it.
                true => Box::pin(serve_http2(io, peer, site, cancel, watcher)).await,
                false => serve_http1(io, peer, site, watcher).await,
            }
        };
        tokio::select! {
            () = served => {}
            () = hangup.hung_up() => {}
        }
    }
}

async fn serve_http1(io: TokioIo<TcpStream>, peer: SocketAddr, site: Site, watcher: Watcher) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_headers(HEADER_COUNT)
        .max_header_size(HEADER_BYTES)
        .serve_connection(io, service_fn(move |request| site.answer(peer, request)));
    if let Err(error) = watcher.watch(connection).await {
        debug!(%peer, %error, "HTTP connection failed.");
    }
}

/// `_watcher`: the server waits until it is dropped.
async fn serve_http2(
    io: TokioIo<TcpStream>,
    peer: SocketAddr,
    site: Site,
    cancel: CancellationToken,
    _watcher: Watcher,
) {
    let activity = Arc::new(Activity::default());
    let service = service_fn({
        let activity = activity.clone();
        move |request: Request<Incoming>| answer_counted(activity.clone(), site.answer(peer, request))
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES as u32)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PONG_WITHIN)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let mut patience = HEADERS;
    let told = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
            () = sleep(patience) => match activity.idle(Instant::now()) {
                // hyper has no timeout for headers here: a client with no whole request is told to leave,
                // and has as long again to read what it asked for before.
                None => {
                    connection.as_mut().graceful_shutdown();
                    match timeout(HEADERS, connection.as_mut()).await {
                        Ok(ended) => break ended,
                        Err(_) => return,
                    }
                }
                Some(left) => patience = left,
            },
        }
    };
    if let Err(error) = told {
        debug!(%peer, %error, "HTTP/2 connection failed.");
    }
}

async fn answer_counted(
    activity: Arc<Activity>,
    answer: impl Future<Output = Result<Response<Answer>, Infallible>>,
) -> Result<Response<Answered>, Infallible> {
    let request = activity.enter();
    let answer = answer.await?;
    Ok(answer.map(|body| Answered { body, _request: request }))
}

/// The body of an answer, until the last of which its request is not over.
struct Answered {
    body: Answer,
    _request: Answering,
}

impl Body for Answered {
    type Data = <Answer as Body>::Data;
    type Error = <Answer as Body>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The requests of one connection that are being answered, and when that was last so.
struct Activity(Mutex<(usize, Instant)>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }
}

impl Activity {
    fn enter(self: &Arc<Self>) -> Answering {
        self.0.lock().0 += 1;
        Answering(self.clone())
    }

    /// How long it may still be without a request; `None`: not any longer.
    fn idle(&self, now: Instant) -> Option<Duration> {
        let (answering, since) = *self.0.lock();
        if answering > 0 {
            return Some(HEADERS);
        }
        HEADERS.checked_sub(now.saturating_duration_since(since)).filter(|left| !left.is_zero())
    }
}

struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut requests = self.0.0.lock();
        *requests = (requests.0 - 1, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_lasts_as_long_as_its_answer() {
        let activity = Arc::new(Activity::default());
        let later = Instant::now() + 3 * HEADERS;
        assert_eq!(activity.idle(later), None, "nobody has asked");
        let answer = async { Ok(Response::new(Answer::Right(axum::body::Body::from("some words")))) };
        let mut answer = answer_counted(activity.clone(), answer).await.expect("it can't fail");
        assert_eq!(activity.idle(later), Some(HEADERS), "the headers are made, the body is not sent");
        let words = pin!(http_body_util::BodyExt::frame(answer.body_mut())).await;
        assert!(words.is_some() && activity.idle(later).is_some());
        drop(answer);
        assert_eq!(activity.idle(later), None);
        assert!(activity.idle(Instant::now()).is_some(), "it may ask again");
    }
}
