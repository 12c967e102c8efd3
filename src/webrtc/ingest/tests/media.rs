//! What becomes of a publisher's packets, what is repaired, and what the publisher is told.

use super::*;

#[test]
fn a_publisher_connects_and_its_packets_arrive_in_one_epoch() {
    let mut world = World::connected(&BOTH);
    eprintln!("connected after {} ms of virtual time", world.millis());
    let mut reader = world.subscribe();
    for number in 0..10 {
        world.frame(number, number == 0);
    }
    let batches = batches(&mut reader);
    let tracks = &batches[0].epoch.tracks;
    assert_eq!(tracks.codec(MediaKind::Video), Some(Codec::H264));
    assert_eq!(tracks.codec(MediaKind::Audio), Some(Codec::Opus));
    assert!(batches.iter().all(|batch| batch.epoch.id == batches[0].epoch.id));
    let video = packets(&batches, MediaKind::Video);
    let audio = packets(&batches, MediaKind::Audio);
    assert_eq!((video.len(), audio.len()), (21, 10));
    assert!(video.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1), "the wrap is no hole");
    assert_eq!(video.iter().map(|packet| packet.keyframe).position(|keyframe| keyframe), Some(0));
    assert_eq!(video.iter().filter(|packet| packet.keyframe).count(), 1);
    assert_eq!(video[20].pts.as_millis() - video[0].pts.as_millis(), 180);
    assert_eq!(audio[9].pts.as_millis() - audio[0].pts.as_millis(), 180);
    assert_eq!(video[2].payload.as_ref(), [0x65, 0x88, 1, 2, 3]);
    assert!(video[2].marker && !video[1].marker);
    let counted = world.hub.get(&name()).expect("live").statistics().snapshot();
    assert_eq!((counted.video_frames, counted.keyframes), (10, 1));
}

#[test]
fn the_answer_is_as_rfc_9725_wants_it() {
    let world = World::new(&BOTH);
    assert_eq!(world.answer.matches("a=candidate:").count(), 1, "{}", world.answer);
    assert_eq!(world.answer.matches("a=rtcp-mux-only").count(), 2);
    assert_eq!(world.answer.matches("a=recvonly").count(), 2);
    assert_eq!(world.answer.matches("a=setup:passive").count(), 2);
    assert!(world.answer.contains("a=rtcp-mux") && world.answer.contains("a=group:BUNDLE 0 1"));
    assert!(world.answer.contains("127.0.0.1 8189 typ host") && world.answer.contains("a=end-of-candidates"));
    assert!(world.answer.contains("apt=96") && world.answer.contains("a=rtcp-fb:96 nack pli"));
    assert!(world.answer.contains(&format!("a=ice-ufrag:{}", world.session.local_ufrag())));
}

#[test]
fn a_passive_publisher_is_answered_active_and_an_active_one_passive() {
    for (offered, answered) in [("passive", "active"), ("active", "passive")] {
        let world =
            World::with_offer(&BOTH, |offer| offer.replace("a=setup:actpass", &format!("a=setup:{offered}")));
        assert_eq!(world.answer.matches(&format!("a=setup:{answered}")).count(), 2, "{}", world.answer);
    }
}

#[test]
fn lost_packets_are_repaired_by_retransmission() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    world.lose = (0..400_u16).filter(|n| n % 10 == 7).map(|n| 65_500_u16.wrapping_add(n)).collect();
    for number in 0..100 {
        world.frame(number, number == 0);
    }
    world.run(Duration::from_millis(200));
    let video = packets(&batches(&mut reader), MediaKind::Video);
    assert_eq!(video.len(), 201);
    let distinct: HashSet<u64> = video.iter().map(|packet| packet.sequence).collect();
    assert_eq!(distinct.len(), 201, "none twice");
    assert!(video.windows(2).any(|pair| pair[1].sequence < pair[0].sequence), "repaired ones come late");
    assert!(
        video.iter().all(|packet| packet.payload.len() >= 2 && packet.payload[0] & 0x80 == 0),
        "restored"
    );
    let reported = world.feedback.losses_reported.load(Ordering::Relaxed);
    assert!((1..=21).contains(&reported), "{reported} requests for 20 losses");
}

#[test]
fn padding_leaves_no_holes() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    for number in 0..20 {
        world.frame(number, number == 0);
        world.rtp(MediaKind::Video, number * 1_800, false, &[]);
    }
    let video = packets(&batches(&mut reader), MediaKind::Video);
    assert_eq!(video.len(), 41);
    assert!(video.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
}

