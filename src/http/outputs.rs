//! Which outputs a stream has, and why it lacks others, as the API shows it.

use crate::media::{Carriage, Codec, Frame, MediaKind, NoCarriage, Output, PacketBatch, VideoTranscoding};
use crate::stream::{LaneKind, Stream};
use serde::Serialize;

/// How a stream's media reach each output.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutputsView {
    hls: OutputView,
    whep: OutputView,
    restream: OutputView,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputView {
    /// Whether there is anything to be had.
    available: bool,
    /// The codec in which the video is had; `null` without video.
    video: Option<&'static str>,
    /// The video is decoded and encoded again.
    transcoded: bool,
    /// Why something is lacking; `null` if nothing is.
    reason: Option<String>,
}

/// The outputs of `stream`; `None` while nothing is known of its media.
pub(super) fn of(stream: &Stream, transcoding: VideoTranscoding) -> Option<OutputsView> {
    let native = stream.watch_lanes().borrow().native?;
    let epoch = match native {
        LaneKind::Packets => stream.epoch::<PacketBatch>(),
        LaneKind::Frames => stream.epoch::<Frame>(),
        LaneKind::Compatible => None,
    }?;
    let audio = epoch.tracks.has(MediaKind::Audio);
    Some(view(epoch.tracks.codec(MediaKind::Video), audio, transcoding))
}

fn view(video: Option<Codec>, audio: bool, transcoding: VideoTranscoding) -> OutputsView {
    let unchanged = OutputView {
        available: video.is_some() || audio,
        video: video.map(Codec::name),
        transcoded: false,
        reason: None,
    };
    let output = |output, sound_alone: bool| match video.map(|codec| transcoding.carriage(codec, output)) {
        None | Some(Ok(Carriage::AsItIs)) => unchanged.clone(),
        Some(Ok(Carriage::Transcoded)) => {
            OutputView { video: Some(Codec::H264.name()), transcoded: true, ..unchanged.clone() }
        }
        Some(Err(reason)) => lacking(reason, sound_alone),
    };
    // HLS goes on with the sound; a server that expects a show has no use for that.
    OutputsView {
        hls: output(Output::Hls, audio),
        whep: unchanged.clone(),
        restream: output(Output::Restream, false),
    }
}

fn lacking(reason: NoCarriage, sound_alone: bool) -> OutputView {
    OutputView { available: sound_alone, video: None, transcoded: false, reason: Some(reason.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(video: Codec, transcoding: VideoTranscoding) -> serde_json::Value {
        serde_json::to_value(view(Some(video), true, transcoding)).expect("JSON")
    }

    #[test]
    fn what_is_lacking_has_a_reason() {
        let vp8 = json(Codec::Vp8, VideoTranscoding::Off);
        assert_eq!(
            (&vp8["hls"]["available"], &vp8["hls"]["video"]),
            (&true.into(), &serde_json::Value::Null)
        );
        assert_eq!(
            (&vp8["whep"]["video"], &vp8["whep"]["reason"]),
            (&"VP8".into(), &serde_json::Value::Null)
        );
        assert_eq!(vp8["restream"]["available"], false);
        for output in ["hls", "restream"] {
            let reason = vp8[output]["reason"].as_str().expect("a reason");
            assert!(reason.contains("VP8") && reason.contains("transcode.video"), "{reason}");
        }
        let vp9 = json(Codec::Vp9, VideoTranscoding::Off);
        assert_eq!((&vp9["hls"]["video"], &vp9["restream"]["available"]), (&"VP9".into(), &false.into()));
    }

    #[test]
    fn what_is_transcoded_is_called_so() {
        let av1 = json(Codec::Av1, VideoTranscoding::OnDemand);
        let expected = serde_json::json!({
            "hls": {"available": true, "video": "AV1", "transcoded": false, "reason": null},
            "whep": {"available": true, "video": "AV1", "transcoded": false, "reason": null},
            "restream": {"available": true, "video": "H.264", "transcoded": true, "reason": null},
        });
        assert_eq!(av1, expected);
        assert_eq!(json(Codec::Vp8, VideoTranscoding::OnDemand)["hls"]["transcoded"], true);
    }
}
