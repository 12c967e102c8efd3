//! Layers of a simulcast publisher on their way to frames: the best that is active.

use super::packets::packets;
use super::tracks;
use crate::media::{Codec, Frame, MediaTime, PacketBatch};
use crate::pipeline::fixture::wall_origin;
use crate::pipeline::live::{Live, encoders, next};
use crate::stream::LayerInfo;

#[tokio::test]
async fn the_best_active_layer_is_read_and_changed_at_its_keyframe() {
    let _encoders = encoders().await;
    let layer = |number: u8, size| {
        let mut pictures = packets(Codec::H264, MediaTime::ZERO, 7, size);
        for packet in pictures.iter_mut().flatten() {
            packet.layer = number;
            // Each has numbers and a clock of its own.
            packet.timestamp = packet.timestamp.wrapping_add(u32::from(number) * 1_000_000_007);
            packet.sequence += u64::from(number) * 30_000;
        }
        pictures
    };
    let layers = [layer(0, (1280, 720)), layer(1, (640, 360))];
    let live = Live::<PacketBatch>::new(None);
    let active = |active: bool| {
        let info = |rid: &str, active| LayerInfo { rid: rid.into(), resolution: None, bitrate: 0, active };
        live.publisher.set_layers(vec![info("h", active), info("l", true)]);
    };
    active(true);
    let mut reader = live.stream.subscribe::<Frame>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(tracks(Codec::H264), wall_origin());
    let mut sizes: Vec<((u32, u32), i64, bool)> = vec![];
    let mut read = async |until: i64| {
        loop {
            let frame = next(&mut reader).await;
            let size = frame.epoch.tracks.video.as_ref().and_then(|track| track.resolution).expect("known");
            if sizes.last().is_none_or(|last| last.0 != size) {
                sizes.push((size, frame.pts.as_millis(), frame.keyframe));
            }
            if frame.pts.as_millis() >= until {
                return;
            }
        }
    };
    let send = |layer: usize, range: std::ops::Range<usize>| {
        for packets in &layers[layer][range] {
            live.publisher.write(PacketBatch { epoch: epoch.clone(), packets: packets.clone() });
        }
    };
    for number in 0..70 {
        send(0, number..number + 1);
        send(1, number..number + 1);
    }
    read(2290).await;
    // The upper layer ends within a picture.
    active(false);
    let mut torn = layers[0][70].clone();
    torn.truncate(torn.len().div_ceil(2));
    torn.last_mut().expect("a packet").marker = false;
    live.publisher.write(PacketBatch { epoch: epoch.clone(), packets: torn });
    send(1, 70..150);
    read(4960).await;
    active(true);
    // It comes back in the middle of a group: not before its keyframe.
    for number in 150..210 {
        send(1, number..number + 1);
        send(0, number..number + 1);
    }
    read(6960).await;
    live.end().await;
    // The lower layer's picture of that instant had been read already.
    assert_eq!(sizes, [((1280, 720), 0, true), ((640, 360), 4000, true), ((1280, 720), 6001, true)]);
}
