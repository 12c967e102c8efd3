//! What a stream serves now, for any number of readers.
//!
//! Readers share snapshots and hold no lock while they wait: a held request is a receiver of a `watch`
//! and a timer.

use super::directives::Directives;
use super::limits::Limits;
use super::names::{File, Piece, RenditionName};
use super::snapshot::Snapshot;
use super::text::Text;
use super::viewers::Viewers;
use super::{Cache, HlsError, Request, Served};
use crate::media::MediaKind;
use crate::stream::Stream;
use bytes::Bytes;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a request for a playlist waits for the first media of a stream.
const START_PATIENCE: Duration = Duration::from_secs(8);

/// How long a request for a media playlist without directives waits for a state in which a player can
/// begin.
const JOIN_PATIENCE: Duration = Duration::from_secs(6);

/// A stream that nobody has asked for in this time is not segmented any more.
const UNWANTED_AFTER: Duration = Duration::from_secs(30);

const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";

/// One stream, as its readers see it.
#[derive(Debug)]
pub(super) struct Live {
    stream: Arc<Stream>,
    limits: RwLock<Limits>,
    programme: watch::Sender<Arc<Programme>>,
    /// Somebody waits for a programme.
    demand: watch::Sender<bool>,
    viewers: Viewers,
    next_sequence: AtomicU64,
    next_discontinuity: AtomicU64,
    /// Of all streams.
    highest_discontinuity: watch::Sender<u64>,
}

/// The numbers that the next segment and the next stretch get, at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Media sequence number.
    pub sequence: u64,
    /// Discontinuity sequence number.
    pub discontinuity: u64,
}

/// Which playlists there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Programme {
    /// The multivariant playlist, once each rendition has a segment.
    pub multivariant: Option<Text>,
    /// All renditions that have been in it.
    pub renditions: Vec<RenditionView>,
    /// The stream is over.
    pub ended: bool,
}

/// The read side of a rendition.
#[derive(Clone, Debug)]
pub(super) struct RenditionView {
    /// Which one it is.
    pub name: RenditionName,
    /// The token in its media names.
    pub run: Arc<str>,
    /// Its states.
    pub states: watch::Receiver<Arc<Snapshot>>,
}

impl Live {
    /// Tells `highest_discontinuity` when it has a higher one.
    pub fn new(stream: Arc<Stream>, limits: Limits, highest_discontinuity: watch::Sender<u64>) -> Self {
        Self {
            stream,
            limits: RwLock::new(limits),
            programme: watch::Sender::default(),
            demand: watch::Sender::new(false),
            viewers: Viewers::default(),
            next_sequence: AtomicU64::new(0),
            next_discontinuity: AtomicU64::new(0),
            highest_discontinuity,
        }
    }

    /// The stream.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What its playlists promise.
    pub fn limits(&self) -> Limits {
        *self.limits.read()
    }

