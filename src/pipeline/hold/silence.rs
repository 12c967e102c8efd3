//! Silence in AAC, written bit by bit: what a decoder of the last epoch's configuration takes as well.
//!
//! An empty raw data block is the same for every sampling rate, so the configuration stays as it was and
//! nothing is encoded while a stream is held. Pure.

use crate::media::{AudioTrack, Codec};
use bytes::{BufMut, Bytes, BytesMut};

/// Samples of a frame, ISO/IEC 14496-3 §4.5.1.1, unless the configuration asks for the shorter ones.
const FRAME: u32 = 1024;
const SHORT_FRAME: u32 = 960;

/// Rates that a configuration of our own can name, ISO/IEC 14496-3 table 1.18.
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// One silent frame, to be repeated, and what it is a frame of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Silence {
    /// The configuration: that of the sound before, where silence can be written in it, else AAC LC.
    pub(super) track: AudioTrack,
    /// A frame that needs none before it.
    pub(super) frame: Bytes,
    /// A frame lasts `samples` of a clock of `rate` Hz.
    pub(super) samples: u32,
    pub(super) rate: u32,
}

impl Silence {
    /// For a stream whose sound was `track`.
    pub(super) fn of(track: &AudioTrack) -> Self {
        if track.codec == Codec::Aac
            && let Some(core) = Core::read(&track.codec_data)
            && let Some(frame) = raw_data_block(core.channel_configuration)
        {
            return Self { track: track.clone(), frame, samples: core.samples, rate: core.rate };
        }
        Self::plain(track.sample_rate, track.channels)
    }

    /// AAC LC at `rate`, or 48 kHz if no configuration names that; mono, or stereo for more channels.
    fn plain(rate: u32, channels: u16) -> Self {
        let index = SAMPLE_RATES.iter().position(|known| *known == rate).unwrap_or(3);
        let (rate, channels) = (SAMPLE_RATES[index], channels.clamp(1, 2));
        let mut config = BitWriter::default();
        config.put(2, 5); // AAC LC
        config.put(index as u32, 4);
        config.put(channels.into(), 4);
        config.put(0, 3); // 1024 samples, no core coder, no extension
        let frame = raw_data_block(channels as u8).unwrap_or_default();
        let codec_data = config.finish();
        let fmtp = String::new();
        let track = AudioTrack { codec: Codec::Aac, sample_rate: rate, channels, codec_data, fmtp };
        Self { track, frame, samples: FRAME, rate }
    }
}

/// What an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1) says of the core coder.
struct Core {
    rate: u32,
    channel_configuration: u8,
    samples: u32,
}

impl Core {
    /// `None` for object types with another syntax, and for channel layouts of a program config element.
    fn read(config: &[u8]) -> Option<Self> {
        let mut reader = BitReader { data: config, position: 0 };
        let mut object_type = reader.take(5)?;
        let rate = reader.rate()?;
        let channel_configuration = reader.take(4)? as u8;
        if matches!(object_type, 5 | 29) {
            // Spectral band replication: silence goes without its extension payload.
            reader.rate()?;
            object_type = reader.take(5)?;
        }
        if !matches!(object_type, 1 | 2 | 4) {
            return None;
        }
        let samples = if reader.take(1)? == 1 { SHORT_FRAME } else { FRAME };
        (1..=192_000).contains(&rate).then_some(Self { rate, channel_configuration, samples })
    }
}

/// A raw_data_block (ISO/IEC 14496-3 §4.4.2.1) without any spectral data, in the elements of a channel
/// configuration (table 1.19).
fn raw_data_block(channel_configuration: u8) -> Option<Bytes> {
    const SINGLE: u32 = 0;
    const PAIR: u32 = 1;
    const LOW: u32 = 3;
    const END: u32 = 7;
    let elements: &[u32] = match channel_configuration {
        1 => &[SINGLE],
        2 => &[PAIR],
        3 => &[SINGLE, PAIR],
        4 => &[SINGLE, PAIR, SINGLE],
        5 => &[SINGLE, PAIR, PAIR],
        6 => &[SINGLE, PAIR, PAIR, LOW],
        7 => &[SINGLE, PAIR, PAIR, PAIR, LOW],
        _ => return None,
    };
    let mut block = BitWriter::default();
    for (number, &element) in elements.iter().enumerate() {
        // Elements of one kind are told apart by their tags.
        let tag = elements[..number].iter().filter(|earlier| **earlier == element).count();
        block.put(element, 3);
        block.put(tag as u32, 4);
        if element == PAIR {
            block.put(0, 1); // common_window
            empty_channel(&mut block);
        }
        empty_channel(&mut block);
    }
    block.put(END, 3);
    Some(block.finish())
}

