//! Fuzzing of the transport: STUN, DTLS, and PATCHes of the ICE session.

use super::client_hello::{Hello, HelloReader};
use super::ice::Ice;
use super::{Association, Identity, Patch, Progress, Remote, Transport};
use crate::media::fuzzing::Input;
use crate::webrtc::IceMode;
use crate::webrtc::path::Path;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

const PASSWORD: &str = "0123456789012345678901";

/// One certificate for all inputs: it is dear.
pub(in crate::webrtc) fn identity() -> Arc<Identity> {
    static IDENTITY: LazyLock<Arc<Identity>> =
        LazyLock::new(|| Arc::new(Identity::generate().expect("a certificate")));
    IDENTITY.clone()
}

/// STUN messages: none of them is a session's, and none is answered.
pub fn stun(data: &[u8]) {
    let path = Path::udp(SocketAddr::from(([192, 0, 2, 1], 5000)), [127, 0, 0, 1].into());
    for mode in [IceMode::Lite, IceMode::Full] {
        let mut ice = Ice::new(mode, "them", PASSWORD, false);
        let heard = ice.hear(data, path, identity().provider().crypto());
        assert!(
            heard.is_none_or(|heard| heard.reply.is_none() && !heard.proven),
            "nobody knows its password"
        );
    }
}

/// ClientHellos in any number of datagrams.
pub fn client_hello(data: &[u8]) {
    let _ = HelloReader::default().push(data);
    let mut reader = HelloReader::default();
    for (number, datagram) in Input(data).pieces().enumerate() {
        if let Hello::Offered(profiles, held) = reader.push(datagram) {
            assert!(held.len() == number + 1 && held.len() <= 8 && profiles.len() <= 4096);
            return;
        }
    }
}

/// DTLS datagrams of a peer that has shown the password of its session.
pub fn dtls(data: &[u8]) {
    let mut input = Input(data);
    let is_client = input.number::<1>() & 1 == 1;
    let mut now = Instant::now();
    let mut association = Association::new(identity(), &["AB"; 32].join(":"), is_client);
    association.start(now);
    for datagram in input.pieces() {
        now += Duration::from_millis(60);
        match association.read(now, datagram) {
            Progress::Established(_) => panic!("keys for a stranger"),
            Progress::Pending => {}
            Progress::Closed | Progress::Failed(_) => break,
        }
        association.handle_timeout(now);
        while association.poll_transmit().is_some() {}
    }
}

/// PATCHes of one session, three empty lines between them.
pub(in crate::webrtc) fn patch(text: &str) {
    let remote = Remote {
        ice_ufrag: "them".into(),
        ice_pwd: PASSWORD.into(),
        fingerprint: "AB".into(),
        passive: false,
        lite: false,
        candidates: Vec::new(),
    };
    let now = Instant::now();
    let (mut patch, mut transport) = (Patch::new("first".into()), Transport::new(now, identity(), &remote));
    for text in text.split("\n\n\n") {
        let _ = patch.apply(&mut transport, "*", text, "a=end-of-candidates\r\n");
    }
}
