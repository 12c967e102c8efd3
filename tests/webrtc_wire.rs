//! STUN, DTLS and RTP on the wire: what strangers get, who may begin a handshake, what is agreed upon in it,
//! how sessions end, and that H.265 goes through.

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{
    BindingRequest, Fate, Ffmpeg, Layer, MediaKind, PictureSource, Pictures, Programme, Publishing,
    RtcClient, RtcEvent, RtcOptions, Server, VideoCodec, assert_receives_h265, credentials, eventually,
    is_dtls, is_stun, seconds, transaction, units_of_h265_file,
};
use tokio::net::UdpSocket;

/// Long enough for an answer, many times over.
const BRIEFLY: Duration = Duration::from_millis(300);
/// SRTP with AEAD_AES_128_GCM (RFC 7714 §14.2).
const GCM: u16 = 0x0007;

#[tokio::test]
async fn another_stack_publishes_and_views() {
    let server = Server::start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    let mut viewer = RtcClient::view(&server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    let mut pictures = Pictures::default();
    let (mut video, mut audio) = (Vec::new(), 0);
    while video.len() < 20 || audio < 20 {
        match viewer.next().await.expect("media") {
            RtcEvent::Media(packet) if packet.kind == MediaKind::Video => {
                video.extend(pictures.push(&packet))
            }
            RtcEvent::Media(_) => audio += 1,
            _ => {}
        }
    }
    assert!(video[0].is_decodable_start(), "{:?}", video[0]);
    assert!(video.iter().all(|picture| picture.complete));
    let numbers: Vec<_> = video.iter().filter_map(|picture| picture.number()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert_eq!(viewer.delete().await, 200);
    closed(&mut viewer).await;
}

#[tokio::test]
async fn h265_goes_from_a_publisher_to_a_viewer() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("source.h265");
    Ffmpeg::render_h265(seconds(4), &file);
    let pictures = PictureSource::FileH265(Arc::new(units_of_h265_file(&file)));
    let layers = vec![Layer { rid: None, pictures }];
    let programme = Programme { layers, answers_requests: false, ..Programme::default() };
    let server = Server::start().await;
    let options = RtcOptions { video: vec![VideoCodec::H265], ..RtcOptions::default() };
    let mut publisher = RtcClient::publish(&server, "show", options).await;
    let _media = Publishing::start(publisher.sender(), programme);
    publisher.connected().await;
    assert_receives_h265(&server).await;
}

/// This stack offers AEAD_AES_256_GCM before it, which the gateway has not. Clients with another order, and
/// those that do not have it, are in `interop`.
#[tokio::test]
async fn clients_that_have_aead_aes_128_gcm_get_it() {
    let server = Server::start().await;
    let mut publisher = idle_publisher(&server).await;
    let chosen = Chosen::default();
    publisher.filter_incoming(keeps(chosen.clone())).await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    assert_eq!(*chosen.lock().expect("not poisoned"), Some(GCM), "with a publisher");
    let mut viewer = let_in(&server, false).await;
    let chosen = Chosen::default();
    viewer.filter_incoming(keeps(chosen.clone())).await;
    viewer.connected().await;
    assert_eq!(*chosen.lock().expect("not poisoned"), Some(GCM), "with a viewer");
    viewer.packet(MediaKind::Video).await;
    // The other way round the client chooses among what the gateway has.
    let mut viewer = let_in(&server, true).await;
    let chosen = Chosen::default();
    viewer.filter_outgoing(keeps(chosen.clone())).await;
    viewer.connected().await;
    assert_eq!(*chosen.lock().expect("not poisoned"), Some(GCM), "with a viewer that chooses");
    viewer.packet(MediaKind::Video).await;
}

/// The protection profile of the first ServerHello.
type Chosen = Arc<Mutex<Option<u16>>>;

/// A filter that keeps it.
fn keeps(chosen: Chosen) -> impl FnMut(&[u8]) -> Fate + Send + 'static {
    move |data: &[u8]| {
        let mut kept = chosen.lock().expect("not poisoned");
        if kept.is_none() {
            *kept = chosen_profile(data);
        }
        Fate::Pass
    }
}

