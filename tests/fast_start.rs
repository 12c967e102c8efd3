//! How a WHEP viewer's pictures begin in the middle of a long group of pictures: at once, from the cached group, and
//! back at the live edge within a second, without standing still and without a hurry that could be seen.
//!
//! Pictures carry their numbers, which Chromium reads from the screen: those of the viewer that joins beside those of
//! one that has been there for long. Neither publisher makes a keyframe when it is asked: RTMP knows no such request,
//! and OBS does not answer WHIP's.

mod common;

use std::sync::Arc;

use common::{
    Browser, Ffmpeg, Layer, PictureSource, Programme, Publishing, RtcClient, RtcOptions, Server, json_number,
    machine, seconds, units_of_h264_file,
};
use serde_json::{Value, json};

/// Pictures from a keyframe to the next: 4 s.
const GROUP: u32 = 120;
/// How far behind a keyframe the viewer joins.
const INTO: u32 = 60;
/// Bits of a picture's number.
const NUMBER_BITS: u32 = 12;
const FRAME_RATE: f64 = 30.0;
/// Milliseconds from the POST to the first picture; the next keyframe would be as late as 1.6 s.
const FIRST: f64 = 1000.0;
/// … and from that one to the live edge.
const RETURN: f64 = 1000.0;
/// … of which what is shown may run faster than it was taken. The cached pictures come within some ten milliseconds,
/// and are dated so; the rest is what a busy browser needs to decode them.
const HURRY: f64 = 500.0;
/// How far from the other viewer the live edge reaches: receivers wait differently long for late packets.
const EDGE: f64 = 200.0;
/// No picture stands for longer.
const STANDING: f64 = 300.0;

#[tokio::test]
async fn e08_rtmp_viewers_begin_at_once_and_return_to_the_live_edge() {
    let _machine = machine().await;
    let server = Server::start().await;
    let (picture, coding) = (picture(), coding());
    let args = format!(
        "-re -f lavfi -i {picture} -re -f lavfi -i sine=frequency=440:r=48000 {coding} -c:a aac -b:a 96k -ac 2"
    );
    let args: Vec<&str> = args.split_whitespace().collect();
    let _publisher = Ffmpeg::publish_with(&args, &server.rtmp_url("show"));
    joins_in_the_middle(&server, "RTMP").await;
}

#[tokio::test]
async fn e08_whip_viewers_begin_at_once_whatever_the_publisher_ignores() {
    let _machine = machine().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("numbered.h264");
    let args = format!("-f lavfi -i {} -t 90 {} -f h264", picture(), coding());
    Ffmpeg::render_with(&args.split_whitespace().collect::<Vec<_>>(), &file);
    let pictures = PictureSource::File(Arc::new(units_of_h264_file(&file)));
    let layers = vec![Layer { rid: None, pictures }];
    let programme = Programme { layers, answers_requests: false, ..Programme::default() };
    let server = Server::start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    let _media = Publishing::start(publisher.sender(), programme);
    publisher.connected().await;
    joins_in_the_middle(&server, "WHIP").await;
}

/// A moving picture with its number in blocks of 16x16 pixels, white is 1.
fn picture() -> String {
    let mut filters = vec![
        format!("testsrc2=s=320x180:r={FRAME_RATE}"),
        format!("drawbox=w={}:h=16:t=fill:c=black", 16 * NUMBER_BITS),
    ];
    for bit in 0..NUMBER_BITS {
        let (x, value) = (16 * bit, 1 << bit);
        filters.push(format!("drawbox=x={x}:w=16:h=16:t=fill:c=white:enable='bitand(n,{value})'"));
    }
    filters.push("format=yuv420p".to_owned());
    filters.join(",")
}

/// H.264 without B-frames, a keyframe each [`GROUP`] pictures.
fn coding() -> String {
    format!(
        "-c:v libx264 -preset ultrafast -tune zerolatency -profile:v baseline -bf 0 -g {GROUP} -sc_threshold 0 \
         -threads 1 -b:v 400k"
    )
}

