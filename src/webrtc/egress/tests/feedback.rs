//! What viewers ask for and what they are told.

use super::*;

#[test]
fn a_lost_packet_comes_again_by_rtx_but_not_without_end() {
    let mut world = World::new(true).connect();
    world.publish(0..1, true);
    world.publish(1..10, false);
    let sent = world.received();
    let lost = of_type(&sent, 102)[4].clone();
    let nack = |number| TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: lost.header.ssrc,
        nacks: vec![NackPair { packet_id: number, lost_packets: 0 }],
    };
    for _ in 0..50 {
        world.feedback(Box::new(nack(lost.header.sequence_number)));
    }
    let again = world.received();
    assert_eq!(again.len(), 1, "the first repetition may still be on its way");
    let header = &again[0].header;
    assert_eq!((header.payload_type, header.timestamp), (103, lost.header.timestamp));
    assert_ne!(header.ssrc, lost.header.ssrc);
    assert_eq!(again[0].payload[..2], lost.header.sequence_number.to_be_bytes());
    assert_eq!(again[0].payload[2..], lost.payload[..]);
    world.feedback(Box::new(nack(lost.header.sequence_number.wrapping_add(1000))));
    assert!(world.received().is_empty(), "never sent");
}

#[test]
fn a_viewers_pli_asks_the_publisher() {
    let mut world = World::new(true).connect();
    world.publish(0..1, true);
    let ssrc = of_type(&world.received(), 102)[0].header.ssrc;
    let mut requests = world.publisher.keyframe_requests();
    requests.mark_unchanged();
    world.feedback(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc.wrapping_add(1) }));
    assert!(!requests.has_changed().expect("open"), "not a track of this viewer");
    world.feedback(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc }));
    assert!(requests.has_changed().expect("open"));
}

#[test]
fn reports_put_picture_and_sound_on_one_clock() {
    let mut world = World::new(true).connect();
    world.now += Duration::from_millis(400);
    world.publish(0..1, true);
    world.publish(1..31, false);
    let sent = world.received();
    world.now += Duration::from_millis(100);
    world.viewer.handle_timeout(world.now, Some(&world.fan_out), &mut world.wire);
    let keys = world.keys.as_mut().expect("connected");
    let reports: Vec<SenderReport> = world
        .wire
        .0
        .drain(..)
        .map(|datagram| {
            let plain = keys.incoming.decrypt_rtcp(&datagram).expect("authentic");
            let packets = unmarshal(&mut &plain[..]).expect("RTCP");
            packets[0].as_any().downcast_ref::<SenderReport>().expect("a report").clone()
        })
        .collect();
    assert_eq!(reports.len(), 2);
    // Frame 30 is at 1 s of media time; 100 ms have passed.
    let seconds = 2_208_988_800.0 + 1_000_000.0 + 1.1;
    for report in &reports {
        assert!((report.ntp_time as f64 / 4_294_967_296.0 - seconds).abs() < 1e-3);
        let of_track = sent.iter().filter(|packet| packet.header.ssrc == report.ssrc);
        let last = of_track.last().expect("sent").header.clone();
        let rate = if last.payload_type == 102 { 90_000 } else { 48_000 };
        assert_eq!(report.rtp_time, last.timestamp.wrapping_add(rate / 10));
    }
    assert_eq!((reports[0].packet_count, reports[0].octet_count), (62, 31 * 201));
}

#[test]
fn lost_sound_comes_again_where_that_was_negotiated() {
    let line = "a=rtpmap:111 opus/48000/2\r\n";
    let nack = |offer: String| offer.replace(line, &format!("{line}a=rtcp-fb:111 nack\r\n"));
    let mut world = World::of(true, tracks("42e01f", true), nack).connect();
    world.publish(0..1, true);
    world.now += Duration::from_secs(1);
    world.publish(1..40, false);
    let sent = world.received();
    let sound = of_type(&sent, 111);
    let lost = sound[sound.len() - 30].clone();
    world.feedback(Box::new(TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: lost.header.ssrc,
        nacks: vec![NackPair { packet_id: lost.header.sequence_number, lost_packets: 0 }],
    }));
    // Without a stream of retransmissions: bit for bit as before.
    assert_eq!(world.received(), [lost]);
}
