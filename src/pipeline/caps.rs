//! Track configurations as GStreamer states them, and back.

use super::PipelineError;
use super::vp9::Vp9Config;
use crate::media::{AudioTrack, Codec, VideoTrack};
use bytes::Bytes;
use gstreamer as gst;

/// A track's configuration, as it comes out of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TrackConfig {
    Video(VideoTrack),
    Audio(AudioTrack),
}

/// Caps of whole frames with their configuration beside them, as the frame lane carries them.
pub(super) fn of_video(track: &VideoTrack, purpose: &'static str) -> Result<gst::Caps, PipelineError> {
    let unsupported = || PipelineError::Unsupported { codec: track.codec, purpose };
    let codec_data = || gst::Buffer::from_slice(track.codec_data.clone());
    let caps = match track.codec {
        Codec::H264 => gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("codec_data", codec_data()),
        Codec::H265 => gst::Caps::builder("video/x-h265")
            .field("stream-format", "hvc1")
            .field("alignment", "au")
            .field("codec_data", codec_data()),
        Codec::Vp9 => Vp9Config::read(&track.codec_data)
            .ok_or_else(unsupported)?
            .put(gst::Caps::builder("video/x-vp9").field("alignment", "super-frame")),
        Codec::Av1 => {
            let (profile, chroma_format, bit_depth) = av1(&track.codec_data).ok_or_else(unsupported)?;
            gst::Caps::builder("video/x-av1")
                .field("stream-format", "obu-stream")
                .field("alignment", "tu")
                .field("profile", profile)
                .field("chroma-format", chroma_format)
                .field("bit-depth-luma", bit_depth)
                .field("bit-depth-chroma", bit_depth)
                .field("codec_data", codec_data())
        }
        Codec::Vp8 | Codec::Opus | Codec::Aac | Codec::Mp3 => return Err(unsupported()),
    };
    Ok(match track.resolution {
        Some((width, height)) => caps.field("width", width as i32).field("height", height as i32),
        None => caps,
    }
    .build())
}

/// Profile, chroma format and bit depth from the AV1CodecConfigurationRecord (AV1 in ISOBMFF §2.3.3).
fn av1(record: &[u8]) -> Option<(&'static str, &'static str, u32)> {
    let &[_, profile, format, ..] = record else { return None };
    let profile = *["main", "high", "professional"].get(usize::from(profile >> 5))?;
    let bit_depth = match format >> 5 & 3 {
        0b00 => 8,
        0b10 => 10,
        0b11 => 12,
        _ => return None,
    };
    let chroma_format = match format >> 2 & 7 {
        0b011 => "4:2:0",
        0b010 => "4:2:2",
        0b000 => "4:4:4",
        0b111 => "4:0:0",
        _ => return None,
    };
    Some((profile, chroma_format, bit_depth))
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

/// Caps of sound that containers can have here.
pub(super) fn of_muxed_sound(track: &AudioTrack) -> Result<gst::Caps, PipelineError> {
    match track.codec {
        Codec::Opus => Ok(opus(track)),
        _ => of_audio(track, "muxed"),
    }
}

/// Caps of coded sound with its configuration beside it, as the frame lane carries it.
pub(super) fn of_sound(track: &AudioTrack, purpose: &'static str) -> Result<gst::Caps, PipelineError> {
    let (rate, channels) = (track.sample_rate as i32, i32::from(track.channels));
    match track.codec {
        Codec::Mp3 => Ok(gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 1i32)
            .field("layer", 3i32)
            .field("parsed", true)
            .field("rate", rate)
            .field("channels", channels)
            .build()),
        Codec::Opus => Ok(opus(track)),
        _ => of_audio(track, purpose),
    }
}

/// Caps of Opus packets of any kind, decoded as stereo.
pub(super) fn opus_in_stereo() -> gst::Caps {
    gst::Caps::builder("audio/x-opus")
        .field("rate", 48_000i32)
        .field("channel-mapping-family", 0i32)
        .field("channels", 2i32)
        .build()
}

/// RFC 7845 §5.1.1: a mapping family other than 0 tells which coded channel is heard where.
fn opus(track: &AudioTrack) -> gst::Caps {
    let caps = gst::Caps::builder("audio/x-opus").field("rate", 48_000i32);
    match &track.codec_data[..] {
        [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', _, channels, ..]
            if track.codec_data.len() >= 21 + usize::from(*channels) && track.codec_data[18] != 0 =>
        {
            let header = &track.codec_data;
            let mapping = header[21..21 + usize::from(*channels)].iter().map(|place| i32::from(*place));
            caps.field("channel-mapping-family", i32::from(header[18]))
                .field("channels", i32::from(*channels))
                .field("stream-count", i32::from(header[19]))
                .field("coupled-count", i32::from(header[20]))
                .field("channel-mapping", gst::Array::new(mapping))
                .build()
        }
        _ => caps
            .field("channel-mapping-family", 0i32)
            .field("stream-count", 1i32)
            .field("coupled-count", i32::from(track.channels > 1))
            .field("channels", i32::from(track.channels.clamp(1, 2)))
            .build(),
    }
}

/// The configuration that caps of coded frames state; `None` while they are incomplete.
pub(super) fn read(caps: &gst::CapsRef) -> Option<TrackConfig> {
    let caps = caps.structure(0)?;
    let number = |name| caps.get::<i32>(name).ok().and_then(|number| u32::try_from(number).ok());
    let codec_data = || {
        let data = caps.get::<gst::Buffer>("codec_data").ok()?;
        Some(Bytes::copy_from_slice(data.map_readable().ok()?.as_slice()))
    };
    let video = |codec, codec_data| {
        let resolution = number("width").zip(number("height"));
        let rate = caps.get::<gst::Fraction>("framerate").ok().filter(|rate| rate.numer() > 0);
        let frame_rate = rate.map(|rate| f64::from(rate.numer()) / f64::from(rate.denom()));
        TrackConfig::Video(VideoTrack { resolution, frame_rate, codec_data, ..VideoTrack::new(codec) })
    };
    match caps.name().as_str() {
        "video/x-h264" => Some(video(Codec::H264, codec_data()?)),
        "video/x-h265" => Some(video(Codec::H265, codec_data()?)),
        "video/x-vp9" => Some(video(Codec::Vp9, Vp9Config::of(caps)?.record())),
        "audio/x-opus" => Some(TrackConfig::Audio(AudioTrack {
            codec: Codec::Opus,
            sample_rate: 48_000,
            channels: u16::try_from(number("channels")?).ok()?,
            codec_data: Bytes::new(),
            fmtp: String::new(),
        })),
        "audio/mpeg" => Some(TrackConfig::Audio(AudioTrack {
            codec: Codec::Aac,
            sample_rate: number("rate")?,
            channels: u16::try_from(number("channels")?).ok()?,
            codec_data: codec_data()?,
            fmtp: String::new(),
        })),
        _ => None,
    }
}
