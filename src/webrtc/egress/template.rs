//! A batch of packets made ready for all viewers at once.
//!
//! The payload is copied once into finished RTP packets in which only payload type, sequence number,
//! timestamp and SSRC are still to be written. Packets of nearly equal size are evened by RTP padding and
//! gathered into runs, so that one system call carries a whole frame by segmentation offload.

use super::pictures::Pictures;
use crate::media::{Codec, MediaKind, MediaTime, PacketBatch};
use crate::webrtc::socket::{MAX_RUN_BYTES, MAX_RUN_PACKETS};
use crate::webrtc::transport::HEADER;
use std::ops::Range;

/// Bytes that padding may add to a packet: Chromium's fragments of a frame differ by one.
const MAX_PADDING: usize = 8;
/// The longest tag, counted into the bound of a run.
const TAG: usize = 16;

/// One packet of a [`Template`].
#[derive(Clone, Debug)]
pub(super) struct TemplatePacket {
    pub(super) kind: MediaKind,
    /// See [`Packet::layer`](crate::media::Packet::layer).
    pub(super) layer: u8,
    /// Unique within a track and an epoch.
    pub(super) sequence: u64,
    /// As the publisher sent it.
    pub(super) timestamp: u32,
    pub(super) pts: MediaTime,
    /// A decoder can start here.
    pub(super) keyframe: bool,
    /// VP8 and VP9: the numbers in the payload descriptor, which may be patched as well.
    pub(super) pictures: Option<Pictures>,
    /// Bytes of padding at the end, the count included.
    padding: u8,
    bytes: Range<usize>,
}

/// A batch, ready to be patched and sealed for each viewer.
#[derive(Debug)]
pub(in crate::webrtc) struct Template {
    buffer: Vec<u8>,
    /// Video first, each kind in order of arrival.
    pub(super) packets: Vec<TemplatePacket>,
    /// Ranges of `packets`: in each, all but the last have one size and the last is not larger.
    pub(super) runs: Vec<Range<usize>>,
}

impl TemplatePacket {
    /// Whether it belongs to this encoding of the pictures.
    pub(super) fn is_video_of(&self, layer: u8) -> bool {
        self.kind == MediaKind::Video && self.layer == layer
    }
}

impl Template {
    /// Copies the packets of `batch` that `fresh(kind, layer, sequence)` lets through.
    pub(super) fn new(batch: &PacketBatch, mut fresh: impl FnMut(MediaKind, u8, u64) -> bool) -> Self {
        let mut order: Vec<usize> = (0..batch.packets.len())
            .filter(|index| {
                let packet = &batch.packets[*index];
                fresh(packet.kind, packet.layer, packet.sequence)
            })
            .collect();
        let track = |index: &usize| (batch.packets[*index].kind, batch.packets[*index].layer);
        order.sort_by_key(track); // stable: video before audio
        let sizes: Vec<((MediaKind, u8), usize)> =
            order.iter().map(|index| (track(index), HEADER + batch.packets[*index].payload.len())).collect();
        let runs = runs(&sizes);
        let codec = batch.epoch.tracks.codec(MediaKind::Video);
        let mut template = Self {
            buffer: Vec::with_capacity(sizes.iter().map(|(_, size)| size + MAX_PADDING).sum()),
            packets: Vec::with_capacity(order.len()),
            runs: Vec::with_capacity(runs.len()),
        };
        for (range, size) in runs {
            for position in range.clone() {
                let packet = &batch.packets[order[position]];
                let last = position + 1 == range.end;
                let missing = size.saturating_sub(sizes[position].1);
                // The last may be shorter, so it needs no padding.
                let padding = if last || missing > MAX_PADDING { 0 } else { missing };
                template.push(packet, codec, padding as u8);
            }
            template.runs.push(range);
        }
        template
    }

    /// The RTP packet, without the four patched fields.
    pub(super) fn bytes(&self, packet: &TemplatePacket) -> &[u8] {
        &self.buffer[packet.bytes.clone()]
    }

    /// The payload without padding.
    pub(super) fn payload(&self, packet: &TemplatePacket) -> &[u8] {
        &self.buffer[packet.bytes.start + HEADER..packet.bytes.end - usize::from(packet.padding)]
    }

    /// Whether the marker bit is set.
    pub(super) fn marker(&self, packet: &TemplatePacket) -> bool {
        self.buffer[packet.bytes.start + 1] & 0x80 != 0
    }

    /// The keyframe packet, if a group of pictures of this layer starts in this batch.
    pub(super) fn group_start(&self, layer: u8) -> Option<&TemplatePacket> {
        self.packets.iter().find(|packet| packet.keyframe && packet.is_video_of(layer))
    }

