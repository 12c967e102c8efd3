//! Which output takes which video, and whether video may be transcoded for it. Pure.

use super::Codec;
use std::fmt;
use std::str::FromStr;

/// Whether video may be decoded and encoded again for an output that can't take it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VideoTranscoding {
    /// Never: such an output has no video, and says so.
    Off,
    /// While somebody reads such an output.
    #[default]
    OnDemand,
}

/// An output of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// HLS, and whatever else reads the frame lane.
    Hls,
    /// RTMP to another server.
    Restream,
}

/// How video reaches an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// As the publisher sends it.
    AsItIs,
    /// Decoded and encoded again, as H.264.
    Transcoded,
}

/// Why video does not reach an output, in words for whoever publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{output} can't carry {codec} video, and it is not transcoded because transcode.video is \"off\": \
     publish H.264, or set transcode.video to \"on-demand\""
)]
pub struct NoCarriage {
    /// The codec that the publisher sends.
    pub codec: Codec,
    /// Where it can't go.
    pub output: Output,
}

impl VideoTranscoding {
    /// How `codec` reaches `output`.
    pub fn carriage(self, codec: Codec, output: Output) -> Result<Carriage, NoCarriage> {
        match (output.takes(codec), self) {
            (true, _) => Ok(Carriage::AsItIs),
            (false, Self::OnDemand) => Ok(Carriage::Transcoded),
            (false, Self::Off) => Err(NoCarriage { codec, output }),
        }
    }

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::OnDemand => "on-demand",
        }
    }
}

impl Output {
    /// Whether it takes video of this codec without transcoding.
    fn takes(self, codec: Codec) -> bool {
        match self {
            // There is no binding of VP8 to CMAF that players know.
            Self::Hls => matches!(codec, Codec::H264 | Codec::H265 | Codec::Vp9 | Codec::Av1),
            Self::Restream => codec == Codec::H264,
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hls => "HLS",
            Self::Restream => "an RTMP restream",
        })
    }
}

impl FromStr for VideoTranscoding {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Off, Self::OnDemand].into_iter().find(|one| one.as_str() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Codec::{Av1, H264, H265, Vp8, Vp9};

    #[test]
    fn only_h264_reaches_everything_without_transcoding() {
        let off = VideoTranscoding::Off;
        let reached = |output| {
            let codecs = [H264, H265, Vp8, Vp9, Av1];
            codecs.into_iter().filter(|&codec| off.carriage(codec, output).is_ok()).collect::<Vec<_>>()
        };
        assert_eq!(reached(Output::Hls), [H264, H265, Vp9, Av1]);
        assert_eq!(reached(Output::Restream), [H264]);
    }

    #[test]
    fn the_reason_names_codec_output_and_remedy() {
        let told = VideoTranscoding::Off.carriage(Vp8, Output::Hls).expect_err("not carried").to_string();
        for word in ["HLS", "VP8", "transcode.video", "on-demand", "H.264"] {
            assert!(told.contains(word), "{told}");
        }
        assert_eq!(VideoTranscoding::OnDemand.carriage(Vp8, Output::Hls), Ok(Carriage::Transcoded));
    }

    #[test]
    fn the_setting_is_one_of_two_words() {
        assert_eq!("off".parse(), Ok(VideoTranscoding::Off));
        assert_eq!("on-demand".parse(), Ok(VideoTranscoding::OnDemand));
        assert!("on".parse::<VideoTranscoding>().is_err());
    }
}
