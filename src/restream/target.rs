//! A restream target: what was asked for, what it has done, and how both are shown.

use super::TargetTotals;
use super::state::{TargetEvent, TargetFailure, TargetState, TargetStateKind};
use crate::media::{Secret, StreamName};
use crate::rtmp::{PushUrl, PushUrlError};
use crate::store::{StoreError, StoredTarget};
use chrono::{DateTime, SubsecRound, Utc};
use parking_lot::Mutex;
use serde::Serialize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::sync::broadcast;
use utoipa::ToSchema;

/// The longest name of a target, in characters.
const LONGEST_NAME: usize = 100;
/// Bits a second that AAC can be encoded with.
const AUDIO_BITRATES: RangeInclusive<u32> = 16_000..=320_000;

/// A request for a target.
#[derive(Clone, Debug)]
pub struct NewTarget {
    /// `rtmp[s]://host[:port]/app/key[?query]`, or a preset: `twitch://key`.
    pub url: Secret,
    /// What people call it; the host if absent.
    pub name: Option<String>,
    /// False: it is kept, and nothing is sent.
    pub enabled: bool,
    /// Bits a second of the sound that goes there, 16 000 to 320 000; `None`: as it comes.
    pub audio_bitrate: Option<u32>,
}

/// What is to be different of a target; `None` is left as it is.
#[derive(Clone, Debug, Default)]
pub struct TargetChange {
    /// Another destination.
    pub url: Option<Secret>,
    /// Another name, or the host again.
    pub name: Option<Option<String>>,
    /// Pause or go on.
    pub enabled: Option<bool>,
    /// Other sound, or as it comes.
    pub audio_bitrate: Option<Option<u32>>,
}

/// Why a target can't be added or changed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The URL can't be pushed to.
    #[error("{0}")]
    BadUrl(#[from] PushUrlError),
    /// The name is too long.
    #[error("a target's name has at most {LONGEST_NAME} characters")]
    NameTooLong,
    /// AAC can't be encoded so.
    #[error(
        "audioBitrate is {0}; it must be from {least} to {most} bits a second, or null for the sound as it comes",
        least = AUDIO_BITRATES.start(), most = AUDIO_BITRATES.end()
    )]
    BadAudioBitrate(u32),
    /// The stream, or the gateway, has all the targets it may have.
    #[error("there are {count} targets already, and {key} allows no more")]
    TooMany {
        /// How many there are.
        count: usize,
        /// The setting that bounds it.
        key: &'static str,
    },
    /// The stream has no such target.
    #[error("the stream has no target with this id")]
    Unknown,
    /// It was changed meanwhile: its version is another than the one that was to be changed.
    #[error("the target was changed meanwhile; get it again, and change what you get")]
    Changed,
    /// The gateway is shutting down.
    #[error("the server is shutting down")]
    Closing,
    /// It can't be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A target as others may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Target)]
pub struct TargetView {
    /// Names it in URLs.
    pub id: String,
    /// Whose media it gets.
    pub stream: String,
    /// What people call it.
    pub name: String,
    /// With user info, key and query hidden.
    pub url: String,
    /// False: paused.
    pub enabled: bool,
    /// Bits a second of its sound; `null`: as it comes.
    pub audio_bitrate: Option<u32>,
    /// What it does.
    pub state: TargetState,
    /// Failures in a row; 0 while it is live.
    pub attempts: u32,
    /// Why it failed the last time, also if it is live again; `null` if it never did since the start.
    pub last_error: Option<TargetFailure>,
    /// When the next try is due; `null` if none is.
    pub next_try: Option<DateTime<Utc>>,
    /// Bytes given to its connections so far, over all tries.
    pub bytes_sent: u64,
    /// Bits a second over the last seconds; 0 while it is not live.
    pub bitrate: u64,
    /// What the server has not taken yet.
    pub queue: QueueView,
    /// Frames left out because the server was too slow.
    pub dropped_frames: u64,
    /// How often it became live again after a failure.
    pub reconnects: u32,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// Since when it is live; `null` while it is not.
    pub live_since: Option<DateTime<Utc>>,
    /// Rises with each change of the target.
    #[serde(skip)]
    pub version: u32,
}

