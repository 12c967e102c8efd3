//! WebRTC as it looks on the wire, seen by clients of another stack and by strangers.

mod common;

use common::{MediaKind, Pictures, Programme, Publishing, RtcClient, RtcEvent, RtcOptions, Server};
use common::{machine, seconds};

#[tokio::test]
async fn another_stack_publishes_and_views() {
    let _machine = machine().await;
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
    viewer
        .wait_for("the end of the session", seconds(5), |event| {
            matches!(event, RtcEvent::Closed).then_some(())
        })
        .await;
}
