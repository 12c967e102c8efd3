//! E08 to E10: the first picture, keyframes that are asked for, and packets that are asked for again.

use super::common::{
    Endpoint, MediaKind, Pictures, Programme, RtcClient, RtcEvent, RtcOptions, Server, seconds,
};
use super::{common, endpoint};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[tokio::test]
async fn e08_the_first_picture_comes_from_the_cached_group_of_pictures() {
    // One keyframe in 60 s, whatever is asked for.
    let programme = Programme { group: 1800, answers_requests: false, ..Programme::default() };
    let endpoint = Endpoint::whep_of(Server::builder(), RtcOptions::default(), programme).await;
    tokio::time::sleep(seconds(2)).await; // live is 60 pictures ahead of the keyframe
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    let connected = Instant::now();
    let mut pictures = Pictures::default();
    let mut next = |event| match event {
        RtcEvent::Media(packet) if packet.kind == MediaKind::Video => pictures.push(&packet),
        _ => None,
    };
    let first = viewer.wait_for("a picture", seconds(2), &mut next).await;
    assert!(first.is_decodable_start() && connected.elapsed() < seconds(1), "{first:?}");
    // Then all the others, faster than they were made, until there is nothing left to catch up with.
    let mut number = first.number().expect("a number");
    let mut live = None;
    let began = Instant::now();
    while live.is_none() {
        let picture = viewer.wait_for("the next picture", seconds(2), &mut next).await;
        assert!(picture.complete && picture.number() == Some(number + 1), "{picture:?} after {number}");
        number += 1;
        let behind = f64::from(number) - began.elapsed().as_secs_f64() * 30.0;
        live = (behind >= 60.0 || number >= 150).then_some(number);
    }
    assert!(began.elapsed() < seconds(4), "live after {:?} at {number}", began.elapsed());
}

#[tokio::test]
async fn e09_the_publisher_is_asked_for_a_keyframe_at_most_once_a_second() {
    let programme = Programme { group: 1800, answers_requests: false, ..Programme::default() };
    let mut endpoint = Endpoint::whep_of(Server::builder(), RtcOptions::default(), programme).await;
    let mut viewers = Vec::new();
    for _ in 0..4 {
        let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
        viewer.connected().await;
        viewers.push(viewer);
    }
    endpoint.publisher().drain();
    let began = Instant::now();
    while began.elapsed() < seconds(4) {
        for viewer in &viewers {
            viewer.request_keyframe().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked: Vec<Instant> = endpoint
        .publisher()
        .drain()
        .into_iter()
        .filter_map(|event| match event {
            RtcEvent::KeyframeRequest { at, .. } => Some(at),
            _ => None,
        })
        .collect();
    assert!((3..=6).contains(&asked.len()), "{} in 4 s", asked.len());
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] > Duration::from_millis(900)), "{asked:?}");
}

#[tokio::test]
async fn e10_a_viewers_nack_is_answered_from_our_own_buffer() {
    let mut endpoint = endpoint().await;
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    viewer.packet(MediaKind::Video).await;
    endpoint.publisher().drain();
    // One in ten of the video's packets is lost on the way here; their retransmissions are not.
    let (lost, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (lose, seen) = (lost.clone(), count.clone());
    let media = viewer.packet(MediaKind::Video).await.payload_type;
    viewer
        .filter_incoming(move |data| {
            let video = common::is_rtp(data) && data[1] & 0x7f == media;
            let drops = video && seen.fetch_add(1, Ordering::Relaxed) % 10 == 9;
            lose.fetch_add(usize::from(drops), Ordering::Relaxed);
            if drops { common::Fate::Drop } else { common::Fate::Pass }
        })
        .await;
    let events = viewer.collect(seconds(3)).await;
    let mut sequences: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            RtcEvent::Media(packet) if packet.kind == MediaKind::Video => Some(packet.sequence),
            _ => None,
        })
        .collect();
    assert!(lost.load(Ordering::Relaxed) > 10, "{lost:?}");
    sequences.sort_unstable();
    sequences.dedup();
    let (first, last) = (sequences[0], sequences[sequences.len() - 1]);
    let missing = (first..=last).filter(|sequence| sequences.binary_search(sequence).is_err()).count();
    // The newest may still be on their way.
    assert!(missing <= 2, "{missing} of {} were not repaired", lost.load(Ordering::Relaxed));
    // The publisher, whose way lost nothing, was asked for nothing.
    let asked = endpoint.publisher().drain().into_iter().filter(|event| match event {
        RtcEvent::Rtcp(packet) => matches!(**packet, common::Rtcp::Nack(_)),
        _ => false,
    });
    assert_eq!(asked.count(), 0, "NACKs went on to the publisher");
}
