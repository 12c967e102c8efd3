//! What a viewer is sent, and how it is numbered and dated.

use super::*;

#[test]
fn the_first_picture_comes_from_the_cache_and_leads_to_the_live_edge() {
    let mut world = World::new(true);
    world.publish(0..1, true);
    world.publish(1..60, false);
    assert!(world.wire.0.is_empty(), "nothing goes out before the handshake");
    let mut world = world.connect();
    assert_eq!(world.viewer.state(), SessionState::Connected);
    // Live media goes on while the cached pictures are sent.
    let mut received = world.received();
    let mut next = 60;
    while world.viewer.is_catching_up() {
        world.now += Duration::from_millis(1);
        let World { viewer, fan_out, wire, buffer, now, .. } = &mut world;
        viewer.catch_up(*now, fan_out, wire, buffer);
        if next < 63 {
            world.publish(next..next + 1, false);
            next += 1;
        }
        received.extend(world.received());
    }
    assert_eq!(of_type(&received, 111).len(), 0, "sound waits for the card to start");
    world.now += Duration::from_millis(400);
    world.publish(63..66, false);
    received.extend(world.received());
    let video = of_type(&received, 102);
    let contents: Vec<u8> = video.iter().map(|packet| packet.payload[0]).collect();
    let expected: Vec<u8> = (0..66).flat_map(|number| [number, number]).collect();
    assert_eq!(contents, expected, "every picture once, in order");
    for pair in video.windows(2) {
        assert_eq!(pair[1].header.sequence_number, pair[0].header.sequence_number.wrapping_add(1));
    }
    let span = video[119].header.timestamp.wrapping_sub(video[0].header.timestamp);
    assert!((800..=900).contains(&span), "dated within the 10 ms in which they are sent: {span}");
    let live = video[131].header.timestamp.wrapping_sub(video[121].header.timestamp);
    assert_eq!(live, 5 * 3_000);
    assert_eq!(of_type(&received, 111).len(), 3, "sound begins live");
}

/// What the playout-delay extension of a packet says: milliseconds.
fn playout_delay(packet: &RtpPacket) -> Option<u32> {
    let element = packet.header.get_extension(5)?;
    Some((u32::from(element[0]) << 4 | u32::from(element[1]) >> 4) * 10)
}

/// What the abs-send-time extension of a packet says: milliseconds.
fn sending_time(packet: &RtpPacket) -> Option<u32> {
    let element = packet.header.get_extension(2)?;
    Some(((u32::from_be_bytes([0, element[0], element[1], element[2]]) * 1000) + (1 << 17)) >> 18)
}

#[test]
fn pictures_after_the_first_are_told_to_wait_for_the_sound() {
    let mut world = World::new(true);
    // Sound comes 70 ms later than pictures of the same instant: each batch has older sound.
    let packet = |kind, number: u64, millis: i64, keyframe| Packet {
        kind,
        layer: 0,
        sequence: number,
        timestamp: (millis * if kind == MediaKind::Video { 90 } else { 48 }) as u32,
        pts: MediaTime::from_millis(millis),
        marker: true,
        keyframe,
        payload: Bytes::from(vec![number as u8; 200]),
    };
    let publish = |world: &mut World, number: u64| {
        let millis = number as i64 * 40;
        let packets = vec![
            packet(MediaKind::Video, number, millis, number == 0),
            packet(MediaKind::Audio, number, millis - 70, false),
        ];
        let batch = PacketBatch { epoch: world.epoch.clone(), packets };
        let (template, change) = world.fan_out.take(world.now, &batch, 0);
        change.tell(&mut world.viewer, &world.epoch);
        let World { viewer, fan_out, wire, buffer, now, .. } = world;
        viewer.send(*now, &template, fan_out.sound_lag(), wire, buffer);
        *now += Duration::from_millis(40);
    };
    (0..25).for_each(|number| publish(&mut world, number));
    let mut world = world.connect();
    while world.viewer.is_catching_up() {
        world.now += Duration::from_millis(1);
        let World { viewer, fan_out, wire, buffer, now, .. } = &mut world;
        viewer.catch_up(*now, fan_out, wire, buffer);
    }
    (25..45).for_each(|number| publish(&mut world, number));
    let received = world.received();
    let video = of_type(&received, 102);
    assert_eq!(video.len(), 45);
    assert_eq!(playout_delay(video[0]), None, "the first picture is shown at once");
    assert_eq!(playout_delay(video[1]), Some(120), "50 ms that sound waits in the browser, and 70 ms");
    assert_eq!(playout_delay(video[44]), None, "once is enough");
    assert_eq!(video[1].payload[..], [1; 200], "the payload is as it was");
    assert!(of_type(&received, 111).iter().all(|packet| !packet.header.extension));
    assert!(video.iter().all(|packet| sending_time(packet).is_none()), "there is no layer to choose");
    // A repetition says the same.
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: video[1].header.ssrc,
        nacks: vec![NackPair { packet_id: video[1].header.sequence_number, lost_packets: 0 }],
    };
    world.feedback(Box::new(nack));
    let again = world.received();
    assert_eq!((again[0].header.payload_type, playout_delay(&again[0])), (103, Some(120)));
    assert_eq!(again[0].payload[2..], [1; 200]);
}

