//! What a viewer is sent: cached pictures first, then what arrives, of one layer at a time.
//!
//! Nothing is allocated per packet: runs are patched and sealed in a buffer of the worker's.

use super::fan_out::FanOut;
use super::template::{Template, TemplatePacket};
use super::track::{CatchUp, Numbers, ticks};
use super::viewer::Viewer;
use crate::media::MediaKind;
use crate::webrtc::path::{Path, Protocol};
use crate::webrtc::socket::Outlet;
use crate::webrtc::transport::HEADER;
use std::time::{Duration, Instant};

/// Bytes of cached pictures a millisecond: 80 Mbit/s.
const CATCH_UP_PACE: usize = 10_000;
/// A viewer is at the live edge after so long at the least and at the most.
const CATCH_UP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Packets of one step.
const STEP_PACKETS: usize = 64;
/// Sound follows the first picture by so much. A browser's sound card starts after the connection; what
/// comes before it does waits in a buffer that takes ten seconds to run empty, and all that time the
/// sound is late.
const SOUND_HOLD: Duration = Duration::from_millis(400);
/// A receiver lays pictures and sound side by side once it has two reports of each.
const EARLY_REPORTS: u8 = 4;

/// Where a viewer stands in the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VideoState {
    /// It begins at the next keyframe.
    Waiting,
    /// It gets the cached group of pictures.
    CatchUp(Position),
    /// It gets what arrives.
    Live,
}

/// A place in the cached group of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    generation: u64,
    batch: usize,
    run: usize,
    /// A timestamp, and when it is the live edge.
    edge: (u32, Instant),
    /// When the viewer is there.
    until: Instant,
}

impl Viewer {
    /// Whether cached pictures are still to be sent: call [`Self::catch_up`] once a millisecond.
    pub(in crate::webrtc) fn is_catching_up(&self) -> bool {
        self.is_connected() && matches!(self.video, VideoState::CatchUp(_))
    }

    /// The handshake is done, or the viewer is back: begin with the cached pictures, or wait for a keyframe.
    pub(super) fn join(&mut self, now: Instant, fan_out: Option<&FanOut>) {
        self.next_report = now;
        let with_video = self.track_mut(MediaKind::Video).is_some();
        let with_sound = self.track_mut(MediaKind::Audio).is_some_and(|track| !track.is_mapped());
        self.sound_from = (with_video && with_sound).then_some(now + SOUND_HOLD);
        let Some(fan_out) = fan_out else { return };
        self.layers.choose(fan_out.layers(), now);
        self.tell_send_time(fan_out);
        if !self.join_cached(now, fan_out) {
            self.wait_for_keyframe();
        }
    }

    fn join_cached(&mut self, now: Instant, fan_out: &FanOut) -> bool {
        let (history, layer) = (fan_out.history(), self.layers.wanted());
        let Some((group, edge)) = history.group(layer).zip(history.live_edge(layer)) else { return false };
        let start = group.templates.first().and_then(|template| template.group_start(layer));
        let (Some(start), Some(track)) = (start, self.track_mut(MediaKind::Video)) else { return false };
        let lasting = Duration::from_millis((group.bytes / CATCH_UP_PACE) as u64);
        let until = now + lasting.clamp(CATCH_UP.0, CATCH_UP.1);
        let edge_then = edge_at(edge, until, track.clock_rate);
        let catch_up = CatchUp {
            until: edge_then,
            span: edge_then.wrapping_sub(start.timestamp),
            dated: ticks(until - now, track.clock_rate),
        };
        track.map(start.into(), Some(catch_up), now);
        track.begin_playout(start.timestamp, history.sound_lag());
        let position = Position { generation: group.generation, batch: 0, run: 0, edge, until };
        self.video = VideoState::CatchUp(position);
        true
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
        if !self.is_connected() || self.paused {
            return;
        }
        let live = self.video == VideoState::Live;
        let wanted = self.layers.wanted();
        if let Some(track) = self.track_mut(MediaKind::Video)
            && (!live || track.layer() != wanted)
            && let Some(start) = batch.group_start(wanted)
        {
            track.map(start.into(), None, now);
            track.begin_playout(start.timestamp, sound_lag);
            self.video = VideoState::Live;
        }
        let sound = self.sound_from.is_none_or(|from| now >= from);
        if let Some(track) = self.track_mut(MediaKind::Audio)
            && sound
            && !track.is_mapped()
            && let Some(first) = batch.packets.iter().find(|packet| packet.kind == MediaKind::Audio)
        {
            track.map(first.into(), None, now);
            (self.next_report, self.early_reports) = (now, EARLY_REPORTS);
            if let Some(video) = self.track_mut(MediaKind::Video) {
                video.update_playout(sound_lag);
            }
        }
        let layer = self.track_mut(MediaKind::Video).map_or(0, |track| track.layer());
        for run in 0..batch.runs.len() {
            // A run that the path refuses ends the pictures until a keyframe.
            let live = self.video == VideoState::Live;
            let wanted = |packet: &TemplatePacket| match packet.kind {
                MediaKind::Audio => sound,
                MediaKind::Video => live && packet.layer == layer,
            };
            self.send_run(now, batch, run, wanted, outlet, buffer);
        }
    }

