//! Sound as encoders send it by RTMP: AAC in all profiles, mono to 5.1, 22.05 to 48 kHz; heard over WHEP and HLS.

mod common;

use std::time::Instant;

use common::{
    Ffmpeg, Hls, MediaKind, MediaPacket, Message, RtcClient, RtcEvent, RtcOptions, RtmpClient, Server, Tone,
    heard_in_file, heard_in_packets, machine, packets, seconds,
};

const TONE: f64 = 1000.0;

/// ffmpeg's arguments for a tone of AAC LC in this layout, in each of its channels.
fn tone(rate: u32, layout: &str) -> Vec<String> {
    let channels = match layout {
        "mono" => 1,
        "stereo" => 2,
        _ => 6,
    };
    let wave = vec!["0.3*sin(2*PI*1000*t)"; channels].join("|");
    let source = format!("aevalsrc='{wave}':s={rate}:c={layout}");
    ["-re", "-f", "lavfi", "-i", &source, "-c:a", "aac", "-b:a", "128k"].map(str::to_owned).to_vec()
}

async fn over_whep(server: &Server, name: &str) -> Tone {
    let options = RtcOptions { video: Vec::new(), ..RtcOptions::default() };
    let mut viewer = RtcClient::view(server, name, options).await;
    viewer.packet(MediaKind::Audio).await;
    let events = viewer.collect(seconds(3)).await;
    let packets: Vec<MediaPacket> = events
        .into_iter()
        .filter_map(|event| match event {
            RtcEvent::Media(packet) if packet.kind == MediaKind::Audio => Some(packet),
            _ => None,
        })
        .collect();
    assert!((140..=160).contains(&packets.len()), "{name}: {} packets of 20 ms in 3 s", packets.len());
    for pair in packets.windows(2) {
        assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp), 960, "{name}");
    }
    heard_in_packets(&packets, 1.0).await
}

async fn over_hls(server: &Server, name: &str) -> Tone {
    let hls = Hls::open(&server.client, &server.url(&format!("/{name}/index.m3u8")), seconds(15)).await;
    let audio = hls.audio.clone().expect("an audio rendition");
    let playlist = hls.wait_for(&audio, seconds(4)).await;
    assert!(!playlist.segments[1..].iter().any(|segment| segment.discontinuity), "{name}: {}", playlist.text);
    let folder = tempfile::tempdir().expect("a folder");
    let file = hls.download(&audio, folder.path(), "audio").await;
    let times = packets(file.to_str().expect("a path"), "a").await;
    // ISO/IEC 14496-3: 1024 samples a frame, or 2048 with spectral band replication.
    let steps: Vec<f64> = times.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    let (least, most) =
        steps.iter().fold((f64::MAX, 0f64), |(least, most), step| (least.min(*step), most.max(*step)));
    assert!(most - least < 0.002, "{name}: frames from {least} to {most} s");
    let held: f64 = hls.playlist(&audio).await.segments.iter().map(|segment| segment.duration).sum();
    assert!(held >= 4.0, "{name}: {held}");
    heard_in_file(&file, 2.0).await
}

fn assert_tone(name: &str, over: &str, tone: Tone) {
    println!("{name} over {over}: {} Hz, level {:.3}", tone.frequency, tone.level);
    assert!((tone.frequency - TONE).abs() <= 5.0, "{name} over {over}: {tone:?}");
    assert!(tone.level > 0.05, "{name} over {over}: {tone:?}");
}

#[tokio::test]
async fn aac_lc_from_mono_to_surround_at_all_rates() {
    let _machine = machine().await;
    let server = Server::start().await;
    let sounds = [
        ("mono-22050", 22_050, "mono"),
        ("stereo-24000", 24_000, "stereo"),
        ("stereo-32000", 32_000, "stereo"),
        ("mono-44100", 44_100, "mono"),
        ("stereo-44100", 44_100, "stereo"),
        ("stereo-48000", 48_000, "stereo"),
        ("surround-44100", 44_100, "5.1"),
        ("surround-48000", 48_000, "5.1"),
        // Only a program config element describes it.
        ("surround-side-48000", 48_000, "5.1(side)"),
    ];
    let publish = |(name, rate, layout): &(&str, u32, &str)| {
        let args = tone(*rate, layout);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ffmpeg::publish_with(&args, &server.rtmp_url(name))
    };
    let _publishers: Vec<Ffmpeg> = sounds.iter().map(publish).collect();
    for (name, ..) in sounds {
        assert_tone(name, "HLS", over_hls(&server, name).await);
        assert_tone(name, "WHEP", over_whep(&server, name).await);
    }
}

/// Publishes frames of 2048 samples at 48 kHz with this configuration, over and over in real time.
async fn publish_he_aac(server: &Server, name: &str, config: &[u8], frames: Vec<Vec<u8>>) {
    let port = server.rtmp_url("x").split(':').nth(2).and_then(|rest| rest.split('/').next()?.parse().ok());
    let mut client = RtmpClient::connect(port.expect("a port")).await;
    client.publish(name).await;
    let message = |time, payload| Message { csid: 4, kind: 8, time, stream: 1, payload };
    client.send(&message(0, [&[0xaf, 0], config].concat())).await;
    let begin = Instant::now();
    // The first frames hold what the encoder puts in front, and the last are cut off.
    for (number, frame) in frames[5..].iter().cycle().enumerate() {
        let time = number as u64 * 2048 * 1000 / 48_000;
        tokio::time::sleep_until((begin + std::time::Duration::from_millis(time)).into()).await;
        client.send(&message(time as u32, [&[0xaf, 1], &frame[..]].concat())).await;
    }
}

/// A configuration and the frames that follow it, each behind its length.
fn vector(name: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let path = format!("{}/tests/data/aac/{name}.frames", env!("CARGO_MANIFEST_DIR"));
    let data = std::fs::read(path).expect("a vector");
    let (mut pieces, mut rest) = (Vec::new(), data.as_slice());
    while let [high, low, more @ ..] = rest {
        let (piece, after) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        pieces.push(piece.to_vec());
        rest = after;
    }
    (pieces.remove(0), pieces)
}

#[tokio::test]
async fn he_aac_signalled_either_way() {
    let _machine = machine().await;
    let server = Server::start().await;
    // AAC LC of half the rate, and mono where stereo is parametric: what is not said is found in the frames.
    for (name, implicit) in [("he-aac-v1", [0x13, 0x10]), ("he-aac-v2", [0x13, 0x08])] {
        let (explicit, frames) = vector(name);
        for (signalling, config) in [("explicit", explicit), ("implicit", implicit.to_vec())] {
            let name = format!("{name}-{signalling}");
            let publisher = publish_he_aac(&server, &name, &config, frames.clone());
            let listen = async {
                assert_tone(&name, "HLS", over_hls(&server, &name).await);
                assert_tone(&name, "WHEP", over_whep(&server, &name).await);
            };
            tokio::select! {
                () = publisher => unreachable!("it goes on for ever"),
                () = listen => {}
            }
        }
    }
}
