//! The multivariant playlist (RFC 8216bis §4.4.6): a variant for each video rendition, the best first, and the
//! sound as a rendition that all of them share.
//!
//! Without video, the audio playlist is the variant; where the stream's ladder has the sound alone, it is the last
//! of several.

use super::bandwidth::Bandwidth;
use super::codecs::{audio_codec, video_codec, video_range};
use super::names::{File, RenditionName};
use crate::media::{AudioTrack, VideoTrack};
use bytes::Bytes;
use m3u8_rs::{
    AlternativeMedia, AlternativeMediaType, MasterPlaylist, QuotedOrUnquoted, Resolution, VariantStream,
};
use std::collections::HashMap;

/// The group of the audio rendition.
const AUDIO_GROUP: &str = "audio";

/// What the multivariant playlist says.
#[derive(Debug)]
pub(super) struct Multivariant<'a> {
    /// The best first.
    pub video: Vec<VideoVariant<'a>>,
    pub audio: Option<Sound<'a>>,
    /// The sound alone is a variant too.
    pub audio_only: bool,
}

/// A video rendition.
#[derive(Debug)]
pub(super) struct VideoVariant<'a> {
    pub name: RenditionName,
    pub track: &'a VideoTrack,
    /// Pictures a second.
    pub frame_rate: Option<f64>,
    pub bandwidth: Bandwidth,
}

/// The audio rendition.
#[derive(Debug)]
pub(super) struct Sound<'a> {
    pub track: &'a AudioTrack,
    pub bandwidth: Bandwidth,
}

impl Multivariant<'_> {
    /// The playlist.
    pub fn write(&self) -> Bytes {
        let mut variants: Vec<_> = self.video.iter().map(|video| self.video_variant(video)).collect();
        let both = !variants.is_empty();
        if let Some(audio) = self.audio.as_ref().filter(|_| !both || self.audio_only) {
            variants.push(audio.variant(both));
        }
        let alternatives: Vec<_> = self.audio.iter().filter(|_| both).map(Sound::rendition).collect();
        let playlist = MasterPlaylist {
            version: (!alternatives.is_empty()).then_some(4), // RFC 8216bis §8: 4 for EXT-X-MEDIA
            alternatives,
            variants,
            ..MasterPlaylist::default()
        };
        let mut text = Vec::with_capacity(512);
        playlist.write_to(&mut text).expect("a vector takes all that is written");
        text.into()
    }

    fn video_variant(&self, video: &VideoVariant<'_>) -> VariantStream {
        let audio = self.audio.as_ref();
        let bandwidth = audio.map_or(video.bandwidth, |audio| video.bandwidth.plus(audio.bandwidth));
        let codecs = [video_codec(video.track), audio.and_then(|audio| audio_codec(audio.track))];
        let size = video.track.resolution;
        VariantStream {
            resolution: size.map(|(width, height)| Resolution { width: width.into(), height: height.into() }),
            frame_rate: video.frame_rate.map(|rate| (rate * 1000.0).round() / 1000.0),
            audio: audio.map(|_| AUDIO_GROUP.into()),
            other_attributes: video_range(video.track).map(|range| {
                HashMap::from([("VIDEO-RANGE".into(), QuotedOrUnquoted::Unquoted(range.into()))])
            }),
            ..variant(video.name, bandwidth, codecs)
        }
    }
}

impl Sound<'_> {
    /// As a variant of its own; `grouped` beside others that have it as their sound.
    fn variant(&self, grouped: bool) -> VariantStream {
        VariantStream {
            audio: grouped.then(|| AUDIO_GROUP.into()),
            ..variant(RenditionName::Audio, self.bandwidth, [audio_codec(self.track), None])
        }
    }

    /// As what belongs to the pictures.
    fn rendition(&self) -> AlternativeMedia {
        AlternativeMedia {
            media_type: AlternativeMediaType::Audio,
            uri: Some(File::Playlist(RenditionName::Audio).to_string()),
            group_id: AUDIO_GROUP.into(),
            name: "Audio".into(),
            default: true,
            autoselect: true,
            channels: Some(self.track.channels.to_string()),
            ..AlternativeMedia::default()
        }
    }
}

fn variant(name: RenditionName, bandwidth: Bandwidth, codecs: [Option<String>; 2]) -> VariantStream {
    let codecs = codecs.into_iter().flatten().collect::<Vec<_>>().join(",");
    VariantStream {
        uri: File::Playlist(name).to_string(),
        bandwidth: bandwidth.peak.ceil() as u64,
        average_bandwidth: Some(bandwidth.average.ceil() as u64),
        codecs: (!codecs.is_empty()).then_some(codecs),
        ..VariantStream::default()
    }
}
