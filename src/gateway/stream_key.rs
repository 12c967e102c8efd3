//! What an RTMP publisher types as server and stream key, and which stream that means.
//!
//! The server is `rtmp://host/live`. The stream key is `<stream>?key=<key>`, or the key alone: a stream's own
//! key stands for its stream, the publish key for the stream `main`. On an open gateway it is just `<stream>`.
//! The key may as well come under other usual names, as the password of the URL, and the application may be
//! left out.

use crate::admission::KeyAttempts;
use crate::auth::{self, Access};
use crate::media::{Secret, StreamName};
use crate::rtmp::{Authorize, PublishRequest, Refusal};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Instant;
use tracing::{debug, warn};

/// The application that publishers connect to.
pub(super) const APPLICATION: &str = "live";
/// The stream of a publisher whose stream key is the publish key alone.
pub(super) const MAIN: &str = "main";
/// Query parameters that the publish key is looked for in: ours, and what is usual elsewhere
/// (`?user=…&pass=…`).
const PARAMETERS: [&str; 4] = ["key", "token", "pass", "password"];

/// Decides about RTMP publishers. Wrong keys are counted in `attempts`.
pub(super) fn authorize(access: Access, attempts: Arc<KeyAttempts>) -> Authorize {
    Arc::new(move |request: &PublishRequest| {
        let (source, now) = (request.remote.ip(), Instant::now());
        if let Err(wait) = attempts.may_show(source, now) {
            debug!(remote = %request.remote, "RTMP publisher refused: too many wrong keys.");
            let seconds = wait.as_secs() + 1;
            return Err(refusal(format!("too many wrong keys from this address; try again in {seconds} s")));
        }
        judge(&access, request, Utc::now()).map_err(|verdict| {
            if verdict == Verdict::WrongKey {
                attempts.wrong(source, now);
            }
            let refusal = refusal(verdict.to_string());
            warn!(remote = %request.remote, why = refusal.description, "RTMP publisher refused.");
            refusal
        })
    })
}

/// Why a publisher is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Verdict {
    #[error("the server's address must end in /{APPLICATION}")]
    Application,
    #[error("{0}")]
    Name(String),
    /// One answer for all causes: it does not tell whether a name or a key was right.
    #[error("the stream key must be <stream>?key=<publish key>, or the stream's own key alone")]
    WrongKey,
}

fn judge(access: &Access, request: &PublishRequest, now: DateTime<Utc>) -> Result<StreamName, Verdict> {
    let key = request.key.reveal();
    let text = match (request.app.as_str(), key) {
        (APPLICATION, key) => key,
        // rtmp://host/<stream>?key=…
        (app, "") if !app.is_empty() => app,
        _ => return Err(Verdict::Application),
    };
    // Alone, or as `?key=…` behind nothing.
    let alone = [Some(text.to_owned()).filter(|text| !text.is_empty())].into_iter().flatten();
    let alone = alone.chain(shown(request).filter(|_| text.is_empty()));
    if let Some(stream) = alone.into_iter().find_map(|shown| access.stream_of(&shown, now)) {
        return Ok(stream);
    }
    if access.is_open() {
        return name(text);
    }
    if access.is_publish_key(key) {
        return name(MAIN);
    }
    // A name that can't be is told to who has a key that opens all, and is a wrong key to others.
    match text.parse::<StreamName>() {
        Ok(stream) => {
            let granted = |shown: String| access.publish(&stream, &shown, now) == auth::Verdict::Granted;
            if shown(request).any(granted) { Ok(stream) } else { Err(Verdict::WrongKey) }
        }
        Err(error) if shown(request).any(|shown| access.is_publish_key(&shown)) => {
            Err(Verdict::Name(error.to_string()))
        }
        Err(_) => Err(Verdict::WrongKey),
    }
}

/// What may be the key.
fn shown(request: &PublishRequest) -> impl Iterator<Item = String> {
    let query = request.query.as_ref().map(Secret::reveal).unwrap_or_default();
    let parameters = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(parameter, _)| PARAMETERS.contains(&parameter.as_ref()))
        .map(|(_, value)| value.into_owned());
    // rtmp://user:key@host/… or rtmp://key@host/…
    let user_info = match (&request.user, &request.password) {
        (_, Some(password)) => Some(password.reveal().to_owned()),
        (user, None) => user.clone(),
    };
    parameters.chain(user_info)
}

fn name(text: &str) -> Result<StreamName, Verdict> {
    text.parse().map_err(|error| Verdict::Name(format!("{error}")))
}

