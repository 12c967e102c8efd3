//! What fills a publisher's pause, by the tracks that there are; and that nothing does where the hold is off: then HLS
//! lists the pause as missing.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidegate::check_hls::Check;

use common::{Ffmpeg, Hls, Nginx, Server, Source, decode_errors, eventually, machine, packets, seconds};

/// A show with one target and its HLS.
struct Show {
    name: &'static str,
    source: Source,
    target: String,
    hls: Hls,
}

impl Show {
    /// Opened once it plays and the target records.
    async fn open(server: &Server, target: &Nginx, name: &'static str, source: Source) -> Self {
        let created = server.add_target(name, &target.url(name)).await;
        let id = created["id"].as_str().expect("an id").to_owned();
        let hls = Hls::open(&server.client, &server.url(&format!("/{name}/index.m3u8")), seconds(15)).await;
        for (_, rendition) in hls.renditions() {
            hls.wait_for(rendition, seconds(2)).await;
        }
        target.recorded(name, seconds(2)).await;
        Self { name, source, target: id, hls }
    }

    fn publish(&self, server: &Server) -> Ffmpeg {
        Ffmpeg::publish(self.source, &server.rtmp_url(self.name))
    }

    /// Waits until the target is fed by a hold, or by a publisher.
    async fn held(&self, server: &Server, wanted: bool) {
        eventually(&format!("{} is held: {wanted}", self.name), seconds(15), || async {
            let view = server.target_state(self.name, &self.target, "live", seconds(5)).await;
            (view["state"]["held"] == wanted).then_some(())
        })
        .await;
    }

    /// Waits until the target has so much more.
    async fn more(&self, target: &Nginx, length: Duration) -> PathBuf {
        let file = target.recordings(self.name).pop().expect("a recording");
        let has = common::recorded_length(&file).expect("media");
        target.recorded(self.name, has + length).await
    }
}

#[tokio::test]
async fn rel02_streams_of_one_track_are_held_with_that_track() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_STREAM_GRACE", "60s").start().await;
    let target = Nginx::start().await;
    let first = [(Source::AudioOnly, "radio"), (Source::VideoOnly, "mute")]
        .map(|(source, name)| (Ffmpeg::publish(source, &server.rtmp_url(name)), source, name));
    let mut shows = Vec::new();
    for (_, source, name) in &first {
        shows.push(Show::open(&server, &target, name, *source).await);
    }
    drop(first);
    for show in &shows {
        show.held(&server, true).await;
        show.more(&target, seconds(2)).await;
    }
    let _second: Vec<Ffmpeg> = shows.iter().map(|show| show.publish(&server)).collect();
    for show in &shows {
        show.held(&server, false).await;
        let file = show.more(&target, seconds(2)).await;
        assert_eq!(target.recordings(show.name).len(), 1, "{}: one publication", show.name);
        let (has, lacks) = if show.source == Source::AudioOnly { ("a", "v") } else { ("v", "a") };
        continues(&file, has).await;
        assert!(packets(file.to_str().expect("a path"), lacks).await.is_empty(), "{}", show.name);
        plays_on(show).await;
    }
}

/// Decoding times rise without a gap.
async fn continues(file: &Path, kind: &str) {
    let packets = packets(file.to_str().expect("a path"), kind).await;
    assert!(packets.len() > 60, "{} packets of {kind}", packets.len());
    for pair in packets.windows(2) {
        let step = pair[1].1 - pair[0].1;
        assert!(step > 0.0 && step < 0.5, "{kind}: {:?} then {:?}", pair[0], pair[1]);
    }
}

/// HLS has breaks where what fills the lane changes, and all of it can be decoded.
async fn plays_on(show: &Show) {
    let renditions = show.hls.renditions();
    let [(kind, rendition)] = &renditions[..] else { panic!("one rendition: {renditions:?}") };
    let playlist = eventually("HLS goes on", seconds(15), || async {
        let playlist = show.hls.playlist(rendition).await;
        let next = playlist.segments.iter().rposition(|segment| segment.discontinuity)?;
        (playlist.segments.len() - next >= 2).then_some(playlist)
    })
    .await;
    let breaks = playlist.segments.iter().filter(|segment| segment.discontinuity).count();
    assert!((1..=2).contains(&breaks) && !playlist.ended, "{kind}: {}", playlist.text);
    let folder = tempfile::tempdir().expect("a folder");
    let file = show.hls.download(rendition, folder.path(), kind).await;
    assert_eq!(decode_errors(file.to_str().expect("a path")).await, "", "{kind}");
}

