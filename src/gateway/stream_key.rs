//! What an RTMP publisher types as server and stream key, and which stream that means.
//!
//! The server is `rtmp://host/live`. The stream key is `<stream>?key=<publish key>`, or the publish key
//! alone for the stream `main`; on an open gateway it is just `<stream>`.

use crate::media::{Secret, StreamName};
use crate::rtmp::{Authorize, PublishRequest, Refusal};
use std::sync::Arc;
use tracing::warn;

/// The application that publishers connect to.
pub(super) const APPLICATION: &str = "live";
/// The stream of a publisher whose stream key is the publish key alone.
pub(super) const MAIN: &str = "main";

/// Decides about RTMP publishers; without a key anyone may publish.
pub(super) fn authorize(publish_key: Option<Secret>) -> Authorize {
    Arc::new(move |request: &PublishRequest| {
        judge(publish_key.as_ref(), request).inspect_err(|refusal| {
            warn!(remote = %request.remote, why = refusal.description, "RTMP publisher refused.");
        })
    })
}

fn judge(publish_key: Option<&Secret>, request: &PublishRequest) -> Result<StreamName, Refusal> {
    if request.app.trim_matches('/') != APPLICATION {
        return Err(refusal(format!("the server's address must end in /{APPLICATION}")));
    }
    let key = request.key.reveal();
    let Some(wanted) = publish_key else { return name(key) };
    if wanted.matches(key) {
        return name(MAIN);
    }
    let query = request.query.as_ref().map(Secret::reveal).unwrap_or_default();
    let mut parameters = url::form_urlencoded::parse(query.as_bytes());
    // One answer for all causes: it does not tell whether a name or a key was right.
    match parameters.find(|(parameter, _)| parameter == "key") {
        Some((_, shown)) if wanted.matches(&shown) => name(key),
        _ => Err(refusal("the stream key must be <stream>?key=<publish key>")),
    }
}

fn name(text: &str) -> Result<StreamName, Refusal> {
    text.parse().map_err(|error| refusal(format!("{error}")))
}

fn refusal(description: impl Into<String>) -> Refusal {
    Refusal { description: description.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn verdict(publish_key: Option<&str>, app: &str, key: &str, query: Option<&str>) -> Option<String> {
        let request = PublishRequest {
            app: app.to_owned(),
            key: Secret::new(key),
            query: query.map(Secret::new),
            remote: SocketAddr::from(([127, 0, 0, 1], 5000)),
        };
        let authorize = authorize(publish_key.map(Secret::new));
        authorize(&request).ok().map(|name| name.to_string())
    }

    #[test]
    fn an_open_gateway_needs_a_name_only() {
        assert_eq!(verdict(None, "live", "show", None).as_deref(), Some("show"));
        assert_eq!(verdict(None, "live/", "show", Some("key=any")).as_deref(), Some("show"));
        assert_eq!(verdict(None, "live", "api", None), None, "reserved");
        assert_eq!(verdict(None, "other", "show", None), None);
    }

    #[test]
    fn a_guarded_gateway_needs_the_key() {
        let key = Some("publish-key");
        assert_eq!(verdict(key, "live", "show", Some("key=publish-key")).as_deref(), Some("show"));
        assert_eq!(verdict(key, "live", "show", Some("a=b&key=publish%2Dkey")).as_deref(), Some("show"));
        assert_eq!(verdict(key, "live", "publish-key", None).as_deref(), Some("main"));
        assert_eq!(verdict(key, "live", "show", None), None);
        assert_eq!(verdict(key, "live", "show", Some("key=publish-kez")), None);
        assert_eq!(verdict(key, "live", "show", Some("token=publish-key")), None);
        assert_eq!(verdict(key, "other", "show", Some("key=publish-key")), None);
    }
}
