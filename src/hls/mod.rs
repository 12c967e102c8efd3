//! HLS and Low-Latency HLS (RFC 8216bis): segments streams and serves them from memory.
//!
//! Owns segments, playlists and delivery directives of all streams. Knows no HTTP: [`Hls::serve`] takes a
//! file name and a query and gives bytes that are made once, however many ask. The muxing is the pipeline's.
//!
//! # What is served
//! Each stream has `index.m3u8`, the multivariant playlist; `video.m3u8` and `audio.m3u8`, the demuxed
//! renditions; `video-2.m3u8` and so on where there are lower ones (`lower`); and media under names that are never
//! used twice.
//!
//! Media sequence numbers count from the quarters of a second since 2020 when the stream began, so they go on rising
//! when the process restarts. Discontinuity sequence numbers go on rising, too, but must be
//! small, because hls.js has arrays of that length: with numbers of nine digits it takes seconds for each part. So
//! they begin where the caller says, which keeps [`Hls::highest_discontinuity`]. If they fell, a player that stays
//! through a restart would take what is new for what it knows, with the timestamps of that.
//!
//! # A quick start that all players can use
//! Parts come on the media clock, segments as keyframes allow, and the length of a group of pictures is
//! known only when it is over. Players read a playlist that holds parts only in different ways: Safari
//! plays it, hls.js reports an empty level and tries again a second later, ffmpeg gives up. So:
//! - a request that comes before there is something to play is held, not refused;
//! - the first segment consists of the first part alone, hence the first playlist with a whole segment is
//!   there some 300 ms after the publisher, whatever the keyframe interval. Where the publisher was there
//!   before the first viewer, it holds what there is of the group of pictures, so that this viewer begins
//!   in it at once;
//! - the second segment therefore begins without an IDR, as does the rest of a group of pictures longer
//!   than the target duration. Video playlists do not claim `EXT-X-INDEPENDENT-SEGMENTS`; audio
//!   playlists do. Parts say by `INDEPENDENT=YES` where decoding can start;
//! - groups of pictures are seldom cut: the longest one of a stream, since it began or under the same name
//!   before, makes the target duration of its playlists when they begin, up to 10 s;
//! - hls.js, made to begin in such a segment, shows nothing ever (it does not step over the hole at its
//!   start). A player begins `PART-HOLD-BACK` before the end, so a plain request for a media playlist,
//!   which is a player's first, is held while that point lies in such a segment: with groups of pictures
//!   of 2 s, for a viewer who comes between 0.9 and 3 s after the publisher; with groups longer than the
//!   target duration, in the part of the group that was cut off. The wait is bounded by 6 s. Requests
//!   with `_HLS_msn` are of players that run, and are never held for this.
//!
//! # Discontinuities
//! A new epoch, media lost on the way, or a broken muxer begins a new stretch in both renditions, with the
//! same discontinuity sequence number. Times in the container rise all the same, for players that know no
//! discontinuities. `EXT-X-GAP` and `GAP=YES` stand for what does not come of a lower rendition only, and of all of
//! them in a publisher's pause that nothing fills (`pause`).

mod bandwidth;
#[cfg(test)]
mod checklist_tests;
mod codecs;
mod directives;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod groups;
mod limits;
mod live;
mod lower;
#[cfg(test)]
mod lower_tests;
#[cfg(test)]
mod media_tests;
mod multivariant;
mod names;
mod output;
mod packager;
mod pause;
#[cfg(test)]
mod pause_tests;
mod pictures;
mod playlist;
mod rates;
mod rendition;
mod segment;
mod segmenter;
mod snapshot;
mod text;
mod track;
mod viewers;
mod window;

use crate::media::{Ladders, OpusFrames, StreamName};
use crate::pipeline::Pipelines;
use crate::stream::Stream;
use bytes::Bytes;
use groups::Groups;
use limits::Limits;
use live::Live;
use output::Stop;
use parking_lot::RwLock;
use rates::Rates;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a stream can be fetched after its end.
const KEPT_AFTER_END: Duration = Duration::from_secs(60);

/// Durations of parts and segments, and how many segments a playlist holds.
#[derive(Clone, Debug, PartialEq)]
pub struct HlsSettings {
    /// The duration of a part, met as whole frames allow: a part is up to 7 % longer, or a frame shorter
    /// than that. 250 ms.
    pub part_duration: Duration,
    /// The shortest duration of a segment where keyframes come often; the target duration is twice that, or
    /// that of the stream's groups of pictures, where it is known that they are longer.
    /// 2 s.
    pub segment_duration: Duration,
    /// Segments in a playlist; at least 6, and always three target durations. 7.
    pub window: usize,
    /// Segment every stream from its start. Otherwise a stream is segmented while somebody asks for it:
    /// from the first request for a playlist, which is held for the first part, until nobody has asked
    /// for 30 s.
    pub always: bool,
    /// Of which streams the sound alone is a variant too.
    pub ladders: Ladders,
    /// What Opus becomes.
    pub opus: OpusFrames,
    /// What comes of a publisher's pause from elsewhere (a hold) is waited for before the pause is listed as missing.
    pub pauses_are_filled: bool,
    /// Discontinuity sequence numbers are above this: those up to it may be an earlier process's. 0.
    pub first_discontinuity: u64,
}

impl Default for HlsSettings {
    fn default() -> Self {
        Self {
            part_duration: Duration::from_millis(250),
            segment_duration: Duration::from_secs(2),
            window: 7,
            always: false,
            ladders: Ladders::default(),
            opus: OpusFrames::Aac,
            pauses_are_filled: true,
            first_discontinuity: 0,
        }
    }
}

