//! Who may do what: bearer tokens (RFC 6750).
//!
//! Who shows a wrong one waits a little for the answer, and after some of them is not listened to for a
//! while. The answer is the same whatever was wrong with it, and comparing takes constant time.

use super::App;
use super::problem::Problem;
use crate::media::Secret;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use std::net::IpAddr;
use std::time::Duration;

/// Milliseconds that the answer to a wrong token waits, at least and at most.
const DELAY: (u64, u64) = (20, 120);

/// The secrets that requests are compared with.
#[derive(Clone, Debug)]
pub struct Access {
    /// For the API.
    pub admin_token: Secret,
    /// For publishing; `None`: anyone may.
    pub publish_key: Option<Secret>,
}

impl App {
    /// Lets `peer` pass if its request has the admin token.
    pub(super) async fn admit_administrator(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
        self.admit(peer, headers, || self.access.administer(headers)).await
    }

    /// Lets `peer` pass if its request has the publish key, or if none is needed.
    pub(super) async fn admit_publisher(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
        match self.access.publish_key {
            Some(_) => self.admit(peer, headers, || self.access.publish(headers)).await,
            None => Ok(()),
        }
    }

    /// Lets `peer` pass if its request has the token `principal`, or if there is none: what one client has
    /// begun, another may neither change nor end.
    pub(super) async fn admit_principal(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        principal: Option<&Secret>,
    ) -> Result<(), Problem> {
        match principal {
            Some(principal) => self.admit(peer, headers, || judge(headers, principal, &[])).await,
            None => Ok(()),
        }
    }

    async fn admit(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        judge: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        if bearer(headers).is_none() {
            return judge();
        }
        self.rates.may_show_key(peer)?;
        let verdict = judge();
        if verdict.as_ref().is_err_and(|problem| problem.status() == StatusCode::UNAUTHORIZED) {
            self.rates.wrong_key(peer);
            let delay = Duration::from_millis(rand::random_range(DELAY.0..=DELAY.1));
            tokio::time::sleep(delay).await;
        }
        verdict
    }
}

impl Access {
    /// Lets a request with the admin token pass.
    fn administer(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let others: &[&Secret] = match &self.publish_key {
            Some(key) => &[key],
            None => &[],
        };
        judge(headers, &self.admin_token, others)
    }

    /// Lets a request with the publish key pass, or any if none is needed.
    fn publish(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match &self.publish_key {
            Some(key) => judge(headers, key, &[&self.admin_token]),
            None => Ok(()),
        }
    }
}

/// RFC 6750 §3.1: nothing or something wrong is 401, a good token for something else is 403.
fn judge(headers: &HeaderMap, wanted: &Secret, others: &[&Secret]) -> Result<(), Problem> {
    let Some(token) = bearer(headers) else { return Err(Problem::unauthorized(false)) };
    if wanted.matches(token) {
        Ok(())
    } else if others.iter().any(|other| other.matches(token)) {
        Err(Problem::forbidden())
    } else {
        Err(Problem::unauthorized(true))
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
    use axum::http::StatusCode;

    fn access() -> Access {
        Access { admin_token: Secret::new("admin"), publish_key: Some(Secret::new("publish")) }
    }

    fn with(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().expect("a header value"))])
    }

    fn status(result: Result<(), Problem>) -> u16 {
        result.map_or_else(|problem| problem.status().as_u16(), |()| StatusCode::OK.as_u16())
    }

    #[test]
    fn w16_a_token_opens_its_own_door_only() {
        let access = access();
        for (authorization, publish, administer) in [
            ("Bearer publish", 200, 403),
            ("bearer publish", 200, 403),
            ("Bearer admin", 403, 200),
            ("Bearer publis", 401, 401),
            ("Bearer ", 401, 401),
            ("Basic publish", 401, 401),
            ("publish", 401, 401),
        ] {
            let headers = with(authorization);
            assert_eq!(status(access.publish(&headers)), publish, "{authorization}");
            assert_eq!(status(access.administer(&headers)), administer, "{authorization}");
        }
        assert_eq!(status(access.publish(&HeaderMap::new())), 401);
    }

    #[test]
    fn an_open_gateway_still_guards_its_api() {
        let access = Access { publish_key: None, ..access() };
        assert_eq!(status(access.publish(&HeaderMap::new())), 200);
        assert_eq!(status(access.administer(&HeaderMap::new())), 401);
        assert_eq!(status(access.administer(&with("Bearer publish"))), 401);
    }
}
