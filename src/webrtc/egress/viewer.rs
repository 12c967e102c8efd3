//! One WHEP viewer: its transport, its timers, what it is told and what becomes of it.
//!
//! Owned by the worker's thread; time is an argument. What it plays is in `playback`, what it tells us in
//! `feedback`. No media goes out before the handshake has shown that the peer has the certificate of its
//! offer.

use super::Plan;
use super::echo::Echoes;
use super::fan_out::FanOut;
use super::feedback::Listener;
use super::lane::ViewerLane;
use super::layers::LayerChoice;
use super::playback::VideoState;
use super::reach::{Reach, Verdict};
use super::resend::ResendBudget;
use super::track::OutTrack;
use crate::media::{Codec, Frame, MediaKind, Tracks};
use crate::stream::{LaneKind, ReaderGuard, ReaderKind, Stream};
use crate::webrtc::path::Path;
use crate::webrtc::session::SessionState;
use crate::webrtc::socket::Outlet;
use crate::webrtc::traffic::Traffic;
use crate::webrtc::transport::Transport;
use crate::webrtc::{LayerSelection, SessionError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a simulcast viewer's layer is thought over.
const CHOICE_INTERVAL: Duration = Duration::from_millis(200);
/// A keyframe that does not come is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A session that plays one stream.
pub(in crate::webrtc) struct Viewer {
    pub(super) stream: Arc<Stream>,
    lane: ViewerLane,
    _counted: ReaderGuard,
    pub(super) transport: Transport,
    pub(super) tracks: Vec<OutTrack>,
    codecs: Vec<(MediaKind, Codec)>,
    unserved: Vec<MediaKind>,
    pub(super) cname: String,
    pub(super) video: VideoState,
    /// Sound is not sent before.
    pub(super) sound_from: Option<Instant>,
    pub(super) layers: LayerChoice,
    next_choice: Instant,
    next_ask: Instant,
    pub(super) reach: Reach,
    /// Nothing is sent: the viewer has not been heard of for a while.
    pub(super) paused: bool,
    pub(super) resend: ResendBudget,
    /// Packets that were sent again, and their bytes.
    pub(super) resent: (u64, u64),
    pub(super) listener: Listener,
    pub(super) echoes: Echoes,
    pub(super) traffic: Arc<Traffic>,
    pub(super) next_report: Instant,
    /// Reports that come sooner than the others.
    pub(super) early_reports: u8,
}

impl Viewer {
    /// A session for what was agreed upon.
    pub(super) fn new(now: Instant, plan: Plan) -> Self {
        let Plan { stream, lane, tracks, transport, agreement, cname } = plan;
        let codecs =
            agreement.tracks.iter().filter_map(|track| Some((track.kind, tracks.codec(track.kind)?)));
        Self {
            _counted: stream.count_reader(ReaderKind::Whep),
            stream,
            lane,
            transport,
            codecs: codecs.collect(),
            tracks: agreement.tracks,
            unserved: agreement.unserved,
            cname,
            video: VideoState::Waiting,
            sound_from: None,
            layers: LayerChoice::new(now),
            next_choice: now,
            next_ask: now,
            reach: Reach::new(now),
            paused: false,
            resend: ResendBudget::new(now),
            resent: (0, 0),
            listener: Listener::default(),
            echoes: Echoes::default(),
            traffic: Arc::default(),
            next_report: now,
            early_reports: 0,
        }
    }

    /// Our ICE user fragment.
    pub(in crate::webrtc) fn local_ufrag(&self) -> &str {
        self.transport.local_ufrag()
    }

    /// Its transport.
    pub(in crate::webrtc) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Where it counts what it sends and gets, from now on.
    pub(in crate::webrtc) fn share_traffic(&mut self, traffic: Arc<Traffic>) {
        self.traffic = traffic;
    }

    /// The stream that is played.
    pub(in crate::webrtc) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Where the session stands.
    pub(in crate::webrtc) fn state(&self) -> SessionState {
        self.transport.state()
    }

    /// The viewer wants this encoding, or the best that its network holds, from the next keyframe on, which
    /// is asked for.
    pub(in crate::webrtc) fn select_layer(&mut self, selection: LayerSelection) -> Result<(), SessionError> {
        let layers = self.lane.layers(&self.stream);
        if let LayerSelection::Rid(rid) = &selection
            && !layers.iter().any(|layer| layer.rid == *rid)
        {
            let known: Vec<&str> = layers.iter().map(|layer| layer.rid.as_str()).collect();
            return Err(SessionError::UnknownLayer { rid: rid.clone(), known: known.join(", ") });
        }
        self.layers.selection = selection;
        Ok(())
    }

    /// A STUN message. True if it was authentic: the path is proven.
    pub(in crate::webrtc) fn handle_stun(
        &mut self,
        now: Instant,
        path: Path,
        data: &[u8],
        outlet: &mut dyn Outlet,
    ) -> bool {
        let authentic = self.transport.handle_stun(now, path, data, outlet);
        if authentic {
            self.reach.heard(now);
        }
        if self.transport.take_restarted() {
            // W31: what was on the old way may be lost.
            self.request_keyframe();
        }
        authentic
    }

    /// A DTLS datagram from a proven path.
    pub(in crate::webrtc) fn handle_dtls(
        &mut self,
        now: Instant,
        data: &[u8],
        fan_out: Option<&FanOut>,
        outlet: &mut dyn Outlet,
    ) {
        if self.transport.handle_dtls(now, data, outlet) {
            tracing::debug!(stream = %self.stream.name(), "Viewer connected.");
            self.reach.heard(now);
            self.join(now, fan_out);
        }
    }

    /// Timers: retransmission of handshake flights, every 50 ms at least; reports, consent, layers, every 100 ms.
    pub(in crate::webrtc) fn handle_timeout(
        &mut self,
        now: Instant,
        fan_out: Option<&FanOut>,
        outlet: &mut dyn Outlet,
    ) {
        self.transport.handle_timeout(now, outlet);
        if !self.is_connected() {
            return;
        }
        match self.reach.verdict(now) {
            Verdict::Send if self.paused => {
                tracing::debug!(stream = %self.stream.name(), "A viewer is heard of again.");
                self.paused = false;
                self.join(now, fan_out);
            }
            Verdict::Send => {}
            Verdict::Pause if !self.paused => {
                tracing::debug!(stream = %self.stream.name(), "A viewer is silent: nothing is sent to it.");
                self.paused = true;
                self.video = VideoState::Waiting;
            }
            Verdict::Pause => return,
            Verdict::GiveUp(why) => return self.transport.end(why),
        }
        if now >= self.next_report {
            self.report(now, fan_out, outlet);
        }
        if now >= self.next_choice {
            self.next_choice = now + CHOICE_INTERVAL;
            self.choose_layer(now, fan_out);
        }
    }

    /// Another epoch begins. The session ends if the viewer can't play it with what was agreed upon.
    pub(super) fn enter_epoch(&mut self, tracks: &Tracks) {
        let changed = self.codecs.iter().find(|(kind, codec)| {
            let now = tracks.codec(*kind);
            now.is_some_and(|now| now != *codec)
        });
        let gained = self.unserved.iter().find(|kind| tracks.has(**kind));
        if self.is_withheld(tracks) {
            return self.transport.end("the stream's video has B-frames now: ask again to learn more");
        }
        match (changed, gained) {
            (Some((MediaKind::Video, _)), _) => self.transport.end("the stream's video codec changed"),
            (Some((MediaKind::Audio, _)), _) => self.transport.end("the stream's audio codec changed"),
            (None, Some(MediaKind::Video)) => self.transport.end("the stream now has video as well"),
            (None, Some(MediaKind::Audio)) => self.transport.end("the stream now has audio as well"),
            (None, None) => {}
        }
        self.video = VideoState::Waiting;
        for track in &mut self.tracks {
            track.unmap();
        }
    }

    /// The stream has video, but not for viewers any more.
    fn is_withheld(&self, tracks: &Tracks) -> bool {
        let agreed = self.codecs.iter().any(|(kind, _)| *kind == MediaKind::Video);
        agreed
            && tracks.video.is_none()
            && self.stream.watch_lanes().borrow().native == Some(LaneKind::Frames)
            && self.stream.epoch::<Frame>().is_some_and(|epoch| epoch.tracks.has(MediaKind::Video))
    }

    /// Ends the session; the peer is told.
    pub(in crate::webrtc) fn close(&mut self, now: Instant, why: &'static str, outlet: &mut dyn Outlet) {
        self.tell_sent();
        self.transport.close(now, why, outlet);
    }

    /// Asks for a keyframe of the layer that is wanted.
    pub(super) fn request_keyframe(&self) {
        self.lane.request_keyframe(&self.stream, self.layers.wanted());
    }

    pub(super) fn is_connected(&self) -> bool {
        self.transport.state() == SessionState::Connected
    }

    pub(super) fn track_mut(&mut self, kind: MediaKind) -> Option<&mut OutTrack> {
        self.tracks.iter_mut().find(|track| track.kind == kind)
    }

    /// Its estimate of the network counts where there are layers to choose from.
    pub(super) fn tell_send_time(&mut self, fan_out: &FanOut) {
        let several = fan_out.layers().len() > 1;
        if let Some(track) = self.track_mut(MediaKind::Video) {
            track.tell_send_time(several);
        }
    }

    /// Thinks the layer over, and asks for its keyframe while it has not begun.
    fn choose_layer(&mut self, now: Instant, fan_out: Option<&FanOut>) {
        let Some(fan_out) = fan_out else { return };
        self.tell_send_time(fan_out);
        let Some(layers) = Some(fan_out.layers()).filter(|layers| layers.len() > 1) else { return };
        if self.layers.choose(layers, now) {
            let rid = layers.get(usize::from(self.layers.wanted())).map(|layer| layer.rid.as_str());
            tracing::debug!(stream = %self.stream.name(), rid, "A viewer gets another layer.");
            self.next_ask = now;
        }
        let wanted = self.layers.wanted();
        let sent = self.track_mut(MediaKind::Video).filter(|track| track.is_mapped());
        let begun = sent.is_none_or(|track| track.layer() == wanted);
        if !begun && now >= self.next_ask {
            self.next_ask = now + ASK_AGAIN;
            self.request_keyframe();
        }
    }
}
