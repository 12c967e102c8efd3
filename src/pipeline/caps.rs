//! Track configurations as GStreamer states them, and back.

use super::PipelineError;
use crate::media::{AudioTrack, Codec, VideoTrack};
use bytes::Bytes;
use gstreamer as gst;

/// A track's configuration, as it comes out of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TrackConfig {
    Video(VideoTrack),
    Audio(AudioTrack),
}

/// Caps of H.264 access units with length-prefixed NAL units.
pub(super) fn of_video(track: &VideoTrack, purpose: &'static str) -> Result<gst::Caps, PipelineError> {
    if track.codec != Codec::H264 {
        return Err(PipelineError::Unsupported { codec: track.codec, purpose });
    }
    let mut caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(track.codec_data.clone()));
    if let Some((width, height)) = track.resolution {
        caps = caps.field("width", width as i32).field("height", height as i32);
    }
    Ok(caps.build())
}

/// Caps of raw AAC frames.
pub(super) fn of_audio(track: &AudioTrack, purpose: &'static str) -> Result<gst::Caps, PipelineError> {
    if track.codec != Codec::Aac {
        return Err(PipelineError::Unsupported { codec: track.codec, purpose });
    }
    Ok(gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4i32)
        .field("stream-format", "raw")
        .field("framed", true)
        .field("rate", track.sample_rate as i32)
        .field("channels", i32::from(track.channels))
        .field("codec_data", gst::Buffer::from_slice(track.codec_data.clone()))
        .build())
}

/// The configuration that caps of coded frames state; `None` while they are incomplete.
pub(super) fn read(caps: &gst::CapsRef) -> Option<TrackConfig> {
    let caps = caps.structure(0)?;
    let codec_data = caps.get::<gst::Buffer>("codec_data").ok()?;
    let codec_data = Bytes::copy_from_slice(codec_data.map_readable().ok()?.as_slice());
    let number = |name| caps.get::<i32>(name).ok().and_then(|number| u32::try_from(number).ok());
    match caps.name().as_str() {
        "video/x-h264" => Some(TrackConfig::Video(VideoTrack {
            codec: Codec::H264,
            resolution: number("width").zip(number("height")),
            frame_rate: caps
                .get::<gst::Fraction>("framerate")
                .ok()
                .filter(|rate| rate.numer() > 0)
                .map(|rate| f64::from(rate.numer()) / f64::from(rate.denom())),
            codec_data,
            fmtp: String::new(),
            reordered: false,
        })),
        "audio/mpeg" => Some(TrackConfig::Audio(AudioTrack {
            codec: Codec::Aac,
            sample_rate: number("rate")?,
            channels: u16::try_from(number("channels")?).ok()?,
            codec_data,
            fmtp: String::new(),
        })),
        _ => None,
    }
}