/// Frames that wait to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TargetQueue)]
pub struct QueueView {
    /// How many.
    pub frames: usize,
    /// Their size, with what is half sent.
    pub bytes: usize,
}

/// What can be changed, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) url: PushUrl,
    /// It with its secrets hidden, as views have it.
    masked: String,
    typed: Secret,
    name: Option<String>,
    pub(super) enabled: bool,
    pub(super) audio_bitrate: Option<u32>,
    pub(super) version: u32,
}

/// What a worker and its readers share.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: String,
    pub(super) stream: StreamName,
    created_at: DateTime<Utc>,
    settings: Mutex<Arc<Settings>>,
    status: Mutex<Status>,
    /// The kind of the state in `status`, for who only counts.
    kind: AtomicU8,
    pub(super) counters: Counters,
    events: broadcast::Sender<TargetEvent>,
}

#[derive(Debug)]
struct Status {
    state: TargetState,
    attempts: u32,
    last_error: Option<TargetFailure>,
}

/// Written by the worker for each batch of frames, read by whoever looks.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes_sent: AtomicU64,
    pub(super) bitrate: AtomicU64,
    pub(super) queue_frames: AtomicUsize,
    pub(super) queue_bytes: AtomicUsize,
    pub(super) dropped: AtomicU64,
    pub(super) reconnects: AtomicU32,
}

impl Settings {
    pub(super) fn new(target: NewTarget) -> Result<Self, TargetError> {
        let url: PushUrl = target.url.reveal().parse()?;
        let name = target.name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        if name.as_ref().is_some_and(|name| name.chars().count() > LONGEST_NAME) {
            return Err(TargetError::NameTooLong);
        }
        if let Some(bitrate) = target.audio_bitrate.filter(|bitrate| !AUDIO_BITRATES.contains(bitrate)) {
            return Err(TargetError::BadAudioBitrate(bitrate));
        }
        let (masked, typed) = (url.masked(), target.url);
        let (enabled, audio_bitrate) = (target.enabled, target.audio_bitrate);
        Ok(Self { url, masked, typed, name, enabled, audio_bitrate, version: 1 })
    }

    pub(super) fn changed(&self, change: TargetChange) -> Result<Self, TargetError> {
        let changed = Self::new(NewTarget {
            url: change.url.unwrap_or_else(|| self.typed.clone()),
            name: change.name.unwrap_or_else(|| self.name.clone()),
            enabled: change.enabled.unwrap_or(self.enabled),
            audio_bitrate: change.audio_bitrate.unwrap_or(self.audio_bitrate),
        })?;
        Ok(Self { version: self.version.wrapping_add(1), ..changed })
    }

    /// Whether a worker may go on as if nothing had changed.
    pub(super) fn sends_as(&self, other: &Self) -> bool {
        self.typed.matches(other.typed.reveal())
            && (self.enabled, self.audio_bitrate) == (other.enabled, other.audio_bitrate)
    }
}

impl Target {
    pub(super) fn new(
        stream: StreamName,
        settings: Settings,
        events: broadcast::Sender<TargetEvent>,
    ) -> Self {
        // As precise as it is kept.
        let now = Utc::now().trunc_subsecs(3);
        Self::made(format!("{:016x}", rand::random::<u64>()), stream, settings, now, events)
    }

    /// One that was kept; an error if its URL is none any more.
    pub(super) fn restored(
        kept: StoredTarget,
        events: broadcast::Sender<TargetEvent>,
    ) -> Result<Self, TargetError> {
        let StoredTarget { id, stream, url, name, enabled, audio_bitrate, created_at, version } = kept;
        let settings = Settings::new(NewTarget { url, name, enabled, audio_bitrate })?;
        Ok(Self::made(id, stream, Settings { version, ..settings }, created_at, events))
    }

    fn made(
        id: String,
        stream: StreamName,
        settings: Settings,
        created_at: DateTime<Utc>,
        events: broadcast::Sender<TargetEvent>,
    ) -> Self {
        let since = Utc::now();
        let state = match settings.enabled {
            true => TargetState::Waiting { since },
            false => TargetState::Disabled { since },
        };
        let kind = AtomicU8::new(state.kind() as u8);
        let status = Mutex::new(Status { state, attempts: 0, last_error: None });
        let settings = Mutex::new(Arc::new(settings));
        Self { id, stream, created_at, settings, status, kind, counters: Counters::default(), events }
    }

