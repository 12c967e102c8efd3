//! What becomes of video with B-frames for WebRTC, whose receivers show pictures in the order of decoding.
//! Pure.

use super::h264::AvcConfig;
use super::{Codec, VideoTrack, VideoTranscoding};
use std::str::FromStr;

/// What is done for WHEP viewers with video that has B-frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BFrames {
    /// It is encoded again without, once per stream, while somebody watches.
    #[default]
    Transcode,
    /// The B-frames are left out where no other frame depends on them.
    Drop,
    /// Viewers are told that there is no video for them, and why.
    Refuse,
}

/// What may be done to video for outputs that can't take it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transcoding {
    /// Whether video may be decoded and encoded again at all.
    pub video: VideoTranscoding,
    /// What is done with B-frames for WHEP.
    pub b_frames: BFrames,
    /// What a publisher's Opus is on the frame lane.
    pub opus: OpusFrames,
}

/// What the Opus of a WebRTC publisher becomes on the frame lane, from which HLS reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpusFrames {
    /// AAC, which every player knows.
    #[default]
    Aac,
    /// Opus, as it is.
    Opus,
}

/// How video reaches WHEP viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketVideo {
    /// As the publisher sends it.
    AsItIs,
    /// Without its B-frames.
    Thinned {
        /// Why it is not encoded again, where it would be otherwise.
        shortage: Option<Shortage>,
    },
    /// Decoded, and encoded again as H.264 without B-frames.
    Transcoded,
}

/// Why video can't be encoded at the moment, although it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// The program uses as much processor time as it should without that.
    #[error("the CPU budget (transcode.cpu_budget) is spent")]
    Budget,
    /// The encoder fell behind, not long ago.
    #[error("the machine did not keep up with encoding it")]
    Behind,
}

/// Why video with B-frames does not reach WHEP viewers, in words for whoever publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the video has B-frames, which WebRTC players can't show, and {0}: {BFRAMES_OFF}")]
pub struct BFramesRefused(Because);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Because {
    #[error("webrtc.b_frames is \"refuse\"")]
    Refuse,
    #[error("other frames depend on them, so that they can't be left out, while transcode.video is \"off\"")]
    Off,
    #[error("other frames depend on them, so that they can't be left out, while {0}")]
    Shortage(Shortage),
}

/// What to change at the source.
pub const BFRAMES_OFF: &str = "switch them off in the encoder (OBS: Settings, Output, Output Mode \"Advanced\", \
                               Streaming: \"Max B-frames\" or \"B-frames\" 0, or with x264 Tune \"zerolatency\")";

impl Transcoding {
    /// How video of `track` reaches WHEP viewers. `depended_on`: other frames were seen to depend on its
    /// B-frames, so they can't be left out. `shortage`: why nothing can be encoded at the moment.
    pub fn to_packets(
        self,
        track: &VideoTrack,
        depended_on: bool,
        shortage: Option<Shortage>,
    ) -> Result<PacketVideo, BFramesRefused> {
        if !track.reordered {
            return Ok(PacketVideo::AsItIs);
        }
        let transcoded = match (self.video, shortage) {
            (VideoTranscoding::Off, _) => Err(Because::Off),
            (VideoTranscoding::OnDemand, Some(shortage)) => Err(Because::Shortage(shortage)),
            (VideoTranscoding::OnDemand, None) => Ok(PacketVideo::Transcoded),
        };
        let may_drop = !depended_on && b_frames_may_go(track);
        let way = match (self.b_frames, transcoded) {
            (BFrames::Refuse, _) => Err(Because::Refuse),
            (BFrames::Transcode, Ok(transcoded)) => Ok(transcoded),
            (BFrames::Transcode, Err(Because::Shortage(shortage))) if may_drop => {
                Ok(PacketVideo::Thinned { shortage: Some(shortage) })
            }
            (BFrames::Transcode | BFrames::Drop, _) if may_drop => {
                Ok(PacketVideo::Thinned { shortage: None })
            }
            (BFrames::Transcode | BFrames::Drop, transcoded) => transcoded,
        };
        way.map_err(BFramesRefused)
    }
}

/// Whether B-frames can be left out, as far as the configuration tells: where pictures are two or more
/// places out of order, B-frames depend on B-frames.
fn b_frames_may_go(track: &VideoTrack) -> bool {
    match track.codec {
        Codec::H264 => {
            let sps = AvcConfig::parse(track.codec_data.clone()).and_then(|config| config.first_sps());
            sps.is_ok_and(|sps| sps.max_reorder_frames.is_none_or(|frames| frames <= 1))
        }
        Codec::H265 => true,
        _ => false,
    }
}

