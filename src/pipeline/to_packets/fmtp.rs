//! Tracks as they are offered to viewers: the format parameters of each codec's RTP payload format. Pure.

use crate::media::{AudioTrack, Codec, VideoTrack};

/// The track of which packets come out; `transcoded` where it is encoded again.
pub(super) fn video(track: &VideoTrack, transcoded: bool) -> VideoTrack {
    let record = &track.codec_data[..];
    let h264 = |profile: u8, constraints: u8, level: u8| {
        // RFC 6184 §8.1
        format!(
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile:02x}{constraints:02x}{level:02x}"
        )
    };
    let codec = if transcoded { Codec::H264 } else { track.codec };
    let fmtp = match (codec, record) {
        _ if transcoded => h264(0x42, 0xe0, level(track.resolution)),
        // ISO/IEC 14496-15 §5.3.3.1: profile, constraints and level are bytes 1 to 3 of the record.
        (Codec::H264, &[_, profile, constraints, level, ..]) => h264(profile, constraints, level),
        // RFC 7798 §7.1; ISO/IEC 14496-15 §8.3.3.1: tier and profile in byte 1, the level in byte 12
        (Codec::H265, &[_, profile, .., _]) if record.len() > 12 => {
            let (tier, profile, level) = (profile >> 5 & 1, profile & 0x1f, record[12]);
            format!("profile-id={profile};tier-flag={tier};level-id={level}")
        }
        // RFC 9628 §6
        (Codec::Vp9, &[profile, ..]) => format!("profile-id={profile}"),
        // RTP Payload Format for AV1 §7.2.3; AV1 in ISOBMFF §2.3.3
        (Codec::Av1, &[_, level, format, ..]) => {
            format!("profile={};level-idx={};tier={}", level >> 5, level & 0x1f, format >> 7)
        }
        _ => String::new(),
    };
    VideoTrack { codec, codec_data: Default::default(), fmtp, reordered: false, ..track.clone() }
}

/// Sound is Opus always.
pub(super) fn audio() -> AudioTrack {
    AudioTrack {
        codec: Codec::Opus,
        sample_rate: 48_000,
        channels: 2,
        codec_data: Default::default(),
        // RFC 7587 §6.1
        fmtp: "minptime=10;useinbandfec=1".into(),
    }
}

/// The level that what is encoded again needs: ITU-T H.264 table A-1, by macroblocks a frame, for up
/// to 30 pictures a second.
fn level(resolution: Option<(u32, u32)>) -> u8 {
    let (width, height) = resolution.unwrap_or((1920, 1080));
    match width.div_ceil(16) * height.div_ceil(16) {
        0..=3600 => 31,
        3601..=8192 => 40,
        _ => 51,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn fmtp(codec: Codec, record: &'static [u8], transcoded: bool) -> (Codec, String) {
        let track = VideoTrack {
            resolution: Some((1280, 720)),
            codec_data: Bytes::from_static(record),
            reordered: true,
            ..VideoTrack::new(codec)
        };
        let track = video(&track, transcoded);
        assert!(!track.reordered && track.codec_data.is_empty());
        (track.codec, track.fmtp)
    }

    #[test]
    fn each_codec_has_its_parameters() {
        let baseline = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
        assert!(fmtp(Codec::H264, &[1, 0x4d, 0x40, 0x1f], false).1.ends_with("=4d401f"));
        assert_eq!(fmtp(Codec::H264, &[1, 0x4d, 0x40, 0x1f], true), (Codec::H264, baseline.into()));
        let main = &[1, 0x01, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93, 0xf0];
        assert_eq!(fmtp(Codec::H265, main, false).1, "profile-id=1;tier-flag=0;level-id=93");
        assert_eq!(fmtp(Codec::H265, main, true), (Codec::H264, baseline.into()));
        assert_eq!(fmtp(Codec::Vp9, &[2, 31, 0x82], false).1, "profile-id=2");
        assert_eq!(fmtp(Codec::Av1, &[0x81, 0x05, 0x8c, 0], false).1, "profile=0;level-idx=5;tier=1");
    }
}
