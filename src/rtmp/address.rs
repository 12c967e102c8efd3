//! What a client says it publishes to: application, stream key, query and user, parsed once.
//!
//! `rtmp[s]://[user[:password]@]host[:port]/app/key[?query]` reaches a server in pieces, and clients cut it
//! differently: ffmpeg takes two segments of a long path as the application, OBS what its user wrote into
//! two fields, some put the query into the application, some name all of it in `tcUrl` only.

use super::command::Command;
use super::server::PublishRequest;
use crate::media::Secret;
use std::net::SocketAddr;

/// The longest application or stream key taken, with its query, in bytes.
pub(super) const LONGEST_NAME: usize = 1024;
/// The longest `tcUrl` that is read; a longer one is as good as none.
const LONGEST_URL: usize = 2048;

/// What a client said in `connect`.
#[derive(Clone, Debug)]
pub(super) struct Application {
    name: String,
    queries: Vec<String>,
    user: Option<String>,
    password: Option<Secret>,
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("the application name is longer than {LONGEST_NAME} bytes")]
    LongApplication,
    #[error("the stream key is longer than {LONGEST_NAME} bytes")]
    LongKey,
}

impl Application {
    /// Reads the command object of a `connect`.
    pub(super) fn parse(connect: &Command) -> Result<Self, AddressError> {
        let app = connect.property("app").unwrap_or_default();
        Self::new(app, connect.property("tcUrl").unwrap_or_default())
    }

    fn new(app: &str, url: &str) -> Result<Self, AddressError> {
        let url = if url.len() > LONGEST_URL { "" } else { url };
        let (authority, path) = split_url(url);
        let (path, path_query) = split_query(path);
        let (name, query) = split_query(app.trim());
        let name = if name.is_empty() { path } else { name };
        if name.len().max(app.len()) > LONGEST_NAME {
            return Err(AddressError::LongApplication);
        }
        let mut queries: Vec<String> = Vec::new();
        for query in [query, path_query].into_iter().flatten() {
            if query.len() <= LONGEST_NAME && !queries.iter().any(|known| known == query) {
                queries.push(query.to_owned());
            }
        }
        let (user, password) = user_info(authority);
        Ok(Self { name: name.trim_matches('/').to_owned(), queries, user, password })
    }

    /// The path as the client gave it, without the query.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The request that a `publish` of `key` makes: the first segment of the whole path is the
    /// application, the rest is the key.
    pub(super) fn request(&self, key: &str, remote: SocketAddr) -> Result<PublishRequest, AddressError> {
        if key.len() > LONGEST_NAME {
            return Err(AddressError::LongKey);
        }
        let (key, query) = split_query(key.trim());
        let path = format!("{}/{}", self.name, key.trim_matches('/'));
        let path = path.trim_matches('/');
        let (app, key) = path.split_once('/').unwrap_or((path, ""));
        let key = key.trim_start_matches('/'); // "live//cam", as some write it
        if key.len() > LONGEST_NAME {
            return Err(AddressError::LongKey);
        }
        let queries: Vec<&str> = query.into_iter().chain(self.queries.iter().map(String::as_str)).collect();
        Ok(PublishRequest {
            app: app.to_owned(),
            key: Secret::new(key),
            query: (!queries.is_empty()).then(|| Secret::new(queries.join("&"))),
            user: self.user.clone(),
            password: self.password.clone(),
            remote,
        })
    }
}

/// Authority and path of a URL.
fn split_url(url: &str) -> (&str, &str) {
    let rest = url.trim().split_once("://").map_or("", |(_, rest)| rest);
    rest.split_once('/').unwrap_or((rest, ""))
}

/// User and password of an authority, percent-decoded (RFC 3986 §3.2.1).
fn user_info(authority: &str) -> (Option<String>, Option<Secret>) {
    let Some((info, _)) = authority.rsplit_once('@') else { return (None, None) };
    let decode = |text: &str| -> String {
        // A plus is itself here, unlike in a form.
        let form = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
        url::form_urlencoded::parse(form.as_bytes()).next().map_or_else(String::new, |(_, text)| text.into())
    };
    match info.split_once(':') {
        Some((user, password)) => (Some(decode(user)), Some(Secret::new(decode(password)))),
        None => (Some(decode(info)), None),
    }
}

/// What is before and what is behind the question mark; nothing behind it is no query.
fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((path, query)) => (path, Some(query).filter(|query| !query.is_empty())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(app: &str, url: &str, key: &str) -> PublishRequest {
        let remote = SocketAddr::from(([192, 0, 2, 1], 5000));
        Application::new(app, url)
            .and_then(|application| application.request(key, remote))
            .expect("an address")
    }

    fn parts(app: &str, url: &str, key: &str) -> (String, String, Option<String>) {
        let request = request(app, url, key);
        let query = request.query.map(|query| query.reveal().to_owned());
        (request.app, request.key.reveal().to_owned(), query)
    }

    #[test]
    fn paths_are_split_the_same_whatever_the_client_did() {
        let url = "rtmp://host/live";
        for (app, name, expected) in [
            ("live", "cam", ("live", "cam", None)),
            ("live/", "cam", ("live", "cam", None)),
            ("live", "/cam?key=1", ("live", "cam", Some("key=1"))),
            ("live/cam", "", ("live", "cam", None)),
            ("live//cam", "", ("live", "cam", None)),
            ("live/a", "b", ("live", "a/b", None)),
            ("live?key=1", "cam", ("live", "cam", Some("key=1"))),
            ("live?key=1", "cam?b=2", ("live", "cam", Some("b=2&key=1"))),
            ("live", "", ("live", "", None)),
            ("live", "cam?", ("live", "cam", None)),
            ("live ", " cam\n", ("live", "cam", None)),
            ("", "cam", ("live", "cam", None)),
        ] {
            let (app_seen, key, query) = parts(app, url, name);
            assert_eq!((app_seen.as_str(), key.as_str(), query.as_deref()), expected, "{app} {name}");
        }
    }

    #[test]
    fn the_query_of_the_url_counts_once() {
        let (_, _, query) = parts("live?key=1", "rtmp://host:1935/live?key=1", "cam");
        assert_eq!(query.as_deref(), Some("key=1"));
        let (app, _, query) = parts("live", "rtmp://host/live?pass=2", "cam");
        assert_eq!((app.as_str(), query.as_deref()), ("live", Some("pass=2")));
    }

    #[test]
    fn user_and_password_are_taken_from_the_url() {
        let of = |url: &str| {
            let request = request("live", url, "cam");
            (request.user, request.password.map(|password| password.reveal().to_owned()))
        };
        let both = |user: &str, password: &str| (Some(user.to_owned()), Some(password.to_owned()));
        assert_eq!(of("rtmp://joe:a%40b+c&d@host:1935/live"), both("joe", "a@b+c&d"));
        assert_eq!(of("rtmps://joe@host/live"), (Some("joe".to_owned()), None));
        assert_eq!(of("rtmp://[::1]:1935/live@home"), (None, None));
        assert_eq!(of("no url"), (None, None));
        assert_eq!(of(&format!("rtmp://joe:pass@host/{}", "a".repeat(LONGEST_URL))), (None, None));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let long = "a".repeat(LONGEST_NAME + 1);
        assert_eq!(Application::new(&long, "").err(), Some(AddressError::LongApplication));
        let application = Application::new("live", "").expect("short");
        let remote = SocketAddr::from(([192, 0, 2, 1], 5000));
        assert_eq!(application.request(&long, remote).err(), Some(AddressError::LongKey));
        assert!(application.request(&long[1..], remote).is_ok());
    }
}
