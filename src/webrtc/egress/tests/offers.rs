//! Offers and what is answered.

use super::*;

#[test]
fn the_answer_offers_everything_at_once_and_fits_the_stream() {
    for (profile, payload_type, repair) in [("42e01f", 102, 103), ("4d001f", 106, 107), ("640028", 106, 107)]
    {
        let (_publisher, plan) = plan(&offer_text(DIGEST, "recvonly"), &tracks(profile, true));
        let plan = plan.expect("acceptable");
        let sdp = plan.sdp();
        assert!(sdp.contains(&format!("m=video 9 UDP/TLS/RTP/SAVPF {payload_type} {repair}\r\n")), "{sdp}");
        assert!(sdp.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"));
        for line in [
            "a=ice-lite",
            "a=group:BUNDLE 0 1",
            "a=setup:passive",
            "a=rtcp-mux-only",
            "a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host",
            "a=candidate:2 1 udp 2130706175 127.0.0.1 8189 typ host",
            "a=end-of-candidates",
            "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            "a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            "a=fmtp:111 minptime=10;useinbandfec=1;sprop-stereo=1",
        ] {
            assert!(sdp.lines().any(|known| known == line), "{line}");
        }
        assert_eq!(sdp.matches("a=sendonly\r\n").count(), 2);
        assert_eq!(sdp.contains("a=rtcp-fb:102 goog-remb\r\n"), payload_type == 102, "where it was offered");
        assert!(!sdp.contains("transport-cc"));
    }
}

/// A stream's codec and format, and the formats of an offer with the one that fits (RFC 8829 §5.3.1).
type Fit = (Codec, &'static str, &'static [(&'static str, &'static str)], Option<u8>);

#[test]
fn e04_each_codec_is_answered_with_the_format_that_fits_the_stream_or_not_at_all() {
    const H264: (&str, &str) = ("H264", "packetization-mode=0;profile-level-id=42e01f");
    let fits: [Fit; 9] = [
        (Codec::H264, "packetization-mode=0;profile-level-id=42e01f", &[H264], Some(50)),
        (Codec::H264, "profile-level-id=42e01f", &[("H264", "packetization-mode=1")], Some(50)),
        (Codec::H264, "packetization-mode=1;profile-level-id=42e01f", &[H264], None),
        (Codec::Vp8, "", &[("VP9", ""), ("VP8", "")], Some(51)),
        (Codec::Vp9, "profile-id=2", &[("VP9", ""), ("VP9", "profile-id=2")], Some(51)),
        (Codec::Av1, "", &[("AV1", "profile=1"), ("AV1", "level-idx=5;profile=0;tier=0")], Some(51)),
        (Codec::Av1, "profile=2", &[("AV1", "profile=1")], None),
        (
            Codec::H265,
            "profile-id=1;level-id=120",
            &[("H265", "profile-id=2"), ("H265", "level-id=93"), ("H265", "level-id=180;tier-flag=0")],
            Some(52),
        ),
        (Codec::H265, "profile-id=1", &[("H265", "profile-id=2;tier-flag=0;level-id=180")], None),
    ];
    for (codec, fmtp, formats, expected) in fits {
        let numbers: Vec<String> = (50..50 + formats.len()).map(|number| number.to_string()).collect();
        let offer = offer_text(DIGEST, "recvonly");
        let (session, rest) = offer.split_once("m=video").expect("video");
        let (section, _) = rest.split_once("a=rtpmap").expect("formats");
        let section = section.replace("96 97 102 103 104 105 106 107", &numbers.join(" "));
        let lines: String = formats
            .iter()
            .zip(&numbers)
            .map(|((name, fmtp), number)| {
                format!("a=rtpmap:{number} {name}/90000\r\na=fmtp:{number} {fmtp}\r\n")
            })
            .collect();
        let mut stream = tracks("42e01f", false);
        let video = stream.video.as_mut().expect("video");
        (video.codec, video.fmtp) = (codec, fmtp.into());
        let (_publisher, plan) = plan(&format!("{session}m=video{section}{lines}"), &stream);
        match (plan, expected) {
            (Ok(plan), Some(number)) => {
                let line = format!("m=video 9 UDP/TLS/RTP/SAVPF {number}\r\n");
                assert!(plan.sdp().contains(&line), "{codec:?} {fmtp}: {}", plan.sdp());
            }
            (Err(error), None) => {
                let offered = formats[0].0;
                let expected =
                    SessionError::NoCommonCodec { stream: codec, offered: offered.into(), h264: None };
                assert_eq!(error, expected);
                let told = error.to_string();
                assert!(told.contains(&codec.to_string()) && told.contains(offered), "both sides: {told}");
            }
            (plan, _) => panic!("{codec:?} {fmtp}: {:?}", plan.map(|plan| plan.sdp().to_owned())),
        }
    }
}

/// The offer with formats of these names only, the H.264 ones as they are.
fn offer_of(names: &[&str]) -> Offer {
    let text = offer_text(DIGEST, "recvonly");
    let kept =
        |line: &&str| match line.strip_prefix("a=rtpmap:").and_then(|line| line.split(&[' ', '/']).nth(1)) {
            Some(name @ ("VP8" | "H264")) => names.contains(&name),
            _ => true,
        };
    let lines: Vec<&str> = text.split_inclusive("\r\n").filter(kept).collect();
    Offer::parse(&lines.concat()).expect("an offer")
}

#[test]
fn e04_h264_is_made_only_where_it_helps() {
    let stream = |codec| Tracks { video: Some(VideoTrack::new(codec)), ..tracks("42e01f", true) };
    for (names, codec, needed) in [
        (&["H264"][..], Codec::Vp8, true),
        (&["H264"], Codec::Av1, true),
        (&["VP8", "H264"], Codec::Vp9, true),
        (&["VP8", "H264"], Codec::Vp8, false),
        (&["VP8"], Codec::Vp9, false),
        (&["VP8"], Codec::H264, false),
        (&["H264"], Codec::H264, false),
    ] {
        assert_eq!(offer_of(names).needs_h264(&stream(codec)), needed, "{names:?} of {codec}");
    }
    let sound = Tracks { video: None, ..stream(Codec::Vp8) };
    assert!(!offer_of(&["H264"]).needs_h264(&sound), "there are no pictures");
    // What is encoded here is fragmented, which mode 0 knows not.
    let unfragmented = offer_text(DIGEST, "recvonly").replace("packetization-mode=1", "packetization-mode=0");
    assert!(!Offer::parse(&unfragmented).expect("an offer").needs_h264(&stream(Codec::Vp9)));
}

#[test]
fn e04_the_setting_is_named_where_it_would_serve_the_viewer() {
    let mut stream = tracks("42e01f", true);
    stream.video = Some(VideoTrack::new(Codec::Vp9));
    let told = |offer: &str| {
        let error = plan(offer, &stream).1.err().expect("refused");
        assert!(matches!(error, SessionError::NoCommonCodec { stream: Codec::Vp9, .. }), "{error:?}");
        error.to_string()
    };
    let offer = offer_text(DIGEST, "recvonly");
    let with_h264 = told(&offer);
    for word in ["VP9", "VP8, H264", "transcode.video", "on-demand"] {
        assert!(with_h264.contains(word), "{with_h264:?} lacks {word}");
    }
    let without = told(&offer.replace("H264", "AV1"));
    assert!(without.contains("VP8, AV1") && !without.contains("transcode"), "{without}");
}

#[test]
fn a_stream_without_sound_is_answered_with_sound_that_may_come_and_what_is_no_media_is_refused() {
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n";
    let offer = offer_text(DIGEST, "sendrecv") + data;
    let (_publisher, plan) = plan(&offer, &tracks("42e01f", false));
    let plan = plan.expect("acceptable");
    let (_, audio) = plan.sdp().split_once("m=audio 9 ").expect("audio");
    assert!(audio.contains("a=sendonly\r\n") && audio.contains("opus/48000/2"));
    assert!(plan.sdp().contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
}

#[test]
fn offers_that_can_not_be_served_say_why() {
    let refused = |offer: &str, tracks: &Tracks| plan(offer, tracks).1.err().expect("refused");
    let stream = tracks("42e01f", true);
    for direction in ["sendonly", "inactive"] {
        let error = refused(&offer_text(DIGEST, direction), &stream);
        let SessionError::UnacceptableOffer(why) = error else { panic!("{error:?}") };
        assert!(why.contains("m-section 0 (video)") && why.contains(direction), "{why}");
    }
    let offer = offer_text(DIGEST, "recvonly");
    let error = refused(&offer.replace("H264", "H265"), &stream);
    let expected =
        SessionError::NoCommonCodec { stream: Codec::H264, offered: "VP8, H265".into(), h264: None };
    assert_eq!(error, expected);
    let unbundled = offer.replace("a=group:BUNDLE 0 1\r\n", "");
    assert!(
        matches!(refused(&unbundled, &stream), SessionError::UnacceptableOffer(why) if why.contains("bundled"))
    );
    let audio_only = Tracks { video: None, ..stream.clone() };
    let video_offer = offer.split("m=audio").next().expect("the first part");
    let error = refused(video_offer, &audio_only);
    assert!(matches!(error, SessionError::UnacceptableOffer(why) if why.contains("video only")));
}

#[test]
fn broken_and_oversized_offers_are_malformed() {
    let offer = offer_text(DIGEST, "recvonly");
    let long_line = format!("{offer}a=x:{}\r\n", "x".repeat(5000));
    let many_lines = format!("{offer}{}", "a=x\r\n".repeat(2000));
    let large =
        format!("{offer}{}", "a=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(1300));
    let sections = format!("{offer}{}", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(3));
    let no_fragment = offer.replace("a=ice-ufrag:them\r\n", "");
    for text in ["", "hello", "v=0\r\n", &long_line, &many_lines, &large, &sections, &no_fragment] {
        let error = Offer::parse(text).map(|_| ()).expect_err("malformed");
        assert!(matches!(error, SessionError::MalformedOffer(_)), "{error:?}");
    }
    for end in 0..offer.len() {
        let _ = Offer::parse(&offer[..end]); // whatever it says, it does not panic
    }
}
