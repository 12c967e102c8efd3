//! HLS when the server is killed and started again: sequence numbers go on rising.

mod common;

use common::{Ffmpeg, Hls, Playlist, Server, Source, eventually, machine, seconds};

/// Where a playlist is.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    first_segment: u64,
    next_segment: u64,
    first_discontinuity: u64,
    last_discontinuity: u64,
}

impl Numbers {
    fn of(playlist: &Playlist) -> Self {
        let first =
            playlist.text.lines().find_map(|line| line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:"));
        let first = first.map_or(0, |number| number.parse().expect("a number"));
        Self {
            first_segment: playlist.media_sequence,
            // The one that grows has its number, too.
            next_segment: playlist.next_sequence() + 1,
            first_discontinuity: first,
            last_discontinuity: first + discontinuities(playlist),
        }
    }
}

fn discontinuities(playlist: &Playlist) -> u64 {
    playlist.text.matches("#EXT-X-DISCONTINUITY\n").count() as u64
}

#[tokio::test]
async fn numbers_go_on_rising_after_a_crash() {
    let _machine = machine().await;
    let server = Server::start().await;
    let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let url = server.url("/show/index.m3u8");
    let hls = Hls::open(&server.client, &url, seconds(20)).await;

    // The publisher goes and comes: the numbers are no longer those that a stream begins with.
    publisher.leave().await;
    let video = hls.video.clone().expect("a video rendition");
    let after = async |count: u64| {
        eventually("a discontinuity more", seconds(20), || async {
            let playlist = hls.playlist(&video).await;
            (discontinuities(&playlist) >= count).then_some(playlist)
        })
        .await
    };
    after(1).await;
    let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    after(2).await;
    let mut before = Vec::new();
    for (kind, rendition) in hls.renditions() {
        before.push((kind, Numbers::of(&hls.playlist(rendition).await)));
    }

    drop(publisher);
    let server = server.restart().await;
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let hls = Hls::open(&server.client, &url, seconds(20)).await;
    for ((kind, rendition), (_, before)) in hls.renditions().into_iter().zip(before) {
        let now = Numbers::of(&hls.playlist(rendition).await);
        println!("{kind}: {before:?}, then {now:?}");
        assert!(now.first_segment >= before.next_segment, "{kind}: {before:?}, then {now:?}");
        assert!(now.first_discontinuity > before.last_discontinuity, "{kind}: {before:?}, then {now:?}");
        assert!(now.last_discontinuity < 1000, "{kind}: hls.js has arrays of that length: {now:?}");
    }
}
