//! Tracks as the API and the pages show them.

use crate::media::{Frame, PacketBatch, Tracks};
use crate::stream::{LaneKind, Stream};
use serde::Serialize;
use utoipa::ToSchema;

/// One track as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Track)]
pub(super) struct TrackView {
    /// `video` or `audio`.
    #[schema(example = "video")]
    kind: &'static str,
    #[schema(example = "H.264")]
    codec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<u16>,
}

/// The tracks that the publisher sends. RTP does not tell the resolution; there the parameter sets of the
/// bridged frames do.
pub(super) fn of(stream: &Stream) -> Vec<TrackView> {
    let frames = stream.epoch::<Frame>();
    let packets = stream.epoch::<PacketBatch>();
    let native = stream.watch_lanes().borrow().native;
    let (sent, bridged) = match native {
        Some(LaneKind::Packets) => (packets, frames),
        Some(LaneKind::Frames) => (frames, packets),
        Some(LaneKind::Compatible | LaneKind::CompatiblePackets | LaneKind::Renditions) | None => {
            return Vec::new();
        }
    };
    let Some(sent) = sent else { return Vec::new() };
    views(&sent.tracks, bridged.as_ref().map(|epoch| &epoch.tracks))
}

fn views(sent: &Tracks, bridged: Option<&Tracks>) -> Vec<TrackView> {
    let bridged = bridged.and_then(|tracks| tracks.video.as_ref());
    let video = sent.video.as_ref().map(|track| {
        let resolution = track.resolution.or(bridged.and_then(|track| track.resolution));
        TrackView {
            kind: "video",
            codec: track.codec.name(),
            width: resolution.map(|(width, _)| width),
            height: resolution.map(|(_, height)| height),
            frame_rate: track.frame_rate.or(bridged.and_then(|track| track.frame_rate)),
            ..TrackView::default()
        }
    });
    let audio = sent.audio.as_ref().map(|track| TrackView {
        kind: "audio",
        codec: track.codec.name(),
        sample_rate: Some(track.sample_rate),
        channels: Some(track.channels),
        ..TrackView::default()
    });
    video.into_iter().chain(audio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AudioTrack, Codec, VideoTrack};
    use bytes::Bytes;

    fn video(resolution: Option<(u32, u32)>) -> Option<VideoTrack> {
        Some(VideoTrack { resolution, ..VideoTrack::new(Codec::H264) })
    }

    #[test]
    fn the_resolution_may_come_from_the_bridged_lane() {
        let audio = AudioTrack {
            codec: Codec::Opus,
            sample_rate: 48_000,
            channels: 2,
            codec_data: Bytes::new(),
            fmtp: String::new(),
        };
        let sent = Tracks { video: video(None), audio: Some(audio) };
        let bridged = Tracks { video: video(Some((1280, 720))), audio: None };
        let views = serde_json::to_value(views(&sent, Some(&bridged))).expect("JSON");
        let expected = serde_json::json!([
            {"kind": "video", "codec": "H.264", "width": 1280, "height": 720},
            {"kind": "audio", "codec": "Opus", "sampleRate": 48000, "channels": 2},
        ]);
        assert_eq!(views, expected);
    }
}
