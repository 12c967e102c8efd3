//! The relay that the loss tests stand on does what it is told, and the same for the same seed.

mod common;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::{Duration, Instant};

use common::{Conditions, Counts, Direction, Relay, RelayFate};
use tokio::net::UdpSocket;

const COUNT: u32 = 400;

#[test]
fn fates_are_a_matter_of_seed_direction_and_number() {
    let conditions = Conditions { loss: 0.05, reordered: 0.05, ..Conditions::default() };
    let fates = |seed, direction| -> Vec<RelayFate> {
        (0..10_000).map(|number| conditions.fate(seed, direction, number)).collect()
    };
    let up = fates(1, Direction::Up);
    assert_eq!(up, fates(1, Direction::Up));
    assert_ne!(up, fates(2, Direction::Up));
    assert_ne!(up, fates(1, Direction::Down));
    let share =
        |wanted: fn(&RelayFate) -> bool| up.iter().filter(|fate| wanted(fate)).count() as f64 / 10_000.0;
    let lost = share(|fate| *fate == RelayFate::Lost);
    let held_back = share(|fate| matches!(fate, RelayFate::HeldBack(_)));
    assert!((0.04..0.06).contains(&lost), "{lost} lost");
    assert!((0.038..0.058).contains(&held_back), "{held_back} reordered");
}

#[test]
fn jitter_stays_within_its_bound_and_uses_it() {
    let jitter = Duration::from_millis(200);
    let conditions = Conditions { jitter, ..Conditions::default() };
    let delays: Vec<Duration> = (0..10_000)
        .map(|number| match conditions.fate(3, Direction::Down, number) {
            RelayFate::Delayed(delay) => delay,
            other => panic!("{other:?}"),
        })
        .collect();
    let (least, most) = (delays.iter().min().copied(), delays.iter().max().copied());
    assert!(least < Some(Duration::from_millis(10)), "{least:?}");
    assert!(most > Some(Duration::from_millis(190)) && most <= Some(jitter), "{most:?}");
}

#[tokio::test]
async fn without_conditions_everything_arrives_in_order_at_its_own_client() {
    let (relay, [first, second]) = (relay_to_echo(1).await, [client().await, client().await]);
    let (at_first, at_second) =
        tokio::join!(exchange(&first, &relay, 0..COUNT), exchange(&second, &relay, COUNT..2 * COUNT),);
    assert_eq!(at_first, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(at_second, (COUNT..2 * COUNT).collect::<Vec<_>>());
    let all = u64::from(2 * COUNT);
    assert_eq!(relay.counts(Direction::Up), Counts { received: all, delivered: all, ..Counts::default() });
}

#[tokio::test]
async fn the_same_seed_loses_the_same_datagrams() {
    let run = async |seed| {
        let (relay, client) = (relay_to_echo(seed).await, client().await);
        relay.set_both(Conditions::loss(0.1));
        let arrived = exchange(&client, &relay, 0..COUNT).await;
        (arrived, relay.counts(Direction::Up), relay.counts(Direction::Down))
    };
    let (arrived, up, down) = run(7).await;
    assert_eq!(up.lost + up.delivered, u64::from(COUNT), "{up:?}");
    assert_eq!(down.lost + down.delivered, up.delivered, "{down:?}");
    assert_eq!(arrived.len() as u64, down.delivered);
    assert!((20..60).contains(&up.lost) && (15..60).contains(&down.lost), "{up:?} {down:?}");
    assert_eq!(run(7).await, (arrived.clone(), up, down));
    assert_ne!(run(8).await.0, arrived);
}

#[tokio::test]
async fn delay_and_jitter_keep_the_order_and_reordering_does_not() {
    let (relay, client) = (relay_to_echo(5).await, client().await);
    let (delay, jitter) = (Duration::from_millis(40), Duration::from_millis(60));
    relay.set_both(Conditions { delay, jitter, ..Conditions::default() });
    let sent = Instant::now();
    assert_eq!(exchange(&client, &relay, 0..COUNT).await, (0..COUNT).collect::<Vec<_>>());
    assert!(sent.elapsed() >= 2 * delay, "{:?}", sent.elapsed());

    relay.set_both(Conditions { reordered: 0.1, ..Conditions::default() });
    let arrived = exchange(&client, &relay, 0..COUNT).await;
    assert!(!arrived.is_sorted(), "nothing was overtaken");
    assert_eq!(arrived.iter().copied().collect::<BTreeSet<_>>(), (0..COUNT).collect());
    assert!(relay.counts(Direction::Up).reordered > 20);
}

#[tokio::test]
async fn nothing_passes_during_an_outage() {
    let (relay, client) = (relay_to_echo(1).await, client().await);
    relay.outage(true);
    assert!(exchange(&client, &relay, 0..3).await.is_empty());
    assert_eq!(relay.counts(Direction::Up), Counts { received: 3, cut: 3, ..Counts::default() });
    relay.outage(false);
    assert_eq!(exchange(&client, &relay, 3..5).await, [3, 4]);
}

async fn relay_to_echo(seed: u64) -> Relay {
    let echo = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let relay = Relay::start(echo.local_addr().expect("bound").port(), seed);
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = echo.recv_from(&mut buffer).await {
            let _ = echo.send_to(&buffer[..length], from).await;
        }
    });
    relay
}

async fn client() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port")
}

/// Sends these numbers in bursts that a socket's buffer holds; what comes back until nothing has for a while.
async fn exchange(client: &UdpSocket, relay: &Relay, numbers: Range<u32>) -> Vec<u32> {
    let sending = async {
        for number in numbers {
            client.send_to(&number.to_be_bytes(), (Ipv4Addr::LOCALHOST, relay.port())).await.expect("sent");
            if number % 20 == 19 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    let receiving = async {
        let (mut arrived, mut buffer) = (Vec::new(), [0; 4]);
        let silence = Duration::from_millis(500);
        while let Ok(Ok(4)) = tokio::time::timeout(silence, client.recv(&mut buffer)).await {
            arrived.push(u32::from_be_bytes(buffer));
        }
        arrived
    };
    tokio::join!(sending, receiving).1
}
