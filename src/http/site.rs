//! Whose a request is: a plain one for HLS is answered at once, any other is the router's.

use super::App;
use super::hls::{self, Answer, Asked};
use super::request::{Hangup, Peer};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::future;
use http_body_util::Either;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tower::ServiceExt;

/// All that is served. Cheap to clone.
#[derive(Clone)]
pub(super) struct Site {
    app: Arc<App>,
    router: Router,
    /// Of the connection that it serves.
    hangup: Hangup,
}

impl Site {
    pub(super) fn new(app: Arc<App>, router: Router) -> Self {
        Self { app, router, hangup: Hangup::default() }
    }

    /// For a connection that `hangup` ends.
    pub(super) fn of_connection(self, hangup: Hangup) -> Self {
        Self { hangup, ..self }
    }

    /// The answer to a request from `peer`. A held request of HLS is a small future: nothing of the
    /// router is in it, and nothing of the request but its path.
    pub(super) fn answer(
        &self,
        peer: SocketAddr,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> + Send + use<> {
        let client = self.app.proxies.client(peer, request.headers());
        match Asked::read(&request, client) {
            Some(asked) => {
                let app = self.app.clone();
                future::Either::Left(async move { Ok(hls::answer(&app, asked).await) })
            }
            None => {
                request.extensions_mut().insert(Peer(client));
                request.extensions_mut().insert(self.hangup.clone());
                let answering = self.router.clone().oneshot(request.map(Body::new));
                future::Either::Right(Box::pin(async move {
                    answering.await.map(|answer| answer.map(Either::Right))
                }))
            }
        }
    }
}
