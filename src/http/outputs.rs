//! Which outputs a stream has, and why it lacks others, as the API shows it.

use crate::media::{
    BFRAMES_OFF, Carriage, Codec, Frame, MediaKind, Output, PacketBatch, PacketVideo, Shortage, Tracks,
    Transcoding, VideoTranscoding,
};
use crate::stream::{LaneKind, Stream};
use serde::Serialize;
use utoipa::ToSchema;

/// How a stream's media reach each output.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Outputs)]
pub(super) struct OutputsView {
    hls: OutputView,
    whep: OutputView,
    restream: OutputView,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Output)]
struct OutputView {
    /// Whether there is anything to be had.
    available: bool,
    /// The codec in which the video is had; `null` without video.
    video: Option<&'static str>,
    /// The video is decoded and encoded again.
    transcoded: bool,
    /// Why something is lacking; `null` if nothing is.
    reason: Option<String>,
    /// What is done to the video, and what to change at the source so that it isn't; `null` if nothing is.
    note: Option<String>,
}

/// The outputs of `stream`; `None` while nothing is known of its media. `shortage`: why nothing is encoded for
/// its WHEP viewers at the moment.
pub(super) fn of(
    stream: &Stream,
    transcoding: Transcoding,
    shortage: Option<Shortage>,
) -> Option<OutputsView> {
    let native = stream.watch_lanes().borrow().native?;
    let epoch = match native {
        LaneKind::Packets => stream.epoch::<PacketBatch>(),
        LaneKind::Frames => stream.epoch::<Frame>(),
        LaneKind::Compatible | LaneKind::CompatiblePackets | LaneKind::Renditions => None,
    }?;
    // A bridge that runs knows more of B-frames than the configuration says.
    let lacks_video = |packets: &Tracks| packets.video.is_none();
    let packets = stream.epoch::<PacketBatch>().filter(|_| native == LaneKind::Frames);
    let depended_on = packets.is_some_and(|packets| lacks_video(&packets.tracks));
    Some(view(&epoch.tracks, depended_on, transcoding, shortage))
}

fn view(
    tracks: &Tracks,
    depended_on: bool,
    transcoding: Transcoding,
    shortage: Option<Shortage>,
) -> OutputsView {
    let (video, audio) = (tracks.codec(MediaKind::Video), tracks.has(MediaKind::Audio));
    let unchanged = OutputView {
        available: video.is_some() || audio,
        video: video.map(Codec::name),
        transcoded: false,
        reason: None,
        note: None,
    };
    let output =
        |output, sound_alone: bool| match video.map(|codec| transcoding.video.carriage(codec, output)) {
            None | Some(Ok(Carriage::AsItIs)) => unchanged.clone(),
            Some(Ok(Carriage::Transcoded)) => {
                OutputView { video: Some(Codec::H264.name()), transcoded: true, ..unchanged.clone() }
            }
            Some(Err(reason)) => lacking(reason, sound_alone),
        };
    // HLS goes on with the sound; a server that expects a show has no use for that.
    OutputsView {
        hls: output(Output::Hls, audio),
        whep: whep(tracks, depended_on, transcoding, shortage, unchanged.clone()),
        restream: output(Output::Restream, false),
    }
}

/// Video with B-frames is changed for viewers, or not to be had; that of other codecs than H.264 for those viewers
/// that lack it.
fn whep(
    tracks: &Tracks,
    depended_on: bool,
    transcoding: Transcoding,
    shortage: Option<Shortage>,
    unchanged: OutputView,
) -> OutputView {
    let Some(track) = &tracks.video else { return unchanged };
    let note = |what: &str| Some(format!("the video has B-frames{what}; to save that, {BFRAMES_OFF}"));
    let thinned = "so viewers get it without them, with fewer pictures";
    match transcoding.to_packets(track, depended_on, shortage) {
        Ok(PacketVideo::AsItIs) => OutputView { note: lacked(track.codec, transcoding), ..unchanged },
        Ok(PacketVideo::Thinned { shortage: None }) => {
            OutputView { note: note(&format!(", {thinned}")), ..unchanged }
        }
        Ok(PacketVideo::Thinned { shortage: Some(shortage) }) => {
            OutputView { note: note(&format!(", and {shortage}, {thinned}")), ..unchanged }
        }
        Ok(PacketVideo::Transcoded) => OutputView {
            video: Some(Codec::H264.name()),
            transcoded: true,
            note: note(", so it is encoded again while somebody watches"),
            ..unchanged
        },
        Err(reason) => lacking(reason, tracks.has(MediaKind::Audio)),
    }
}

