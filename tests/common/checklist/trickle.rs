//! Lines about PATCH: trickled candidates and ICE restarts.

use std::net::Ipv4Addr;

use tokio::net::UdpSocket;

use super::*;
use crate::common::is_stun;

/// W30: the type of a PATCH, and what is no fragment.
pub async fn w30(endpoint: &Endpoint) {
    let session = endpoint.open().await;
    for kind in ["", "application/sdp", "text/plain", "application/json"] {
        let request = endpoint.request("PATCH", &session.path).header("content-type", kind);
        let request = request.header("if-match", &session.etag).body(fragment(CANDIDATE));
        problem(request.send().await.expect("an answer"), 415).await;
    }
    for bad in ["hello", "{}", "a=candidate:1 1 udp\r\nnonsense\r\n"] {
        problem(endpoint.patch(&session, &session.etag, bad).await, 400).await;
    }
    let good =
        endpoint.request("PATCH", &session.path).header("content-type", format!("{FRAGMENT}; charset=utf-8"));
    let good = good.header("if-match", &session.etag).body(fragment(CANDIDATE));
    assert_eq!(good.send().await.expect("an answer").status(), 204);
}

/// W32: a strong entity tag.
pub async fn w32(endpoint: &Endpoint) {
    let tags = [endpoint.open().await.etag, endpoint.open().await.etag];
    for tag in &tags {
        let inner = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("quoted, not weak");
        assert!(!inner.is_empty() && !inner.contains('"') && inner != "*", "{tag}");
    }
    assert_ne!(tags[0], tags[1]);
}

/// W33: no `If-Match` is 428, a stale one 412.
pub async fn w33(endpoint: &Endpoint) {
    let session = endpoint.open().await;
    let request = endpoint.request("PATCH", &session.path).header("content-type", FRAGMENT);
    problem(request.body(fragment(CANDIDATE)).send().await.expect("an answer"), 428).await;
    for stale in ["\"stale\"", "\"\"", &format!("W/{}", session.etag), &session.etag.replacen('"', "\"x", 1)]
    {
        problem(endpoint.patch(&session, stale, fragment(CANDIDATE)).await, 412).await;
    }
    assert_eq!(endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await.status(), 204);
}

/// W33, W36: `*` and `"*"` are read as a restart; the answer has our side of it and a new entity tag.
pub async fn w36(endpoint: &Endpoint) {
    for (any, number) in [("*", 1), ("\"*\"", 2)] {
        let session = endpoint.open().await;
        let (ufrag, pwd) = credentials(&session.answer);
        let response = endpoint.patch(&session, any, restart(number)).await;
        assert_eq!(response.status(), 200, "{any}: {}", response.text().await.unwrap_or_default());
        assert_eq!(header(&response, "content-type"), FRAGMENT);
        let etag = header(&response, "etag");
        assert!(etag.starts_with('"') && etag.len() > 2 && etag != session.etag, "{etag}");
        let ours = response.text().await.expect("a fragment");
        let (new_ufrag, new_pwd) = credentials(&ours);
        assert!(new_ufrag != ufrag && new_pwd != pwd, "{ours}");
        assert!(!candidates(&ours, "udp").is_empty(), "{ours}");
        // The tag before is stale, the new one is good.
        let candidate = restart(number);
        problem(endpoint.patch(&session, &session.etag, candidate.clone()).await, 412).await;
        let trickled = endpoint.patch(&session, &etag, candidate.clone()).await;
        assert_eq!(trickled.status(), 204, "the same credentials are no restart");
        assert!(trickled.headers().get("etag").is_none());
        // The same request again is answered as the first time: its answer may have been lost.
        let again = endpoint.patch(&session, any, candidate).await;
        assert_eq!((again.status().as_u16(), header(&again, "etag")), (200, etag));
        assert_eq!(again.text().await.expect("a fragment"), ours);
        problem(endpoint.patch(&session, any, WITHOUT_CREDENTIALS).await, 400).await;
    }
}

/// A restart of the offers made here.
pub fn restart(number: usize) -> String {
    fragment(CANDIDATE)
        .replace("a=ice-ufrag:abcd", &format!("a=ice-ufrag:new{number}"))
        .replace("a=ice-pwd:abcdefghijklmnopqrstuvwx", &format!("a=ice-pwd:newnewnewnewnewnewnewnew{number}"))
}

/// W34: 204 without body and entity tag.
pub async fn w34(endpoint: &Endpoint) {
    let session = endpoint.open().await;
    for _ in 0..2 {
        let response = endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await;
        assert_eq!(response.status(), 204);
        assert!(response.headers().get("etag").is_none());
        assert_eq!(response.bytes().await.expect("a body").len(), 0);
    }
}