    /// Sends the cached pictures that are due.
    pub(in crate::webrtc) fn catch_up(
        &mut self,
        now: Instant,
        fan_out: &FanOut,
        outlet: &mut dyn Outlet,
        buffer: &mut Vec<u8>,
    ) {
        let VideoState::CatchUp(mut position) = self.video else { return };
        let Some(track) = self.track_mut(MediaKind::Video) else { return };
        let layer = track.layer();
        let edge = edge_at(position.edge, now, track.clock_rate);
        let group = fan_out.history().group(layer).filter(|group| group.generation == position.generation);
        let Some(group) = group else {
            self.wait_for_keyframe();
            return;
        };
        let mut left = STEP_PACKETS;
        while let Some(template) = group.templates.get(position.batch) {
            let Some(run) = template.runs.get(position.run).cloned() else {
                (position.batch, position.run) = (position.batch + 1, 0);
                continue;
            };
            let first = template.packets[run.clone()].iter().find(|packet| packet.is_video_of(layer));
            if let Some(first) = first {
                let Some(track) = self.track_mut(MediaKind::Video) else { return };
                if left == 0 || now < position.until && !track.is_due(first.timestamp, edge) {
                    self.video = VideoState::CatchUp(position);
                    return;
                }
                let wanted = |packet: &TemplatePacket| packet.is_video_of(layer);
                self.send_run(now, template, position.run, wanted, outlet, buffer);
                if self.video == VideoState::Waiting {
                    return;
                }
                left = left.saturating_sub(run.len());
            }
            position.run += 1;
        }
        self.video = if now < position.until { VideoState::CatchUp(position) } else { VideoState::Live };
    }

    pub(super) fn wait_for_keyframe(&mut self) {
        self.video = VideoState::Waiting;
        if self.track_mut(MediaKind::Video).is_some() {
            self.request_keyframe();
        }
    }

    /// Patches, seals and sends the wanted packets of one run as one message.
    fn send_run(
        &mut self,
        now: Instant,
        batch: &Template,
        run: usize,
        wanted: impl Fn(&TemplatePacket) -> bool,
        outlet: &mut dyn Outlet,
        buffer: &mut Vec<u8>,
    ) {
        let Some((keys, path)) = self.transport.sending() else { return };
        buffer.clear();
        let mut segment = 0;
        let mut extended = 0;
        let mut taken = true;
        for packet in batch.packets[batch.runs[run].clone()].iter().filter(|packet| wanted(packet)) {
            let Some(track) = self.tracks.iter_mut().find(|track| track.kind == packet.kind) else {
                continue;
            };
            let Some(numbers) = track.numbers(packet.sequence, packet.timestamp) else { continue };
            let extensions = track.extensions(packet.sequence, packet.timestamp, now);
            let extensions = extensions.bytes();
            if extensions.len() != extended {
                // Sizes differ from here on.
                if !buffer.is_empty() {
                    taken &= outlet.send(path, buffer, Some(segment));
                }
                buffer.clear();
                (segment, extended) = (0, extensions.len());
            }
            let start = buffer.len();
            write_extended(buffer, batch.bytes(packet), extensions);
            write_header(&mut buffer[start..], track.payload_type, track.ssrc, numbers);
            write_pictures(&mut buffer[start + HEADER + extended..], packet, numbers);
            buffer.resize(buffer.len() + keys.rtp.tag_len(), 0);
            if keys.rtp.seal(&mut buffer[start..], numbers.index).is_err() {
                buffer.truncate(start);
                continue;
            }
            track.sent(numbers, packet.pictures, batch.payload(packet).len(), now);
            if segment == 0 {
                segment = buffer.len();
            }
        }
        if !buffer.is_empty() {
            taken &= outlet.send(path, buffer, Some(segment));
        }
        if !taken {
            self.refused(now, path);
        }
    }

    /// The path did not take everything. Over UDP it is the socket of all that was full, which is not this
    /// viewer's fault; over TCP pictures go on at a keyframe.
    fn refused(&mut self, now: Instant, path: Path) {
        if matches!(path.protocol, Protocol::Tcp(_)) {
            self.reach.refused(now);
            if self.video != VideoState::Waiting {
                self.wait_for_keyframe();
            }
        }
    }
}

/// The timestamp of the live edge at `now`.
fn edge_at((timestamp, at): (u32, Instant), now: Instant, clock_rate: u32) -> u32 {
    timestamp.wrapping_add(ticks(now.saturating_duration_since(at), clock_rate))
}

/// Fills in the fields that are a viewer's own.
pub(super) fn write_header(packet: &mut [u8], payload_type: u8, ssrc: u32, numbers: Numbers) {
    packet[1] = packet[1] & 0x80 | payload_type;
    packet[2..4].copy_from_slice(&(numbers.index as u16).to_be_bytes());
    packet[4..8].copy_from_slice(&numbers.timestamp.to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

/// Fills in the numbers of pictures that are a viewer's own, where it has any.
pub(super) fn write_pictures(payload: &mut [u8], packet: &TemplatePacket, numbers: Numbers) {
    if let Some(pictures) = &packet.pictures
        && !numbers.pictures.is_none()
    {
        pictures.write(payload, numbers.pictures);
    }
}

/// Writes a packet with `extensions`, if there are any, behind its header of 12 bytes.
pub(super) fn write_extended(buffer: &mut Vec<u8>, packet: &[u8], extensions: &[u8]) {
    if extensions.is_empty() {
        return buffer.extend_from_slice(packet);
    }
    let start = buffer.len();
    buffer.extend_from_slice(&packet[..HEADER]);
    buffer[start] |= 0x10;
    buffer.extend_from_slice(extensions);
    buffer.extend_from_slice(&packet[HEADER..]);
}
