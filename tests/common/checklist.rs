//! Lines of the checklists that hold for WHIP and WHEP alike, each looked at on the endpoint it is given.
//! The ids are those of RFC 9725's checklist for servers.

mod trickle;

pub use trickle::*;

use super::endpoint::{Endpoint, FRAGMENT, Opened, header, problem};
use super::{Session, attribute, candidates, credentials, eventually, lines_without, seconds};
use std::time::Duration;

/// What trickles a candidate of the offers made here.
pub fn fragment(candidate: &str) -> String {
    format!(
        "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:abcdefghijklmnopqrstuvwx\r\n{candidate}\r\n"
    )
}

/// A candidate that nobody answers at.
pub const CANDIDATE: &str = "a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host";

/// A STUN and a TURN server, as a setting.
pub const TURN: &str = "stun:stun.example.net,turn:turn.example.net:3478?transport=udp";

/// A fragment of whatever ICE session is the present one.
const WITHOUT_CREDENTIALS: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";

/// W01: only `application/sdp`, with whatever parameters.
pub async fn w01(endpoint: &Endpoint) {
    for kind in ["", "text/plain", "application/json", "application/sdpx", "application/sdp-fragment"] {
        let path = endpoint.path();
        let request = endpoint.request("POST", &path).header("content-type", kind);
        problem(request.body(endpoint.offer()).send().await.expect("an answer"), 415).await;
    }
    let response = endpoint.request("POST", &endpoint.path()).body(endpoint.offer()).send().await;
    problem(response.expect("an answer"), 415).await;
    for kind in ["application/sdp; charset=utf-8", "Application/SDP", "application/sdp;x=y;z=\"a b\""] {
        let request = endpoint.request("POST", &endpoint.path()).header("content-type", kind);
        let response = request.body(endpoint.offer()).send().await.expect("an answer");
        assert_eq!(response.status(), 201, "{kind}");
    }
}

/// W02: what is no SDP, or lacks what a session needs, is 400.
pub async fn w02(endpoint: &Endpoint) {
    let good = endpoint.offer();
    for bad in [
        String::new(),
        "hello".to_owned(),
        r#"{"type":"offer","sdp":"v=0"}"#.to_owned(),
        good.replace("a=ice-ufrag:abcd", "a=ice-ufrag:a b"),
        lines_without(&good, "a=ice-pwd"),
        lines_without(&good, "a=fingerprint"),
        good.replace("sha-256 AB:", "sha-256 XY:"),
    ] {
        problem(endpoint.post(bad).await, 400).await;
    }
}

/// W03: 201 with type, answer, and a `Location` that can't be guessed.
pub async fn w03(endpoint: &Endpoint) {
    let mut ids = Vec::new();
    for _ in 0..4 {
        let path = endpoint.path();
        let response = endpoint.post_to(&path, endpoint.offer()).await;
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "content-type"), "application/sdp");
        let location = header(&response, "location");
        let absolute = response.url().join(&location).expect("a URL");
        assert_eq!(absolute.origin(), response.url().origin());
        let id = absolute.path().strip_prefix(&format!("{path}/")).expect("below the endpoint").to_owned();
        // 32 hexadecimal digits: 128 bits.
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert!(response.text().await.expect("an answer").starts_with("v=0\r\n"));
        ids.push(u128::from_str_radix(&id, 16).expect("hexadecimal"));
    }
    // No two are alike, or follow each other, in any half.
    for half in [|id: u128| (id >> 64) as u64, |id: u128| id as u64] {
        let halves: Vec<u64> = ids.iter().map(|id| half(*id)).collect();
        for (index, one) in halves.iter().enumerate() {
            for other in &halves[index + 1..] {
                assert!(one.abs_diff(*other) > 1 << 20, "{ids:x?}");
            }
        }
    }
}

/// W06: all candidates are in the answer, which says that there will be no more.
pub async fn w06(endpoint: &Endpoint) {
    let answer = endpoint.open().await.answer;
    let found = candidates(&answer, "udp");
    assert!(!found.is_empty(), "{answer}");
    let port = endpoint.server.webrtc;
    assert!(found.iter().all(|candidate| candidate.port() == port && !candidate.ip().is_unspecified()));
    assert!(answer.contains("a=end-of-candidates\r\n"), "{answer}");
}

