//! Publishers that send a track in several encodings.

use super::*;

/// Header extensions of the simulcast offer.
const RID: u8 = 10;
const REPAIRED_RID: u8 = 11;
/// The encodings in the order of the offer: SSRC, that of the retransmissions, size in macroblocks.
const ENCODINGS: [(&str, u32, u32, (u32, u32)); 3] =
    [("q", 0x51, 0x61, (20, 12)), ("h", 0x52, 0x62, (40, 23)), ("f", 0x53, 0x63, (80, 45))];

impl World {
    fn simulcast() -> Self {
        let with_rids = |offer: String| {
            let lines = offer.lines().filter(|line| !line.starts_with("a=ssrc"));
            let offer: String = lines.flat_map(|line| [line, "\r\n"]).collect();
            offer.replace(
                "a=rtpmap:96 ",
                "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
                 a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
                 a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\na=rtpmap:96 ",
            )
        };
        Self::with_offer(&[MediaKind::Video], with_rids).connect()
    }

    /// A packet of an encoding, with its name in front if `named`.
    fn encoding_packet(&mut self, encoding: usize, number: u16, timestamp: u32, named: bool, payload: &[u8]) {
        let (rid, ssrc, ..) = ENCODINGS[encoding];
        let extension = named.then_some((RID, rid));
        self.raw(VIDEO_TYPE, ssrc, number, timestamp, extension, payload);
    }

    /// The same again, as a retransmission.
    fn repair_packet(&mut self, encoding: usize, number: u16, original: u16, timestamp: u32, payload: &[u8]) {
        let (rid, _, ssrc, _) = ENCODINGS[encoding];
        let payload = [&original.to_be_bytes()[..], payload].concat();
        self.raw(97, ssrc, number, timestamp, Some((REPAIRED_RID, rid)), &payload);
    }

    fn raw(
        &mut self,
        payload_type: u8,
        ssrc: u32,
        sequence_number: u16,
        timestamp: u32,
        extension: Option<(u8, &str)>,
        payload: &[u8],
    ) {
        let mut header = rtc::rtp::Header {
            version: 2,
            marker: true,
            payload_type,
            sequence_number,
            timestamp,
            ssrc,
            ..Default::default()
        };
        if let Some((id, value)) = extension {
            header.extension = true;
            header.extension_profile = 0xbede;
            header.set_extension(id, Bytes::copy_from_slice(value.as_bytes())).expect("fits");
        }
        let packet = rtc::rtp::Packet { header, payload: Bytes::copy_from_slice(payload) };
        self.write(RTCMessage::RtpPacket(String::new(), packet));
    }
}

/// A keyframe in one packet: parameter set and IDR slice.
fn keyframe((width, height): (u32, u32)) -> Vec<u8> {
    let set = parameter_set(width, height);
    [&[0x78, 0, set.len() as u8][..], &set, &[0, 2, 0x65, 1]].concat()
}

#[test]
fn w21_all_encodings_of_simulcast_are_in_the_answer() {
    let world = World::simulcast();
    for line in ["a=rid:q recv", "a=rid:h recv", "a=rid:f recv", "a=simulcast:recv q;h;f"] {
        assert!(world.answer.lines().any(|other| other == line), "{line} is not in {}", world.answer);
    }
    assert!(world.answer.contains("a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"));
    assert!(world.answer.contains("a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"));
}

