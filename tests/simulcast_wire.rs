//! Simulcast on the wire, without a browser: four layers, and layers of AV1. What a viewer gets of a layer that it
//! has chosen is, packet by packet, what the publisher sends of it, from a keyframe on.

mod common;

use common::{
    EventStream, Ffmpeg, Layer, MediaKind, PictureSource, Programme, Publishing, RtcClient, RtcEvent,
    RtcOptions, Server, VideoCodec, attribute, packetise_av1, packetise_h264, seconds, units_of_av1_file,
    units_of_h264_file,
};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Pictures a second; a keyframe comes every 2 s, whatever is asked for.
const FRAME_RATE: u32 = 15;
/// Packets of a layer that are looked at after each choice.
const LOOK: usize = 60;

/// The rid and size of a layer.
type Named = (&'static str, (u32, u32));

#[tokio::test]
async fn each_of_four_layers_is_taken_told_and_can_be_chosen() {
    let layers = [("a", (1280, 720)), ("b", (960, 540)), ("c", (640, 360)), ("d", (320, 180))];
    each_layer_can_be_chosen(VideoCodec::H264, &layers).await;
}

#[tokio::test]
async fn each_layer_of_av1_is_taken_told_and_can_be_chosen() {
    let layers = [("f", (640, 360)), ("h", (480, 270)), ("q", (320, 180))];
    each_layer_can_be_chosen(VideoCodec::Av1, &layers).await;
}

/// `layers`: the best first.
async fn each_layer_can_be_chosen(codec: VideoCodec, layers: &[Named]) {
    let encoded: Vec<Encoded> = layers.iter().map(|layer| Encoded::new(codec, *layer)).collect();
    let server = Server::start().await;
    let rids: Vec<String> = layers.iter().map(|(rid, _)| rid.to_string()).collect();
    let options = RtcOptions { video: vec![codec], rids: rids.clone(), ..RtcOptions::default() };
    let mut publisher = RtcClient::publish(&server, "show", options).await;
    let answer = &publisher.answer;
    let all = format!("recv {}", rids.join(";"));
    assert_eq!(attribute(answer, "simulcast"), Some(all.as_str()), "{answer}");
    for rid in &rids {
        assert!(answer.contains(&format!("a=rid:{rid} recv")), "{answer}");
    }
    let programme = Programme {
        layers: encoded.iter().map(Encoded::layer).collect(),
        frame_rate: FRAME_RATE,
        answers_requests: false,
        ..Programme::default()
    };
    let _media = Publishing::start(publisher.sender(), programme);
    publisher.connected().await;

    let mut viewer = Viewer::start(&server, codec).await;
    let told = viewer.told(&server, layers.len()).await;
    let told: Vec<(&str, (u32, u32))> = told.iter().map(|(rid, size)| (rid.as_str(), *size)).collect();
    assert_eq!(told, layers, "the best first");
    viewer.gets(&encoded[0]).await;
    // Down and up, each layer after one that is not its neighbour too.
    let last = layers.len() - 1;
    for layer in [last, 0, last - 1, 1, last, 1, 0] {
        viewer.choose(&server, layers[layer].0).await;
        viewer.gets(&encoded[layer]).await;
    }
}

/// A layer that was encoded before.
struct Encoded {
    rid: &'static str,
    pictures: PictureSource,
    /// All its packets, in order; they are sent over and over.
    payloads: Vec<Vec<u8>>,
}

impl Encoded {
    /// Four seconds.
    fn new(codec: VideoCodec, (rid, size): Named) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(rid);
        render(codec, size, &file);
        let (pictures, payloads) = match codec {
            VideoCodec::Av1 => {
                let units = units_of_av1_file(&file);
                let payloads = units.iter().flat_map(|unit| packetise_av1(unit)).collect();
                (PictureSource::FileAv1(Arc::new(units)), payloads)
            }
            _ => {
                let units = units_of_h264_file(&file);
                let payloads = units.iter().flat_map(|unit| packetise_h264(unit)).collect();
                (PictureSource::File(Arc::new(units)), payloads)
            }
        };
        Self { rid, pictures, payloads }
    }

    fn layer(&self) -> Layer {
        Layer { rid: Some(self.rid.to_owned()), pictures: self.pictures.clone() }
    }
}