impl BFrames {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transcode => "transcode",
            Self::Drop => "drop",
            Self::Refuse => "refuse",
        }
    }
}

impl FromStr for OpusFrames {
    type Err = ();

    /// Reads `aac` or `opus`.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "aac" => Ok(Self::Aac),
            "opus" => Ok(Self::Opus),
            _ => Err(()),
        }
    }
}

impl FromStr for BFrames {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Transcode, Self::Drop, Self::Refuse].into_iter().find(|one| one.as_str() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use VideoTranscoding::{Off, OnDemand};
    use bytes::Bytes;

    fn track(codec: Codec, reordered: bool) -> VideoTrack {
        // x264, High, 1280x720, two pictures out of order; and the same without that in its VUI.
        let codec_data = Bytes::from_static(&[
            1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 24, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb,
            0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0xc0, 0xf1, 0x83, 0x19, 0x60, 1, 0, 6, 0x68, 0xeb,
            0xe3, 0xcb, 0x22, 0xc0,
        ]);
        VideoTrack { codec_data, reordered, ..VideoTrack::new(codec) }
    }

    #[test]
    fn video_in_order_goes_as_it_is_whatever_is_configured() {
        for b_frames in [BFrames::Transcode, BFrames::Drop, BFrames::Refuse] {
            let transcoding = Transcoding { video: Off, b_frames, ..Transcoding::default() };
            assert_eq!(
                transcoding.to_packets(&track(Codec::Vp9, false), false, Some(Shortage::Budget)),
                Ok(PacketVideo::AsItIs)
            );
        }
    }

    #[test]
    fn b_frames_are_treated_as_configured_as_far_as_that_is_possible() {
        use PacketVideo::{Thinned, Transcoded};
        let way = |b_frames, video, depended_on| {
            let transcoding = Transcoding { video, b_frames, ..Transcoding::default() };
            transcoding.to_packets(&track(Codec::H265, true), depended_on, None).ok()
        };
        let thinned = Some(Thinned { shortage: None });
        assert_eq!(way(BFrames::Transcode, OnDemand, false), Some(Transcoded));
        assert_eq!(way(BFrames::Transcode, Off, false), thinned);
        assert_eq!(way(BFrames::Transcode, Off, true), None);
        assert_eq!(way(BFrames::Drop, OnDemand, false), thinned);
        assert_eq!(way(BFrames::Drop, OnDemand, true), Some(Transcoded));
        assert_eq!(way(BFrames::Drop, Off, false), thinned);
        assert_eq!(way(BFrames::Drop, Off, true), None);
        assert_eq!(way(BFrames::Refuse, OnDemand, false), None);
    }

    #[test]
    fn where_nothing_can_be_encoded_b_frames_are_left_out_or_refused_with_the_reason() {
        let way = |b_frames, depended_on, shortage| {
            let transcoding = Transcoding { b_frames, ..Transcoding::default() };
            transcoding.to_packets(&track(Codec::H265, true), depended_on, Some(shortage))
        };
        for shortage in [Shortage::Budget, Shortage::Behind] {
            let thinned = |shortage| Ok(PacketVideo::Thinned { shortage });
            assert_eq!(way(BFrames::Transcode, false, shortage), thinned(Some(shortage)));
            assert_eq!(
                way(BFrames::Drop, false, shortage),
                thinned(None),
                "as it would be with time to spare"
            );
            for b_frames in [BFrames::Transcode, BFrames::Drop] {
                let told = way(b_frames, true, shortage).expect_err("neither way").to_string();
                assert!(told.contains(&shortage.to_string()) && told.contains("OBS"), "{told}");
            }
        }
    }

    #[test]
    fn a_pyramid_is_known_by_the_sequence_parameter_set() {
        let drop = Transcoding { video: Off, b_frames: BFrames::Drop, ..Transcoding::default() };
        let told = drop.to_packets(&track(Codec::H264, true), false, None).expect_err("two out of order");
        for word in ["B-frames", "transcode.video", "OBS", "zerolatency"] {
            assert!(told.to_string().contains(word), "{told}");
        }
    }

    #[test]
    fn the_setting_is_one_of_three_words() {
        for b_frames in [BFrames::Transcode, BFrames::Drop, BFrames::Refuse] {
            assert_eq!(b_frames.as_str().parse(), Ok(b_frames));
        }
        assert!("off".parse::<BFrames>().is_err());
    }
}