#[test]
fn encodings_become_layers_with_the_best_first_on_one_timeline() {
    let mut world = World::simulcast();
    let mut reader = world.subscribe();
    let starts = [7, u32::MAX - 9_000, 123_456];
    for number in 0..100_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            let payload = if number == 0 { keyframe(*size) } else { vec![0x41; 100 * (encoding + 1)] };
            let timestamp = starts[encoding].wrapping_add(number * 1_800);
            // Its name stands in the first packets only.
            world.encoding_packet(encoding, 500 + number as u16, timestamp, number < 3, &payload);
        }
        if number == 10 {
            for (encoding, (_, ssrc, ..)) in ENCODINGS.iter().enumerate() {
                let rtp_time = starts[encoding].wrapping_add(number * 1_800);
                let ntp_time = 0xE000_0000 << 32;
                let report = SenderReport { ssrc: *ssrc, ntp_time, rtp_time, ..Default::default() };
                let reports = vec![Box::new(report) as Box<dyn rtc::rtcp::Packet>];
                world.write(RTCMessage::RtcpPacket(String::new(), reports));
            }
        }
        world.run(Duration::from_millis(20));
    }
    let batches = batches(&mut reader);
    let video = packets(&batches, MediaKind::Video);
    assert_eq!(video.len(), 300);
    assert!(batches.iter().all(|batch| batch.epoch.id == batches[0].epoch.id), "one epoch");
    let described = batches[0].epoch.tracks.video.as_ref().expect("video");
    assert_eq!(described.resolution, Some((1280, 720)), "that of the best layer");
    assert!(batches[0].packets[0].keyframe && batches[0].packets[0].layer == 0);
    let layer = |layer: u8| -> Vec<&Packet> { video.iter().filter(|packet| packet.layer == layer).collect() };
    for (number, size) in [(0, 300), (1, 200), (2, 100)] {
        let packets = layer(number);
        assert_eq!((packets.len(), packets[5].payload.len(), packets[0].keyframe), (100, size, true));
        assert!(packets.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
    }
    // After the reports the same picture lies at the same time in all layers.
    for number in 20..100 {
        let times: Vec<i64> = (0..3).map(|at| layer(at)[number].pts.as_nanos() / 1_000).collect();
        assert!(times.iter().all(|time| time.abs_diff(times[0]) < 10), "{times:?} µs");
    }
    let layers = world.hub.get(&name()).expect("live").layers();
    let told: Vec<_> =
        layers.iter().map(|layer| (layer.rid.as_str(), layer.resolution, layer.active)).collect();
    let expected =
        [("f", Some((1280, 720)), true), ("h", Some((640, 368)), true), ("q", Some((320, 192)), true)];
    assert_eq!(told, expected);
    assert!((100_000..140_000).contains(&layers[0].bitrate), "{} bits a second", layers[0].bitrate);
    let counted = world.hub.get(&name()).expect("live").statistics().snapshot();
    assert!((99..=100).contains(&counted.video_frames), "{} frames of the best layer", counted.video_frames);
}

#[test]
fn an_encoding_that_falls_silent_is_not_active_and_is_not_asked() {
    let mut world = World::simulcast();
    let stream = world.hub.get(&name()).expect("live");
    for number in 0..250_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            if number < 100 || encoding == 0 {
                let payload = if number == 0 { keyframe(*size) } else { vec![0x41; 10] };
                world.encoding_packet(encoding, number as u16, number * 1_800, true, &payload);
            }
        }
        world.run(Duration::from_millis(20));
    }
    let active: Vec<bool> = stream.layers().iter().map(|layer| layer.active).collect();
    assert_eq!(active, [false, false, true]);
    world.keyframes_asked_of();
    stream.request_keyframe();
    world.encoding_packet(0, 250, 250 * 1_800, true, &[0x41; 10]);
    world.run(Duration::from_millis(100));
    assert_eq!(world.keyframes_asked_of(), [[ENCODINGS[0].1]]);
}

#[test]
fn keyframes_are_asked_of_the_wanted_layer_only() {
    let mut world = World::simulcast();
    for number in 0..60_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            let payload = if number == 0 { keyframe(*size) } else { vec![0x41; 10] };
            world.encoding_packet(encoding, number as u16, number * 1_800, true, &payload);
        }
        world.run(Duration::from_millis(20));
        if number == 30 {
            world.hub.get(&name()).expect("live").request_layer_keyframe(1);
        }
    }
    assert_eq!(world.keyframes_asked_of(), [[ENCODINGS[1].1]]);
}

#[test]
fn e09_wishes_for_several_layers_are_one_asking_a_second() {
    let mut world = World::simulcast();
    let stream = world.hub.get(&name()).expect("live");
    let [small, middle, large] = ENCODINGS.map(|(_, ssrc, ..)| ssrc);
    let mut number = 0;
    let mut frame = |world: &mut World, keyframe_of: &[u32]| {
        for (encoding, (_, ssrc, _, size)) in ENCODINGS.iter().enumerate() {
            let payload = if keyframe_of.contains(ssrc) { keyframe(*size) } else { vec![0x41; 10] };
            world.encoding_packet(encoding, number, u32::from(number) * 1_800, true, &payload);
        }
        number += 1;
        world.run(Duration::from_millis(20));
    };
    let all = [small, middle, large];
    frame(&mut world, &all);
    let mut frames = |world: &mut World, count: u32| (0..count).for_each(|_| frame(world, &[]));
    frames(&mut world, 60);
    assert_eq!(world.keyframes_asked_of(), Vec::<Vec<u32>>::new());
    // The first at once; those for other layers, however many, when the second is over, and together.
    let first = world.now;
    stream.request_layer_keyframe(1);
    frames(&mut world, 1);
    for _ in 0..10 {
        stream.request_layer_keyframe(0);
        stream.request_layer_keyframe(2);
        frames(&mut world, 1);
    }
    frames(&mut world, 60);
    let asked = std::mem::take(&mut *world.feedback.keyframes_of.lock());
    let sources: Vec<&[u32]> = asked.iter().map(|(_, sources)| &sources[..]).collect();
    assert_eq!(sources, [&[middle][..], &[small, large]], "{asked:?}");
    assert!(asked[0].0 - first <= Duration::from_millis(20), "at once");
    let second = Duration::from_secs(1);
    assert!((second..second + 2 * STEP).contains(&(asked[1].0 - asked[0].0)), "{asked:?}");
    // Viewers of all layers that go on asking.
    for round in 0..200 {
        stream.request_layer_keyframe(round % 3);
        frames(&mut world, 1);
    }
    let asked = std::mem::take(&mut *world.feedback.keyframes_of.lock());
    assert!((4..=5).contains(&asked.len()), "{asked:?} in 4 s");
    assert!(asked.windows(2).all(|pair| pair[1].0 - pair[0].0 >= second), "{asked:?}");
    assert!(asked[1..].iter().all(|(_, sources)| *sources == all), "{asked:?}");
    // A keyframe that comes before its wish is passed on grants it.
    frames(&mut world, 120);
    world.keyframes_asked_of();
    stream.request_layer_keyframe(1);
    frames(&mut world, 1);
    stream.request_keyframe();
    frame(&mut world, &[large, middle]);
    (0..60).for_each(|_| frame(&mut world, &[]));
    assert_eq!(world.keyframes_asked_of(), [[middle], [small]]);
}

