//! A WHIP publisher of several layers of H.264, which are rendered once and sent over and over.

use std::path::Path;
use std::sync::Arc;

use super::{
    Ffmpeg, Layer, PictureSource, Programme, Publishing, RtcClient, RtcOptions, Server, units_of_h264_file,
};

/// A publisher of layers, or of one without a name; Opus besides. Ended on drop.
pub struct Simulcast {
    /// What it sends.
    pub media: Publishing,
    _client: RtcClient,
}

impl Simulcast {
    /// Publishes `layers`, each a rid and a size, and waits until it is connected.
    pub async fn start(server: &Server, stream: &str, layers: &[(&str, (u32, u32))]) -> Self {
        let rids = layers.iter().map(|(rid, _)| (*rid).to_owned()).collect();
        let options = RtcOptions { rids, ..RtcOptions::default() };
        Self::publish(server, stream, layers.iter().map(|(rid, size)| (Some(*rid), *size)), options).await
    }

    /// Publishes one picture of this size.
    pub async fn single(server: &Server, stream: &str, size: (u32, u32)) -> Self {
        Self::publish(server, stream, [(None, size)], RtcOptions::default()).await
    }

    async fn publish<'a>(
        server: &Server,
        stream: &str,
        layers: impl IntoIterator<Item = (Option<&'a str>, (u32, u32))>,
        options: RtcOptions,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let layer = |(rid, (width, height)): (Option<&str>, (u32, u32))| {
            let file = folder.path().join(rid.unwrap_or("only"));
            render(width, height, &file);
            let pictures = PictureSource::File(Arc::new(units_of_h264_file(&file)));
            Layer { rid: rid.map(str::to_owned), pictures }
        };
        let layers = layers.into_iter().map(layer).collect();
        let programme = Programme { layers, ..Programme::default() };
        let mut client = RtcClient::publish(server, stream, options).await;
        let media = Publishing::start(client.sender(), programme);
        client.connected().await;
        Self { media, _client: client }
    }
}

/// Four seconds of H.264 with a keyframe every 60 pictures.
fn render(width: u32, height: u32, file: &Path) {
    let picture = format!("testsrc2=s={width}x{height}:r=30,format=yuv420p");
    let rate = format!("{}k", width * height / 500);
    let args = ["-f", "lavfi", "-i", &picture, "-t", "4", "-c:v", "libx264", "-preset", "ultrafast"];
    let coding = ["-tune", "zerolatency", "-profile:v", "baseline", "-g", "60", "-sc_threshold", "0"];
    let bits = ["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate, "-f", "h264"];
    Ffmpeg::render_with(&[&args[..], &coding, &bits].concat(), file);
}
