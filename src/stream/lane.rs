//! One lane of a stream: a bounded broadcast with the latest group of pictures in front.

use super::alarm::{Alarms, Rule, Sleep};
use super::hold::LastGroup;
use super::{LaneKind, Stream};
use crate::media::{Epoch, Frame, MediaKind, MediaTime, PacketBatch};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::time::Instant;

/// Items a reader may lag behind before it loses the oldest: some 10 s of frames.
const CAPACITY: usize = 1024;
/// Bounds of the cached group of pictures; a longer one is not cached.
const CACHE_ITEMS: usize = 8192;
const CACHE_BYTES: usize = 16 << 20;

/// What travels on a lane: [`Frame`], [`PacketBatch`], or what is made of them.
pub trait Media: Clone + Send + Sync + 'static {
    /// The lane it travels on.
    const LANE: LaneKind;
    /// The epoch it belongs to.
    fn epoch(&self) -> &Arc<Epoch>;
    /// Whether a decoder can start here.
    fn starts_group(&self) -> bool;
    /// Of simulcast video, the encoding that it begins with; 0 is the best.
    fn layer(&self) -> u8 {
        0
    }
    /// Payload bytes.
    fn size(&self) -> usize;
    /// When it is decoded, where that is known.
    fn time(&self) -> Option<MediaTime> {
        None
    }
    #[doc(hidden)]
    fn lane(stream: &Stream) -> &Lane<Self>;
}

impl Media for Frame {
    const LANE: LaneKind = LaneKind::Frames;
    fn epoch(&self) -> &Arc<Epoch> {
        &self.epoch
    }
    fn starts_group(&self) -> bool {
        self.keyframe && (self.kind == MediaKind::Video || !self.epoch.tracks.has(MediaKind::Video))
    }
    fn size(&self) -> usize {
        self.data.len()
    }
    fn time(&self) -> Option<MediaTime> {
        Some(self.dts)
    }
    fn lane(stream: &Stream) -> &Lane<Self> {
        &stream.frames
    }
}

impl Media for PacketBatch {
    const LANE: LaneKind = LaneKind::Packets;
    fn epoch(&self) -> &Arc<Epoch> {
        &self.epoch
    }
    fn starts_group(&self) -> bool {
        self.packets.first().is_some_and(|packet| packet.keyframe) || !self.epoch.tracks.has(MediaKind::Video)
    }
    fn layer(&self) -> u8 {
        self.packets.first().map_or(0, |packet| packet.layer)
    }
    fn size(&self) -> usize {
        self.packets.iter().map(|packet| packet.payload.len()).sum()
    }
    fn time(&self) -> Option<MediaTime> {
        self.packets.last().map(|packet| packet.pts)
    }
    fn lane(stream: &Stream) -> &Lane<Self> {
        &stream.packets
    }
}

/// One lane. Writers are [`Publisher`](super::Publisher), [`BridgeWriter`](super::BridgeWriter) and
/// [`HoldWriter`](super::HoldWriter).
#[derive(Debug)]
pub struct Lane<T> {
    state: Mutex<State<T>>,
    /// The epoch in `state`, for who looks from outside: it is not to wait while items are handed out, nor they
    /// for it. Changed under the lock of `state`.
    shown: Mutex<Option<Arc<Epoch>>>,
}

#[derive(Debug)]
struct State<T> {
    /// To the readers. Its slots take tens of kilobytes, so it is there only while there are any.
    sender: Option<broadcast::Sender<Arc<T>>>,
    /// The stream has ended.
    ended: bool,
    alarms: Alarms<T>,
    cache: VecDeque<Arc<T>>,
    /// The encoding whose keyframe the cache begins with.
    cache_layer: u8,
    cache_bytes: usize,
    /// The longest group of pictures so far.
    longest_group: Duration,
    /// When the cache was last added to.
    written: Option<Instant>,
    /// The last group before a pause, kept for who fills it.
    last: Option<(VecDeque<Arc<T>>, Instant)>,
    epoch: Option<Arc<Epoch>>,
}