/// The protection profile that a ServerHello in this datagram chooses.
fn chosen_profile(datagram: &[u8]) -> Option<u16> {
    let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let mut records = datagram;
    // RFC 6347 §4.1: a handshake record in clear, which is epoch 0.
    while let [22, _, _, 0, 0, _, _, _, _, _, _, high, low, rest @ ..] = records {
        let (record, after) = rest.split_at_checked(number(&[*high, *low]))?;
        records = after;
        // §4.2.2: type, length and three more fields, 12 bytes.
        if record.first() != Some(&2) {
            continue;
        }
        let body = record.get(12..12 + number(record.get(1..4)?))?;
        // RFC 5246 §7.4.1.3: version, random, session id, cipher suite, compression, extensions (sized).
        let session = usize::from(*body.get(34)?);
        let mut extensions = body.get(35 + session + 3 + 2..)?;
        while let [kind_high, kind_low, high, low, rest @ ..] = extensions {
            let (value, after) = rest.split_at_checked(number(&[*high, *low]))?;
            extensions = after;
            // RFC 5764 §4.1.1: use_srtp, a list of one.
            if [*kind_high, *kind_low] == [0, 14] {
                return u16::try_from(number(value.get(2..4)?)).ok();
            }
        }
    }
    None
}

#[tokio::test]
async fn unauthenticated_stun_gets_no_reply_and_others_a_short_one() {
    let server = Server::start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    let viewer = view(&server).await;
    only_authentic_stun_is_answered(&server, &viewer).await;
    only_authentic_stun_is_answered(&server, &publisher).await;
}