/// W07: GET and HEAD succeed without a body, on endpoint and session.
pub async fn w07(endpoint: &Endpoint) {
    let session = endpoint.open().await;
    for path in [endpoint.path(), session.path] {
        for method in ["GET", "HEAD"] {
            // Also without the key.
            let request =
                endpoint.server.client.request(method.parse().expect("a method"), endpoint.server.url(&path));
            let response = request.send().await.expect("an answer");
            assert!(response.status().is_success(), "{method} {path}: {}", response.status());
            assert_eq!(response.bytes().await.expect("a body").len(), 0, "{method} {path}");
        }
    }
}

/// W08: preflights need no auth.
pub async fn w08(endpoint: &Endpoint) {
    for (path, accept, value) in [
        (endpoint.path(), "accept-post", "application/sdp"),
        (endpoint.open().await.path, "accept-patch", FRAGMENT),
    ] {
        let response = preflight(endpoint, &path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(header(&response, accept), value, "{path}");
    }
}

/// W09, on a server with a TURN server: no preflight tells its credentials.
pub async fn w09(endpoint: &Endpoint) {
    for path in [endpoint.path(), endpoint.open().await.path] {
        let response = preflight(endpoint, &path).await;
        for (name, value) in response.headers() {
            let value = String::from_utf8_lossy(value.as_bytes()).to_lowercase();
            for word in ["turn:", "credential", "turn-password", "turn-user"] {
                assert!(!value.contains(word), "{path}: {name}: {value}");
            }
        }
    }
}

/// W10: one transport, RTCP on it; the answer says so, offers may leave `rtcp-mux-only` out.
pub async fn w10(endpoint: &Endpoint) {
    let offer = endpoint.offer();
    assert!(!offer.contains("rtcp-mux-only"));
    let with = offer.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=rtcp-mux-only\r\n");
    for offer in [offer.clone(), with] {
        let answer = endpoint.open_with(offer).await.answer;
        assert_eq!(attribute(&answer, "group"), Some("BUNDLE 0 1"), "{answer}");
        for section in sections(&answer) {
            for line in ["a=rtcp-mux\r\n", "a=rtcp-mux-only\r\n"] {
                assert!(section.contains(line), "{line:?} in {section}");
            }
        }
        let (ufrag, pwd) = credentials(&answer);
        assert!(ufrag.len() >= 4 && pwd.len() >= 22);
        assert_eq!(
            answer.matches(&format!("a=ice-ufrag:{ufrag}")).count(),
            answer.matches("a=ice-ufrag").count()
        );
    }
    problem(endpoint.post(lines_without(&offer, "a=rtcp-mux")).await, 422).await;
    problem(endpoint.post(lines_without(&offer, "a=group")).await, 422).await;
}

/// W13, as far as the answer goes.
pub async fn w13(endpoint: &Endpoint) {
    for (offered, answered) in
        [("actpass", &["active", "passive"][..]), ("active", &["passive"]), ("passive", &["active"])]
    {
        let offer = endpoint.offer().replace("a=setup:actpass", &format!("a=setup:{offered}"));
        let answer = endpoint.open_with(offer).await.answer;
        for section in sections(&answer) {
            let setup = attribute(section, "setup").expect("a=setup");
            assert!(answered.contains(&setup), "{offered} was answered {setup}");
        }
    }
    let hold = endpoint.offer().replace("a=setup:actpass", "a=setup:holdconn");
    let status = endpoint.post(hold).await.status().as_u16();
    assert!([400, 422].contains(&status), "{status}");
}

/// W15: extensions are told of by `Link` only; `links` are the relations that there should be.
pub async fn w15(endpoint: &Endpoint, relations: &[&str]) {
    let session = endpoint.open().await;
    let links = links(&session);
    let found: Vec<&str> = links.iter().map(|link| parameter(link, "rel").expect("rel")).collect();
    assert_eq!(found, relations);
    // A client that uses none of them, and one that asks for what nobody knows, do as well.
    let request = endpoint.request("POST", &endpoint.path()).header("content-type", "application/sdp");
    let request = request.header("prefer", "weather").header("x-unknown", "1");
    let offer = endpoint.offer().replace("t=0 0\r\n", "t=0 0\r\na=x-unknown:1\r\n");
    assert_eq!(request.body(offer).send().await.expect("an answer").status(), 201);
    assert_eq!(endpoint.status("DELETE", &session.path).await, 200);
}

/// W17: nothing is redirected, whatever the path looks like, but by 307.
pub async fn w17(endpoint: &Endpoint) {
    let client = super::http_client().redirect(reqwest::redirect::Policy::none()).build();
    let client = client.expect("a client");
    let path = endpoint.path();
    let session = endpoint.open().await.path;
    for path in [
        path.clone(),
        format!("{path}/"),
        format!("/{path}"),
        path.replace('/', "//"),
        format!("/.{path}"),
        format!("{path}?a=b"),
        path.to_uppercase(),
        session.clone(),
        format!("{session}/"),
    ] {
        for method in ["OPTIONS", "GET", "HEAD", "POST", "PATCH", "DELETE"] {
            let request = client.request(method.parse().expect("a method"), endpoint.server.url(&path));
            let request = request.header("content-type", "application/sdp").body(endpoint.offer());
            let status = request.send().await.expect("an answer").status();
            assert!(!status.is_redirection() || status == 307, "{method} {path}: {status}");
        }
    }
}

/// W20: sessions are named by their whole path; `other` is the same on the other protocol's path.
pub async fn w20(endpoint: &Endpoint) {
    let session = endpoint.open().await;
    let id = session.path.rsplit('/').next().expect("an id").to_owned();
    let (own, other) = if endpoint.publishes { ("whip", "whep") } else { ("whep", "whip") };
    let stream = session.path.split('/').nth(1).expect("a stream");
    let digit = if id.starts_with('0') { '1' } else { '0' };
    for path in [
        format!("/{stream}/{other}/{id}"),
        format!("/elsewhere/{own}/{id}"),
        format!("/{stream}/{own}/{digit}{}", &id[1..]),
        format!("/{stream}/{own}/{}", id.to_uppercase() + "A"),
    ] {
        let request = endpoint.request("PATCH", &path).header("content-type", FRAGMENT);
        let request = request.header("if-match", &session.etag).body(fragment(CANDIDATE));
        problem(request.send().await.expect("an answer"), 404).await;
        problem(endpoint.request("DELETE", &path).send().await.expect("an answer"), 404).await;
    }
    assert_eq!(endpoint.status("DELETE", &session.path).await, 200, "it lived on");
}

/// W20: who shows a token with the offer shows it with every request of the session.
pub async fn w20_principal(endpoint: &mut Endpoint, token: &str) {
    let before = endpoint.key.replace(token.to_owned());
    let session = endpoint.open().await;
    for other in [None, Some("somebody-else")] {
        endpoint.key = other.map(str::to_owned);
        let denied = endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await;
        assert!(header(&denied, "www-authenticate").starts_with("Bearer"));
        problem(denied, 401).await;
        problem(endpoint.request("DELETE", &session.path).send().await.expect("an answer"), 401).await;
    }
    endpoint.key = Some(token.to_owned());
    assert_eq!(endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await.status(), 204);
    assert_eq!(endpoint.status("DELETE", &session.path).await, 200);
    endpoint.key = before;
}

/// W39: DELETE is 200, whatever `If-Match` says, and then there is no session.
pub async fn w39(endpoint: &Endpoint) {
    let session = endpoint.open().await;
    let request = endpoint.request("DELETE", &session.path).header("if-match", "\"stale\"");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    problem(endpoint.request("DELETE", &session.path).send().await.expect("an answer"), 404).await;
    problem(endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await, 404).await;
    let never = format!("{}/{}", endpoint.path(), "0".repeat(32));
    problem(endpoint.request("DELETE", &never).send().await.expect("an answer"), 404).await;
}

/// W40: waits until the session is gone, which it is when it has had no consent for 30 s (RFC 7675 §5.1).
pub async fn gone(session: Session) {
    eventually("the session is gone", seconds(40), || async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let patched = session.patch(WITHOUT_CREDENTIALS.to_owned(), &session.etag).await;
        (patched.status() == 404).then_some(())
    })
    .await;
}

