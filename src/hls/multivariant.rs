//! The multivariant playlist (RFC 8216bis §4.4.6): one variant, and the sound as its own rendition.
//!
//! With video, the video playlist is the variant and the audio playlist an `EXT-X-MEDIA` rendition;
//! without video, the audio playlist is the variant.

use super::bandwidth::Bandwidth;
use super::codecs::{audio_codec, video_codec};
use super::names::File;
use crate::media::{AudioTrack, Codec, MediaKind, VideoTrack};
use bytes::Bytes;
use m3u8_rs::{AlternativeMedia, AlternativeMediaType, MasterPlaylist, Resolution, VariantStream};

/// The group of the audio rendition.
const AUDIO_GROUP: &str = "audio";

/// What the multivariant playlist says.
#[derive(Debug)]
pub(super) struct Variant<'a> {
    pub video: Option<&'a VideoTrack>,
    pub audio: Option<&'a AudioTrack>,
    /// Pictures a second, measured; used where the track states none.
    pub frame_rate: Option<f64>,
    /// Of all renditions together.
    pub bandwidth: Bandwidth,
}

impl Variant<'_> {
    /// The playlist.
    pub fn write(&self) -> Bytes {
        let both = self.video.is_some() && self.audio.is_some();
        let codecs = [self.video.and_then(video_codec), self.audio.and_then(audio_codec)];
        let codecs = codecs.into_iter().flatten().collect::<Vec<_>>().join(",");
        let kind = if self.video.is_some() { MediaKind::Video } else { MediaKind::Audio };
        let resolution = self.video.and_then(|video| video.resolution);
        let frame_rate = self.video.and_then(|video| video.frame_rate.or(self.frame_rate));
        let variant = VariantStream {
            uri: File::Playlist(kind).to_string(),
            bandwidth: self.bandwidth.peak.ceil() as u64,
            average_bandwidth: Some(self.bandwidth.average.ceil() as u64),
            codecs: (!codecs.is_empty()).then_some(codecs),
            resolution: resolution
                .map(|(width, height)| Resolution { width: width.into(), height: height.into() }),
            frame_rate: frame_rate.map(|rate| (rate * 1000.0).round() / 1000.0),
            audio: both.then(|| AUDIO_GROUP.into()),
            ..VariantStream::default()
        };
        let audio = self.audio.filter(|_| both).map(|audio| AlternativeMedia {
            media_type: AlternativeMediaType::Audio,
            uri: Some(File::Playlist(MediaKind::Audio).to_string()),
            group_id: AUDIO_GROUP.into(),
            name: "Audio".into(),
            default: true,
            autoselect: true,
            channels: Some(channels(audio).to_string()),
            ..AlternativeMedia::default()
        });
        let playlist = MasterPlaylist {
            version: audio.is_some().then_some(4), // RFC 8216bis §8: 4 for EXT-X-MEDIA
            alternatives: audio.into_iter().collect(),
            variants: vec![variant],
            ..MasterPlaylist::default()
        };
        let mut text = Vec::with_capacity(512);
        playlist.write_to(&mut text).expect("a vector takes all that is written");
        text.into()
    }
}

/// The channels that are heard: sound that becomes AAC on its way has two.
fn channels(audio: &AudioTrack) -> u16 {
    if audio.codec == Codec::Aac { audio.channels } else { 2 }
}