#[test]
fn a_keyframe_begins_a_batch() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    // All in one arrival.
    for number in 0..3_u32 {
        world.rtp(MediaKind::Audio, number * 960, false, &[0xfc]);
        world.rtp(MediaKind::Video, number * 1_800, false, &[0x06, 5]);
        world.rtp(MediaKind::Video, number * 1_800, false, &[0x67, 0x42]);
        world.rtp(MediaKind::Video, number * 1_800, true, &[0x65, 1]);
    }
    world.exchange();
    let batches = batches(&mut reader);
    let sizes: Vec<usize> = batches.iter().map(|batch| batch.packets.len()).collect();
    // The reader begins at a keyframe; what precedes the first is not for it.
    assert_eq!(sizes, [4, 4, 3]);
    assert!(batches.iter().all(|batch| batch.packets[0].keyframe && batch.packets[0].payload[0] == 0x06));
}

#[test]
fn another_resolution_begins_an_epoch_at_its_keyframe() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    for (number, set) in
        [parameter_set(40, 30), parameter_set(40, 30), parameter_set(80, 45)].iter().enumerate()
    {
        let number = number as u32;
        world.rtp(MediaKind::Audio, number * 960, false, &[0xfc]);
        world.rtp(MediaKind::Video, number * 1_800, false, &[0x06, 5]);
        world.rtp(MediaKind::Video, number * 1_800, false, set);
        world.rtp(MediaKind::Video, number * 1_800, true, &[0x65, 1]);
    }
    world.exchange();
    let batches = batches(&mut reader);
    let resolution =
        |batch: &PacketBatch| batch.epoch.tracks.video.as_ref().and_then(|video| video.resolution);
    let first = batches[0].epoch.id;
    let seen: Vec<_> = batches
        .iter()
        .map(|batch| (batch.epoch.id - first, batch.packets.len(), resolution(batch)))
        .collect();
    let (small, large) = (Some((640, 480)), Some((1280, 720)));
    assert_eq!(seen, [(0, 4, small), (0, 4, small), (1, 3, large)]);
    assert!(batches.iter().all(|batch| batch.packets[0].keyframe));
}

#[test]
fn keyframes_are_asked_for_at_most_once_a_second() {
    let mut world = World::connected(&BOTH);
    let asked = |world: &World| world.feedback.keyframe_requests.load(Ordering::Relaxed);
    for number in 0..10 {
        world.frame(number, number == 0);
    }
    assert_eq!(asked(&world), 0, "the first frame was a keyframe");
    let stream = world.hub.get(&name()).expect("live");
    for number in 10..160 {
        stream.request_keyframe();
        world.frame(number, false);
    }
    assert!((3..=4).contains(&asked(&world)), "{} in 3 s", asked(&world));
}

#[test]
fn a_publisher_that_begins_without_a_keyframe_is_asked_for_one() {
    let mut world = World::connected(&BOTH);
    world.frame(0, false);
    assert_eq!(world.feedback.keyframe_requests.load(Ordering::Relaxed), 1);
}

#[test]
fn audio_alone_waits_for_video_and_then_begins_without_it() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    let mut number = 0;
    let mut audio = |world: &mut World, count: u32| {
        for _ in 0..count {
            world.rtp(MediaKind::Audio, number * 960, false, &[0xfc]);
            world.run(Duration::from_millis(20));
            number += 1;
        }
    };
    audio(&mut world, 45);
    assert!(batches(&mut reader).is_empty());
    audio(&mut world, 20);
    let first = batches(&mut reader);
    assert!(first[0].epoch.tracks.audio.is_some() && first[0].epoch.tracks.video.is_none());
    assert_eq!(packets(&first, MediaKind::Audio).len(), 65, "what waited is not lost");
    for number in 65..70 {
        world.frame(number, number == 65);
    }
    let later = batches(&mut reader);
    let both = later.last().expect("more");
    assert!(both.epoch.id > first[0].epoch.id && both.epoch.tracks.audio.is_some());
    assert!(both.epoch.tracks.video.is_some());
    assert_eq!(both.epoch.wall_origin, first[0].epoch.wall_origin, "one timeline");
}

#[test]
fn video_only_and_audio_only_begin_at_once() {
    for kind in BOTH {
        let mut world = World::connected(&[kind]);
        let mut reader = world.subscribe();
        world.rtp(kind, 0, true, &[0x65, 1]);
        world.exchange();
        let batches = batches(&mut reader);
        assert_eq!((batches.len(), packets(&batches, kind).len()), (1, 1), "{kind}");
    }
}

