//! A WHIP publisher of several layers of H.264, which are rendered once and sent over and over.

use std::path::Path;
use std::sync::Arc;

use super::{
    Ffmpeg, Layer, PictureSource, Programme, Publishing, RtcClient, RtcOptions, Server, packetise_h264,
    units_of_h264_file,
};

/// What a packet has besides its payload: header, extensions, authentication tag.
const AROUND: usize = 12 + 16 + 16;

/// A publisher of layers, or of one without a name; Opus besides. Ended on drop.
pub struct Simulcast {
    /// What it sends.
    pub media: Publishing,
    /// Bits a second that each layer really has in its packets.
    pub rates: Vec<u64>,
    _client: RtcClient,
}

/// How a layer is encoded.
struct Encoding {
    rid: Option<String>,
    size: (u32, u32),
    /// What is between the source of the pictures and the encoder.
    filter: &'static str,
    frame_rate: u32,
    /// Seconds until the file begins again; a multiple of 2.
    seconds: u32,
    kilobits: u32,
    /// How many kilobits a picture may be ahead of the rate.
    buffer: u32,
}

impl Encoding {
    /// Pictures that are easily encoded, at 30 a second.
    fn plain(rid: Option<&str>, (width, height): (u32, u32)) -> Self {
        let kilobits = width * height / 500;
        let rid = rid.map(str::to_owned);
        Self {
            rid,
            size: (width, height),
            filter: "",
            frame_rate: 30,
            seconds: 4,
            kilobits,
            buffer: kilobits,
        }
    }

    /// Noise besides, so that the rate is used up.
    fn noisy(rid: &str, size: (u32, u32), kilobits: u32, frame_rate: u32) -> Self {
        let filter = "noise=alls=12:allf=t,";
        Self {
            rid: Some(rid.to_owned()),
            size,
            filter,
            frame_rate,
            seconds: 8,
            kilobits,
            buffer: kilobits / 2,
        }
    }
}

impl Simulcast {
    /// Publishes `layers`, each a rid and a size, and waits until it is connected.
    pub async fn start(server: &Server, stream: &str, layers: &[(&str, (u32, u32))]) -> Self {
        Self::start_without(server, stream, layers, &[]).await
    }

    /// The same, with layers of which nothing is sent until [`Publishing::pause_layer`] lets them.
    pub async fn start_without(
        server: &Server,
        stream: &str,
        layers: &[(&str, (u32, u32))],
        silent: &[&str],
    ) -> Self {
        let encodings = layers.iter().map(|(rid, size)| Encoding::plain(Some(*rid), *size));
        Self::publish(server, stream, encodings, silent).await
    }

    /// Publishes `layers`, each a rid, a size and its kilobits a second, with so many pictures a second.
    pub async fn at_rates(
        server: &Server,
        stream: &str,
        layers: &[(&str, (u32, u32), u32)],
        frame_rate: u32,
    ) -> Self {
        let encoding = |(rid, size, kilobits): &(&str, (u32, u32), u32)| {
            Encoding::noisy(rid, *size, *kilobits, frame_rate)
        };
        Self::publish(server, stream, layers.iter().map(encoding), &[]).await
    }

    /// Publishes one picture of this size.
    pub async fn single(server: &Server, stream: &str, size: (u32, u32)) -> Self {
        Self::publish(server, stream, [Encoding::plain(None, size)], &[]).await
    }

    async fn publish(
        server: &Server,
        stream: &str,
        encodings: impl IntoIterator<Item = Encoding>,
        silent: &[&str],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut programme = Programme { layers: Vec::new(), ..Programme::default() };
        let (mut rids, mut rates) = (Vec::new(), Vec::new());
        for encoding in encodings {
            let file = folder.path().join(encoding.rid.as_deref().unwrap_or("only"));
            render(&encoding, &file);
            let units = units_of_h264_file(&file);
            let packets = units.iter().flat_map(|unit| packetise_h264(unit));
            let bytes: usize = packets.map(|payload| payload.len() + AROUND).sum();
            rates.push(8 * bytes as u64 / u64::from(encoding.seconds));
            programme.frame_rate = encoding.frame_rate;
            rids.extend(encoding.rid.clone());
            let pictures = PictureSource::File(Arc::new(units));
            programme.layers.push(Layer { rid: encoding.rid, pictures });
        }
        let options = RtcOptions { rids, ..RtcOptions::default() };
        let mut client = RtcClient::publish(server, stream, options).await;
        let media = Publishing::start(client.sender(), programme);
        // Before it is connected nothing is sent.
        silent.iter().for_each(|rid| media.pause_layer(rid, true));
        client.connected().await;
        Self { media, rates, _client: client }
    }
}

/// Writes H.264 with a keyframe every 2 s.
fn render(encoding: &Encoding, file: &Path) {
    let Encoding { size: (width, height), filter, frame_rate, seconds, kilobits, buffer, .. } = encoding;
    let picture = format!("testsrc2=s={width}x{height}:r={frame_rate},{filter}format=yuv420p");
    let (length, group) = (seconds.to_string(), (*frame_rate * 2).to_string());
    let (rate, buffer) = (format!("{kilobits}k"), format!("{buffer}k"));
    let args = ["-f", "lavfi", "-i", &picture, "-t", &length, "-c:v", "libx264", "-preset", "ultrafast"];
    let coding = ["-tune", "zerolatency", "-profile:v", "baseline", "-g", &group, "-sc_threshold", "0"];
    let bits = ["-b:v", &rate, "-maxrate", &rate, "-bufsize", &buffer, "-f", "h264"];
    Ffmpeg::render_with(&[&args[..], &coding, &bits].concat(), file);
}