/// An individual_channel_stream (§4.4.2.7) with one long window and no scale factor band.
fn empty_channel(block: &mut BitWriter) {
    block.put(0, 8); // global_gain
    block.put(0, 1 + 2 + 1); // reserved, ONLY_LONG_SEQUENCE, window shape
    block.put(0, 6); // max_sfb: no section, scale factor or spectral data follow
    block.put(0, 1); // predictor_data_present
    block.put(0, 3); // no pulse data, noise shaping or gain control
}

/// Bits, the most significant first; zeros fill the last byte.
#[derive(Default)]
struct BitWriter {
    bytes: BytesMut,
    used: u32,
}

impl BitWriter {
    fn put(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.put_u8(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (7 - self.used % 8);
            }
            self.used += 1;
        }
    }

    fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}

struct BitReader<'a> {
    data: &'a [u8],
    position: usize,
}

impl BitReader<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        (0..count).try_fold(0, |value, _| {
            let byte = self.data.get(self.position / 8)?;
            let bit = byte >> (7 - self.position % 8) & 1;
            self.position += 1;
            Some(value << 1 | u32::from(bit))
        })
    }

    fn rate(&mut self) -> Option<u32> {
        match self.take(4)? {
            15 => self.take(24),
            index => SAMPLE_RATES.get(index as usize).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn track(codec_data: &'static [u8], sample_rate: u32, channels: u16) -> AudioTrack {
        let codec_data = Bytes::from_static(codec_data);
        AudioTrack { codec: Codec::Aac, sample_rate, channels, codec_data, fmtp: String::new() }
    }

    /// The frames as an ADTS stream (ISO/IEC 13818-7 §6.2), decoded by ffmpeg: samples of all channels.
    fn heard(silence: &Silence, channel_configuration: u8, count: usize) -> Vec<i16> {
        let index = SAMPLE_RATES.iter().position(|rate| *rate == silence.rate).expect("named") as u32;
        let mut stream = Vec::new();
        for _ in 0..count {
            let mut header = BitWriter::default();
            for (value, bits) in [
                (0xfff1, 16),
                (1, 2),
                (index, 4),
                (0, 1),
                (channel_configuration.into(), 3),
                (0, 4),
                (silence.frame.len() as u32 + 7, 13),
                (0x7ff, 11),
                (0, 2),
            ] {
                header.put(value, bits);
            }
            stream.extend_from_slice(&header.finish());
            stream.extend_from_slice(&silence.frame);
        }
        let arguments = ["-v", "error", "-f", "aac", "-i", "-", "-f", "s16le", "-"];
        let mut ffmpeg = Command::new("ffmpeg")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("installed");
        ffmpeg.stdin.take().expect("piped").write_all(&stream).expect("taken");
        let output = ffmpeg.wait_with_output().expect("ends");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaint.is_empty(), "{complaint}");
        output.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
    }

    #[test]
    fn each_channel_layout_decodes_to_silence_of_the_right_length() {
        for (configuration, channels) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 8)] {
            // AAC LC at 48 kHz.
            let config: &'static [u8] = vec![0x11, 0x80 | configuration << 3].leak();
            let silence = Silence::of(&track(config, 48_000, channels));
            assert_eq!(silence.track.codec_data, config, "{channels} channels keep their configuration");
            assert_eq!((silence.samples, silence.rate), (1024, 48_000));
            let samples = heard(&silence, configuration, 10);
            assert_eq!(samples.len(), 10 * 1024 * usize::from(channels), "{channels} channels");
            assert!(samples.iter().all(|sample| *sample == 0));
        }
    }

    #[test]
    fn spectral_band_replication_keeps_its_configuration_and_counts_at_the_cores_rate() {
        // HE-AAC: 22 050 Hz core, 44 100 Hz heard, stereo.
        let silence = Silence::of(&track(&[0x2b, 0x92, 0x08, 0x00], 44_100, 2));
        assert_eq!(
            (silence.samples, silence.rate, &silence.track.codec_data[..2]),
            (1024, 22_050, &[0x2b, 0x92][..])
        );
    }

    #[test]
    fn what_has_no_silence_of_its_own_gets_that_of_aac_lc() {
        let opus = AudioTrack { codec: Codec::Opus, ..track(b"OpusHead", 48_000, 2) };
        let silence = Silence::of(&opus);
        assert_eq!((silence.track.codec, &silence.track.codec_data[..]), (Codec::Aac, &[0x11, 0x90][..]));
        assert_eq!(heard(&silence, 2, 3), vec![0; 3 * 1024 * 2]);
        // A layout that only a program config element describes, a low-delay coder, and nothing at all.
        for config in [&[0x12, 0x00][..], &[0xb9, 0x90], &[]] {
            let silence = Silence::of(&track(config, 44_100, 6));
            assert_eq!(
                (silence.rate, silence.track.channels, &silence.track.codec_data[..]),
                (44_100, 2, &[0x12, 0x10][..])
            );
        }
        assert_eq!(Silence::of(&track(&[], 12_345, 1)).rate, 48_000, "a rate without a name");
    }
}