#[test]
fn sender_reports_align_audio_with_video() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    // Audio of timestamp 0 was captured 100 ms before video of timestamp 0, but arrives with it.
    for number in 0..5 {
        world.frame(number, number == 0);
    }
    let report = |ssrc, ntp_millis: u64, rtp_time| {
        let ntp_time = (0xE000_0000 << 32) + (ntp_millis << 32) / 1000;
        let report = SenderReport { ssrc, ntp_time, rtp_time, ..Default::default() };
        RTCMessage::RtcpPacket(String::new(), vec![Box::new(report) as Box<dyn rtc::rtcp::Packet>])
    };
    world.write(report(VIDEO_SSRC, 1_000, 0));
    world.write(report(AUDIO_SSRC, 900, 0));
    world.exchange();
    for number in 5..10 {
        world.frame(number, false);
    }
    let batches = batches(&mut reader);
    let offset = |index: usize| {
        let video = &packets(&batches, MediaKind::Video)[2 * index + 2];
        let audio = &packets(&batches, MediaKind::Audio)[index];
        assert_eq!(video.timestamp / 1_800, audio.timestamp / 960);
        (video.pts.as_nanos() - audio.pts.as_nanos() + 500_000).div_euclid(1_000_000)
    };
    assert_eq!((offset(4), offset(8)), (0, 100));
}

#[test]
fn a_tenth_of_all_packets_lost_at_50_ms_round_trip_is_repaired() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    (world.delay, world.loss) = (Duration::from_millis(25), 10);
    let mut video = Vec::new();
    for number in 0..1_000 {
        world.frame(number, number == 0);
        video.extend(packets(&batches(&mut reader), MediaKind::Video));
    }
    world.loss = 0;
    world.run(Duration::from_millis(500));
    video.extend(packets(&batches(&mut reader), MediaKind::Video));
    let distinct: HashSet<u64> = video.iter().map(|packet| packet.sequence).collect();
    assert_eq!(distinct.len(), video.len(), "none twice");
    assert!(video.len() >= 1_998, "{} of 2001", video.len());
    assert_eq!(world.session.state(), SessionState::Connected);
}

/// Another line behind those of a codec.
fn with_feedback(offer: String, payload_type: u8, feedback: &str) -> String {
    let rtpmap = format!("a=rtpmap:{payload_type} ");
    let lines = offer.lines().flat_map(|line| {
        let more = line.starts_with(&rtpmap).then(|| format!("a=rtcp-fb:{payload_type} {feedback}\r\n"));
        [format!("{line}\r\n"), more.unwrap_or_default()]
    });
    lines.collect()
}

#[test]
fn a_publisher_without_transport_wide_feedback_is_told_an_estimate() {
    let remb = |offer| with_feedback(offer, VIDEO_TYPE, "goog-remb");
    let mut world = World::with_offer(&BOTH, remb).connect();
    assert!(world.answer.contains("a=rtcp-fb:96 goog-remb\r\n"), "{}", world.answer);
    for number in 0..150 {
        world.frame(number, number == 0);
    }
    let told = std::mem::take(&mut *world.feedback.estimates.lock());
    let (before, sources) = told.last().expect("an estimate each second");
    assert!(told.len() >= 3, "{told:?}");
    assert!(sources.contains(&VIDEO_SSRC) && sources.contains(&AUDIO_SSRC), "{sources:?}");
    world.loss = 40;
    for number in 150..300 {
        world.frame(number, false);
    }
    let told = std::mem::take(&mut *world.feedback.estimates.lock());
    let (after, _) = told.last().expect("an estimate each second");
    assert!(*after < *before || *after == 100_000, "{after} after {before}");
    // Who asks for arrival times gets those alone.
    let both = |offer| with_feedback(remb(offer), VIDEO_TYPE, "transport-cc");
    let world = World::with_offer(&BOTH, both);
    assert!(world.answer.contains("a=rtcp-fb:96 transport-cc\r\n"), "{}", world.answer);
    assert!(!world.answer.contains("goog-remb"), "{}", world.answer);
}

#[test]
fn lost_sound_is_asked_for_where_that_was_negotiated() {
    for negotiated in [true, false] {
        let nack = |offer| if negotiated { with_feedback(offer, AUDIO_TYPE, "nack") } else { offer };
        let mut world = World::with_offer(&[MediaKind::Audio], nack).connect();
        assert_eq!(world.answer.contains("a=rtcp-fb:111 nack\r\n"), negotiated, "{}", world.answer);
        for number in 0..20 {
            world.cut = number == 10;
            world.rtp(MediaKind::Audio, number * 960, false, &[9; 50]);
            world.run(Duration::from_millis(20));
        }
        let asked: Vec<u32> = world.feedback.lost.lock().iter().map(|(ssrc, _)| *ssrc).collect();
        assert_eq!(asked.contains(&AUDIO_SSRC), negotiated, "{asked:?}");
    }
}
