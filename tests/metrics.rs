//! `/metrics`: what promtool says of it, and that its values follow what happens.

mod common;

use common::{
    Fate, Ffmpeg, Hls, MediaKind, Programme, Publishing, RtcClient, RtcOptions, Server, Source, eventually,
    is_rtp, machine, seconds,
};
use std::io::Write;
use std::process::{Command, Stdio};

/// What promtool finds, and whether it is content.
fn promtool(page: &str) -> (String, bool) {
    let mut command = Command::new("promtool");
    let command = command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("promtool is there");
    child.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.success())
}

/// The value of a series, as it is named on the page.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

async fn page(server: &Server) -> String {
    let response = server.api("GET", "/metrics").send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    response.text().await.expect("text")
}

#[tokio::test]
async fn what_happens_is_counted_and_promtool_finds_nothing() {
    let _machine = machine().await;
    let server = Server::builder()
        .env("TIDEGATE_STREAM_GRACE", "0s")
        .env("TIDEGATE_METRICS_PER_STREAM", "true")
        .start()
        .await;
    let idle = page(&server).await;
    assert_eq!(value(&idle, r#"tidegate_streams{state="live"}"#), Some(0.0), "{idle}");

    let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("canary-stream"));
    let _viewer = Hls::open(&server.client, &server.url("/canary-stream/index.m3u8"), seconds(15)).await;
    for path in ["/canary-stream/whep", "/no/such/path", "/healthz"] {
        let _ = server.client.post(server.url(path)).send().await.expect("an answer");
    }
    let busy = eventually("the viewer and some pictures are counted", seconds(10), || async {
        let page = page(&server).await;
        let pictures = value(&page, "tidegate_received_video_frames_total");
        let counted = value(&page, r#"tidegate_viewers{kind="hls"}"#) == Some(1.0)
            && pictures.is_some_and(|pictures| pictures >= 10.0);
        counted.then_some(page)
    })
    .await;
    for (series, least) in [
        (r#"tidegate_streams{state="live"}"#, 1.0),
        (r#"tidegate_publishers{kind="rtmp"}"#, 1.0),
        ("tidegate_streams_started_total", 1.0),
        ("tidegate_received_bytes_total", 10_000.0),
        ("tidegate_received_video_frames_total", 10.0),
        ("tidegate_received_keyframes_total", 1.0),
        ("tidegate_events_total", 2.0),
        (r#"tidegate_pipelines_started_total{description="mux-video"}"#, 1.0),
        (r#"tidegate_http_requests_total{method="POST",route="/{stream}/whep",status="4xx"}"#, 1.0),
        (r#"tidegate_http_requests_total{method="POST",route="none",status="4xx"}"#, 1.0),
        (r#"tidegate_http_requests_total{method="POST",route="/healthz",status="4xx"}"#, 1.0),
        (r#"tidegate_http_requests_total{method="GET",route="/metrics",status="2xx"}"#, 1.0),
        (r#"tidegate_http_request_duration_seconds_count{route="/metrics"}"#, 1.0),
        (r#"tidegate_stream_viewers{stream="canary-stream",kind="hls"}"#, 1.0),
        ("process_cpu_seconds_total", 0.01),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 3.0),
        ("process_threads", 2.0),
        (concat!(r#"tidegate_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#), 1.0),
    ] {
        let found = value(&busy, series);
        assert!(found.is_some_and(|found| found >= least), "{series} is {found:?} in\n{busy}");
    }
    for zero in ["tidegate_panics_total", r#"tidegate_pipelines_failed_total{description="mux-video"}"#] {
        assert_eq!(value(&busy, zero), Some(0.0), "{zero}");
    }
    let (said, content) = promtool(&busy);
    assert!(content && said.is_empty(), "{said}");

    // What has ended is not forgotten, but has no series of its own any more.
    publisher.leave().await;
    let after = eventually("the stream has ended", seconds(10), || async {
        let page = page(&server).await;
        let states = ["live", "stalled", "waiting"];
        let count = |state| value(&page, &format!("tidegate_streams{{state=\"{state}\"}}"));
        states.into_iter().all(|state| count(state) == Some(0.0)).then_some(page)
    })
    .await;
    for counter in ["tidegate_received_bytes_total", "tidegate_received_video_frames_total"] {
        assert!(value(&after, counter) >= value(&busy, counter), "{counter} fell");
    }
    assert!(!after.contains("canary-stream"), "{after}");
}

#[tokio::test]
async fn what_viewers_get_and_lose_is_counted_and_outlives_them() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    let mut viewer = RtcClient::view(&server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    viewer.packet(MediaKind::Video).await;
    let [sent, lost, resent] =
        ["sent_bytes", "lost_packets", "resent_packets"].map(|what| format!("tidegate_whep_{what}_total"));
    let sessions = |page: &str, kind: &str| value(page, &format!("tidegate_sessions{{kind=\"{kind}\"}}"));
    let mut packets = 0;
    let every_20th = move |data: &[u8]| {
        packets += u32::from(is_rtp(data));
        if is_rtp(data) && packets.is_multiple_of(20) { Fate::Drop } else { Fate::Pass }
    };
    viewer.filter_incoming(every_20th).await;
    let busy = eventually("losses are told and repaired", seconds(15), || async {
        let page = page(&server).await;
        let counted =
            [&lost, &resent].iter().all(|series| value(&page, series).is_some_and(|count| count > 5.0));
        (counted && value(&page, &sent).is_some_and(|bytes| bytes > 100_000.0)).then_some(page)
    })
    .await;
    let open = ["whip", "whep", "rtmp"].map(|kind| sessions(&busy, kind));
    assert_eq!(open, [Some(1.0), Some(1.0), Some(0.0)], "{busy}");
    let (said, content) = promtool(&busy);
    assert!(content && said.is_empty(), "{said}");

    viewer.leave().await;
    let after = eventually("the viewer has left", seconds(10), || async {
        let page = page(&server).await;
        (sessions(&page, "whep") == Some(0.0)).then_some(page)
    })
    .await;
    for counter in [&sent, &lost, &resent] {
        assert!(value(&after, counter) >= value(&busy, counter), "{counter} fell");
    }
    assert_eq!(sessions(&after, "whip"), Some(1.0));
}

#[tokio::test]
async fn the_page_wants_the_admin_token_unless_it_is_opened() {
    let server = Server::start().await;
    assert_eq!(server.get("/metrics").await.status(), 401);
    let request =
        server.api("GET", "/metrics").header("accept", "application/openmetrics-text;version=1.0.0");
    let response = request.send().await.expect("an answer");
    assert!(
        response.headers()["content-type"]
            .to_str()
            .is_ok_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    let page = response.text().await.expect("text");
    assert!(page.ends_with("# EOF\n") && page.contains("# TYPE tidegate_http_requests counter"), "{page}");
    assert!(!page.contains("stream=\""), "no series of single streams unless they are wanted");

    let open = Server::builder().env("TIDEGATE_METRICS_OPEN", "true").start().await;
    assert_eq!(open.get("/metrics").await.status(), 200);
}

#[test]
fn promtool_would_find_something() {
    let (said, content) = promtool("# TYPE requests counter\nrequests 1\n");
    assert!(!content && said.contains("_total"), "{said}");
}