fn refusal(description: impl Into<String>) -> Refusal {
    Refusal { description: description.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Exempt;
    use crate::auth::{Keyring, NewKey, Publishing, Purpose};
    use std::net::SocketAddr;
    use std::num::NonZeroU32;

    fn request(app: &str, key: &str, query: Option<&str>) -> PublishRequest {
        PublishRequest {
            app: app.to_owned(),
            key: Secret::new(key),
            query: query.map(Secret::new),
            user: None,
            password: None,
            remote: SocketAddr::from(([192, 0, 2, 1], 5000)),
        }
    }

    /// An open gateway without `publish_key`.
    fn gate(publish_key: Option<&str>, per_minute: Option<u32>) -> Authorize {
        let publishing = match publish_key {
            Some(key) => Publishing::Key(Secret::new(key)),
            None => Publishing::Open,
        };
        gate_with(publishing, Keyring::empty(), per_minute)
    }

    fn gate_with(publishing: Publishing, keyring: Arc<Keyring>, per_minute: Option<u32>) -> Authorize {
        let attempts = KeyAttempts::new(per_minute.and_then(NonZeroU32::new), Exempt::default());
        let access = Access { admin_token: Secret::new("admin-token"), publishing, keyring };
        authorize(access, Arc::new(attempts))
    }

    fn verdict(publish_key: Option<&str>, app: &str, key: &str, query: Option<&str>) -> Option<String> {
        gate(publish_key, None)(&request(app, key, query)).ok().map(|name| name.to_string())
    }

    #[test]
    fn an_open_gateway_needs_a_name_only() {
        assert_eq!(verdict(None, "live", "show", None).as_deref(), Some("show"));
        assert_eq!(verdict(None, "live", "show", Some("key=any")).as_deref(), Some("show"));
        assert_eq!(verdict(None, "show", "", None).as_deref(), Some("show"), "without an application");
        assert_eq!(verdict(None, "live", "api", None), None, "reserved");
        assert_eq!(verdict(None, "live", "", None), None);
        assert_eq!(verdict(None, "live", "a/b", None), None);
        assert_eq!(verdict(None, "other", "show", None), None);
        assert_eq!(verdict(None, "", "", None), None);
    }

    #[test]
    fn a_guarded_gateway_needs_the_key() {
        let key = Some("publish-key");
        assert_eq!(verdict(key, "live", "publish-key", None).as_deref(), Some("main"));
        for query in [
            "key=publish-key",
            "a=b&key=publish%2Dkey",
            "token=publish-key",
            "user=joe&pass=publish-key",
            "username=joe&password=publish-key",
            "key=other&key=publish-key",
        ] {
            assert_eq!(verdict(key, "live", "show", Some(query)).as_deref(), Some("show"), "{query}");
            assert_eq!(verdict(key, "show", "", Some(query)).as_deref(), Some("show"), "{query}");
            assert_eq!(verdict(key, "other", "show", Some(query)), None, "{query}");
        }
        for query in [None, Some("key=publish-kez"), Some("user=publish-key"), Some("publish-key")] {
            assert_eq!(verdict(key, "live", "show", query), None, "{query:?}");
        }
    }

    #[test]
    fn the_key_may_be_the_password_of_the_url() {
        let gate = gate(Some("publish-key"), None);
        let with = |user: &str, password: Option<&str>| {
            let mut request = request("live", "show", None);
            (request.user, request.password) = (Some(user.to_owned()), password.map(Secret::new));
            gate(&request).is_ok()
        };
        assert!(with("joe", Some("publish-key")) && with("publish-key", None));
        assert!(!with("publish-key", Some("other")) && !with("joe", None));
    }

    #[test]
    fn wrong_keys_are_counted_and_right_ones_refused_with_them() {
        let gate = gate(Some("publish-key"), Some(3));
        let ask = |query: &str| gate(&request("live", "show", Some(query)));
        for _ in 0..4 {
            let refused = ask("key=guess").expect_err("wrong");
            assert!(refused.description.contains("must be"), "{refused:?}");
        }
        for query in ["key=guess", "key=publish-key"] {
            let refused = ask(query).expect_err("locked out");
            assert!(refused.description.contains("try again in 60 s"), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_streams_own_key_finds_its_stream() {
        let keyring = Keyring::empty();
        let show = Purpose::Publish("show".parse().expect("valid"));
        let new = NewKey { name: None, expires_at: None };
        let (_, key) = keyring.issue(show, new, Utc::now()).await.expect("made");
        let key = key.reveal();
        let query = format!("key={key}");
        for publishing in
            [Publishing::Key(Secret::new("publish-key")), Publishing::StreamKeys, Publishing::Open]
        {
            let gate = gate_with(publishing.clone(), keyring.clone(), None);
            let name = |app: &str, key: &str, query: Option<&str>| {
                gate(&request(app, key, query)).ok().map(|name| name.to_string())
            };
            assert_eq!(name("live", key, None).as_deref(), Some("show"), "alone");
            assert_eq!(name("live", "", Some(&query)).as_deref(), Some("show"));
            assert_eq!(name("live", "show", Some(&query)).as_deref(), Some("show"));
            let is_open = matches!(publishing, Publishing::Open);
            assert_eq!(name("live", "other", Some(&query)).is_some(), is_open, "another stream");
            assert_eq!(name("live", "show", Some("key=admin-token")).is_some(), is_open);
            let opens_all = !matches!(publishing, Publishing::StreamKeys);
            assert_eq!(name("live", "show", Some("key=publish-key")).is_some(), opens_all);
        }
    }
}