/// A picture on the screen.
#[derive(Clone, Copy, Debug)]
struct Shown {
    /// Milliseconds since the POST.
    at: f64,
    number: f64,
}

impl Shown {
    /// How late it is shown, on a clock that all viewers of one publisher share.
    fn lag(&self) -> f64 {
        self.at - self.number * 1000.0 / FRAME_RATE
    }
}

async fn joins_in_the_middle(server: &Server, source: &str) {
    let options = json!({ "endpoint": server.url("/show/whep"), "group": GROUP, "into": INTO });
    let viewed = Browser::start("join_whep", options).event("result", seconds(90)).await;
    let (joined, witness) = (pictures(&viewed, "joined"), pictures(&viewed, "witness"));
    let began = joined.first().unwrap_or_else(|| panic!("no picture: {viewed}"));
    let live = median(witness.iter().map(Shown::lag).collect());

    let group = f64::from(GROUP);
    let at = json_number(&viewed, "/at");
    let next_keyframe = ((at / group).floor() + 1.0) * group;
    // The other viewer may be the later of both: its browser has waited for something.
    let is_live = |shown: &Shown| shown.lag() - live <= EDGE;
    // It is there when ten pictures in a row are.
    let there = joined.windows(10).position(|shown| shown.iter().all(is_live));
    let behind = there.unwrap_or_else(|| panic!("never at the live edge, {live:.0}: {joined:?}"));
    let edge = &joined[behind];
    let hurried: f64 = joined.windows(2).map(|pair| hurry(pair[0], pair[1])).sum();
    let longest = joined.windows(2).map(|pair| pair[1].at - pair[0].at).fold(0.0, f64::max);
    println!(
        "{source}: joined {} pictures behind a keyframe; connected after {:.0} ms, first picture (number {}) after \
         {:.0} ms, {:.0} ms behind the other viewer; at the live edge {:.0} ms later, after {behind} pictures, {hurried:.0} ms \
         of it in a hurry; longest picture {longest:.0} ms; {}",
        at % group,
        json_number(&viewed, "/connectedMs"),
        began.number,
        began.at,
        began.lag() - live,
        edge.at - began.at,
        viewed["stats"]
    );

    assert!(began.at <= FIRST, "the first picture comes at once: {joined:?}");
    assert!(began.number < next_keyframe, "it is of the cached group: {began:?}, {next_keyframe}");
    assert!(joined.windows(2).all(|pair| pair[1].number >= pair[0].number), "no way back: {joined:?}");
    assert!(edge.at - began.at <= RETURN, "at the live edge {edge:?}, {live:.0} ms late: {joined:?}");
    assert!(hurried <= HURRY, "sped up: {joined:?}");
    assert!(longest <= STANDING, "a picture stands: {joined:?}");
    // Browser and encoder share two cores: one picture in all those seconds may come late.
    assert!(json_number(&viewed, "/stats/freezeCount") <= 1.0, "{viewed}");
    assert_eq!(json_number(&viewed, "/stats/packetsLost"), 0.0, "{viewed}");
    // Seven seconds and more were looked at, through the next keyframe and one more.
    assert!(joined.last().is_some_and(|last| last.number > next_keyframe + group), "{joined:?}");
}

/// The milliseconds from one picture to the next, where the next was taken more than 1.5 times as much later, and by more
/// than the two pictures that waiting for the screen can make.
fn hurry(shown: Shown, next: Shown) -> f64 {
    let (passed, taken) = (next.at - shown.at, (next.number - shown.number) * 1000.0 / FRAME_RATE);
    if taken > 1.5 * passed + 2.0 * 1000.0 / FRAME_RATE { passed } else { 0.0 }
}

fn pictures(viewed: &Value, whose: &str) -> Vec<Shown> {
    let list = viewed[whose].as_array().unwrap_or_else(|| panic!("no {whose}: {viewed}"));
    list.iter().map(|pair| Shown { at: json_number(pair, "/0"), number: json_number(pair, "/1") }).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