#[tokio::test]
async fn l11_rel02_without_a_hold_targets_wait_in_silence_and_hls_has_gaps_until_the_return() {
    let _machine = machine().await;
    let server = Server::builder()
        .env("TIDEGATE_STREAM_GRACE", "60s")
        .env("TIDEGATE_STREAM_HOLD", "off")
        .start()
        .await;
    let target = Nginx::start().await;
    let first = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let show = Show::open(&server, &target, "show", Source::Baseline).await;
    let check = Check {
        url: server.url("/show/index.m3u8").parse().expect("a URL"),
        duration: seconds(30),
        tolerance: seconds(2),
    };
    let check = tokio::spawn(async move { check.run().await });
    drop(first);
    eventually("the stream waits", seconds(15), || async {
        (server.stream("show").await?["state"] == "waiting").then_some(())
    })
    .await;
    let recorded = || common::recorded_length(&target.recordings("show")[0]).expect("media");
    let mut next = Vec::new();
    for (kind, rendition) in show.hls.renditions() {
        let paused = eventually(&format!("{kind} has a gap"), seconds(5), || async {
            let playlist = show.hls.playlist(rendition).await;
            playlist.segments.last().is_some_and(|last| last.gap).then_some(playlist)
        })
        .await;
        next.push((Instant::now(), paused.next_sequence()));
    }
    // What was on its way has come out by now.
    let had = recorded();
    for ((kind, rendition), (since, next)) in show.hls.renditions().into_iter().zip(next) {
        let went_on = eventually(&format!("{kind} goes on"), seconds(10), || async {
            let playlist = show.hls.playlist(rendition).await;
            (playlist.next_sequence() >= next + 2).then_some(playlist)
        })
        .await;
        let missing = (next - went_on.media_sequence) as usize;
        let lasts: f64 = went_on.segments[missing..].iter().map(|segment| segment.duration).sum();
        // Of the first segment some was there, of the next there is some.
        let took = since.elapsed().as_secs_f64();
        assert!((lasts - took).abs() < 3.0, "{kind}: {lasts} s are listed in {took} s\n{}", went_on.text);
        assert!(went_on.segments[missing..].iter().all(|segment| segment.gap), "{kind}: {}", went_on.text);
        let (_, pause) = went_on.text.split_once("#EXT-X-GAP\n").expect("a gap");
        let mut parts = pause.lines().filter(|line| line.starts_with("#EXT-X-PART:"));
        assert!(parts.all(|part| part.ends_with(",GAP=YES")), "{kind}: {}", went_on.text);
        assert!(!went_on.ended && !went_on.text.contains("#EXT-X-DISCONTINUITY\n"), "{}", went_on.text);
    }
    assert_eq!(recorded(), had, "the target gets nothing");
    let view = server.target_state("show", &show.target, "live", seconds(1)).await;
    assert_eq!(view["state"]["held"], false, "{view}");

    let _second = show.publish(&server);
    let file = show.more(&target, seconds(3)).await;
    assert_eq!(target.recordings("show").len(), 1, "one publication");
    for kind in ["v", "a"] {
        let packets = packets(file.to_str().expect("a path"), kind).await;
        assert!(packets.windows(2).all(|pair| pair[1].1 > pair[0].1), "decoding times of {kind} rise");
    }
    for (kind, rendition) in show.hls.renditions() {
        let playlist = eventually(&format!("{kind} goes on"), seconds(15), || async {
            let playlist = show.hls.playlist(rendition).await;
            let next = playlist.segments.iter().rposition(|segment| segment.discontinuity)?;
            (playlist.segments.len() - next >= 2).then_some(playlist)
        })
        .await;
        let breaks = playlist.segments.iter().filter(|segment| segment.discontinuity).count();
        assert_eq!(breaks, 1, "{kind}: {}", playlist.text);
        assert!(playlist.last_run().iter().all(|segment| !segment.gap), "{kind}: {}", playlist.text);
    }
    let report = check.await.expect("no panic").unwrap_or_else(|error| panic!("{error}"));
    assert!(report.is_clean(), "{report}");
}