impl<T: Media> Lane<T> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                sender: None,
                ended: false,
                alarms: Alarms::new(),
                cache: VecDeque::new(),
                cache_layer: 0,
                cache_bytes: 0,
                longest_group: Duration::ZERO,
                written: None,
                last: None,
                epoch: None,
            }),
            shown: Mutex::new(None),
        }
    }

    /// Hands `item` to all subscribers if `allowed`, which is asked under the lane's lock. False if not, and
    /// once the stream has ended.
    pub(super) fn write_if(&self, item: T, allowed: impl FnOnce() -> bool) -> bool {
        let item = Arc::new(item);
        let mut state = self.state.lock();
        if !allowed() {
            return false;
        }
        if state.epoch.as_ref().is_none_or(|epoch| epoch.id != item.epoch().id) {
            self.enter(&mut state, Some(item.epoch().clone()));
        }
        state.remember(&item);
        if state.ended {
            return false;
        }
        if state.sender.as_ref().is_some_and(|sender| sender.send(item.clone()).is_err()) {
            // Nobody reads this lane any more.
            state.sender = None;
        }
        state.alarms.ring(&item);
        true
    }

    /// Sets an alarm for a reader that has read all there is; `None` if it has not, or no more comes.
    fn sleep(&self, receiver: &broadcast::Receiver<Arc<T>>, rule: Rule<T>) -> Option<Sleep> {
        let mut state = self.state.lock();
        (receiver.is_empty() && !state.ended).then(|| state.alarms.set(rule))
    }

    /// The epoch of the latest item.
    pub(super) fn epoch(&self) -> Option<Arc<Epoch>> {
        self.shown.lock().clone()
    }

    /// When the last of the cached items is decoded.
    pub(super) fn last_time(&self) -> Option<MediaTime> {
        self.state.lock().cache.back()?.time()
    }

    pub(super) fn subscribe(&self) -> (VecDeque<Arc<T>>, Option<broadcast::Receiver<Arc<T>>>) {
        let mut state = self.state.lock();
        let receiver = (!state.ended).then(|| match &state.sender {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = broadcast::channel(CAPACITY);
                state.sender = Some(sender);
                receiver
            }
        });
        (state.cache.clone(), receiver)
    }

    /// Forgets the cached group of pictures and the epoch: their source is gone.
    pub(super) fn forget(&self) {
        self.enter(&mut self.state.lock(), None);
    }

    /// Another epoch begins, or none is there any more.
    fn enter(&self, state: &mut State<T>, epoch: Option<Arc<Epoch>>) {
        state.clear_cache();
        self.shown.lock().clone_from(&epoch);
        state.epoch = epoch;
    }

    /// Sets the cached group of pictures aside, if there is one: the pause that begins may be filled.
    pub(super) fn keep_last(&self) {
        let mut state = self.state.lock();
        if let Some(written) = state.written.filter(|_| !state.cache.is_empty()) {
            state.last = Some((state.cache.clone(), written));
        }
    }

    /// Forgets what [`Self::keep_last`] has kept.
    pub(super) fn forget_last(&self) {
        self.state.lock().last = None;
    }

    /// Forgets what a hold has written if `ends`, which is asked under the lane's lock, says that it is over.
    pub(super) fn end_hold(&self, ends: impl FnOnce() -> bool) -> bool {
        let mut state = self.state.lock();
        let ended = ends();
        if ended {
            self.enter(&mut state, None);
        }
        ended
    }

    /// Ends all subscriptions.
    pub(super) fn close(&self) {
        self.forget();
        let mut state = self.state.lock();
        state.last = None;
        (state.sender, state.ended) = (None, true);
        state.alarms.ring_all();
    }
}

impl Lane<Frame> {
    /// From one keyframe to the next, at most so far; zero before the second.
    pub(super) fn longest_group(&self) -> Duration {
        self.state.lock().longest_group
    }

    /// What [`Self::keep_last`] has kept; without a hold first of all what it would keep.
    pub(super) fn last_group(&self, held: bool) -> Option<LastGroup> {
        let state = self.state.lock();
        let now = state.written.filter(|_| !held && !state.cache.is_empty()).map(|at| (&state.cache, at));
        let (frames, written) = now.or_else(|| state.last.as_ref().map(|(last, at)| (last, *at)))?;
        Some(LastGroup { frames: frames.iter().cloned().collect(), written })
    }
}

