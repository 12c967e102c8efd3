//! What a viewer tells us by RTCP and what it is told: repeated packets, keyframes, sender reports.

use super::fan_out::FanOut;
use super::playback::{write_extended, write_header, write_pictures};
use super::rtcp::{Feedback, SenderReport};
use super::track::{Numbers, ticks};
use super::viewer::Viewer;
use crate::media::MediaKind;
use crate::webrtc::socket::Outlet;
use crate::webrtc::transport::HEADER;
use std::time::{Duration, Instant, SystemTime};

const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const EARLY_INTERVAL: Duration = Duration::from_millis(250);
/// RTCP from sources not seen before, in one session: each costs memory before it proves authentic.
const UNKNOWN_SOURCES: u16 = 256;
/// Sources remembered.
const SOURCES: usize = 16;

/// Which RTCP sources are known.
#[derive(Debug)]
pub(super) struct Listener {
    sources: Vec<u32>,
    unknown: u16,
}

impl Default for Listener {
    fn default() -> Self {
        Self { sources: Vec::new(), unknown: UNKNOWN_SOURCES }
    }
}

impl Listener {
    /// Whether a datagram of `source` is to be read.
    fn admit(&mut self, source: u32) -> bool {
        let known = self.sources.contains(&source);
        let left = self.unknown.checked_sub(u16::from(!known));
        self.unknown = left.unwrap_or(0);
        left.is_some()
    }

    /// A datagram of `source` was authentic.
    fn note(&mut self, source: u32) {
        if self.sources.len() < SOURCES && !self.sources.contains(&source) {
            self.sources.push(source);
        }
    }
}

impl Viewer {
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
        if !self.listener.admit(source) {
            return;
        }
        let Some((keys, _)) = self.transport.sending() else { return };
        let Ok(plain) = keys.incoming.decrypt_rtcp(data) else { return };
        self.listener.note(source);
        self.traffic.received(data.len());
        self.reach.heard(now);
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
            Feedback::Reception { ssrc, lost, lost_in_all, report, delay } => {
                if let Some(time) = self.echoes.heard(report, delay, now) {
                    self.traffic.set_round_trip(time);
                }
                let Some(track) = self.tracks.iter_mut().find(|track| track.ssrc == ssrc) else { return };
                // No more than was sent, whatever it says; packets that come twice take nothing back.
                track.lost = track.lost.max(u64::try_from(lost_in_all).unwrap_or(0).min(track.packets));
                let video = track.kind == MediaKind::Video;
                self.traffic.set_packets_lost(self.tracks.iter().map(|track| track.lost).sum());
                if video {
                    self.traffic.set_lost(lost);
                    self.reach.lost(lost, now);
                    self.layers.lost(lost, now);
                }
            }
            Feedback::Estimate { bits } => {
                tracing::trace!(stream = %self.stream.name(), bits, "A viewer's estimate.");
                self.layers.estimated(bits, now);
            }
        });
        if keyframe {
            self.request_keyframe();
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
        let Some(track) = self.tracks.iter_mut().find(|track| track.ssrc == ssrc) else { return };
        let Some((mapping, sequence)) = track.missing(number) else { return };
        let Some((template, packet)) = fan_out.history().get(track.kind, mapping.layer, sequence) else {
            return;
        };
        let Some(numbers) = mapping.numbers(sequence, packet.timestamp) else { return };
        let copies = self.resend.take((ssrc, numbers.index), template.bytes(packet).len(), now);
        if self.resend.is_lossy(now) {
            track.allow_repairs();
        }
        let extensions = track.extensions(sequence, packet.timestamp, now);
        for _ in 0..copies {
            buffer.clear();
            let index = if let Some(rtx) = &mut track.rtx {
                // RFC 4588 §4: the original sequence number in front of the payload; padding is not repeated.
                let index = rtx.take_index();
                let mut header = [0; HEADER];
                header[..2].copy_from_slice(&[0x80, u8::from(template.marker(packet)) << 7]);
                write_extended(buffer, &header, extensions.bytes());
                buffer.extend_from_slice(&(numbers.index as u16).to_be_bytes());
                let payload = buffer.len();
                buffer.extend_from_slice(template.payload(packet));
                write_pictures(&mut buffer[payload..], packet, numbers);
                write_header(buffer, rtx.payload_type, rtx.ssrc, Numbers { index, ..numbers });
                index
            } else {
                buffer.extend_from_slice(template.bytes(packet));
                write_header(buffer, track.payload_type, track.ssrc, numbers);
                write_pictures(&mut buffer[HEADER..], packet, numbers);
                numbers.index
            };
            let size = buffer.len();
            buffer.resize(size + keys.rtp.tag_len(), 0);
            if keys.rtp.seal(buffer, index).is_ok() {
                outlet.send(path, buffer, None);
                self.resent = (self.resent.0 + 1, self.resent.1 + size as u64);
            }
        }
    }

    /// Tells others how much has been sent.
    pub(super) fn tell_sent(&self) {
        let sent = self.tracks.iter().map(|track| track.octets + HEADER as u64 * track.packets);
        let (packets, bytes) = self.resent;
        self.traffic.set_sent(sent.sum::<u64>() + bytes, packets);
    }

    /// Sends a sender report for each track that has sent something. All tracks are on one clock: the
    /// wall clock at the timeline's origin, plus media time, plus the time since the packet arrived.
    pub(super) fn report(&mut self, now: Instant, fan_out: Option<&FanOut>, outlet: &mut dyn Outlet) {
        self.tell_sent();
        let (Some((keys, path)), Some(fan_out)) = (self.transport.sending(), fan_out) else { return };
        let Some(epoch) = fan_out.epoch() else { return };
        let mut reported = false;
        for track in self.tracks.iter().filter(|track| track.packets > 0) {
            let Some(latest) = fan_out.history().latest(track.kind, track.layer()) else { continue };
            let Some(timestamp) = track.live_timestamp(latest.timestamp) else { continue };
            let passed = now.saturating_duration_since(latest.at);
            let report = SenderReport {
                ssrc: track.ssrc,
                ntp: shifted(epoch.wall_origin, latest.pts.as_nanos()) + passed,
                timestamp: timestamp.wrapping_add(ticks(passed, track.clock_rate)),
                // Both wrap, as they should (RFC 3550 §6.4.1).
                packets: track.packets as u32,
                octets: track.octets as u32,
            };
            let mut plain = Vec::with_capacity(128);
            report.write(&self.cname, &mut plain);
            if let Ok(sealed) = keys.rtcp_out.encrypt_rtcp(&plain) {
                self.echoes.sent(report.middle(), now);
                outlet.send(path, &sealed, None);
            }
            reported = true;
        }
        if reported {
            let early = self.early_reports > 0;
            self.next_report = now + if early { EARLY_INTERVAL } else { REPORT_INTERVAL };
            self.early_reports = self.early_reports.saturating_sub(1);
        }
    }
}

fn shifted(origin: SystemTime, nanos: i64) -> SystemTime {
    let by = Duration::from_nanos(nanos.unsigned_abs());
    if nanos >= 0 { origin + by } else { origin.checked_sub(by).unwrap_or(origin) }
}
