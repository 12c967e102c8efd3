//! Frames, bounds and the end of TCP connections, over a real listener.

use super::super::SessionId;
use super::super::demux::Demux;
use super::super::handover::Parcel;
use super::*;
use std::net::SocketAddr;
use tokio::sync::mpsc;

struct Setup {
    address: SocketAddr,
    connections: Arc<Connections>,
    demux: Demux,
    session: SessionId,
    parcels: mpsc::Receiver<Parcel>,
    cancel: CancellationToken,
    acceptor: tokio::task::JoinHandle<()>,
}

/// An acceptor, and a worker with one session whose fragment is `ourfragm`.
async fn setup() -> Setup {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (directory, connections) =
        (Arc::<Directory>::default(), Arc::new(Connections::new(Refusals::default())));
    let (entrances, mut parcels) = Entrances::new(1);
    let (session, mut demux) = (SessionId::random(), Demux::new(0, directory.clone()));
    demux.insert(session, "ourfragm");
    let acceptor = Acceptor { listener, connections: connections.clone(), directory, entrances };
    let cancel = CancellationToken::new();
    let acceptor = tokio::spawn(acceptor.run(cancel.clone()));
    Setup { address, connections, demux, session, parcels: parcels.remove(0), cancel, acceptor }
}

/// A check for the fragment, without integrity: the worker would look at that.
fn check(fragment: &str) -> Vec<u8> {
    let username = format!("{fragment}:them");
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend([7; 12]);
    message.extend([0, 6, 0, username.len() as u8]);
    message.extend(username.as_bytes());
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn framed(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u16).to_be_bytes()[..], data].concat()
}

async fn datagrams(parcels: &mut mpsc::Receiver<Parcel>) -> Vec<(Path, Vec<u8>)> {
    let Some(Parcel::Datagrams(mut batch)) = parcels.recv().await else { panic!("datagrams") };
    batch.datagrams().map(|(path, data)| (path, data.to_vec())).collect()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(stream.read(&mut byte).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn frames_go_to_the_worker_however_they_are_cut_and_answers_come_back_framed() {
    let mut setup = setup().await;
    let mut client = TcpStream::connect(setup.address).await.expect("connected");
    let sent = [check("ourfragm"), vec![22; 100], vec![0x80; 1200]];
    let bytes: Vec<u8> = sent.iter().flat_map(|data| framed(data)).collect();
    for part in bytes.chunks(37) {
        client.write_all(part).await.expect("written");
        client.flush().await.expect("flushed");
        tokio::task::yield_now().await;
    }
    let mut got = Vec::new();
    while got.len() < sent.len() {
        got.extend(datagrams(&mut setup.parcels).await);
    }
    let (path, _) = got[0];
    assert!(got.iter().map(|(_, data)| data).eq(sent.iter()));
    assert_eq!((path.peer, path.local), (client.local_addr().expect("an address"), setup.address.ip()));
    let Protocol::Tcp(id) = path.protocol else { panic!("TCP") };
    assert!(setup.connections.send(id, b"answer", None));
    assert!(setup.connections.send(id, b"aaaabb", Some(4)));
    let mut answer = [0; 18];
    client.read_exact(&mut answer).await.expect("answers");
    assert_eq!(&answer, b"\0\x06answer\0\x04aaaa\0\x02bb");
    // What is said last is still written.
    assert!(setup.connections.send(id, b"bye", None));
    setup.connections.close(id);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("the end");
    assert_eq!(rest, b"\0\x03bye");
    assert!(setup.connections.send(id, b"lost", None), "nobody waits for one that is over");
}

#[tokio::test]
async fn strangers_are_shown_the_door() {
    let mut setup = setup().await;
    let giant = [&[0xff, 0xff][..], &check("ourfragm")].concat();
    let hello = framed(&[22; 100]);
    for stranger in
        [framed(&check("unknown1")), hello, framed(&[]), giant, b"GET / HTTP/1.1\r\n\r\n".to_vec()]
    {
        let mut client = TcpStream::connect(setup.address).await.expect("connected");
        client.write_all(&stranger).await.expect("written");
        assert!(is_closed(&mut client).await);
    }
    assert!(setup.parcels.try_recv().is_err());
}

#[tokio::test]
async fn who_says_nothing_or_proves_nothing_is_closed_after_five_seconds() {
    let mut setup = setup().await;
    let mut silent = TcpStream::connect(setup.address).await.expect("connected");
    let mut unproven = TcpStream::connect(setup.address).await.expect("connected");
    unproven.write_all(&framed(&check("ourfragm"))).await.expect("written");
    datagrams(&mut setup.parcels).await;
    assert!(is_closed(&mut silent).await && is_closed(&mut unproven).await);
    assert!(setup.connections.outgoing.read().is_empty());
    assert_eq!(setup.connections.places.taken(), 0);
}

#[tokio::test]
async fn a_slow_peer_has_two_megabytes_waiting_and_no_more() {
    let mut setup = setup().await;
    let mut client = TcpStream::connect(setup.address).await.expect("connected");
    client.write_all(&framed(&check("ourfragm"))).await.expect("written");
    let (path, _) = datagrams(&mut setup.parcels).await.remove(0);
    setup.demux.learn(setup.session, path);
    let Protocol::Tcp(id) = path.protocol else { panic!("TCP") };
    let outgoing = setup.connections.outgoing.read().get(&id).cloned().expect("connected");
    let mut sent = 0;
    while setup.connections.send(id, &[1; 60_000], Some(1200)) {
        sent += 60_000;
        let waits = {
            let waiting = outgoing.waiting.lock();
            waiting.bytes.len() + waiting.writing
        };
        assert!(waits <= MAX_WAITING);
        tokio::task::yield_now().await;
    }
    assert!(sent > MAX_WAITING / 2);
    // When it takes something again, there is room again.
    let mut buffer = vec![0; 1 << 20];
    while !setup.connections.send(id, &[1; 60_000], Some(1200)) {
        assert!(client.read(&mut buffer).await.expect("media") > 0);
    }
}

#[tokio::test]
async fn connections_of_one_source_are_bounded() {
    let setup = setup().await;
    let mut held = Vec::new();
    for _ in 0..PER_SOURCE {
        held.push(TcpStream::connect(setup.address).await.expect("connected"));
    }
    let mut refused = TcpStream::connect(setup.address).await.expect("connected");
    assert!(is_closed(&mut refused).await);
    assert_eq!(setup.connections.outgoing.read().len(), PER_SOURCE);
    setup.cancel.cancel();
    setup.acceptor.await.expect("ended");
    for mut client in held {
        assert!(is_closed(&mut client).await);
    }
}