#[test]
fn losses_of_each_encoding_are_repaired_by_its_own_retransmissions() {
    let mut world = World::simulcast();
    let mut reader = world.subscribe();
    let (mut repairs, mut repaired) = (0_u16, HashSet::new());
    for number in 0..120_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            let lost = number % 10 == 3 + encoding as u32;
            if !lost {
                let payload =
                    if number == 0 { keyframe(*size) } else { vec![0x41, number as u8, encoding as u8] };
                world.encoding_packet(
                    encoding,
                    65_480_u16.wrapping_add(number as u16),
                    number * 1_800,
                    true,
                    &payload,
                );
            }
        }
        world.run(Duration::from_millis(20));
        let lost = std::mem::take(&mut *world.feedback.lost.lock());
        for (ssrc, sequence) in lost {
            let encoding =
                ENCODINGS.iter().position(|(_, media, ..)| *media == ssrc).expect("a source of ours");
            let number = u32::from(sequence.wrapping_sub(65_480));
            let payload = [0x41, number as u8, encoding as u8];
            if repaired.insert((ssrc, sequence)) {
                world.repair_packet(encoding, repairs, sequence, number * 1_800, &payload);
                repairs += 1;
            }
        }
    }
    world.run(Duration::from_millis(100));
    let video = packets(&batches(&mut reader), MediaKind::Video);
    assert_eq!((repairs, video.len()), (36, 360));
    for packet in video.iter().filter(|packet| packet.payload.len() == 3) {
        assert_eq!(packet.layer, 2 - packet.payload[2], "a repair belongs to its encoding");
        assert_eq!(packet.timestamp, u32::from(packet.payload[1]) * 1_800);
    }
}

#[test]
fn an_encoding_that_comes_late_is_the_better_one() {
    let mut world = World::simulcast();
    let mut reader = world.subscribe();
    for number in 0..200_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            // As congestion control does: the small one first, the others when there is room for them.
            let begins = 80 * encoding as u32;
            if number >= begins {
                let payload = if number == begins { keyframe(*size) } else { vec![0x41; 10] };
                world.encoding_packet(encoding, number as u16, number * 1_800, true, &payload);
            }
        }
        world.run(Duration::from_millis(20));
    }
    let layers = world.hub.get(&name()).expect("live").layers();
    let rids: Vec<&str> = layers.iter().map(|layer| layer.rid.as_str()).collect();
    assert_eq!(rids, ["f", "h", "q"]);
    assert_eq!(layers[0].resolution, Some((1280, 720)));
    let video = packets(&batches(&mut reader), MediaKind::Video);
    assert!(video.iter().any(|packet| packet.layer == 0 && packet.keyframe));
}

#[test]
fn unknown_encodings_and_sources_are_not_taken() {
    let mut world = World::simulcast();
    let mut reader = world.subscribe();
    for number in 0..60_u16 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            let payload = if number == 0 { keyframe(*size) } else { vec![0x41; 10] };
            world.encoding_packet(encoding, number, u32::from(number) * 1_800, true, &payload);
        }
        world.raw(VIDEO_TYPE, 0x99, number, 0, Some((RID, "x")), &[0x65; 10]);
        world.raw(VIDEO_TYPE, 0x98, number, 0, None, &[0x65; 10]);
        // Another source that claims a name whose own is alive.
        world.raw(VIDEO_TYPE, 0x97, number, 0, Some((RID, "f")), &[0x65; 10]);
        world.run(Duration::from_millis(20));
    }
    assert_eq!(packets(&batches(&mut reader), MediaKind::Video).len(), 180);
}
