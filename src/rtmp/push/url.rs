//! The URL of a restream target, parsed once.

use super::Step;
use super::presets::preset;
use crate::media::Secret;
use std::fmt;
use std::str::FromStr;

/// `rtmp[s]://[user:password@]host[:port]/app[/more]/key[?query]`, or a preset such as `twitch://key`. What
/// it holds goes out as typed, without decoding. Shown only masked.
#[derive(Clone)]
pub struct PushUrl {
    pub(super) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// All path segments but the last, with their query if they have one of their own.
    pub(super) app: Secret,
    /// The last path segment and the query, as the publish command takes them.
    pub(super) key: Secret,
    /// `user:password`.
    user: Option<Secret>,
    explicit_port: bool,
    preset: Option<&'static str>,
}

/// Why a text is not a URL to push to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushUrlError {
    /// Neither `rtmp` nor `rtmps`, nor a preset.
    #[error("the URL must begin with rtmp://, rtmps://, twitch://, youtube:// or facebook://")]
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
    /// A preset without a key.
    #[error("a preset needs the stream key only: twitch://KEY")]
    Key,
    /// White space or control characters.
    #[error("the URL holds white space or a control character, which RTMP URLs don't have")]
    Character,
    /// More than 2 048 bytes.
    #[error("the URL is longer than 2048 bytes")]
    TooLong,
}

impl PushUrl {
    /// The URL with user info, key and queries hidden: `rtmp://host/app/***`.
    pub fn masked(&self) -> String {
        if let Some(preset) = self.preset {
            return format!("{preset}://***");
        }
        let user = if self.user.is_some() { "***@" } else { "" };
        let query = if self.key.reveal().contains('?') { "?***" } else { "" };
        let app = match self.app.reveal().split_once('?') {
            Some((app, _)) => format!("{app}?***"),
            None => self.app.reveal().to_owned(),
        };
        format!("{}://{user}{}/{app}/***{query}", self.scheme(), self.authority())
    }

    /// The host, without port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The steps of connecting there.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        let tls = self.tls;
        let all = [Step::NameResolution, Step::Tcp, Step::Tls, Step::Handshake, Step::Connect, Step::Publish];
        all.into_iter().filter(move |step| tls || *step != Step::Tls)
    }

    /// Whether both lead to the same stream key of the same server, as far as their texts tell.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host)
            && self.port == other.port
            && self.app.matches(other.app.reveal())
            && self.key_path() == other.key_path()
    }

    /// `text` without what is secret of this URL: servers repeat in their words what they were sent.
    pub(super) fn scrub(&self, text: &str) -> String {
        let user = self.user.as_ref().map_or("", Secret::reveal);
        let (user_name, password) = user.split_once(':').unwrap_or((user, ""));
        let key = self.key.reveal();
        let query =
            |text: &'_ str| text.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
        let (key_query, app_query) = (query(key), query(self.app.reveal()));
        let values = |query: &str| -> Vec<String> {
            query
                .split('&')
                .map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value).to_owned())
                .collect()
        };
        let mut secrets: Vec<String> =
            [key, self.key_path(), user, user_name, password].map(str::to_owned).into();
        secrets.extend(values(&key_query).into_iter().chain(values(&app_query)));
        secrets.extend([key_query, app_query]);
        // The longest first: parts of them are secrets, too. What is shorter than a word is none.
        secrets.retain(|secret| secret.len() >= 3);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    /// What the connect command calls `tcUrl`: as typed, up to the key.
    pub(in crate::rtmp) fn tc_url(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{}@", user.reveal())).unwrap_or_default();
        format!("{}://{user}{}/{}", self.scheme(), self.authority(), self.app.reveal())
    }

    /// The same, without user name and password.
    pub(super) fn tc_url_without_user(&self) -> String {
        format!("{}://{}/{}", self.scheme(), self.authority(), self.app.reveal())
    }

    /// User name and password, where both are given.
    pub(super) fn credentials(&self) -> Option<(&str, &str)> {
        let (name, password) = self.user.as_ref()?.reveal().split_once(':')?;
        (!name.is_empty() && !password.is_empty()).then_some((name, password))
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
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(E::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(E::Scheme)?;
        if let Some((name, address)) = preset(scheme) {
            if rest.is_empty()
                || rest.starts_with('?')
                || rest.split('?').next().is_some_and(|key| key.contains('/'))
            {
                return Err(E::Key);
            }
            let url: Self = format!("{address}{rest}").parse()?;
            return Ok(Self { preset: Some(name), ..url });
        }
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(E::Scheme),
        };
        let (authority, path) = rest.split_once('/').ok_or(E::Path)?;
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => (Some(Secret::new(user)), authority),
            None => (None, authority),
        };
        let (host, port) = split_port(authority)?;
        let (app, key) = split_path(path).ok_or(E::Path)?;
        Ok(Self {
            tls,
            host,
            port: port.unwrap_or(if tls { 443 } else { 1935 }),
            app: Secret::new(app),
            key: Secret::new(key),
            user,
            explicit_port: port.is_some(),
            preset: None,
        })
    }
}

