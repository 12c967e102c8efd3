//! One WHEP viewer: ICE, DTLS, and the packets it gets.
//!
//! Owned by the driver's thread; time is an argument. Nothing is allocated per packet: runs are patched
//! and sealed in a buffer of the worker's. No media goes out before the handshake has shown that the peer
//! has the certificate of its offer.

use super::Plan;
use super::fan_out::FanOut;
use super::rtcp::{Feedback, SenderReport};
use super::template::Template;
use super::track::{Numbers, OutTrack, ticks};
use super::{history, resend::ResendBudget};
use crate::media::{Codec, MediaKind, Tracks};
use crate::stream::{ReaderGuard, ReaderKind, Stream};
use crate::webrtc::path::Path;
use crate::webrtc::session::SessionState;
use crate::webrtc::socket::Outlet;
use crate::webrtc::transport::{HEADER, Transport};
use crate::webrtc::{LayerSelection, SessionError};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A receiver lays pictures and sound side by side once it has two reports of each.
const EARLY_REPORTS: u8 = 4;
const EARLY_INTERVAL: Duration = Duration::from_millis(250);
/// Sound follows the first picture by so much. A browser's sound card starts after the connection; what
/// comes before it does waits in a buffer that takes ten seconds to run empty, and all that time the
/// sound is late.
const SOUND_HOLD: Duration = Duration::from_millis(400);
/// Cached pictures are sent within about this many milliseconds, one step each.
const CATCH_UP_STEPS: usize = 64;
/// Packets of one step, at least and at most.
const STEP_PACKETS: (usize, usize) = (8, 64);
/// RTCP from sources not seen before, in one session: each costs memory before it proves authentic.
const UNKNOWN_SOURCES: u16 = 256;

/// A session that plays one stream.
pub(in crate::webrtc) struct Viewer {
    stream: Arc<Stream>,
    _counted: ReaderGuard,
    transport: Transport,
    tracks: Vec<OutTrack>,
    codecs: Vec<(MediaKind, Codec)>,
    unserved: Vec<MediaKind>,
    cname: String,
    video: VideoState,
    resend: ResendBudget,
    rtcp_sources: Vec<u32>,
    unknown_sources: u16,
    next_report: Instant,
    /// Reports until they come at [`REPORT_INTERVAL`].
    early_reports: u8,
    /// Sound is not sent before.
    sound_from: Option<Instant>,
}

/// Where a viewer stands in the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VideoState {
    /// It begins at the next keyframe.
    Waiting,
    /// It gets the cached group of pictures, from this batch and run on.
    CatchUp { generation: u64, batch: usize, run: usize },
    /// It gets what arrives.
    Live,
}