    /// As it is to be kept, with these settings.
    pub(super) fn stored(&self, settings: &Settings) -> StoredTarget {
        StoredTarget {
            id: self.id.clone(),
            stream: self.stream.clone(),
            url: settings.typed.clone(),
            name: settings.name.clone(),
            enabled: settings.enabled,
            audio_bitrate: settings.audio_bitrate,
            created_at: self.created_at,
            version: settings.version,
        }
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.lock().clone()
    }

    pub(super) fn change(&self, settings: Settings) {
        *self.settings.lock() = Arc::new(settings);
    }

    /// Enters a state; who listens hears of it if it is another one.
    pub(super) fn enter(&self, state: TargetState) {
        self.enter_with(state, None);
    }

    /// A try has failed, the `attempts`th in a row.
    pub(super) fn failed(&self, state: TargetState, attempts: u32, failure: TargetFailure) {
        self.status.lock().attempts = attempts;
        self.enter_with(state, Some(failure));
    }

    /// Something is wrong although media flow.
    pub(super) fn note(&self, failure: TargetFailure) {
        self.status.lock().last_error = Some(failure);
    }

    /// Media flow. Gives whether that is so again after a failure.
    pub(super) fn flows(&self, since: DateTime<Utc>, held: bool) -> bool {
        let again = std::mem::take(&mut self.status.lock().attempts) > 0;
        self.enter_with(TargetState::Live { since, held }, None);
        again
    }

    fn enter_with(&self, state: TargetState, failure: Option<TargetFailure>) {
        let mut status = self.status.lock();
        let (old, new, at) = (status.state.kind(), state.kind(), state.since());
        status.state = state;
        self.kind.store(new as u8, Relaxed);
        if failure.is_some() {
            status.last_error.clone_from(&failure);
        }
        if old != new {
            let name = self.name(&self.settings());
            let (target, stream) = (self.id.clone(), self.stream.clone());
            // Nobody may listen. Sent under the lock, so that events come in the order of the states.
            let _ = self.events.send(TargetEvent { target, stream, name, old, new, at, failure });
        }
    }

    fn name(&self, settings: &Settings) -> String {
        settings.name.clone().unwrap_or_else(|| settings.url.host().to_owned())
    }

    /// What it does; waits for nobody.
    pub(super) fn kind(&self) -> TargetStateKind {
        TargetStateKind::of(self.kind.load(Relaxed))
    }

    /// What it has done so far.
    pub(super) fn totals(&self) -> TargetTotals {
        TargetTotals {
            bytes_sent: self.counters.bytes_sent.load(Relaxed),
            dropped_frames: self.counters.dropped.load(Relaxed),
            reconnects: self.counters.reconnects.load(Relaxed).into(),
        }
    }

    pub(super) fn is_on_air(&self) -> bool {
        matches!(self.kind(), TargetStateKind::Connecting | TargetStateKind::Live)
    }

