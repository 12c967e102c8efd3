//! Offers and answers, the ends of sessions, and strangers.

use super::*;

#[test]
fn a_vanished_publisher_is_found_within_10_s() {
    let mut world = World::connected(&BOTH);
    for number in 0..5 {
        world.frame(number, number == 0);
    }
    world.cut = true;
    let cut = world.now;
    world.run_until(Duration::from_secs(10), |world| matches!(world.session.state(), SessionState::Ended(_)));
    eprintln!("{:?} after {:?}", world.session.state(), world.now - cut);
    assert!(world.hub.get(&name()).expect("in its grace").source().is_none(), "the name is free");
}

#[test]
fn a_quiet_publisher_stays() {
    let mut world = World::connected(&BOTH);
    world.run(Duration::from_secs(30));
    assert_eq!(world.session.state(), SessionState::Connected);
}

#[test]
fn a_publisher_that_never_comes_is_given_up() {
    let mut world = World::new(&BOTH);
    world.cut = true;
    world.run(Duration::from_secs(11));
    assert!(matches!(world.session.state(), SessionState::Ended(_)));
    assert!(world.hub.get(&name()).expect("in its grace").source().is_none());
}

#[test]
fn closing_tells_the_publisher_and_frees_the_name() {
    let mut world = World::connected(&BOTH);
    world.wire.0.clear();
    world.session.close(world.now, "closed", &mut world.wire);
    let farewell = std::mem::take(&mut world.wire.0);
    assert!(farewell.iter().any(|(_, data)| (20..64).contains(&data[0])), "a DTLS alert");
    assert!(world.hub.get(&name()).expect("in its grace").source().is_none());
    // RFC 9725 §4.2: no STUN answer after the end.
    let end = world.now + Duration::from_secs(3);
    while world.now < end {
        world.client.handle_timeout(world.now).expect("timers");
        while let Some(datagram) = world.client.poll_write() {
            world.receive(address(CLIENT), datagram.message);
        }
        world.session.handle_timeout(world.now, &mut world.wire);
        world.now += STEP;
    }
    assert!(world.wire.0.is_empty());
}

#[test]
fn a_publisher_that_closes_ends_its_session() {
    let mut world = World::connected(&BOTH);
    world.client.close().expect("closes");
    world.exchange();
    assert_eq!(world.session.state(), SessionState::Ended("the peer closed the session"));
}

#[test]
fn a_kicked_publisher_is_closed() {
    let mut world = World::connected(&BOTH);
    assert!(world.hub.get(&name()).expect("live").kick_publisher());
    world.run(STEP);
    assert_eq!(world.session.state(), SessionState::Ended("the publisher was kicked"));
}

#[test]
fn a_second_publisher_is_refused() {
    let world = World::new(&BOTH);
    let (_, offer) = client::publisher(world.now, &BOTH, Arc::default());
    let refused = session(&world.hub, world.now, &offer);
    assert_eq!(refused.err(), Some(SessionError::StreamTaken(name())));
}

#[test]
fn strangers_are_not_listened_to() {
    let mut world = World::connected(&BOTH);
    let stranger = address("127.0.0.1:6000");
    // A DTLS close_notify in the clear, garbage, and a binding request without integrity.
    let alert = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0];
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    for data in [&alert[..], &[0xff; 40], &[0; 3], &[], &request] {
        world.receive(stranger, BytesMut::from(data));
        assert!(world.wire.0.is_empty(), "no answer");
    }
    for number in 0..3 {
        world.frame(number, number == 0);
    }
    assert_eq!(world.session.state(), SessionState::Connected);
}

