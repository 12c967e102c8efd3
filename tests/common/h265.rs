//! What a viewer of H.265 gets, on the wire.

use super::{
    MediaKind, MediaPacket, RtcClient, RtcEvent, RtcOptions, Server, VideoCodec, decode_errors, eventually,
    h265_type, probe, seconds, units_of_h265_packets,
};

/// Three seconds, so that a second group begins among them.
const PICTURES: usize = 90;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;

/// A viewer of `show`, which has H.265 at 30 pictures a second, gets packets without a hole, from an IDR
/// picture with its parameter sets on, and ffmpeg decodes them without a word.
pub async fn assert_receives_h265(server: &Server) {
    let mut viewer = eventually("a viewer is let in", seconds(10), || async {
        let options = RtcOptions { video: vec![VideoCodec::H265], ..RtcOptions::default() };
        RtcClient::try_view(server, "show", options).await.ok()
    })
    .await;
    assert!(viewer.answer.contains(" H265/90000"), "{}", viewer.answer);
    viewer.connected().await;
    let (mut packets, mut ends): (Vec<MediaPacket>, usize) = (Vec::new(), 0);
    viewer
        .wait_for("the pictures", seconds(20), |event| {
            let RtcEvent::Media(packet) = event else { return None };
            if packet.kind == MediaKind::Video {
                ends += usize::from(packet.marker);
                packets.push(packet);
            }
            (ends == PICTURES).then_some(())
        })
        .await;
    for pair in packets.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1, "{pair:?}");
        let same = pair[1].timestamp == pair[0].timestamp;
        assert_eq!(same, !pair[0].marker, "the last packet of a picture has the marker: {pair:?}");
    }

    let units = units_of_h265_packets(&packets);
    let kinds: Vec<u8> = units.iter().map(|unit| h265_type(unit)).collect();
    let slice = kinds.iter().position(|kind| *kind < VPS).expect("a slice");
    for set in [VPS, SPS, PPS] {
        assert!(kinds[..slice].contains(&set), "{set} is missing before the first slice: {kinds:?}");
        let count = kinds.iter().filter(|kind| **kind == set).count();
        assert!(count >= 2, "the second group has no {set} of its own: {kinds:?}");
    }
    assert!(matches!(kinds[slice], 19 | 20), "the first picture is no IDR: {kinds:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("seen.h265");
    let stream: Vec<u8> = units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect();
    std::fs::write(&file, stream).expect("written");
    let path = file.to_str().expect("a plain path");
    assert_eq!(probe(path).await.video.as_deref(), Some("hevc"));
    assert_eq!(decode_errors(path).await, "");
}