/// W41: pages of all origins may use it and read the answers, errors too.
pub async fn w41(endpoint: &Endpoint) {
    let session = endpoint.open().await;
    for path in [endpoint.path(), session.path.clone()] {
        let response = preflight(endpoint, &path).await;
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        assert_eq!(
            header(&response, "access-control-allow-methods"),
            "OPTIONS, GET, HEAD, POST, PATCH, DELETE"
        );
        assert_eq!(
            header(&response, "access-control-allow-headers"),
            "Authorization, Content-Type, If-Match"
        );
    }
    for response in [
        endpoint.post(endpoint.offer()).await,
        endpoint.post("nonsense").await,
        endpoint.patch(&session, "\"stale\"", fragment(CANDIDATE)).await,
        endpoint.request("PUT", &endpoint.path()).send().await.expect("an answer"),
        endpoint.request("DELETE", &session.path).send().await.expect("an answer"),
    ] {
        assert_eq!(header(&response, "access-control-allow-origin"), "*", "{}", response.status());
        assert_eq!(
            header(&response, "access-control-expose-headers"),
            "Location, Link, ETag, Accept-Patch, Retry-After, WWW-Authenticate",
            "{}",
            response.status()
        );
    }
}

/// W41 on a server that was told `https://studio.example`.
pub async fn w41_some_origins(endpoint: &Endpoint) {
    for (origin, allowed) in [("https://studio.example", true), ("https://other.example", false)] {
        let request = endpoint.request("POST", &endpoint.path()).header("origin", origin);
        let request = request.header("content-type", "application/sdp").body(endpoint.offer());
        let response = request.send().await.expect("an answer");
        let expected = if allowed { origin } else { "" };
        assert_eq!(header(&response, "access-control-allow-origin"), expected);
        assert!(header(&response, "vary").to_lowercase().contains("origin"));
    }
}