    fn push(&mut self, packet: &crate::media::Packet, video: Option<Codec>, padding: u8) {
        let start = self.buffer.len();
        let padding_bit = if padding > 0 { 0x20 } else { 0 };
        let mut header = [0; HEADER];
        header[0] = 0x80 | padding_bit;
        header[1] = u8::from(packet.marker) << 7;
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(&packet.payload);
        if padding > 0 {
            // RFC 3550 §5.1: the last byte of the padding counts it.
            self.buffer.resize(self.buffer.len() + usize::from(padding) - 1, 0);
            self.buffer.push(padding);
        }
        let video = video.filter(|_| packet.kind == MediaKind::Video);
        self.packets.push(TemplatePacket {
            kind: packet.kind,
            layer: packet.layer,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            pts: packet.pts,
            keyframe: packet.keyframe,
            pictures: video.and_then(|codec| Pictures::find(codec, &packet.payload)),
            padding,
            bytes: start..self.buffer.len(),
        });
    }
}

/// Cuts packets into runs, each with the size that all but its last packet get.
fn runs(sizes: &[((MediaKind, u8), usize)]) -> Vec<(Range<usize>, usize)> {
    let mut runs = Vec::new();
    let mut start = 0;
    while start < sizes.len() {
        let (track, first) = sizes[start];
        let (mut low, mut high) = (first, first);
        let mut end = start + 1;
        while end < sizes.len() && end - start < MAX_RUN_PACKETS {
            let (next_track, next) = sizes[end];
            if (end - start + 1) * (high.max(next) + TAG) > MAX_RUN_BYTES {
                break;
            }
            if next_track == track && high.max(next) - low.min(next) <= MAX_PADDING {
                (low, high) = (low.min(next), high.max(next));
                end += 1;
                continue;
            }
            // A shorter one ends the run: a frame's last fragment, or a sound packet that rides along.
            let rides = next_track == track || next_track.0 == MediaKind::Audio;
            if rides && next <= high {
                end += 1;
            }
            break;
        }
        runs.push((start..end, high));
        start = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Epoch, Packet, Tracks};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::SystemTime;

    fn template(sizes: &[(MediaKind, usize)]) -> Template {
        let epoch = Arc::new(Epoch { id: 1, tracks: Tracks::default(), wall_origin: SystemTime::UNIX_EPOCH });
        let packets = sizes
            .iter()
            .enumerate()
            .map(|(number, (kind, size))| Packet {
                kind: *kind,
                layer: 0,
                sequence: number as u64,
                timestamp: 0,
                pts: MediaTime::ZERO,
                marker: false,
                keyframe: false,
                payload: Bytes::from(vec![number as u8 + 1; *size]),
            })
            .collect();
        Template::new(&PacketBatch { epoch, packets }, |_, _, _| true)
    }

    fn check(template: &Template) {
        for run in &template.runs {
            let sizes: Vec<usize> =
                template.packets[run.clone()].iter().map(|packet| template.bytes(packet).len()).collect();
            let (last, rest) = sizes.split_last().expect("not empty");
            assert!(rest.iter().all(|size| *size == sizes[0]) && *last <= sizes[0], "{sizes:?}");
            assert!(sizes.len() <= MAX_RUN_PACKETS && sizes.len() * (sizes[0] + TAG) <= MAX_RUN_BYTES);
        }
        assert_eq!(template.runs.iter().map(Range::len).sum::<usize>(), template.packets.len());
    }

    use MediaKind::{Audio, Video};

    #[test]
    fn a_browsers_frame_is_one_run() {
        let template = template(&[1109, 1110, 1110, 1110, 1110].map(|size| (Video, size)));
        check(&template);
        assert_eq!((template.runs.len(), template.runs[0].clone()), (1, 0..5));
        let first = &template.packets[0];
        assert_eq!(template.bytes(first).len(), HEADER + 1110);
        assert_eq!(template.bytes(first)[0], 0xa0, "padded");
        assert_eq!(template.bytes(first).last(), Some(&1));
        assert_eq!(template.payload(first), [1; 1109]);
        assert_eq!(template.bytes(&template.packets[1])[0], 0x80);
    }

    #[test]
    fn a_short_last_fragment_ends_its_run_and_small_units_stand_alone() {
        let template = template(&[20, 9, 1200, 1200, 300, 1200, 100].map(|size| (Video, size)));
        check(&template);
        assert_eq!(template.runs, [0..2, 2..5, 5..7]);
        assert_eq!(template.payload(&template.packets[4]), [5; 300]);
    }

    #[test]
    fn sound_rides_behind_a_full_run_and_comes_after_the_picture() {
        let template = template(&[(Audio, 80), (Video, 1200), (Video, 1200), (Audio, 81)]);
        check(&template);
        assert_eq!(template.packets[0].kind, Video);
        assert_eq!(template.runs, [0..3, 3..4]);
        assert_eq!(template.payload(&template.packets[2]), [1; 80], "not padded");
    }

    #[test]
    fn any_mix_of_sizes_makes_valid_runs_and_keeps_every_payload() {
        let mut seed = 1u32;
        for _ in 0..200 {
            let sizes: Vec<(MediaKind, usize)> = (0..100)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let kind = if seed >> 29 == 0 { Audio } else { Video };
                    (kind, 1190 + (seed >> 8) as usize % 12 + if seed >> 28 == 1 { 200 } else { 0 })
                })
                .collect();
            let template = template(&sizes);
            check(&template);
            for packet in &template.packets {
                assert_eq!(template.payload(packet).len(), sizes[packet.sequence as usize].1);
            }
        }
    }
}
