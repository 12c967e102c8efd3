//! What handlers take from a request: the stream's name, the client's address.

use super::problem::Problem;
use crate::media::StreamName;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::Method;
use axum::http::request::Parts;
use std::net::{IpAddr, SocketAddr};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

/// The stream that the path names.
pub(super) struct StreamPath(pub(super) StreamName);

/// How [`StreamPath`] is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // it describes, and is never made
pub(super) struct StreamParameter {
    /// The stream's name: 1 to 64 letters, digits, `-`, `_` and `.`; not beginning with a dot.
    #[param(example = "show", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]
    stream: String,
}

/// The client: the other end of the connection, or whom a trusted proxy names. The accept loop puts it into each
/// request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Ends the connection that a request came on, whatever it waits for; the accept loop puts it into each request.
#[derive(Clone, Debug, Default)]
pub(super) struct Hangup(CancellationToken);

impl Hangup {
    /// Ends it.
    pub(super) fn hang_up(&self) {
        self.0.cancel();
    }

    /// Whether it was ended.
    #[cfg(test)]
    pub(super) fn is_hung_up(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is ended. Cancel safe.
    pub(super) async fn hung_up(&self) {
        self.0.cancelled().await;
    }
}

impl<S: Send + Sync> FromRequestParts<S> for StreamPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = parameter(parts, state, "stream").await?;
        name.parse().map(Self).map_err(|error| {
            // To a reader a name that can't exist is a stream that isn't there; a publisher is told why.
            match parts.method {
                Method::GET | Method::HEAD => Problem::not_found(format!("there is nothing here: {error}")),
                _ => Problem::from(error),
            }
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let peer = parts.extensions.get().copied();
        Ok(peer.unwrap_or(Self(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0))))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Hangup {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// The path's parameter `name`, percent-decoded.
pub(super) async fn parameter<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Result<String, Problem> {
    let parameters = RawPathParams::from_request_parts(parts, state).await;
    let parameters = parameters.map_err(|_| Problem::bad_request("bad-path", "the path is not UTF-8"))?;
    let found = parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    found.ok_or_else(|| Problem::not_found("there is nothing here"))
}