/// W35: candidates that are of no use are passed over, in offers and fragments.
pub async fn w35(endpoint: &Endpoint) {
    let useless = [
        "a=candidate:1 1 sctp 2130706431 192.0.2.1 50000 typ host",
        "a=candidate:1 1 udp 2130706431 0b1d6f3c-9d1e-4c2c-8a53-1f2e3d4c5b6a.local 50000 typ host",
        "a=candidate:1 1 udp 2130706431 name.that.must.not.be.looked.up.example 50000 typ host",
        "a=candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
    ];
    let session = endpoint.open().await;
    for candidate in useless {
        let response = endpoint.patch(&session, &session.etag, fragment(candidate)).await;
        assert_eq!(response.status(), 204, "{candidate}");
        let line = format!("a=mid:0\r\n{candidate}\r\n");
        endpoint.open_with(endpoint.offer().replace("a=mid:0\r\n", &line)).await;
    }
    let all = useless.join("\r\n");
    assert_eq!(endpoint.patch(&session, &session.etag, fragment(&all)).await.status(), 204);
}

/// W35: the names of hosts are never looked up, in offers and fragments. The endpoint is a full ICE agent, which
/// checks each candidate that it takes.
pub async fn w35_names(endpoint: &Endpoint) {
    let by_offer = Candidates::new().await;
    let lines = format!("a=mid:0\r\n{}\r\n", by_offer.lines());
    let session = endpoint.open_with(endpoint.offer().replace("a=mid:0\r\n", &lines)).await;
    by_offer.only_the_literal_one_is_checked().await;
    let by_patch = Candidates::new().await;
    let response = endpoint.patch(&session, &session.etag, fragment(&by_patch.lines())).await;
    assert_eq!(response.status(), 204);
    by_patch.only_the_literal_one_is_checked().await;
}

/// Two sockets of ours: a candidate gives the address of one, and before it another the name of the other's host.
struct Candidates {
    literal: UdpSocket,
    named: UdpSocket,
}

impl Candidates {
    async fn new() -> Self {
        let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        Self { literal: socket().await.expect("a port"), named: socket().await.expect("a port") }
    }

    /// Every machine knows this name without asking another one; those of mDNS and DNS are taken no other way.
    fn lines(&self) -> String {
        let line = |number: u32, host: &str, socket: &UdpSocket| {
            let (priority, port) = (2_130_706_431 - number, socket.local_addr().expect("bound").port());
            format!("a=candidate:{number} 1 udp {priority} {host} {port} typ host")
        };
        let names = ["localhost", "0b1d6f3c-9d1e-4c2c-8a53-1f2e3d4c5b6a.local", "localhost."];
        let named = (1..).zip(names).map(|(number, name)| line(number, name, &self.named));
        named.chain([line(9, "127.0.0.1", &self.literal)]).collect::<Vec<_>>().join("\r\n")
    }

    async fn only_the_literal_one_is_checked(&self) {
        let mut buffer = [0; 1500];
        // The third check of one is long after the first of each.
        for _ in 0..3 {
            let check = tokio::time::timeout(seconds(5), self.literal.recv(&mut buffer)).await;
            let length = check.expect("a check in time").expect("received");
            assert!(is_stun(&buffer[..length]));
        }
        let looked_up = self.named.try_recv(&mut buffer);
        assert!(
            looked_up.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "a name is checked"
        );
    }
}

/// W38: PATCHes that overlap.
pub async fn w38(endpoint: &Endpoint) {
    let session = endpoint.open().await;
    let patches = (0..8).map(|number| {
        let candidate = format!("a=candidate:{number} 1 udp 1000 192.0.2.{number} 50000 typ host");
        endpoint.patch(&session, &session.etag, fragment(&candidate))
    });
    for response in futures_util::future::join_all(patches).await {
        assert_eq!(response.status(), 204);
    }
    // Restarts that overlap with each other and with trickling: each gets a clear answer, one of the
    // restarts is the last, and its tag is the good one.
    let mixed = (0..6).map(|number| async move { number });
    let session = &session;
    let answers = futures_util::future::join_all(mixed.map(|number| async move {
        let number = number.await;
        let restarts = number % 2 == 0;
        let tag = if restarts { "*" } else { &session.etag };
        let body = if restarts { restart(number) } else { fragment(CANDIDATE) };
        let response = endpoint.patch(session, tag, body).await;
        (restarts, response.status().as_u16(), header(&response, "etag"))
    }))
    .await;
    let mut tags: Vec<String> = Vec::new();
    for (restarts, status, etag) in answers {
        match (restarts, status) {
            (true, 200) => tags.push(etag),
            // Before or after a restart; with the old credentials it may also be read as one.
            (false, 200 | 204 | 400 | 412) => {}
            other => panic!("{other:?}"),
        }
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "each restart has its tag");
    let mut good = 0;
    for tag in &tags {
        // A fragment without credentials is of the present ICE session.
        let body = format!("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n{CANDIDATE}\r\n");
        match endpoint.patch(session, tag, body).await.status().as_u16() {
            204 => good += 1,
            412 => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(good, 1, "one ICE session is the present one");
}
