//! Fuzzing of the media parsers, and how a target cuts its bytes into what it needs.

use super::{Codec, Packet, aac, av1, h264, h265, mp3, opus, vp8, vp9};
use super::{IceServer, MediaKind, MediaTime, StreamName};
use bytes::Bytes;

/// A fuzzer's bytes, taken from the front. What is short is filled up with zeros, so each input means something.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next `count` bytes, or what is left.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next number of `N` bytes, big endian.
    pub fn number<const N: usize>(&mut self) -> u64 {
        let taken = self.take(N);
        (0..N).fold(0, |value, at| value << 8 | u64::from(taken.get(at).copied().unwrap_or(0)))
    }

    /// Pieces that a length of two bytes stands before.
    pub fn pieces(mut self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || {
            let more = !self.0.is_empty();
            more.then(|| {
                let length = self.number::<2>() as usize;
                self.take(length)
            })
        })
    }
}

/// H.264: configuration records, sequence parameter sets, NAL units of each length size; packets.
pub fn h264(data: &[u8]) {
    let _ = h264::Sps::parse(data);
    for length_size in 1..=4 {
        let mut sum = 0;
        for unit in h264::NalUnits::new(data, length_size) {
            sum += unit.map_or(0, |unit| unit.len() + usize::from(length_size));
        }
        assert!(sum <= data.len(), "units are parts of the access unit");
    }
    if let Ok(config) = h264::AvcConfig::parse(Bytes::copy_from_slice(data)) {
        let again = h264::AvcConfig::parse(config.record_with_four_byte_lengths()).expect("it was valid");
        assert_eq!((again.length_size, &again.sps, &again.pps), (4, &config.sps, &config.pps));
        if let Ok(sps) = config.first_sps() {
            assert!(sps.width > 0 && sps.height > 0, "{sps:?}");
        }
        if let Ok(built) = h264::AvcConfig::from_parameter_sets(&config.sps, &config.pps) {
            let parsed = h264::AvcConfig::parse(built.record().clone()).expect("ours");
            assert_eq!((parsed.sps, parsed.pps), (config.sps, config.pps));
        }
    }
    let mut depacketizer = h264::Depacketizer::default();
    for (lost, packet) in packets(data) {
        if lost {
            depacketizer.lost();
        }
        depacketizer.push(&packet, |unit| {
            // Each NAL unit has at least a byte; its length has four.
            assert!(unit.data.len() <= 5 * data.len(), "nothing comes from nowhere");
            assert!(h264::NalUnits::new(&unit.data, 4).all(|unit| unit.is_ok()));
            assert!(unit.config.is_none() || unit.keyframe);
        });
    }
}

/// H.265: configuration records and parameter sets.
pub fn h265(data: &[u8]) {
    if let Ok(config) = h265::HevcConfig::parse(Bytes::copy_from_slice(data)) {
        let again = h265::HevcConfig::parse(config.record_with_four_byte_lengths()).expect("it was valid");
        assert_eq!((again.length_size, again.sps), (4, config.sps));
    }
    if let Some(sps) = h265::Sps::parse(data) {
        assert!(sps.width > 0 && sps.height > 0, "{sps:?}");
    }
}

/// AV1: configuration records, temporal units as they are and from RTP payloads, sequence headers.
pub fn av1(data: &[u8]) {
    let mut input = Input(data);
    let record = Bytes::copy_from_slice(input.take(data.first().map_or(0, |length| usize::from(*length))));
    let unit = Bytes::copy_from_slice(input.0);
    if let Some(config) = av1::Av1Config::parse(&record)
        && let Some(checked) = config.check(&unit)
    {
        assert!(av1::units(&checked.data).all(|unit| unit.is_some_and(|unit| unit.travels())), "{checked:?}");
        let again = config.check(&checked.data).expect("it was valid");
        assert_eq!((again.data, again.keyframe), (checked.data, checked.keyframe), "checked twice");
    }
    for unit in av1::units(data).flatten() {
        assert!(unit.payload().len() + unit.head().1 <= data.len());
    }
    if let Some(header) = av1::sequence_header(data) {
        assert!(header.resolution.0 > 0 && header.resolution.1 > 0, "{header:?}");
        assert_eq!(header.record().len(), 4);
    }
    let mut depacketizer = av1::Depacketizer::default();
    for (lost, packet) in packets(data) {
        if lost {
            depacketizer.lost();
        }
        if let Some(unit) = depacketizer.push(&packet) {
            let most = 2 * data.len() + 16 * packet.sequence as usize + 16;
            assert!(unit.data.len() <= most, "nothing comes from nowhere");
        }
    }
}

/// Pieces as the packets of one video track, and before which of them others were lost.
fn packets(data: &[u8]) -> impl Iterator<Item = (bool, Packet)> {
    Input(data).pieces().enumerate().map(|(number, piece)| {
        let mut input = Input(piece);
        let head = input.number::<1>();
        let packet = Packet {
            kind: MediaKind::Video,
            layer: 0,
            sequence: number as u64,
            timestamp: (head >> 3) as u32,
            pts: MediaTime::ZERO,
            marker: head & 1 != 0,
            keyframe: head & 2 != 0,
            payload: Bytes::copy_from_slice(input.0),
        };
        (head & 4 != 0, packet)
    })
}

/// VP8 and VP9: the heads of frames, and configuration records.
pub fn vpx(data: &[u8]) {
    let _ = vp9::configuration(data);
    let _ = vp8::keyframe(data);
    if let Some((width, height)) = vp9::keyframe(data) {
        assert!(width > 0 && height > 0);
    }
}

/// Sound: AudioSpecificConfig, heads of MP3 frames, Opus headers.
pub fn sound(data: &[u8]) {
    if let Some(header) = mp3::FrameHeader::parse(data) {
        assert!(header.sample_rate > 0 && (1..=2).contains(&header.channels) && header.samples > 0);
    }
    if let Ok(head) = opus::OpusHead::parse(data) {
        assert!((1..=2).contains(&head.channels), "{head:?}");
    }
    if let Ok(config) = aac::AudioSpecificConfig::parse(data) {
        assert!(config.channels > 0 && (1..=192_000).contains(&config.sample_rate), "{config:?}");
    }
}

/// Stream names and URLs of STUN servers: what is taken holds nothing that would break out of where it is written.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = text.parse::<StreamName>() {
        assert_eq!(name.as_str(), text);
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        assert!(text.bytes().all(plain) && !text.starts_with('.') && text.len() <= 64, "{text:?}");
    }
    if let Ok(server) = text.parse::<IceServer>() {
        let breaks = |c: char| c.is_control() || c.is_whitespace() || "\"<>,;\\".contains(c);
        assert!(!server.as_str().contains(breaks), "{text:?}");
    }
}

/// The video codecs of WebRTC by number.
pub fn video_codec(number: u64) -> Codec {
    [Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9, Codec::Av1][number as usize % 5]
}
