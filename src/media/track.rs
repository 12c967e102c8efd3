//! One elementary stream with one configuration.

use super::aac::AudioSpecificConfig;
use super::{Codec, MediaKind};
use bytes::Bytes;

/// A video track's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoTrack {
    /// The coding format.
    pub codec: Codec,
    /// Width and height in pixels, once the bitstream or the sender has told them.
    pub resolution: Option<(u32, u32)>,
    /// Pictures a second, where the sender states a constant rate.
    pub frame_rate: Option<f64>,
    /// Frame lane: the decoder configuration record as in ISO base media files, without box headers: `avcC`,
    /// `hvcC`, `vpcC` (from the profile on), the first four bytes of `av1C`. Packet lane: empty.
    pub codec_data: Bytes,
    /// Packet lane: the negotiated `a=fmtp` parameters (`level-asymmetry-allowed=1;…`). Frame lane: empty.
    pub fmtp: String,
    /// Whether pictures may be decoded in another order than they are shown (B-frames).
    pub reordered: bool,
    /// `transfer_characteristics` (ISO/IEC 23091-2 §8.2: 16 is PQ, 18 HLG), where a sequence header that is not in
    /// [`Self::codec_data`] told them.
    pub transfer: Option<u8>,
}

impl VideoTrack {
    /// A track of which nothing but the coding format is known.
    pub fn new(codec: Codec) -> Self {
        let (codec_data, fmtp) = (Bytes::new(), String::new());
        Self { codec, resolution: None, frame_rate: None, codec_data, fmtp, reordered: false, transfer: None }
    }
}

/// An audio track's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioTrack {
    /// The coding format.
    pub codec: Codec,
    /// Samples a second of the decoded sound; the RTP clock rate is 48 000 for Opus.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u16,
    /// Frame lane: the AudioSpecificConfig of AAC; the identification header of Opus (RFC 7845 §5.1) or
    /// nothing; nothing for MP3. Packet lane: empty.
    pub codec_data: Bytes,
    /// Packet lane: the negotiated `a=fmtp` parameters. Frame lane: empty.
    pub fmtp: String,
}

impl AudioTrack {
    /// Samples a frame of AAC at [`Self::sample_rate`]: 1024 unless its configuration says otherwise.
    pub fn aac_frame_samples(&self) -> u32 {
        AudioSpecificConfig::parse(&self.codec_data).map_or(1024, |config| config.frame_samples)
    }
}

/// The tracks of one epoch; at least one is present.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracks {
    /// The video track, if there is one.
    pub video: Option<VideoTrack>,
    /// The audio track, if there is one.
    pub audio: Option<AudioTrack>,
}

impl Tracks {
    /// Whether there is a track of `kind`.
    pub fn has(&self, kind: MediaKind) -> bool {
        match kind {
            MediaKind::Video => self.video.is_some(),
            MediaKind::Audio => self.audio.is_some(),
        }
    }

    /// Whether people would call these the same: tracks of the same codecs, resolution and form of sound.
    pub fn look_like(&self, other: &Self) -> bool {
        let video = |tracks: &Self| tracks.video.as_ref().map(|track| (track.codec, track.resolution));
        let audio = |tracks: &Self| {
            tracks.audio.as_ref().map(|track| (track.codec, track.sample_rate, track.channels))
        };
        (video(self), audio(self)) == (video(other), audio(other))
    }

    /// The codec of the track of `kind`.
    pub fn codec(&self, kind: MediaKind) -> Option<Codec> {
        match kind {
            MediaKind::Video => self.video.as_ref().map(|track| track.codec),
            MediaKind::Audio => self.audio.as_ref().map(|track| track.codec),
        }
    }
}