/// W19: offers, PATCHes and DELETEs of one source have their limits: 429 and `Retry-After`, and after that
/// time they are taken again. The server allows 5 offers a second after 20, 20 PATCHes a second to a
/// session, and 10 requests to sessions a second after 20.
pub async fn w19(endpoint: &Endpoint) {
    let mut session = None;
    let mut taken = 0;
    let refused = loop {
        let response = endpoint.post(endpoint.offer()).await;
        match response.status().as_u16() {
            201 => {
                let text = |name| header(&response, name);
                let (path, etag) = (text("location"), text("etag"));
                let headers = response.headers().clone();
                session = Some(Opened { path, etag, answer: String::new(), headers });
                taken += 1;
            }
            _ => break response,
        }
        assert!(taken < 200, "no limit");
    };
    assert!(taken >= 19, "a burst of 20 is taken, not {taken}");
    let wait = retry_after(&refused);
    problem(refused, 429).await;
    eventually("offers are taken again", seconds(wait + 3), || async {
        (endpoint.post(endpoint.offer()).await.status() == 201).then_some(())
    })
    .await;

    let session = session.expect("a session");
    for method in ["PATCH", "DELETE"] {
        let missing = format!("{}/{}", endpoint.path(), "0".repeat(32));
        let mut count = 0;
        let refused = loop {
            let response = match method {
                "PATCH" => endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await,
                _ => endpoint.request("DELETE", &missing).send().await.expect("an answer"),
            };
            match response.status().as_u16() {
                204 | 404 => count += 1,
                _ => break response,
            }
            assert!(count < 200, "{method}: no limit");
        };
        let wait = retry_after(&refused);
        problem(refused, 429).await;
        eventually("requests are taken again", seconds(wait + 3), || async {
            let response = endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await;
            (response.status() == 204).then_some(())
        })
        .await;
    }
}

/// The whole seconds of `Retry-After`.
pub fn retry_after(response: &reqwest::Response) -> u64 {
    let wait = header(response, "retry-after").parse().expect("Retry-After in seconds");
    assert!(wait > 0 && wait < 120, "{wait}");
    wait
}

/// The `Link` headers of a 201.
pub fn links(session: &Opened) -> Vec<String> {
    let links = session.headers.get_all("link").iter();
    links.map(|link| link.to_str().expect("text").to_owned()).collect()
}

/// A parameter of a link, without its quotation marks.
pub fn parameter<'a>(link: &'a str, name: &str) -> Option<&'a str> {
    let (_, parameters) = link.split_once(">;")?;
    parameters.split(';').find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

/// The m-sections of SDP.
pub fn sections(sdp: &str) -> Vec<&str> {
    let starts: Vec<usize> = sdp.match_indices("\r\nm=").map(|(index, _)| index + 2).collect();
    let ends = starts.iter().skip(1).copied().chain([sdp.len()]);
    let sections: Vec<&str> = starts.iter().zip(ends).map(|(start, end)| &sdp[*start..end]).collect();
    assert!(!sections.is_empty(), "no m-section in {sdp}");
    sections
}

async fn preflight(endpoint: &Endpoint, path: &str) -> reqwest::Response {
    let request =
        endpoint.server.client.request("OPTIONS".parse().expect("a method"), endpoint.server.url(path));
    let request = request.header("origin", "https://studio.example");
    let request = request.header("access-control-request-method", "POST");
    let request = request.header("access-control-request-headers", "authorization,content-type");
    request.send().await.expect("an answer")
}