impl<T: Media> State<T> {
    fn remember(&mut self, item: &Arc<T>) {
        // A keyframe of a worse encoding is a start only where there is no better one.
        let better = self.cache.is_empty() || item.layer() <= self.cache_layer;
        if item.starts_group() && better {
            let before =
                self.cache.front().filter(|first| first.starts_group()).and_then(|first| first.time());
            if let (Some(before), Some(now)) = (before, item.time()) {
                self.longest_group = self.longest_group.max(now.since(before));
            }
            self.clear_cache();
            self.cache_layer = item.layer();
        } else if self.cache.is_empty() {
            return; // useless before a point where decoding can start
        }
        self.written = Some(Instant::now());
        self.cache.push_back(item.clone());
        self.cache_bytes += item.size();
        if self.cache.len() > CACHE_ITEMS || self.cache_bytes > CACHE_BYTES {
            self.clear_cache();
        }
    }

    fn clear_cache(&mut self) {
        self.cache.clear();
        self.cache_bytes = 0;
    }
}

/// A read half of one lane. It begins with the cached group of pictures and goes on with live media.
///
/// A reader that lags loses the oldest media; it is counted in [`Self::lost`], and reading goes on where
/// a decoder can start. Compare [`Media::epoch`] of successive items to see configurations change.
#[derive(Debug)]
pub struct Subscriber<T: Media> {
    stream: Arc<Stream>,
    backlog: VecDeque<Arc<T>>,
    receiver: Option<broadcast::Receiver<Arc<T>>>,
    needs_group_start: bool,
    lost: u64,
}

impl<T: Media> Subscriber<T> {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        stream.reader_came(T::LANE);
        let (backlog, receiver) = T::lane(&stream).subscribe();
        Self { stream, needs_group_start: backlog.is_empty(), backlog, receiver, lost: 0 }
    }

    /// The next item; `None` when the stream has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<Arc<T>> {
        if let Some(item) = self.backlog.pop_front() {
            return Some(item);
        }
        let receiver = self.receiver.as_mut()?;
        loop {
            match receiver.recv().await {
                Ok(item) if self.needs_group_start && !item.starts_group() => {}
                Ok(item) => {
                    self.needs_group_start = false;
                    return Some(item);
                }
                Err(RecvError::Lagged(lost)) => {
                    self.lost += lost;
                    self.needs_group_start = true;
                    self.stream.statistics().lagged(lost);
                    self.stream.request_keyframe();
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next item if one is there now. `None` tells nothing about the end: `recv` does.
    pub fn try_recv(&mut self) -> Option<Arc<T>> {
        if let Some(item) = self.backlog.pop_front() {
            return Some(item);
        }
        let receiver = self.receiver.as_mut()?;
        loop {
            match receiver.try_recv() {
                Ok(item) if self.needs_group_start && !item.starts_group() => {}
                Ok(item) => {
                    self.needs_group_start = false;
                    return Some(item);
                }
                Err(TryRecvError::Lagged(lost)) => {
                    self.lost += lost;
                    self.needs_group_start = true;
                    self.stream.statistics().lagged(lost);
                    self.stream.request_keyframe();
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }

    /// Waits until `is_due` says yes of a live item; at once if there is something to read already. What
    /// came is for [`Self::try_recv`]. False when the stream has ended and all is read. Cancel safe.
    ///
    /// The rule is asked within the publisher's write: it must be quick. The lane keeps what comes
    /// meanwhile, within its bounds: no rule should wait for more than some hundred items.
    pub async fn due(&mut self, is_due: impl FnMut(&T) -> bool + Send + 'static) -> bool {
        let Some(receiver) = &self.receiver else { return !self.backlog.is_empty() };
        if !self.backlog.is_empty() {
            return true;
        }
        let lane = T::lane(&self.stream);
        if let Some(Sleep { id, ring }) = lane.sleep(receiver, Box::new(is_due)) {
            let _awake = Awake { lane, id };
            ring.notified().await;
        }
        !(receiver.is_empty() && receiver.is_closed())
    }

    /// How many cached items are still to come before live media.
    pub fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Those items, the next one first.
    pub fn cached(&self) -> impl Iterator<Item = &T> {
        self.backlog.iter().map(Arc::as_ref)
    }

    /// Items lost to lag so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The stream that is read.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

/// Forgets the alarm of a reader that no longer waits for it.
struct Awake<'a, T: Media> {
    lane: &'a Lane<T>,
    id: u64,
}

impl<T: Media> Drop for Awake<'_, T> {
    fn drop(&mut self) {
        self.lane.state.lock().alarms.remove(self.id);
    }
}

impl<T: Media> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.stream.reader_left(T::LANE);
    }
}