    pub(super) fn view(&self) -> TargetView {
        let settings = self.settings();
        let (state, attempts, last_error) = {
            let status = self.status.lock();
            (status.state.clone(), status.attempts, status.last_error.clone())
        };
        let live_since = match &state {
            TargetState::Live { since, .. } => Some(*since),
            _ => None,
        };
        let counters = &self.counters;
        TargetView {
            id: self.id.clone(),
            stream: self.stream.to_string(),
            name: self.name(&settings),
            url: settings.masked.clone(),
            enabled: settings.enabled,
            audio_bitrate: settings.audio_bitrate,
            next_try: state.next_try(),
            bitrate: live_since.map_or(0, |_| counters.bitrate.load(Relaxed)),
            state,
            attempts,
            last_error,
            bytes_sent: counters.bytes_sent.load(Relaxed),
            queue: QueueView {
                frames: counters.queue_frames.load(Relaxed),
                bytes: counters.queue_bytes.load(Relaxed),
            },
            dropped_frames: counters.dropped.load(Relaxed),
            reconnects: counters.reconnects.load(Relaxed),
            created_at: self.created_at,
            live_since,
            version: settings.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restream::TargetStateKind;
    use crate::rtmp::PushError;

    fn settings(url: &str, name: Option<&str>) -> Result<Settings, TargetError> {
        Settings::new(NewTarget {
            url: Secret::new(url),
            name: name.map(str::to_owned),
            enabled: true,
            audio_bitrate: None,
        })
    }

    fn target(url: &str, name: Option<&str>) -> (Target, broadcast::Receiver<TargetEvent>) {
        let (events, receiver) = broadcast::channel(8);
        let settings = settings(url, name).expect("valid");
        (Target::new("cam".parse().expect("valid"), settings, events), receiver)
    }

    #[test]
    fn a_view_is_camel_case_with_rfc_3339_times_and_no_key() {
        let (target, mut events) = target("rtmp://host/app/canary?canary", Some("Main"));
        let since = "2026-01-02T03:04:05Z".parse().expect("a time");
        let reason = "no".to_owned();
        let failure = TargetFailure::now(&PushError::Silent("connect"));
        let state = TargetState::Retrying { since, attempt: 2, reason, next_try: since };
        target.failed(state, 2, failure.clone());
        let event = events.try_recv().expect("an event");
        assert_eq!((event.old, event.new), (TargetStateKind::Waiting, TargetStateKind::Retrying));
        assert_eq!((event.failure, event.name.as_str()), (Some(failure), "Main"));
        let json = serde_json::to_value(target.view()).expect("serialises");
        assert_eq!(json["url"], "rtmp://host/app/***?***");
        assert_eq!((&json["name"], &json["bytesSent"]), (&"Main".into(), &0.into()));
        assert_eq!((&json["attempts"], &json["lastError"]["class"]), (&2.into(), &"silent".into()));
        assert_eq!((&json["nextTry"], &json["liveSince"]), (&"2026-01-02T03:04:05Z".into(), &().into()));
        let expected = serde_json::json!({
            "state": "retrying", "since": "2026-01-02T03:04:05Z", "attempt": 2, "reason": "no",
            "nextTry": "2026-01-02T03:04:05Z",
        });
        assert_eq!(json["state"], expected);
        assert!(target.flows(since, true), "after a failure");
        let live = serde_json::to_value(target.view()).expect("serialises");
        assert_eq!(
            live["state"],
            serde_json::json!({ "state": "live", "since": "2026-01-02T03:04:05Z", "held": true })
        );
        assert_eq!((&live["attempts"], &live["lastError"]["class"]), (&0.into(), &"silent".into()));
        assert_eq!(live["liveSince"], "2026-01-02T03:04:05Z");
        assert!(!target.flows(since, false));
        assert_eq!(events.try_recv().expect("an event").new, TargetStateKind::Live);
        assert!(events.try_recv().is_err(), "held or not, it is live");
        assert!(!json.to_string().contains("canary") && !format!("{target:?}").contains("canary"));
    }

    #[test]
    fn requests_are_checked() {
        let fault = |url: &str, name| settings(url, name).expect_err("a fault").to_string();
        assert!(fault("http://x/y/z", None).contains("rtmp://"));
        assert!(fault("rtmp://h/a/k", Some(&"x".repeat(101))).contains("100"));
        let (target, _) = target("rtmp://h/a/k", Some(" "));
        assert_eq!(target.view().name, "h");
        let change = TargetChange { audio_bitrate: Some(Some(1000)), ..TargetChange::default() };
        let fault = target.settings().changed(change).expect_err("a fault").to_string();
        assert!(fault.contains("1000") && fault.contains("16000 to 320000"), "{fault}");
    }

    #[test]
    fn a_change_changes_what_it_names() {
        let old = settings("rtmp://h/a/k", Some("Main")).expect("valid");
        let paused = old.changed(TargetChange { enabled: Some(false), ..TargetChange::default() });
        let paused = paused.expect("valid");
        assert_eq!((paused.enabled, paused.name.as_deref(), paused.version), (false, Some("Main"), 2));
        assert!(!paused.sends_as(&old));
        let named = old.changed(TargetChange { name: Some(None), ..TargetChange::default() }).expect("valid");
        assert!(named.name.is_none() && named.sends_as(&old));
        let moved = TargetChange { url: Some(Secret::new("rtmp://h/a/other")), ..TargetChange::default() };
        assert!(!old.changed(moved).expect("valid").sends_as(&old));
    }
}