impl Viewer {
    /// A session for what was agreed upon.
    pub(super) fn new(now: Instant, plan: Plan) -> Self {
        let Plan { stream, tracks, transport, agreement, cname } = plan;
        let codecs =
            agreement.tracks.iter().filter_map(|track| Some((track.kind, tracks.codec(track.kind)?)));
        Self {
            _counted: stream.count_reader(ReaderKind::Whep),
            stream,
            transport,
            codecs: codecs.collect(),
            tracks: agreement.tracks,
            unserved: agreement.unserved,
            cname,
            video: VideoState::Waiting,
            resend: ResendBudget::new(now),
            rtcp_sources: Vec::new(),
            unknown_sources: UNKNOWN_SOURCES,
            next_report: now,
            early_reports: 0,
            sound_from: None,
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

    /// The stream that is played.
    pub(in crate::webrtc) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Where the session stands.
    pub(in crate::webrtc) fn state(&self) -> SessionState {
        self.transport.state()
    }

    /// The viewer wants this encoding from its next keyframe on, which is asked for.
    pub(in crate::webrtc) fn select_layer(&mut self, selection: LayerSelection) -> Result<(), SessionError> {
        let layers = self.stream.layers();
        let LayerSelection::Rid(rid) = selection else { return Ok(()) };
        let Some(layer) = layers.iter().position(|layer| layer.rid == rid) else {
            let known: Vec<&str> = layers.iter().map(|layer| layer.rid.as_str()).collect();
            return Err(SessionError::UnknownLayer { rid, known: known.join(", ") });
        };
        self.stream.request_layer_keyframe(u8::try_from(layer).unwrap_or(0));
        Ok(())
    }

    /// Whether cached pictures are still to be sent: call [`Self::catch_up`] once a millisecond.
    pub(in crate::webrtc) fn is_catching_up(&self) -> bool {
        self.is_connected() && matches!(self.video, VideoState::CatchUp { .. })
    }

    /// A STUN message. True if it was authentic: the path is proven.
    pub(in crate::webrtc) fn handle_stun(
        &mut self,
        now: Instant,
        path: Path,
        data: &[u8],
        outlet: &mut dyn Outlet,
    ) -> bool {
        let proven = self.transport.handle_stun(now, path, data, outlet);
        if self.transport.take_restarted() {
            // W31: what was on the old way may be lost.
            self.stream.request_keyframe();
        }
        proven
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
            self.join(now, fan_out);
        }
    }

    /// An RTCP datagram from a proven address.
    pub(in crate::webrtc) fn handle_rtcp(
        &mut self,
        now: Instant,
        data: &[u8],
        fan_out: Option<&FanOut>,
        outlet: &mut dyn Outlet,
        buffer: &mut Vec<u8>,
    ) {
        let Some(source) = data.get(4..8).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])) else {
            return;
        };
        let known = self.rtcp_sources.contains(&source);
        if !known {
            let Some(left) = self.unknown_sources.checked_sub(1) else { return };
            self.unknown_sources = left;
        }
        let Some((keys, _)) = self.transport.sending() else { return };
        let Ok(plain) = keys.incoming.decrypt_rtcp(data) else { return };
        if !known && self.rtcp_sources.len() < 16 {
            self.rtcp_sources.push(source);
        }
        let mut keyframe = false;
        Feedback::read(&plain, |feedback| match feedback {
            Feedback::Keyframe { ssrc } => keyframe |= self.tracks.iter().any(|track| track.ssrc == ssrc),
            Feedback::Nack { ssrc, first, following } => {
                let Some(fan_out) = fan_out else { return };
                let bits = (0..16).filter(|bit| following & (1 << bit) != 0);
                for number in std::iter::once(first).chain(bits.map(|bit| first.wrapping_add(bit + 1))) {
                    self.resend(now, ssrc, number, fan_out, outlet, buffer);
                }
            }
        });
        if keyframe {
            self.stream.request_keyframe();
        }
    }

    /// Timers: retransmission of handshake flights, reports, consent. At least every 50 ms.
    pub(in crate::webrtc) fn handle_timeout(
        &mut self,
        now: Instant,
        fan_out: Option<&FanOut>,
        outlet: &mut dyn Outlet,
    ) {
        self.transport.handle_timeout(now, outlet);
        if self.is_connected() && now >= self.next_report {
            self.report(now, fan_out, outlet);
        }
    }

    /// Another epoch begins. The session ends if the viewer can't play it with what was agreed upon.
    pub(super) fn enter_epoch(&mut self, tracks: &Tracks) {
        let same =
            self.codecs.iter().all(|(kind, codec)| tracks.codec(*kind).is_none_or(|now| now == *codec));
        if !same || self.unserved.iter().any(|kind| tracks.has(*kind)) {
            self.transport.end("the stream's tracks changed");
        }
        self.video = VideoState::Waiting;
        for track in &mut self.tracks {
            track.unmap();
        }
    }

    /// Media was lost on the way to this worker: pictures go on at the next keyframe.
    pub(super) fn skip_to_keyframe(&mut self) {
        self.video = VideoState::Waiting;
    }

    /// Sends a batch that has just arrived. `sound_lag`: see [`FanOut::sound_lag`].
    pub(in crate::webrtc) fn send(
        &mut self,
        now: Instant,
        batch: &Template,
        sound_lag: Option<i64>,
        outlet: &mut dyn Outlet,
        buffer: &mut Vec<u8>,
    ) {
        if !self.is_connected() {
            return;
        }
        if self.video != VideoState::Live
            && let (Some(start), Some(track)) =
                (batch.group_start(), track_mut(&mut self.tracks, MediaKind::Video))
        {
            track.map(start.sequence, start.timestamp, None, now);
            track.begin_playout(start.timestamp, sound_lag);
            self.video = VideoState::Live;
        }
        let sound = self.sound_from.is_none_or(|from| now >= from);
        let first_sound = batch.packets.iter().find(|packet| sound && packet.kind == MediaKind::Audio);
        if let (Some(first), Some(track)) = (first_sound, track_mut(&mut self.tracks, MediaKind::Audio))
            && !track.is_mapped()
        {
            track.map(first.sequence, first.timestamp, None, now);
            self.next_report = now;
            self.early_reports = EARLY_REPORTS;
            if let Some(video) = track_mut(&mut self.tracks, MediaKind::Video) {
                video.update_playout(sound_lag);
            }
        }
        let live = self.video == VideoState::Live;
        let wanted = |kind| if kind == MediaKind::Audio { sound } else { live };
        for run in 0..batch.runs.len() {
            self.send_run(now, batch, run, wanted, outlet, buffer);
        }
    }

    /// Sends the next step of the cached pictures.
    pub(in crate::webrtc) fn catch_up(
        &mut self,
        now: Instant,
        fan_out: &FanOut,
        outlet: &mut dyn Outlet,
        buffer: &mut Vec<u8>,
    ) {
        let VideoState::CatchUp { generation, mut batch, mut run } = self.video else { return };
        let (group, present) = fan_out.history().group();
        if present != generation {
            self.wait_for_keyframe();
            return;
        }
        let (least, most) = STEP_PACKETS;
        let mut left = fan_out.history().group_packets().div_ceil(CATCH_UP_STEPS).clamp(least, most);
        while let Some(template) = group.get(batch) {
            if run >= template.runs.len() {
                (batch, run) = (batch + 1, 0);
                continue;
            }
            if left == 0 {
                self.video = VideoState::CatchUp { generation, batch, run };
                return;
            }
            self.send_run(now, template, run, |kind| kind == MediaKind::Video, outlet, buffer);
            left = left.saturating_sub(template.runs[run].len());
            run += 1;
        }
        self.video = VideoState::Live;
    }

    /// Ends the session; the peer is told.
    pub(in crate::webrtc) fn close(&mut self, now: Instant, why: &'static str, outlet: &mut dyn Outlet) {
        self.transport.close(now, why, outlet);
    }

    fn is_connected(&self) -> bool {
        self.transport.state() == SessionState::Connected
    }

    /// The handshake is done: begin with the cached pictures, or wait for a keyframe.
    fn join(&mut self, now: Instant, fan_out: Option<&FanOut>) {
        self.next_report = now;
        let with = |kind| self.tracks.iter().any(|track| track.kind == kind);
        self.sound_from = with(MediaKind::Video).then_some(now + SOUND_HOLD);
        let Some(history) = fan_out.map(FanOut::history) else { return };
        let (group, generation) = history.group();
        let start = group.first().and_then(|template| template.group_start());
        let live = history.latest(MediaKind::Video).zip(history.highest(MediaKind::Video));
        if let (Some(start), Some((latest, highest)), Some(track)) =
            (start, live, track_mut(&mut self.tracks, MediaKind::Video))
        {
            track.map(start.sequence, start.timestamp, Some((highest + 1, latest.timestamp)), now);
            track.begin_playout(start.timestamp, history.sound_lag());
            self.video = VideoState::CatchUp { generation, batch: 0, run: 0 };
        } else {
            self.wait_for_keyframe();
        }
    }

    fn wait_for_keyframe(&mut self) {
        self.video = VideoState::Waiting;
        if self.tracks.iter().any(|track| track.kind == MediaKind::Video) {
            self.stream.request_keyframe();
        }
    }

    /// Patches, seals and sends the wanted packets of one run as one message.
    fn send_run(
        &mut self,
        now: Instant,
        batch: &Template,
        run: usize,
        wanted: impl Fn(MediaKind) -> bool,
        outlet: &mut dyn Outlet,
        buffer: &mut Vec<u8>,
    ) {
        let Some((keys, path)) = self.transport.sending() else { return };
        buffer.clear();
        let mut segment = 0;
        let mut hinted = false;
        for packet in batch.packets[batch.runs[run].clone()].iter().filter(|packet| wanted(packet.kind)) {
            let Some(track) = track_mut(&mut self.tracks, packet.kind) else { continue };
            let Some(numbers) = track.numbers(packet.sequence, packet.timestamp) else { continue };
            let extension = track.playout_extension(packet.sequence, packet.timestamp);
            if extension.is_some() != hinted {
                // Sizes differ from here on.
                if !buffer.is_empty() {
                    outlet.send(path, buffer, Some(segment));
                }
                buffer.clear();
                (segment, hinted) = (0, !hinted);
            }
            let start = buffer.len();
            match extension {
                None => buffer.extend_from_slice(batch.bytes(packet)),
                Some(extension) => write_extended(buffer, batch.bytes(packet), &extension),
            }
            write_header(&mut buffer[start..], track.payload_type, track.ssrc, numbers);
            buffer.resize(buffer.len() + keys.rtp.tag_len(), 0);
            if keys.rtp.seal(&mut buffer[start..], numbers.index).is_err() {
                buffer.truncate(start);
                continue;
            }
            track.sent(numbers, batch.payload(packet).len(), now);
            if segment == 0 {
                segment = buffer.len();
            }
        }
        if !buffer.is_empty() {
            outlet.send(path, buffer, Some(segment));
        }
    }

    /// Sends a packet again: by RTX if it was negotiated, else bit for bit as before.
    fn resend(
        &mut self,
        now: Instant,
        ssrc: u32,
        number: u16,
        fan_out: &FanOut,
        outlet: &mut dyn Outlet,
        buffer: &mut Vec<u8>,
    ) {
        let Some((keys, path)) = self.transport.sending() else { return };
        let track = self.tracks.iter_mut().find(|track| track.ssrc == ssrc && track.kind == MediaKind::Video);
        let Some(track) = track else { return };
        let Some(sequence) = track.missing(number, history::WINDOW) else { return };
        let Some((template, packet)) = fan_out.history().get(sequence) else { return };
        let Some(numbers) = track.numbers(sequence, packet.timestamp) else { return };
        if !self.resend.take(numbers.index, template.bytes(packet).len(), now) {
            return;
        }
        let extension = track.playout_extension(sequence, packet.timestamp);
        buffer.clear();
        let index = if let Some(rtx) = &mut track.rtx {
            // RFC 4588 §4: the original sequence number in front of the payload; padding is not repeated.
            let index = rtx.take_index();
            let mut header = [0; HEADER];
            header[..2].copy_from_slice(&[0x80, u8::from(template.marker(packet)) << 7]);
            match extension {
                None => buffer.extend_from_slice(&header),
                Some(extension) => write_extended(buffer, &header, &extension),
            }
            buffer.extend_from_slice(&(numbers.index as u16).to_be_bytes());
            buffer.extend_from_slice(template.payload(packet));
            write_header(buffer, rtx.payload_type, rtx.ssrc, Numbers { index, ..numbers });
            index
        } else {
            buffer.extend_from_slice(template.bytes(packet));
            write_header(buffer, track.payload_type, track.ssrc, numbers);
            numbers.index
        };
        buffer.resize(buffer.len() + keys.rtp.tag_len(), 0);
        if keys.rtp.seal(buffer, index).is_ok() {
            outlet.send(path, buffer, None);
        }
    }

    /// Sends a sender report for each track that has sent something. All tracks are on one clock: the
    /// wall clock at the timeline's origin, plus media time, plus the time since the packet arrived.
    fn report(&mut self, now: Instant, fan_out: Option<&FanOut>, outlet: &mut dyn Outlet) {
        let (Some((keys, path)), Some(fan_out)) = (self.transport.sending(), fan_out) else { return };
        let Some(epoch) = fan_out.epoch() else { return };
        for track in self.tracks.iter().filter(|track| track.packets > 0) {
            let Some(latest) = fan_out.history().latest(track.kind) else { continue };
            let Some(timestamp) = track.live_timestamp(latest.timestamp) else { continue };
            let passed = now.saturating_duration_since(latest.at);
            let report = SenderReport {
                ssrc: track.ssrc,
                ntp: shifted(epoch.wall_origin, latest.pts.as_nanos()) + passed,
                timestamp: timestamp.wrapping_add(ticks(passed, track.clock_rate)),
                packets: track.packets,
                octets: track.octets,
            };
            let mut plain = Vec::with_capacity(128);
            report.write(&self.cname, &mut plain);
            if let Ok(sealed) = keys.rtcp_out.encrypt_rtcp(&plain) {
                outlet.send(path, &sealed, None);
            }
        }
        self.next_report = now + if self.early_reports > 0 { EARLY_INTERVAL } else { REPORT_INTERVAL };
        self.early_reports = self.early_reports.saturating_sub(1);
    }
}

fn track_mut(tracks: &mut [OutTrack], kind: MediaKind) -> Option<&mut OutTrack> {
    tracks.iter_mut().find(|track| track.kind == kind)
}

/// Fills in the fields that are a viewer's own.
fn write_header(packet: &mut [u8], payload_type: u8, ssrc: u32, numbers: Numbers) {
    packet[1] = packet[1] & 0x80 | payload_type;
    packet[2..4].copy_from_slice(&(numbers.index as u16).to_be_bytes());
    packet[4..8].copy_from_slice(&numbers.timestamp.to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

/// Writes a packet with an extension behind its header of 12 bytes.
fn write_extended(buffer: &mut Vec<u8>, packet: &[u8], extension: &[u8]) {
    let start = buffer.len();
    buffer.extend_from_slice(&packet[..HEADER]);
    buffer[start] |= 0x10;
    buffer.extend_from_slice(extension);
    buffer.extend_from_slice(&packet[HEADER..]);
}

fn shifted(origin: SystemTime, nanos: i64) -> SystemTime {
    let by = Duration::from_nanos(nanos.unsigned_abs());
    if nanos >= 0 { origin + by } else { origin.checked_sub(by).unwrap_or(origin) }
}