/// Writes pictures without reordering, as each codec's packetiser reads them.
fn render(codec: VideoCodec, (width, height): (u32, u32), file: &Path) {
    let picture = format!("testsrc2=s={width}x{height}:r={FRAME_RATE},format=yuv420p");
    let group = (2 * FRAME_RATE).to_string();
    let input = ["-f", "lavfi", "-i", &picture, "-t", "4", "-b:v", "300k", "-g", &group];
    let coding = match codec {
        VideoCodec::Av1 => "-c:v libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0 -f obu",
        _ => "-c:v libx264 -preset ultrafast -tune zerolatency -profile:v baseline -sc_threshold 0 -f h264",
    };
    let coding: Vec<&str> = coding.split_whitespace().collect();
    Ffmpeg::render_with(&[&input[..], &coding].concat(), file);
}

/// A viewer of `show`.
struct Viewer {
    client: RtcClient,
    session: String,
    /// The sequence number of its latest packet.
    latest: Option<u64>,
}

impl Viewer {
    async fn start(server: &Server, codec: VideoCodec) -> Self {
        let options = RtcOptions { video: vec![codec], ..RtcOptions::default() };
        let mut client = RtcClient::view(server, "show", options).await;
        client.connected().await;
        let session = client.session.clone().expect("a session").url;
        Self { client, session, latest: None }
    }

    /// The layers that it is told of, once there are so many and all have a rate.
    async fn told(&self, server: &Server, count: usize) -> Vec<(String, (u32, u32))> {
        let request = server.client.post(format!("{}/sse", self.session)).json(&json!(["layers"]));
        let created = request.send().await.expect("an answer");
        assert_eq!(created.status(), 201);
        let path = created.headers()["location"].to_str().expect("text");
        let mut events = EventStream::open(server.client.get(server.url(path))).await;
        loop {
            let told = events.until("layers", seconds(10)).await.pop().expect("the wanted one");
            let layers = told.data.as_object().and_then(|told| told.values().next()?.as_array().cloned());
            let layers = layers.unwrap_or_else(|| panic!("{told:?}"));
            if layers.len() == count && layers.iter().all(|layer| layer["bitrate"].as_u64() > Some(0)) {
                return layers.iter().map(named).collect();
            }
        }
    }

    async fn choose(&self, server: &Server, rid: &str) {
        let request = server.client.post(format!("{}/layer", self.session)).json(&json!({ "rid": rid }));
        assert_eq!(request.send().await.expect("an answer").status(), 200, "{rid}");
    }

    /// Waits for a keyframe of `layer`; from then on each packet is the next one of it. None is missing before,
    /// either.
    async fn gets(&mut self, layer: &Encoded) {
        let Encoded { rid, payloads, .. } = layer;
        let next = |at: &usize| (at + 1) % payloads.len();
        // Where it may be: parameter sets look alike in each group.
        let (mut places, mut seen): (Vec<usize>, usize) = (Vec::new(), 0);
        let latest = &mut self.latest;
        let look = |event| {
            let RtcEvent::Media(packet) = event else { return None };
            if packet.kind != MediaKind::Video {
                return None;
            }
            let before = latest.replace(packet.sequence);
            assert!(before.is_none_or(|before| before + 1 == packet.sequence), "{before:?}: {packet:?}");
            let is_it = |at: &usize| payloads[*at] == packet.payload;
            if seen > 0 {
                places = places.iter().map(next).filter(is_it).collect();
                assert!(!places.is_empty(), "packet {seen} of {rid} is not its next one");
            } else if is_it(&0) {
                // As the first keyframe of the file begins, so do the others.
                places = (0..payloads.len()).filter(is_it).collect();
            }
            seen += usize::from(!places.is_empty());
            (seen == LOOK).then_some(())
        };
        self.client.wait_for(&format!("{LOOK} packets of {rid}"), seconds(15), look).await;
    }
}

/// Rid and size of a layer as it is told.
fn named(layer: &Value) -> (String, (u32, u32)) {
    let number = |name: &str| layer[name].as_u64().unwrap_or_else(|| panic!("{name}: {layer}")) as u32;
    (layer["rid"].as_str().expect("a rid").to_owned(), (number("width"), number("height")))
}