/// Application and key. The key is the last segment, with the query behind it; where the query stands behind
/// the only segment, the application has the query and the key comes after it.
fn split_path(path: &str) -> Option<(&str, &str)> {
    let query_at = |from: usize| path[from..].find('?').map_or(path.len(), |at| from + at);
    let first = query_at(0);
    let slash = match path[..first].rfind('/') {
        Some(slash) => slash,
        None => path[..query_at((first + 1).min(path.len()))].rfind('/')?,
    };
    let (app, key) = (path[..slash].trim_matches('/'), &path[slash + 1..]);
    (!app.is_empty() && !key.is_empty()).then_some((app, key))
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
            ("rtmp://h/app?token=a&b=c/key?x=/y", false, "h", 1935, "app?token=a&b=c", "key?x=/y"),
            ("rtmp://h/app/k%20e#y=~!$'()*,;:@?q=%00", false, "h", 1935, "app", "k%20e#y=~!$'()*,;:@?q=%00"),
            (
                "twitch://live_1_x?bandwidthtest=true",
                true,
                "ingest.global-contribute.live-video.net",
                443,
                "app",
                "live_1_x?bandwidthtest=true",
            ),
            ("YouTube://a-b-c", true, "a.rtmps.youtube.com", 443, "live2", "a-b-c"),
            (
                "facebook://FB-1-0?s_ps=1&a=b/c",
                true,
                "live-api-s.facebook.com",
                443,
                "rtmp",
                "FB-1-0?s_ps=1&a=b/c",
            ),
        ] {
            let parsed: PushUrl = url.parse().expect(url);
            assert_eq!((parsed.tls, parsed.host.as_str(), parsed.port), (tls, host, port), "{url}");
            assert_eq!((parsed.app.reveal(), parsed.key.reveal()), (app, key), "{url}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let url: PushUrl =
            "rtmp://canary1:canary2@host:99/app/canary3?canary4=canary5".parse().expect("valid");
        let shown = format!("{url} {url:?} {}", url.masked());
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(url.masked(), "rtmp://***@host:99/app/***?***");
        assert_eq!(url.tc_url(), "rtmp://canary1:canary2@host:99/app", "as typed, for the server only");
        assert_eq!(url.key_path(), "canary3");
        let said = "no canary1 with canary2 may publish canary3?canary4=canary5 (canary3), canary5 is wrong";
        let scrubbed = url.scrub(said);
        assert!(!scrubbed.contains("canary") && scrubbed.contains("may publish *** (***)"), "{scrubbed}");
        let url: PushUrl = "rtmp://host/app?canary=canary1/canary2".parse().expect("valid");
        assert_eq!(url.masked(), "rtmp://host/app?***/***");
        assert!(!url.scrub("canary=canary1 canary1 canary2").contains("canary"));
        assert_eq!("twitch://canary".parse::<PushUrl>().expect("valid").masked(), "twitch://***");
    }

    #[test]
    fn places_are_compared_by_what_they_lead_to() {
        let url = |text: &str| text.parse::<PushUrl>().expect(text);
        assert!(url("rtmp://Host/app/key?x=1").is_same_place(&url("rtmp://me:pw@host:1935/app/key")));
        assert!(!url("rtmp://host/app/key").is_same_place(&url("rtmp://host/app/other")));
        assert!(!url("rtmp://host/app/key").is_same_place(&url("rtmp://host:1936/app/key")));
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
        assert_eq!(error("twitch://"), E::Key);
        assert_eq!(error("youtube://live2/key"), E::Key);
        assert_eq!(error(&format!("rtmp://host/app/{}", "k".repeat(2048))), E::TooLong);
    }
}