#[test]
fn a_simulcast_viewer_changes_layers_at_keyframes_without_a_gap() {
    let mut world = World::new(true);
    let layer = |rid: &str| LayerInfo { rid: rid.into(), resolution: None, bitrate: 0, active: true };
    world.publisher.set_layers(vec![layer("f"), layer("q")]);
    world.now += Duration::from_secs(1);
    let mut world = world.connect();
    world.publish_layers(0, Some(1));
    world.publish_layers(1, Some(0));
    world.publish_layers(2, None);
    let mut requests = world.publisher.keyframe_requests();
    requests.mark_unchanged();
    world.viewer.select_layer(crate::webrtc::LayerSelection::Rid("q".into())).expect("known");
    world.now += Duration::from_millis(200);
    world.tick();
    assert!(requests.has_changed().expect("open"), "its keyframe is asked for");
    world.publish_layers(3, None);
    world.publish_layers(4, Some(1));
    world.publish_layers(5, None);
    let received = world.received();
    let video = of_type(&received, 102);
    let contents: Vec<u8> = video.iter().step_by(2).map(|packet| packet.payload[0]).collect();
    assert_eq!(contents, [1, 2, 3, 104, 105], "from the best one's keyframe on, then the other's");
    for pair in video.windows(2) {
        assert_eq!(pair[1].header.sequence_number, pair[0].header.sequence_number.wrapping_add(1));
    }
    let dates: Vec<u32> =
        video.iter().step_by(2).map(|p| p.header.timestamp.wrapping_sub(video[0].header.timestamp)).collect();
    assert_eq!(dates, [0, 3_000, 6_000, 9_000, 12_000]);
    // A receiver's estimate counts, so it is told when packets were sent; again sent, when that was.
    let told: Vec<u32> = video.iter().map(|packet| sending_time(packet).expect("it is told")).collect();
    assert!((333..=334).contains(&(told[9] - told[0])), "200 ms and four pictures later: {told:?}");
    world.now += Duration::from_millis(300);
    world.feedback(Box::new(TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: video[9].header.ssrc,
        nacks: vec![NackPair { packet_id: video[9].header.sequence_number, lost_packets: 0 }],
    }));
    let again = sending_time(&world.received()[0]).expect("it is told");
    assert!((333..=334).contains(&(again - told[9])), "300 ms and a picture later: {again} {told:?}");
    let unknown = world.viewer.select_layer(crate::webrtc::LayerSelection::Rid("x".into()));
    assert_eq!(unknown, Err(SessionError::UnknownLayer { rid: "x".into(), known: "f, q".into() }));
}

#[test]
fn vp8_pictures_are_numbered_on_when_the_layer_changes_and_when_they_come_again() {
    let mut tracks = tracks("42e01f", true);
    if let Some(video) = &mut tracks.video {
        (video.codec, video.fmtp) = (Codec::Vp8, String::new());
    }
    let mut world = World::of(true, tracks, |offer| offer);
    let layer = |rid: &str| LayerInfo { rid: rid.into(), resolution: None, bitrate: 0, active: true };
    world.publisher.set_layers(vec![layer("f"), layer("q")]);
    world.now += Duration::from_secs(1);
    let mut world = world.connect();
    // Each layer counts pictures from elsewhere, and both of its packets say which it is.
    let payload = |number: u64| {
        move |layer: u8, _: u64| {
            let id = [0x7fff, 300][usize::from(layer)] + number as u16;
            let [high, low] = id.to_be_bytes();
            vec![0x90, 0xc0, high | 0x80, low, [250, 7][usize::from(layer)] + number as u8, 1, 2, 3]
        }
    };
    for (number, keyframe) in [(0, Some(0)), (1, None)] {
        world.publish_payloads(number, keyframe, payload(number));
    }
    world.viewer.select_layer(crate::webrtc::LayerSelection::Rid("q".into())).expect("known");
    world.now += Duration::from_millis(200);
    world.tick();
    for (number, keyframe) in [(2, None), (3, Some(1)), (4, None)] {
        world.publish_payloads(number, keyframe, payload(number));
    }
    let received = world.received();
    let video = of_type(&received, 96);
    let shown = |payload: &[u8]| (u16::from_be_bytes([payload[2] & 0x7f, payload[3]]), payload[4]);
    let pictures: Vec<_> = video.iter().step_by(2).map(|packet| shown(&packet.payload)).collect();
    assert_eq!(pictures, [(0x7fff, 250), (0, 251), (1, 252), (2, 253), (3, 254)]);
    // Again as before, though the layer has changed since.
    for packet in [video[2], video[9]] {
        world.feedback(Box::new(TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: packet.header.ssrc,
            nacks: vec![NackPair { packet_id: packet.header.sequence_number, lost_packets: 0 }],
        }));
        let again = world.received();
        assert_eq!(again[0].payload[2..], packet.payload[..]);
    }
}