/// The HLS output of all streams.
pub struct Hls {
    settings: HlsSettings,
    pipelines: Arc<Pipelines>,
    streams: RwLock<HashMap<StreamName, Arc<Live>>>,
    groups: Groups,
    rates: Rates,
    /// Of all streams.
    highest_discontinuity: watch::Sender<u64>,
}

/// What a player asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The name below the stream's folder.
    pub file: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// Playlists may be gzipped.
    pub gzip: bool,
    /// Who asks.
    pub viewer: Viewer,
}

/// A player, as far as requests tell players apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Viewer {
    /// Where its requests come from.
    pub address: IpAddr,
    /// A hash of its `User-Agent`.
    pub user_agent_hash: u64,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Served {
    /// The media type.
    pub content_type: &'static str,
    /// How long it may be cached.
    pub cache: Cache,
    /// The bytes are gzipped.
    pub gzipped: bool,
    /// The bytes; shared, not copied.
    pub body: Bytes,
}

/// How long an answer may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// It never changes under its name.
    Immutable,
    /// A playlist.
    Playlist {
        /// Whole seconds.
        max_age: Duration,
    },
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HlsError {
    /// No such stream is live or has ended a moment ago.
    #[error("there is no stream {0}")]
    UnknownStream(StreamName),
    /// The stream has no media yet, although the request was held for it.
    #[error("stream {0} has no media yet; try again")]
    NotReady(StreamName),
    /// The file never was, or is gone.
    #[error("there is no file {0}")]
    UnknownFile(String),
    /// The file will come soon, but is not hinted yet.
    #[error("there is no file {0} yet")]
    NotYet(String),
    /// A delivery directive that cannot be obeyed.
    #[error("{directive}: {why}")]
    BadDirective {
        /// Its name.
        directive: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// A delivery directive that asks for what will not be there soon.
    #[error("{directive} asks for {requested}, too far beyond the last, which is {last}")]
    TooFarAhead {
        /// Its name.
        directive: &'static str,
        /// What was asked for.
        requested: u64,
        /// The last one in the playlist.
        last: u64,
    },
    /// The media that a held request waited for did not come within three target durations.
    #[error("the media did not come in time")]
    TimedOut,
}

impl Hls {
    /// An output without streams.
    pub fn new(settings: HlsSettings, pipelines: Arc<Pipelines>) -> Arc<Self> {
        Arc::new(Self {
            settings,
            pipelines,
            streams: RwLock::default(),
            groups: Groups::default(),
            rates: Rates::default(),
            highest_discontinuity: watch::Sender::default(),
        })
    }

    /// The highest discontinuity sequence number that any stream has had so far.
    pub fn highest_discontinuity(&self) -> watch::Receiver<u64> {
        self.highest_discontinuity.subscribe()
    }

    /// Segments a stream while it is wanted ([`HlsSettings::always`]) until it ends, keeps it for 60 s
    /// more, then forgets it. When `cancel` is
    /// cancelled, completes the last segment, ends the playlists and returns; they can be served still.
    ///
    /// Requests for the stream are taken from this call on, even before the future is polled. If the
    /// future is dropped, the stream is forgotten.
    pub fn run(
        self: Arc<Self>,
        stream: Arc<Stream>,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let limits = Limits::new(&self.settings, Duration::ZERO);
        let live = Arc::new(Live::new(stream.clone(), limits, self.highest_discontinuity.clone()));
        let before = self.streams.write().insert(stream.name().clone(), live.clone());
        let first = before.map(|before| before.next_numbers()).unwrap_or_default();
        let mut entry = Entry { hls: self, live, keep: false };
        async move {
            let Hls { settings, pipelines, groups, rates, .. } = &*entry.hls;
            let (mut first, mut promised) = (first, false);
            while settings.always || entry.live.wanted(&cancel).await {
                let longest = || groups.longest(stream.name(), stream.longest_group());
                if !std::mem::replace(&mut promised, true) {
                    // Once for all: a target duration never changes, not even while nobody looks.
                    entry.live.set_limits(Limits::new(settings, longest()));
                }
                let stop = output::run(settings, pipelines, &entry.live, rates, first, &cancel).await;
                longest(); // for whoever publishes under the name again
                match stop {
                    Stop::Ended => break,
                    Stop::Unwanted => first = entry.live.next_numbers(),
                }
            }
            if entry.live.is_playable() {
                tokio::select! {
                    () = cancel.cancelled() => entry.stay(),
                    () = tokio::time::sleep(KEPT_AFTER_END) => {}
                }
            }
        }
    }

    /// Answers a request for `file` of stream `name`. Waits, within bounds, where RFC 8216bis says so
    /// (blocking reload, preload hints) and for the first media of a stream. Cancel safe.
    pub async fn serve(&self, name: &StreamName, request: Request<'_>) -> Result<Served, HlsError> {
        let live = self.streams.read().get(name).cloned();
        let live = live.ok_or_else(|| HlsError::UnknownStream(name.clone()))?;
        live.serve(request).await
    }
}

/// A stream's place among those that are served.
struct Entry {
    hls: Arc<Hls>,
    live: Arc<Live>,
    keep: bool,
}

impl Entry {
    /// Leaves the stream to be served after this is dropped.
    fn stay(&mut self) {
        self.keep = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let name = self.live.stream().name();
        let mut streams = self.hls.streams.write();
        let present = streams.get(name).is_some_and(|present| Arc::ptr_eq(present, &self.live));
        if present && !self.keep {
            streams.remove(name);
        }
    }
}

impl std::fmt::Debug for Hls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hls").field("settings", &self.settings).finish_non_exhaustive()
    }
}