async fn only_authentic_stun_is_answered(server: &Server, client: &RtcClient) {
    let (ufrag, password) = credentials(&client.answer);
    let (remote, own_password) = credentials(&client.offer);
    let (user, wrong_user) = (format!("{ufrag}:{remote}"), format!("nobody:{remote}"));
    let request = |username, password, ice| BindingRequest { username, password, ice }.to_bytes();
    let right = request(&user, Some(&password), true);
    let mut flipped = right.clone();
    flipped[24] ^= 1; // inside USERNAME
    let mut unsigned_length = right.clone();
    unsigned_length[3] = 0xff;
    let mut cookieless = right.clone();
    cookieless[4] = 0;
    let strangers = [
        ("nothing but a header", right[..20].to_vec()),
        ("no integrity", request(&user, None, true)),
        ("a wrong password", request(&user, Some("wrong password of 22 c."), true)),
        ("an empty password", request(&user, Some(""), true)),
        ("the client's password", request(&user, Some(&own_password), true)),
        ("an unknown user", request(&wrong_user, Some(&password), true)),
        ("no colon", request(&ufrag, Some(&password), true)),
        ("another user than signed", flipped),
        ("a length beyond its end", unsigned_length),
        ("no magic cookie", cookieless),
        ("cut", right[..right.len() - 9].to_vec()),
        ("one byte", vec![0]),
    ];
    let mut sockets = Vec::new();
    for (what, datagram) in strangers {
        let socket = stranger().await;
        socket.send_to(&datagram, wire(server)).await.expect("sent");
        sockets.push((what, socket));
    }
    // RFC 8489 lets a request be as small as the second one.
    for ice in [true, false] {
        let socket = stranger().await;
        let request = request(&user, Some(&password), ice);
        socket.send_to(&request, wire(server)).await.expect("sent");
        let reply = response(&socket).await;
        assert_eq!(transaction(&reply), transaction(&request));
        let limit = request.len() * 13 / 10;
        assert!(reply.len() <= limit, "{} bytes for a request of {}", reply.len(), request.len());
    }
    // What was sent later was answered, so what was sent before has had its chance.
    for (what, socket) in sockets {
        assert_silent(what, &socket, Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn w13_a_client_hello_from_a_stranger_is_dropped_and_ends_nothing() {
    let server = Server::start().await;
    // A real ClientHello: the publisher's own, held back.
    let held: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let mut publisher = idle_publisher(&server).await;
    let keeps = held.clone();
    publisher
        .filter_outgoing(move |data| {
            if !is_dtls(data) {
                return Fate::Pass;
            }
            keeps.lock().expect("not poisoned").push(data.to_vec());
            Fate::Drop
        })
        .await;
    let hello = eventually("a ClientHello", seconds(5), || async {
        let held = held.lock().expect("not poisoned");
        (!held.is_empty()).then(|| held.clone())
    })
    .await;
    let stranger = stranger().await;
    for datagram in hello.iter().chain([&vec![22; 60], &vec![21; 13], &vec![63; 1400]]) {
        stranger.send_to(datagram, wire(&server)).await.expect("sent");
    }
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0]; // close_notify, epoch 0
    stranger.send_to(&alert, wire(&server)).await.expect("sent");
    publisher.filter_outgoing(|_| Fate::Pass).await;
    publisher.connected().await;
    assert_silent("a stranger is answered", &stranger, BRIEFLY).await;
    // Nor later, when there is an association to be ended.
    for datagram in hello.iter().chain([&alert.to_vec()]) {
        stranger.send_to(datagram, wire(&server)).await.expect("sent");
    }
    let _media = Publishing::start(publisher.sender(), Programme::default());
    let mut viewer = view(&server).await;
    viewer.packet(MediaKind::Video).await;
    assert_silent("a stranger is answered", &stranger, BRIEFLY).await;
}

#[tokio::test]
async fn w13_a_proven_address_of_one_session_is_none_of_another() {
    let server = Server::start().await;
    let mut publisher = idle_publisher(&server).await;
    publisher.connected().await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    let mut viewer = view(&server).await;
    // A second session's user tries to move the viewer's address to itself, and to end it by DTLS.
    let second = RtcClient::view(&server, "show", RtcOptions::default()).await;
    let (ufrag, _) = credentials(&viewer.answer);
    let (remote, _) = credentials(&viewer.offer);
    let (_, password) = credentials(&second.answer);
    let forged =
        BindingRequest { username: &format!("{ufrag}:{remote}"), password: Some(&password), ice: true };
    let stranger = stranger().await;
    stranger.send_to(&forged.to_bytes(), wire(&server)).await.expect("sent");
    assert_silent("a stranger is answered", &stranger, BRIEFLY).await;
    viewer.drain();
    viewer.packet(MediaKind::Video).await;
}

#[tokio::test]
async fn w13_an_active_server_sends_dtls_only_where_a_check_came_from() {
    let server = Server::start().await;
    let quiet = RtcOptions { checking: false, ..RtcOptions::default() };
    let passive = quiet.edit(|offer| offer.replace("a=setup:actpass", "a=setup:passive"));
    let mut publisher = RtcClient::publish(&server, "show", passive).await;
    assert!(publisher.answer.contains("a=setup:active"), "{}", publisher.answer);
    let seen = Arc::new(Mutex::new((false, false)));
    let watch = seen.clone();
    // The first DTLS datagram must follow an answer to a check.
    publisher
        .filter_incoming(move |data| {
            let mut seen = watch.lock().expect("not poisoned");
            seen.0 |= is_stun(data);
            seen.1 |= is_dtls(data) && !seen.0;
            Fate::Pass
        })
        .await;
    let unchecked = publisher.collect(seconds(1)).await;
    assert!(unchecked.iter().all(|event| !matches!(event, RtcEvent::Connected)), "{unchecked:?}");
    publisher.set_checking(true).await;
    publisher.connected().await;
    assert!(!seen.lock().expect("not poisoned").1, "DTLS came before the first answer");
}

#[tokio::test]
async fn w40_no_stun_is_answered_after_the_end() {
    let server = Server::start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    let media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    let mut viewer = view(&server).await;
    drop(media);
    let mut control = RtcClient::publish(&server, "control", RtcOptions::default()).await;
    control.connected().await;
    for client in [&mut viewer, &mut publisher] {
        let (before, after, other) = (stranger().await, stranger().await, stranger().await);
        before.send_to(&check_of(client), wire(&server)).await.expect("sent");
        response(&before).await;
        assert_eq!(client.delete().await, 200);
        closed(client).await;
        after.send_to(&check_of(client), wire(&server)).await.expect("sent");
        other.send_to(&check_of(&control), wire(&server)).await.expect("sent");
        response(&other).await;
        assert_silent("a session that is over", &after, Duration::from_millis(20)).await;
        assert_eq!(client.delete().await, 404);
    }
}

#[tokio::test]
async fn w40_peers_that_fall_silent_are_forgotten() {
    let server = Server::start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    let mut viewers = Vec::new();
    for _ in 0..2 {
        viewers.push(view(&server).await);
    }
    let mut quiet = RtcClient::publish(&server, "quiet", RtcOptions::default()).await;
    quiet.connected().await;
    // One sends no check any more, one nothing at all.
    viewers[0].set_checking(false).await;
    viewers[1].set_frozen(true).await;
    quiet.set_frozen(true).await;
    for (what, client) in
        [("publisher", &quiet), ("viewer without checks", &viewers[0]), ("viewer", &viewers[1])]
    {
        eventually(&format!("the silent {what} is forgotten"), seconds(40), || async {
            (client.trickle().await.status() == 404).then_some(())
        })
        .await;
        let socket = stranger().await;
        socket.send_to(&check_of(client), wire(&server)).await.expect("sent");
        assert_silent("a silent peer's session answers", &socket, BRIEFLY).await;
    }
    // The others' consent went on.
    assert_eq!(publisher.trickle().await.status(), 204);
}

/// A publisher of `show` that sends nothing yet and may not have connected.
async fn idle_publisher(server: &Server) -> RtcClient {
    RtcClient::publish(server, "show", RtcOptions::default()).await
}

/// A connected viewer of `show`, which may have begun a moment ago.
async fn view(server: &Server) -> RtcClient {
    let mut viewer = let_in(server, false).await;
    viewer.connected().await;
    viewer
}

/// A viewer of `show` that is about to connect; `passive`: the gateway begins the handshake.
async fn let_in(server: &Server, passive: bool) -> RtcClient {
    eventually("a viewer is let in", seconds(5), || async {
        let mut options = RtcOptions::default();
        if passive {
            options = options.edit(|offer| offer.replace("a=setup:actpass", "a=setup:passive"));
        }
        RtcClient::try_view(server, "show", options).await.ok()
    })
    .await
}

/// An authentic check of a client's session.
fn check_of(client: &RtcClient) -> Vec<u8> {
    let (ufrag, password) = credentials(&client.answer);
    let (remote, _) = credentials(&client.offer);
    let username = format!("{ufrag}:{remote}");
    BindingRequest { username: &username, password: Some(&password), ice: false }.to_bytes()
}

async fn closed(client: &mut RtcClient) {
    let end = |event| matches!(event, RtcEvent::Closed).then_some(());
    client.wait_for("the session is closed by DTLS", seconds(5), end).await;
}

/// A socket that the server does not know.
async fn stranger() -> UdpSocket {
    UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port")
}

fn wire(server: &Server) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.webrtc))
}

/// The next answer to a check; a full ICE agent's own checks are passed over.
async fn response(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    loop {
        let received = tokio::time::timeout(seconds(5), socket.recv_from(&mut buffer)).await;
        let (length, _) =
            received.unwrap_or_else(|_| panic!("no answer to an authentic check")).expect("an open socket");
        if buffer[..2] == [1, 1] {
            return buffer[..length].to_vec();
        }
    }
}

/// Nothing comes within `time`; an answer takes far less than a millisecond on loopback.
async fn assert_silent(what: &str, socket: &UdpSocket, time: Duration) {
    let mut buffer = [0; 2048];
    let received = tokio::time::timeout(time, socket.recv_from(&mut buffer)).await;
    assert!(received.is_err(), "{what}: {:02x?}", &buffer[..20]);
}
