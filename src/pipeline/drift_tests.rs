//! A sender whose sound card runs faster or slower than the clock it dates by: its sound stays at its time through
//! decoders and encoders, which count samples.
//!
//! Two minutes at 1000 ppm go as far as twenty at 100: what is let go is measured in milliseconds, not in ppm.

use super::fixture::wall_origin;
use super::live::{Live, encoders, next};
use super::sound_tests::{Tone, coded, decode_opus};
use crate::media::{Codec, Frame, MediaTime, PacketBatch};
use std::sync::Arc;
use std::time::Duration;

const SECONDS: u32 = 120;
/// When the tone begins, of the sound card's seconds.
const TONE: Tone = Tone { onset: 118.0, seconds: SECONDS };
/// Samples of 48 kHz in an Opus packet of 20 ms.
const PACKET: usize = 960;

/// Frames dated by a clock that is `ppm` slower than the one that counts samples.
fn drifting(mut frames: Vec<Frame>, ppm: i64) -> Vec<Frame> {
    let start = frames[0].pts;
    for frame in &mut frames {
        let nanos = frame.pts.as_nanos() - start.as_nanos();
        frame.pts = start.shifted(nanos + nanos / 1_000_000 * ppm);
        frame.dts = frame.pts;
    }
    frames
}

/// Writes frames as fast as they are taken, and gives what comes out.
async fn through(frames: &[Frame]) -> Vec<Arc<PacketBatch>> {
    let live = Live::<Frame>::new(None);
    let mut reader = live.stream.subscribe::<PacketBatch>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(frames[0].epoch.tracks.clone(), wall_origin());
    let mut batches: Vec<Arc<PacketBatch>> = vec![];
    for second in frames.chunks(50) {
        for frame in second {
            live.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
        }
        let until = second[second.len() - 1].pts - Duration::from_millis(150);
        while batches.last().is_none_or(|batch| batch.packets[0].pts < until) {
            batches.push(next(&mut reader).await);
        }
    }
    live.end().await;
    batches
}

#[tokio::test]
async fn rel_18_sound_stays_at_its_time_though_its_clock_drifts() {
    let _encoders = encoders().await;
    for ppm in [1000, -1000] {
        let mut frames = coded(
            "lamemp3enc target=bitrate cbr=true bitrate=128 ! mpegaudioparse",
            44_100,
            2,
            Codec::Mp3,
            b"",
            TONE,
        );
        let early = MediaTime::from_ticks(1105, 44_100).as_nanos();
        frames.iter_mut().for_each(|frame| frame.pts = frame.pts.shifted(-early));
        let start = frames[0].pts.as_secs_f64() + early as f64 / 1e9;
        let batches = through(&drifting(frames, ppm)).await;
        let (_, samples) = decode_opus(&batches);
        let loud = samples.iter().position(|sample| sample.unsigned_abs() > 3000).expect("a tone");
        let packet = &batches[loud / PACKET].packets[0];
        let heard = packet.pts.as_secs_f64() + (loud % PACKET) as f64 / 48_000.0;
        let meant = start + (TONE.onset - 1.0) * (1.0 + ppm as f64 / 1e6);
        let late = (heard - meant) * 1000.0;
        println!("{ppm} ppm, as Opus for WHEP: {late:.1} ms late");
        assert!(late.abs() < 60.0, "{ppm} ppm: {late:.1} ms");
    }
}
