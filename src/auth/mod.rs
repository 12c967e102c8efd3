//! Who may publish and who may administer: the secrets of the configuration, and the publish keys and admin
//! tokens that the API makes.
//!
//! [`Access`] judges what is shown, [`Keyring`] holds the keys: their SHA-256 only, in memory, so that no
//! request waits for the store. Keys have 192 random bits; so their plain hashes can't be searched, and what
//! is looked up by a hash tells nothing of the others by its timing. Knows no protocol, and counts no wrong
//! keys: that is `admission`'s.

mod key;
mod keyring;
mod secrets;

pub use key::{KeyView, NewKey, Purpose};
pub use keyring::{KeyError, Keyring};
pub use secrets::{NoRandomness, generate};

use crate::media::{Secret, StreamName};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// What requests are judged by. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    /// The token of the configuration, or of the first start.
    pub admin_token: Secret,
    /// Who may publish.
    pub publishing: Publishing,
    /// The keys that the API has made.
    pub keyring: Arc<Keyring>,
}

/// Who may publish.
#[derive(Clone, Debug)]
pub enum Publishing {
    /// Anyone, whatever they show.
    Open,
    /// Who shows this key, for whatever stream, or the stream's own.
    Key(Secret),
    /// Who shows the stream's own key only.
    StreamKeys,
}

/// What is shown, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It opens the door.
    Granted,
    /// It is good, but for something else.
    Elsewhere,
    /// It is none of ours, or has expired.
    Unknown,
}

impl Access {
    /// Whether `shown` opens the API.
    pub fn administer(&self, shown: &str, now: DateTime<Utc>) -> Verdict {
        match (self.admin_token.matches(shown), self.keyring.find(shown, now)) {
            (true, _) | (_, Some(Purpose::Administer)) => Verdict::Granted,
            (_, Some(Purpose::Publish(_))) => Verdict::Elsewhere,
            _ if self.is_publish_key(shown) => Verdict::Elsewhere,
            _ => Verdict::Unknown,
        }
    }

    /// Whether `shown` lets one publish `stream`.
    pub fn publish(&self, stream: &StreamName, shown: &str, now: DateTime<Utc>) -> Verdict {
        match (self.is_publish_key(shown), self.keyring.find(shown, now)) {
            _ if self.is_open() => Verdict::Granted,
            (true, _) => Verdict::Granted,
            (_, Some(Purpose::Publish(opened))) if opened == *stream => Verdict::Granted,
            (_, Some(_)) => Verdict::Elsewhere,
            _ if self.admin_token.matches(shown) => Verdict::Elsewhere,
            _ => Verdict::Unknown,
        }
    }

    /// Whether `shown` is the key that opens all streams.
    pub fn is_publish_key(&self, shown: &str) -> bool {
        matches!(&self.publishing, Publishing::Key(key) if key.matches(shown))
    }

    /// The stream whose own key `shown` is.
    pub fn stream_of(&self, shown: &str, now: DateTime<Utc>) -> Option<StreamName> {
        match self.keyring.find(shown, now) {
            Some(Purpose::Publish(stream)) => Some(stream),
            _ => None,
        }
    }

    /// Whether anyone may publish.
    pub fn is_open(&self) -> bool {
        matches!(self.publishing, Publishing::Open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_opens_its_own_door_only() {
        let keyring = Keyring::empty();
        let now = Utc::now();
        let [show, other]: [StreamName; 2] = ["show", "other"].map(|name| name.parse().expect("valid"));
        let new = NewKey { name: None, expires_at: None };
        let (_, of_show) =
            keyring.issue(Purpose::Publish(show.clone()), new.clone(), now).await.expect("made");
        let (_, token) = keyring.issue(Purpose::Administer, new, now).await.expect("made");
        let access = Access {
            admin_token: Secret::new("admin"),
            publishing: Publishing::Key(Secret::new("publish")),
            keyring,
        };
        for (shown, publish_show, publish_other, administer) in [
            ("publish", Verdict::Granted, Verdict::Granted, Verdict::Elsewhere),
            (of_show.reveal(), Verdict::Granted, Verdict::Elsewhere, Verdict::Elsewhere),
            ("admin", Verdict::Elsewhere, Verdict::Elsewhere, Verdict::Granted),
            (token.reveal(), Verdict::Elsewhere, Verdict::Elsewhere, Verdict::Granted),
            ("show", Verdict::Unknown, Verdict::Unknown, Verdict::Unknown),
            ("", Verdict::Unknown, Verdict::Unknown, Verdict::Unknown),
        ] {
            assert_eq!(access.publish(&show, shown, now), publish_show, "{shown}");
            assert_eq!(access.publish(&other, shown, now), publish_other, "{shown}");
            assert_eq!(access.administer(shown, now), administer, "{shown}");
        }
        assert_eq!(access.stream_of(of_show.reveal(), now), Some(show.clone()));
        assert_eq!(access.stream_of(token.reveal(), now), None);
        let keys_only = Access { publishing: Publishing::StreamKeys, ..access.clone() };
        assert_eq!(keys_only.publish(&show, "publish", now), Verdict::Unknown);
        assert_eq!(keys_only.publish(&show, of_show.reveal(), now), Verdict::Granted);
        let open = Access { publishing: Publishing::Open, ..access };
        assert_eq!(open.publish(&other, "", now), Verdict::Granted);
        assert_eq!(open.administer("", now), Verdict::Unknown);
    }
}