#[test]
fn no_offer_is_a_fault_of_ours() {
    let now = Instant::now();
    let (hub, _reaper) = Hub::new(Duration::ZERO);
    let (_, offer) = client::publisher(now, &BOTH, Arc::default());
    let lines: Vec<&str> = offer.lines().collect();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut accepted = 0;
    for round in 0..600 {
        let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        for _ in 0..=round % 3 {
            let (at, other) = (random(changed.len()), random(lines.len()));
            match random(5) {
                0 => drop(changed.remove(at)),
                1 => changed.insert(at, lines[other].to_owned()),
                2 => changed[at] = lines[other].to_owned(),
                3 => {
                    let cut = random(changed[at].len() + 1);
                    changed[at].truncate(cut);
                }
                _ => {
                    let mut bytes = changed[at].clone().into_bytes();
                    let index = random(bytes.len().max(1));
                    if let Some(byte) = bytes.get_mut(index) {
                        *byte = b" 0:9=;/aZ\t\0~"[random(12)];
                    }
                    changed[at] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        let text = changed.join("\r\n") + "\r\n";
        match session(&hub, now, &text) {
            Ok(_) => accepted += 1,
            Err(SessionError::MalformedOffer(_) | SessionError::UnacceptableOffer(_)) => {}
            Err(other) => panic!("{other}\n{text}"),
        }
    }
    assert!((100..500).contains(&accepted), "{accepted} of 600 were still good");
}

#[test]
fn garbage_from_a_known_address_ends_nothing() {
    let mut world = World::connected(&BOTH);
    let mut seed = 1_u32;
    for length in 0..400_usize {
        let garbage: Vec<u8> = (0..length)
            .map(|index| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // First bytes of STUN, DTLS, RTP, RTCP and nothing.
                if index == 0 {
                    [0, 1, 20, 22, 23, 64, 128, 144, 255][length % 9]
                } else {
                    (seed >> 24) as u8
                }
            })
            .collect();
        world.receive(address(CLIENT), BytesMut::from(&garbage[..]));
        world.session.flush(world.now, &mut world.wire);
    }
    let mut reader = world.subscribe();
    for number in 0..3 {
        world.frame(number, number == 0);
    }
    assert_eq!(world.session.state(), SessionState::Connected);
    assert_eq!(packets(&batches(&mut reader), MediaKind::Video).len(), 7);
}

#[test]
fn sources_that_the_offer_does_not_declare_are_learned() {
    let without = |offer: String| {
        let lines = offer.lines().filter(|line| !line.starts_with("a=ssrc") && !line.starts_with("a=msid"));
        lines.flat_map(|line| [line, "\r\n"]).collect()
    };
    let mut world = World::with_offer(&BOTH, without).connect();
    let mut reader = world.subscribe();
    world.lose = [65_510, 65_520].into();
    for number in 0..30 {
        world.frame(number, number == 0);
    }
    world.run(Duration::from_millis(200));
    let batches = batches(&mut reader);
    let video = packets(&batches, MediaKind::Video);
    assert_eq!((video.len(), packets(&batches, MediaKind::Audio).len()), (61, 30));
    assert_eq!(video[0].payload[0], 0x67, "from the first packet on");
}

#[test]
fn a_publisher_without_usable_candidates_connects() {
    let hidden = |offer: String| {
        let lines = offer.lines().map(|line| match line.strip_prefix("a=candidate:") {
            Some(_) => "a=candidate:1 1 udp 2130706431 0a1b-2c.local 5000 typ host",
            None => line,
        });
        lines.flat_map(|line| [line, "\r\n"]).collect()
    };
    let mut world = World::with_offer(&BOTH, hidden).connect();
    assert!(world.proven);
    world.frame(0, true);
    assert_eq!(world.hub.get(&name()).expect("live").statistics().snapshot().keyframes, 1);
}

#[test]
fn a_quiet_session_costs_little() {
    let mut world = World::connected(&BOTH);
    let (end, mut calls) = (world.now + Duration::from_secs(10), 0);
    while world.now < end {
        world.exchange();
        world.now += STEP;
        world.client.handle_timeout(world.now).expect("timers");
        if world.session.deadline().is_some_and(|deadline| world.now >= deadline) {
            world.session.handle_timeout(world.now, &mut world.wire);
            calls += 1;
        }
    }
    assert_eq!(world.session.state(), SessionState::Connected);
    assert!(calls < 200, "{calls} timeouts in 10 s");
}
