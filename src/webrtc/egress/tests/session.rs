//! Sessions that stall, change and end.

use super::*;

#[test]
fn rel06_a_stalled_viewer_gets_nothing_and_goes_on_from_the_cache_when_it_is_back() {
    let mut world = World::new(true).connect();
    world.publish(0..1, true);
    world.now += Duration::from_millis(6_900);
    world.tick();
    world.publish(1..2, false);
    assert!(!world.received().is_empty(), "it may still be there");
    world.now += Duration::from_millis(200);
    world.tick();
    world.wire.0.clear();
    world.publish(2..40, false);
    assert!(world.wire.0.is_empty(), "nothing is sent, and nothing kept for it");
    world.now += Duration::from_secs(5);
    assert!(world.check(false));
    world.wire.0.clear();
    world.tick();
    while world.viewer.is_catching_up() {
        world.now += Duration::from_millis(1);
        let World { viewer, fan_out, wire, buffer, now, .. } = &mut world;
        viewer.catch_up(*now, fan_out, wire, buffer);
    }
    let received = world.received();
    let contents: Vec<u8> = of_type(&received, 102).iter().step_by(2).map(|p| p.payload[0]).collect();
    assert_eq!(contents, (0..40).collect::<Vec<u8>>(), "the cached group of pictures");
}

#[test]
fn a_returning_publisher_goes_on_in_the_same_session() {
    let mut world = World::new(true).connect();
    world.publish(5..6, true);
    let before = world.received();
    world.now += Duration::from_secs(2);
    world.epoch = world.publisher.begin_epoch(tracks("42e01f", true), SystemTime::UNIX_EPOCH);
    world.publish(0..1, false);
    world.publish(1..2, true);
    let after = world.received();
    let (last, first) = (of_type(&before, 102)[1], of_type(&after, 102)[0]);
    assert_eq!(first.header.sequence_number, last.header.sequence_number.wrapping_add(1));
    assert_eq!(first.header.timestamp, last.header.timestamp.wrapping_add(180_000));
    assert_eq!(first.payload[0], 1, "at the keyframe");
    assert_eq!(world.viewer.state(), SessionState::Connected);
    let mut other = tracks("42e01f", true);
    other.video.as_mut().expect("video").codec = Codec::Vp8;
    world.epoch = world.publisher.begin_epoch(other, SystemTime::UNIX_EPOCH);
    world.publish(2..3, true);
    assert_eq!(world.viewer.state(), SessionState::Ended("the stream's video codec changed"));
}

#[test]
fn a_peer_with_another_certificate_gets_nothing() {
    let mut world = World::new(false);
    world.publish(0..1, true);
    let mut world = world.connect();
    assert_eq!(world.viewer.state(), SessionState::Ended("the certificate is not the one of the offer"));
    world.publish(1..3, true);
    assert!(world.wire.0.is_empty());
    assert!(!world.check(true), "after the end no STUN is answered");
}

#[test]
fn a_silent_viewer_is_given_up() {
    let mut world = World::new(true).connect();
    world.now += Duration::from_secs(29);
    world.viewer.handle_timeout(world.now, Some(&world.fan_out), &mut world.wire);
    assert!(world.check(false));
    world.now += Duration::from_secs(29);
    world.viewer.handle_timeout(world.now, Some(&world.fan_out), &mut world.wire);
    assert_eq!(world.viewer.state(), SessionState::Connected);
    world.now += Duration::from_secs(2);
    world.viewer.handle_timeout(world.now, Some(&world.fan_out), &mut world.wire);
    assert_eq!(world.viewer.state(), SessionState::Ended("the peer has gone silent"));
}

#[test]
fn the_viewer_is_told_of_the_end_and_tells_us() {
    let mut world = World::new(true).connect();
    world.viewer.close(world.now, "closed by request", &mut world.wire);
    let goodbye = world.wire.0.pop().expect("close_notify");
    assert!(matches!(world.client.read(world.now, &goodbye), Progress::Closed));
    let mut world = World::new(true).connect();
    world.client.close(world.now);
    let goodbye = world.client.poll_transmit().expect("close_notify");
    world.viewer.handle_dtls(world.now, &goodbye, Some(&world.fan_out), &mut world.wire);
    assert_eq!(world.viewer.state(), SessionState::Ended("the peer closed the session"));
}
