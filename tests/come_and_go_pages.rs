//! REL-02 as a person sees it: the watch page goes on without a reload when its publisher comes back.

mod common;

use common::{Browser, Ffmpeg, Server, Source, eventually, machine, seconds};
use serde_json::json;

#[tokio::test]
async fn rel02_the_watch_page_over_whep_says_that_it_waits_and_goes_on() {
    let _machine = machine().await;
    let server = Server::start().await;
    let first = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let mut page = watch(&server, "whep").await;
    first.process.signal("STOP");
    // How soon it is told, an event of its session proves elsewhere.
    page.event("paused", seconds(10)).await;
    let list: serde_json::Value = server.get("/live").await.json().await.expect("JSON");
    assert_eq!(list["items"][0]["state"], "stalled", "{list}");
    let _second = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    page.event("resumed", seconds(15)).await;
    goes_on(&mut page).await;
}

#[tokio::test]
async fn rel02_the_watch_page_over_hls_goes_on() {
    let _machine = machine().await;
    let server = Server::start().await;
    let first = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let mut page = watch(&server, "hls").await;
    first.process.signal("STOP");
    // Longer than the dead session is kept.
    state(&server, "waiting").await;
    let _second = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    state(&server, "live").await;
    goes_on(&mut page).await;
}

async fn watch(server: &Server, transport: &str) -> Browser {
    state(server, "live").await;
    let url = server.url(&format!("/show?transport={transport}"));
    let mut page = Browser::start("watch_page", json!({ "url": url }));
    page.event("playing", seconds(30)).await;
    page
}

/// The picture moves, in the page that was loaded at first.
async fn goes_on(page: &mut Browser) {
    let limit = std::time::Instant::now() + seconds(20);
    loop {
        page.command("look");
        let looked = page.event("looked", seconds(10)).await;
        println!("{looked}");
        assert_eq!(looked["loads"], 1, "{looked}");
        let moved = looked["frames"].as_u64() > Some(60) && looked["advanced"].as_f64() > Some(2.0);
        if moved && looked["hidden"] == true {
            return;
        }
        assert!(std::time::Instant::now() < limit, "{looked}");
    }
}

async fn state(server: &Server, wanted: &str) {
    eventually(&format!("the stream is {wanted}"), seconds(12), || async {
        (server.stream("show").await?["state"] == wanted).then_some(())
    })
    .await;
}
