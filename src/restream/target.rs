//! A restream target: what was asked for, and what it honestly does.

use crate::media::StreamName;
use crate::rtmp::{PushUrl, PushUrlError};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use utoipa::ToSchema;

/// The longest name of a target, in characters.
const LONGEST_NAME: usize = 100;

/// A request for a target.
#[derive(Clone, Deserialize)]
pub struct NewTarget {
    /// `rtmp[s]://host[:port]/app/key[?query]`.
    pub url: String,
    /// What people call it; the host if absent.
    #[serde(default)]
    pub name: Option<String>,
}

/// Why a target can't be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The URL can't be pushed to.
    #[error("{0}")]
    BadUrl(#[from] PushUrlError),
    /// The name is too long.
    #[error("a target's name has at most {LONGEST_NAME} characters")]
    NameTooLong,
    /// The stream, or the gateway, has all the targets it may have.
    #[error("there are {0} targets already, no more are allowed")]
    TooMany(usize),
    /// The gateway is shutting down.
    #[error("the server is shutting down")]
    Closing,
}

/// What a target does now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TargetState {
    /// The stream is not live.
    Waiting {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// A connection is being made, or is made and waits for a keyframe.
    Connecting {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// The server has accepted the publication, and media flows.
    Live {
        /// Since when.
        since: DateTime<Utc>,
        /// The publisher pauses; what flows is the held picture and silence.
        held: bool,
    },
    /// The last try failed; another will come.
    Retrying {
        /// When the last try failed.
        since: DateTime<Utc>,
        /// Which failure in a row it was.
        attempt: u32,
        /// Why, in plain words, without the key.
        reason: String,
        /// When the next try is due.
        next_try: DateTime<Utc>,
    },
    /// The stream's video can't be sent on; nothing is tried until the publisher sends another.
    Failing {
        /// Since when.
        since: DateTime<Utc>,
        /// Why, in plain words, and what would help.
        reason: String,
    },
    /// The target was removed; its connection has ended.
    Ended {
        /// Since when.
        since: DateTime<Utc>,
    },
}

/// A target as others may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Target)]
pub struct TargetView {
    /// Names it in URLs.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// With user info, key and query hidden.
    pub url: String,
    /// What it does.
    pub state: TargetState,
    /// Bytes given to its connections so far, over all tries.
    pub bytes_sent: u64,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// Since when it is live; absent while it is not.
    pub live_since: Option<DateTime<Utc>>,
}

/// What a worker and its readers share.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: String,
    pub(super) stream: StreamName,
    pub(super) url: PushUrl,
    name: String,
    created_at: DateTime<Utc>,
    state: Mutex<TargetState>,
    bytes_sent: AtomicU64,
}

impl Target {
    pub(super) fn new(stream: StreamName, target: NewTarget) -> Result<Self, TargetError> {
        let url: PushUrl = target.url.parse()?;
        let name = target.name.filter(|name| !name.trim().is_empty());
        let name = name.unwrap_or_else(|| url.host().to_owned());
        if name.chars().count() > LONGEST_NAME {
            return Err(TargetError::NameTooLong);
        }
        let now = Utc::now();
        Ok(Self {
            id: format!("{:016x}", rand::random::<u64>()),
            stream,
            url,
            name,
            created_at: now,
            state: Mutex::new(TargetState::Waiting { since: now }),
            bytes_sent: AtomicU64::new(0),
        })
    }

    pub(super) fn set_state(&self, state: TargetState) {
        *self.state.lock() = state;
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Relaxed);
    }

    pub(super) fn view(&self) -> TargetView {
        let state = self.state.lock().clone();
        let live_since = match &state {
            TargetState::Live { since, .. } => Some(*since),
            _ => None,
        };
        TargetView {
            id: self.id.clone(),
            name: self.name.clone(),
            url: self.url.masked(),
            state,
            bytes_sent: self.bytes_sent.load(Relaxed),
            created_at: self.created_at,
            live_since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(url: &str, name: Option<&str>) -> Result<Target, TargetError> {
        let stream = "cam".parse().expect("valid");
        Target::new(stream, NewTarget { url: url.into(), name: name.map(str::to_owned) })
    }

    #[test]
    fn a_view_is_camel_case_with_rfc_3339_times_and_no_key() {
        let target = new("rtmp://host/app/canary?canary", Some("Main")).expect("valid");
        let since = "2026-01-02T03:04:05Z".parse().expect("a time");
        let reason = "no".to_owned();
        target.set_state(TargetState::Retrying { since, attempt: 2, reason, next_try: since });
        let json = serde_json::to_value(target.view()).expect("serialises");
        assert_eq!(json["url"], "rtmp://host/app/***?***");
        assert_eq!((&json["name"], &json["bytesSent"]), (&"Main".into(), &0.into()));
        assert_eq!(json["liveSince"], serde_json::Value::Null);
        let expected = serde_json::json!({
            "state": "retrying", "since": "2026-01-02T03:04:05Z", "attempt": 2, "reason": "no",
            "nextTry": "2026-01-02T03:04:05Z",
        });
        assert_eq!(json["state"], expected);
        target.set_state(TargetState::Live { since, held: true });
        let live = serde_json::to_value(target.view()).expect("serialises");
        assert_eq!(
            live["state"],
            serde_json::json!({ "state": "live", "since": "2026-01-02T03:04:05Z", "held": true })
        );
        assert_eq!(live["liveSince"], "2026-01-02T03:04:05Z");
        assert!(!json.to_string().contains("canary") && !format!("{target:?}").contains("canary"));
    }

    #[test]
    fn requests_are_checked() {
        assert_eq!(new("http://x/y/z", None).err(), Some(TargetError::BadUrl(PushUrlError::Scheme)));
        assert_eq!(new("rtmp://h/a/k", Some(&"x".repeat(101))).err(), Some(TargetError::NameTooLong));
        assert_eq!(new("rtmp://h/a/k", Some(" ")).expect("valid").view().name, "h");
    }
}