    /// Changes that; only while there is no playlist.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write() = limits;
    }

    /// Says what there is now.
    pub fn publish(&self, programme: Programme) {
        self.programme.send_replace(Arc::new(programme));
    }

    /// Waits until somebody asks for a playlist; false if the stream ends or `cancel` comes before.
    pub async fn wanted(&self, cancel: &CancellationToken) -> bool {
        let (mut demand, mut lanes) = (self.demand.subscribe(), self.stream.watch_lanes());
        tokio::select! {
            demanded = demand.wait_for(|demand| *demand) => demanded.is_ok(),
            _ = lanes.wait_for(|lanes| lanes.ended) => false,
            () = cancel.cancelled() => false,
        }
    }

    /// Whether nobody has asked for anything in [`UNWANTED_AFTER`].
    pub fn is_unwanted(&self, now: Instant) -> bool {
        self.viewers.idle(now) >= UNWANTED_AFTER
    }

    /// Takes the programme back; the next request for a playlist is a demand again.
    pub fn rest(&self) {
        self.demand.send_replace(false); // first: who asks from here on is heard, or served once more
        self.publish(Programme::default());
    }

    /// Whether there is, or was, something to play.
    pub fn is_playable(&self) -> bool {
        self.programme.borrow().multivariant.is_some()
    }

    /// Where a successor under the same name goes on.
    pub fn next_numbers(&self) -> Numbers {
        Numbers {
            sequence: self.next_sequence.load(Relaxed),
            discontinuity: self.next_discontinuity.load(Relaxed),
        }
    }

    /// Raises [`Self::next_numbers`].
    pub fn set_next_numbers(&self, next: Numbers) {
        self.next_sequence.fetch_max(next.sequence, Relaxed);
        if self.next_discontinuity.fetch_max(next.discontinuity, Relaxed) < next.discontinuity {
            self.highest_discontinuity.send_if_modified(|highest| {
                let before = std::mem::replace(highest, next.discontinuity.max(*highest));
                before < *highest
            });
        }
    }

    /// Tells the stream's statistics how many players there are.
    pub fn count_viewers(&self, now: Instant) {
        self.stream.statistics().set_hls_readers(self.viewers.count(now));
    }

    /// As [`Hls::serve`](super::Hls::serve).
    pub async fn serve(&self, request: Request<'_>) -> Result<Served, HlsError> {
        let Request { query, gzip, .. } = request;
        let unknown = || HlsError::UnknownFile(request.file.into());
        let file = File::parse(request.file).ok_or_else(unknown)?;
        self.viewers.seen(Instant::now(), request.viewer);
        match file {
            File::Multivariant => {
                let programme = self.playable().await?;
                let text = programme.multivariant.as_ref().ok_or_else(unknown)?;
                Ok(playlist(text, gzip, Duration::from_secs(1)))
            }
            File::Playlist(rendition) => {
                let directives = Directives::parse(query)?;
                let view = self.playable().await?.view(rendition).cloned().ok_or_else(unknown)?;
                self.serve_playlist(view, directives, gzip).await
            }
            File::Media(rendition, run, piece) => {
                let view = self.programme.borrow().view(rendition).cloned();
                let mut view = view.filter(|view| &*view.run == run).ok_or_else(unknown)?;
                let Some(body) = self.media(&mut view, piece).await? else {
                    return Err(self.missing(request.file, &view.states.borrow(), piece));
                };
                let content_type = match rendition.kind() {
                    MediaKind::Video => "video/mp4",
                    MediaKind::Audio => "audio/mp4",
                };
                Ok(Served { content_type, cache: Cache::Immutable, gzipped: false, body })
            }
        }
    }

    /// Why there is no `piece` now: caches may remember that something is gone, not that it is yet to come.
    fn missing(&self, file: &str, state: &Snapshot, piece: Piece) -> HlsError {
        match state.expects(piece, &self.limits()) {
            true => HlsError::NotYet(file.into()),
            false => HlsError::UnknownFile(file.into()),
        }
    }

    /// Waits until each rendition has a segment.
    async fn playable(&self) -> Result<Arc<Programme>, HlsError> {
        if !self.is_playable() {
            self.demand.send_replace(true);
        }
        let mut programme = self.programme.subscribe();
        let ready = programme.wait_for(|programme| programme.multivariant.is_some() || programme.ended);
        let ready = timeout(START_PATIENCE, ready).await.ok().and_then(Result::ok).map(|ready| ready.clone());
        ready
            .filter(|programme| programme.multivariant.is_some())
            .ok_or_else(|| HlsError::NotReady(self.stream.name().clone()))
    }

    async fn serve_playlist(
        &self,
        mut view: RenditionView,
        directives: Directives,
        gzip: bool,
    ) -> Result<Served, HlsError> {
        directives.check(&view.states.borrow(), &self.limits())?;
        let state = match directives.block {
            Some(wanted) => self.wait(&mut view, |state| state.reached(wanted)).await?,
            None => joinable(&mut view).await,
        };
        let delta = if directives.skip && !state.ended { state.delta() } else { None };
        let text = delta.unwrap_or_else(|| state.playlist());
        // A version that was asked for by its number stays right. The newest is old at once, also where it is the answer
        // to a number long gone, or to any after the end.
        let max_age = match directives.block {
            Some(wanted) if !state.ended && state.lists(wanted.sequence) => {
                6 * self.limits().target_duration()
            }
            _ => Duration::from_secs(1),
        };
        Ok(playlist(text, gzip, max_age))
    }

    /// A piece of media; the one that is hinted is waited for (RFC 8216bis §6.2.6).
    async fn media(&self, view: &mut RenditionView, piece: Piece) -> Result<Option<Bytes>, HlsError> {
        let state = view.states.borrow().clone();
        match piece {
            Piece::Part(number) if number == state.next_part && !state.ended => {
                let state = self.wait(view, |state| state.next_part > number || state.ended).await?;
                Ok(state.find(piece))
            }
            _ => Ok(state.find(piece)),
        }
    }

    async fn wait(
        &self,
        view: &mut RenditionView,
        mut reached: impl FnMut(&Snapshot) -> bool,
    ) -> Result<Arc<Snapshot>, HlsError> {
        let state = timeout(self.limits().patience(), view.states.wait_for(|state| reached(state))).await;
        match state {
            Ok(Ok(state)) => Ok(state.clone()),
            // The writer is gone without an end: the stream was forgotten.
            Ok(Err(_)) | Err(_) => Err(HlsError::TimedOut),
        }
    }
}

/// The newest state, held back for a moment when a player that begins now would begin without an IDR.
async fn joinable(view: &mut RenditionView) -> Arc<Snapshot> {
    // Otherwise: its patience is over, or the writer gone.
    let _ = timeout(JOIN_PATIENCE, view.states.wait_for(|state| state.joinable)).await.map(drop);
    view.states.borrow().clone()
}

impl Programme {
    fn view(&self, name: RenditionName) -> Option<&RenditionView> {
        self.renditions.iter().find(|view| view.name == name)
    }
}

fn playlist(text: &Text, gzip: bool, max_age: Duration) -> Served {
    let body = if gzip { text.gzipped() } else { text.plain() };
    Served {
        content_type: PLAYLIST_TYPE,
        cache: Cache::Playlist { max_age },
        gzipped: gzip,
        body: body.clone(),
    }
}
