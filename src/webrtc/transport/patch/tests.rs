//! Fragments against a transport: what is taken, what is refused, and what stays as it was.

use super::super::{Identity, Remote};
use super::*;
use std::sync::Arc;
use std::time::Instant;

const PASSWORD: &str = "0123456789012345678901";
const OURS: &str = "a=candidate:1 1 udp 1 192.0.2.9 8189 typ host\r\na=end-of-candidates\r\n";

fn start() -> (Patch, Transport) {
    let identity = Arc::new(Identity::generate().expect("an identity"));
    let remote = Remote {
        ice_ufrag: "them".into(),
        ice_pwd: PASSWORD.into(),
        fingerprint: "AB".into(),
        passive: false,
        lite: false,
        candidates: Vec::new(),
    };
    (Patch::new("first".into()), Transport::new(Instant::now(), identity, &remote))
}

fn restart(fragment: &str) -> String {
    format!(
        "a=group:BUNDLE 0 1\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=ice-ufrag:{fragment}\r\n\
         a=ice-pwd:{PASSWORD}\r\n"
    )
}

#[test]
fn w34_unchanged_credentials_are_a_trickle() {
    let (mut patch, mut transport) = start();
    let before = transport.sdp_lines();
    for text in ["", "a=ice-ufrag:them\r\na=end-of-candidates\r\n", &restart("them")] {
        for tag in ["\"first\"", "first"] {
            let patched = patch.apply(&mut transport, tag, text, OURS);
            assert_eq!(patched, Ok(Patched::Trickled));
        }
    }
    assert_eq!(transport.sdp_lines(), before);
}

#[test]
fn w33_a_star_is_read_as_a_restart() {
    let (mut patch, mut transport) = start();
    let before = transport.sdp_lines();
    for tag in ["*", "\"*\""] {
        // What names no credentials can't be one.
        for text in ["", "a=end-of-candidates\r\n"] {
            let refused = patch.apply(&mut transport, tag, text, OURS);
            assert!(matches!(refused, Err(SessionError::MalformedFragment(_))), "{refused:?}");
        }
        // The ICE session of these is the present one: it is told again.
        let patched = patch.apply(&mut transport, tag, &restart("them"), OURS);
        let Ok(Patched::Restarted { fragment, etag }) = patched else { panic!("{patched:?}") };
        assert_eq!(etag, "first");
        assert!(fragment.contains(&format!("a=ice-ufrag:{}\r\n", transport.local_ufrag())), "{fragment}");
    }
    assert_eq!(transport.sdp_lines(), before);
}

#[test]
fn w36_changed_credentials_are_a_restart() {
    let (mut patch, mut transport) = start();
    for (tag, fragment) in [("\"first\"", "new1"), ("*", "new2"), ("\"*\"", "new3")] {
        let before = transport.local_ufrag().to_owned();
        let patched = patch.apply(&mut transport, tag, &restart(fragment), OURS);
        let Ok(Patched::Restarted { fragment, etag }) = patched else { panic!("{patched:?}") };
        assert_ne!(transport.local_ufrag(), before);
        let ours = format!(
            "a=ice-lite\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n{OURS}",
            transport.local_ufrag(),
            transport.ice.password()
        );
        assert_eq!(fragment, ours);
        assert_ne!(etag, "first");
        // The new tag is that of the present ICE session.
        let trickle = patch.apply(&mut transport, &format!("\"{etag}\""), "", OURS);
        assert_eq!(trickle, Ok(Patched::Trickled));
    }
}

#[test]
fn w37_a_restart_that_fails_changes_nothing() {
    let (mut patch, mut transport) = start();
    let before = transport.sdp_lines();
    let changed_password = format!("a=ice-ufrag:them\r\na=ice-pwd:{PASSWORD}9\r\n");
    for (text, number) in [
        ("a=ice-ufrag:newer\r\n", 0),
        ("a=ice-pwd:9876543210987654321098\r\n", 1),
        ("a=ice-ufrag:newer\r\na=ice-pwd:short\r\n", 2),
        ("a=ice-ufrag:x\r\na=ice-pwd:9876543210987654321098\r\n", 3),
        (&changed_password, 4),
        ("nonsense", 5),
    ] {
        let error = patch.apply(&mut transport, "*", text, OURS).expect_err(text);
        assert!(matches!(error, SessionError::MalformedFragment(_)), "{number}: {error:?}");
    }
    assert_eq!(transport.sdp_lines(), before);
    assert_eq!(patch.etag, "first");
}

#[test]
fn w38_overlapping_and_late_patches_are_refused() {
    let (mut patch, mut transport) = start();
    let mut apply = |tag: &str, text: &str| patch.apply(&mut transport, tag, text, OURS);
    let restarted = apply("\"first\"", &restart("new1"));
    assert!(matches!(restarted, Ok(Patched::Restarted { .. })));
    // The same restart twice, and a trickle of the session before.
    assert_eq!(apply("\"first\"", &restart("new1")), Err(SessionError::StaleEntityTag));
    assert_eq!(apply("\"first\"", "a=ice-ufrag:them\r\n"), Err(SessionError::StaleEntityTag));
    assert_eq!(apply("*", "a=ice-ufrag:them\r\n"), Err(SessionError::StaleEntityTag));
    assert_eq!(apply("*", &restart("them")), Err(SessionError::StaleEntityTag), "no way back");
    assert_eq!(apply("*", &restart("new1")), restarted, "it is restarted already, and told again");
    assert_eq!(apply("W/\"first\"", ""), Err(SessionError::StaleEntityTag));
}

#[test]
fn a_flood_of_candidates_is_bounded() {
    let (mut patch, mut transport) = start();
    let candidate = "a=candidate:1 1 udp 1 x.local 5 typ host\r\n".repeat(10);
    for _ in 0..20 {
        assert_eq!(patch.apply(&mut transport, "first", &candidate, OURS), Ok(Patched::Trickled));
    }
    let error = patch.apply(&mut transport, "first", &candidate, OURS).expect_err("200 it has had");
    assert!(matches!(error, SessionError::MalformedFragment(_)));
    assert_eq!(patch.apply(&mut transport, "first", "", OURS), Ok(Patched::Trickled));
}
