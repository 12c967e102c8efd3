//! The URL of a restream target, parsed once.

use crate::media::Secret;
use std::fmt;
use std::str::FromStr;

/// `rtmp[s]://[user:password@]host[:port]/app[/more]/key[?query]`. Shown only masked.
#[derive(Clone)]
pub struct PushUrl {
    pub(super) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// All path segments but the last.
    pub(super) app: String,
    /// The last path segment and the query, as the publish command takes them.
    pub(super) key: Secret,
    has_user: bool,
    has_query: bool,
    explicit_port: bool,
}

/// Why a text is not a URL to push to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushUrlError {
    /// Neither `rtmp` nor `rtmps`.
    #[error("the URL must begin with rtmp:// or rtmps://")]
    Scheme,
    /// No host, or one with characters that no host has.
    #[error("the URL needs a host, such as rtmp://live.example.com/app/key")]
    Host,
    /// Not a number from 1 to 65 535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// Fewer than two path segments.
    #[error("the URL needs an application and a stream key: rtmp://host/app/key")]
    Path,
    /// White space, control characters or a fragment.
    #[error("the URL holds white space, a control character or '#', which RTMP URLs don't have")]
    Character,
    /// More than 2 048 bytes.
    #[error("the URL is longer than 2048 bytes")]
    TooLong,
}

impl PushUrl {
    /// The URL with user info, key and query hidden: `rtmp://host/app/***`.
    pub fn masked(&self) -> String {
        let user = if self.has_user { "***@" } else { "" };
        let query = if self.has_query { "?***" } else { "" };
        format!("{}://{user}{}/{}/***{query}", self.scheme(), self.authority(), self.app)
    }

    /// The host, without port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the connect command calls `tcUrl`.
    pub(in crate::rtmp) fn tc_url(&self) -> String {
        format!("{}://{}/{}", self.scheme(), self.authority(), self.app)
    }

    /// The key without its query.
    pub(in crate::rtmp) fn key_path(&self) -> &str {
        let key = self.key.reveal();
        key.split_once('?').map_or(key, |(path, _)| path)
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "rtmps" } else { "rtmp" }
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.explicit_port { format!("{host}:{}", self.port) } else { host }
    }
}

impl FromStr for PushUrl {
    type Err = PushUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use PushUrlError as E;
        let text = text.trim();
        if text.len() > 2048 {
            return Err(E::TooLong);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') {
            return Err(E::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(E::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(E::Scheme),
        };
        let (authority, path) = rest.split_once('/').ok_or(E::Path)?;
        let (has_user, authority) = match authority.rsplit_once('@') {
            Some((_, authority)) => (true, authority),
            None => (false, authority),
        };
        let (host, port) = split_port(authority)?;
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let (app, key) = path.rsplit_once('/').ok_or(E::Path)?;
        let app = app.trim_matches('/');
        if app.is_empty() || (key.is_empty() && query.is_none()) {
            return Err(E::Path);
        }
        let key = match query {
            Some(query) => format!("{key}?{query}"),
            None => key.to_owned(),
        };
        Ok(Self {
            tls,
            host,
            port: port.unwrap_or(if tls { 443 } else { 1935 }),
            app: app.to_owned(),
            key: Secret::new(key),
            has_user,
            has_query: query.is_some(),
            explicit_port: port.is_some(),
        })
    }
}

fn split_port(authority: &str) -> Result<(String, Option<u16>), PushUrlError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(PushUrlError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| PushUrlError::Host)?;
            (host, port.strip_prefix(':').or((!port.is_empty()).then_some("no port")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let of_a_host = |c: char| c.is_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(of_a_host) {
        return Err(PushUrlError::Host);
    }
    let port = match port {
        None => None,
        Some(text) => Some(text.parse().ok().filter(|port| *port > 0).ok_or(PushUrlError::Port)?),
    };
    Ok((host.to_owned(), port))
}

impl fmt::Display for PushUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Debug for PushUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_known_services_are_split_as_they_want_it() {
        for (url, tls, host, port, app, key) in [
            ("rtmp://a.rtmp.youtube.com/live2/k-e-y", false, "a.rtmp.youtube.com", 1935, "live2", "k-e-y"),
            (
                "rtmps://live.twitch.tv/app/live_1_x?bandwidthtest=true",
                true,
                "live.twitch.tv",
                443,
                "app",
                "live_1_x?bandwidthtest=true",
            ),
            (
                "rtmps://live-api-s.facebook.com:443/rtmp/FB-1-0?s_ps=1&a=b/c",
                true,
                "live-api-s.facebook.com",
                443,
                "rtmp",
                "FB-1-0?s_ps=1&a=b/c",
            ),
            ("RTMP://user:p@ss@[::1]:1936/a/b/key", false, "::1", 1936, "a/b", "key"),
        ] {
            let parsed: PushUrl = url.parse().expect(url);
            assert_eq!((parsed.tls, parsed.host.as_str(), parsed.port), (tls, host, port), "{url}");
            assert_eq!((parsed.app.as_str(), parsed.key.reveal()), (app, key), "{url}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let url: PushUrl =
            "rtmp://canary1:canary2@host:99/app/canary3?canary4=canary5".parse().expect("valid");
        let shown = format!("{url} {url:?} {}", url.masked());
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(url.masked(), "rtmp://***@host:99/app/***?***");
        assert_eq!(url.tc_url(), "rtmp://host:99/app");
        assert_eq!(url.key_path(), "canary3");
    }

    #[test]
    fn bad_urls_say_why() {
        use PushUrlError as E;
        let error = |url: &str| url.parse::<PushUrl>().expect_err(url);
        assert_eq!(error("http://host/app/key"), E::Scheme);
        assert_eq!(error("host/app/key"), E::Scheme);
        assert_eq!(error("rtmp://host"), E::Path);
        assert_eq!(error("rtmp://host/app"), E::Path);
        assert_eq!(error("rtmp://host/app/"), E::Path);
        assert_eq!(error("rtmp:///app/key"), E::Host);
        assert_eq!(error("rtmp://ho%st/app/key"), E::Host);
        assert_eq!(error("rtmp://[::1/app/key"), E::Host);
        assert_eq!(error("rtmp://host:0/app/key"), E::Port);
        assert_eq!(error("rtmp://host:x/app/key"), E::Port);
        assert_eq!(error("rtmp://[::1]x/app/key"), E::Port);
        assert_eq!(error("rtmp://host/app/k ey"), E::Character);
        assert_eq!(error("rtmp://host/app/key#x"), E::Character);
        assert_eq!(error(&format!("rtmp://host/app/{}", "k".repeat(2048))), E::TooLong);
    }
}
