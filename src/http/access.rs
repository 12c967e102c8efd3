//! Who may do what: bearer tokens (RFC 6750).
//!
//! Who shows a wrong one waits a little for the answer, and after some of them is not listened to for a
//! while. The answer is the same whatever was wrong with it, and comparing takes constant time.

use super::App;
use super::problem::Problem;
use crate::auth::Verdict;
use crate::media::{Secret, StreamName};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use chrono::Utc;
use std::net::IpAddr;
use std::time::Duration;

/// Milliseconds that the answer to a wrong token waits, at least and at most.
const DELAY: (u64, u64) = (20, 120);

impl App {
    /// Lets `peer` pass if its request has an admin token.
    pub(super) async fn admit_administrator(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
        self.admit(peer, headers, |shown| self.access.administer(shown, Utc::now())).await
    }

    /// Lets `peer` pass if its request has a key that opens `stream`, or if none is needed.
    pub(super) async fn admit_publisher(
        &self,
        peer: IpAddr,
        stream: &StreamName,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        if self.access.is_open() {
            return Ok(());
        }
        self.admit(peer, headers, |shown| self.access.publish(stream, shown, Utc::now())).await
    }

    /// Lets `peer` pass if its request has the token `principal`, or if there is none: what one client has
    /// begun, another may neither change nor end.
    pub(super) async fn admit_principal(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        principal: Option<&Secret>,
    ) -> Result<(), Problem> {
        let Some(principal) = principal else { return Ok(()) };
        self.admit(peer, headers, |shown| match principal.matches(shown) {
            true => Verdict::Granted,
            false => Verdict::Unknown,
        })
        .await
    }

    /// RFC 6750 §3.1: nothing or something wrong is 401, a good token for something else is 403.
    async fn admit(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        judge: impl FnOnce(&str) -> Verdict,
    ) -> Result<(), Problem> {
        let Some(shown) = bearer(headers) else { return Err(Problem::unauthorized(false)) };
        self.rates.may_show_key(peer)?;
        match judge(shown) {
            Verdict::Granted => Ok(()),
            Verdict::Elsewhere => Err(Problem::forbidden()),
            Verdict::Unknown => {
                self.rates.wrong_key(peer);
                let delay = Duration::from_millis(rand::random_range(DELAY.0..=DELAY.1));
                tokio::time::sleep(delay).await;
                Err(Problem::unauthorized(true))
            }
        }
    }
}

/// The token of `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110 §11.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w16_a_token_comes_as_a_bearer() {
        for (authorization, token) in [
            ("Bearer publish", Some("publish")),
            ("bearer publish", Some("publish")),
            ("Bearer ", Some("")),
            ("Basic publish", None),
            ("publish", None),
        ] {
            let headers =
                HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().expect("a header value"))]);
            assert_eq!(bearer(&headers), token, "{authorization}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