/// What becomes of viewers that have not got `codec`; `None` of H.264, which nothing replaces.
fn lacked(codec: Codec, transcoding: Transcoding) -> Option<String> {
    let save = "publish H.264";
    match transcoding.video {
        _ if codec == Codec::H264 => None,
        VideoTranscoding::OnDemand => Some(format!(
            "for viewers that lack {codec} it is encoded again as H.264 while one of them watches; to save that, {save}"
        )),
        VideoTranscoding::Off => Some(format!(
            "viewers that lack {codec} are refused, because transcode.video is \"off\"; to serve them, {save} or set it \
             to \"on-demand\""
        )),
    }
}

fn lacking(reason: impl ToString, sound_alone: bool) -> OutputView {
    let reason = Some(reason.to_string());
    OutputView { available: sound_alone, video: None, transcoded: false, reason, note: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AudioTrack, BFrames, VideoTrack};

    fn tracks(codec: Codec, reordered: bool) -> Tracks {
        let video = VideoTrack { reordered, ..VideoTrack::new(codec) };
        let (codec_data, fmtp) = (Default::default(), String::new());
        let audio = AudioTrack { codec: Codec::Aac, sample_rate: 48_000, channels: 2, codec_data, fmtp };
        Tracks { video: Some(video), audio: Some(audio) }
    }

    fn json(video: Codec, transcoding: VideoTranscoding) -> serde_json::Value {
        let transcoding = Transcoding { video: transcoding, ..Transcoding::default() };
        serde_json::to_value(view(&tracks(video, false), false, transcoding, None)).expect("JSON")
    }

    #[test]
    fn what_becomes_of_b_frames_is_told() {
        let whep = |b_frames, depended_on| {
            let transcoding =
                Transcoding { video: VideoTranscoding::Off, b_frames, ..Transcoding::default() };
            let view = view(&tracks(Codec::H265, true), depended_on, transcoding, None);
            serde_json::to_value(view).expect("JSON")["whep"].clone()
        };
        let dropped = whep(BFrames::Drop, false);
        assert_eq!((&dropped["video"], &dropped["transcoded"]), (&"H.265".into(), &false.into()));
        assert!(dropped["note"].as_str().expect("a note").contains("OBS"), "{dropped}");
        for refused in [whep(BFrames::Refuse, false), whep(BFrames::Transcode, true)] {
            assert_eq!(refused["video"], serde_json::Value::Null);
            assert!(refused["reason"].as_str().expect("a reason").contains("OBS"), "{refused}");
        }
        let transcoded = view(&tracks(Codec::H264, true), false, Transcoding::default(), None);
        let transcoded = serde_json::to_value(transcoded).expect("JSON");
        assert_eq!(transcoded["whep"]["transcoded"], true);
        assert_eq!(transcoded["hls"]["note"], serde_json::Value::Null);
    }

    #[test]
    fn what_can_not_be_encoded_at_the_moment_is_told_with_the_reason() {
        let whep = |depended_on| {
            let shortage = Some(Shortage::Budget);
            let view = view(&tracks(Codec::H265, true), depended_on, Transcoding::default(), shortage);
            serde_json::to_value(view).expect("JSON")["whep"].clone()
        };
        let thinned = whep(false);
        assert_eq!((&thinned["video"], &thinned["transcoded"]), (&"H.265".into(), &false.into()));
        let refused = whep(true);
        assert_eq!(refused["video"], serde_json::Value::Null);
        for told in [&thinned["note"], &refused["reason"]] {
            let told = told.as_str().expect("told");
            assert!(told.contains("transcode.cpu_budget") && told.contains("OBS"), "{told}");
        }
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
        let note = vp8["whep"]["note"].as_str().expect("a note");
        assert!(note.contains("VP8") && note.contains("transcode.video"), "{note}");
        assert_eq!(json(Codec::H264, VideoTranscoding::Off)["whep"]["note"], serde_json::Value::Null);
        let vp9 = json(Codec::Vp9, VideoTranscoding::Off);
        assert_eq!((&vp9["hls"]["video"], &vp9["restream"]["available"]), (&"VP9".into(), &false.into()));
    }

    #[test]
    fn what_is_transcoded_is_called_so() {
        let av1 = json(Codec::Av1, VideoTranscoding::OnDemand);
        let note = "for viewers that lack AV1 it is encoded again as H.264 while one of them watches; to save \
                    that, publish H.264";
        let expected = serde_json::json!({
            "hls": {"available": true, "video": "AV1", "transcoded": false, "reason": null, "note": null},
            "whep": {"available": true, "video": "AV1", "transcoded": false, "reason": null, "note": note},
            "restream": {"available": true, "video": "H.264", "transcoded": true, "reason": null, "note": null},
        });
        assert_eq!(av1, expected);
        assert_eq!(json(Codec::Vp8, VideoTranscoding::OnDemand)["hls"]["transcoded"], true);
    }
}
