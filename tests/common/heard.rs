//! What is heard: the frequency and the level of a tone in files and in Opus packets.

use std::path::Path;

use super::MediaPacket;

/// A second of sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// Hz, by the changes of sign.
    pub frequency: f64,
    /// Root mean square; 1 is full scale.
    pub level: f64,
}

/// The second that begins `from` seconds into a file.
pub async fn heard_in_file(file: &Path, from: f64) -> Tone {
    let path = file.to_str().expect("a path");
    let args = ["-v", "error", "-nostdin", "-i", path, "-f", "s16le", "-ac", "1", "-ar", "48000", "-"];
    let output = tokio::process::Command::new("ffmpeg").args(args).output().await.expect("it starts");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{path}: {complaints}");
    let samples: Vec<f64> = output
        .stdout
        .chunks_exact(2)
        .map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0)
        .collect();
    let first = (from * 48_000.0) as usize;
    let second = samples.get(first..first + 48_000).unwrap_or_else(|| panic!("{path}: {}", samples.len()));
    let crossings = second.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
    let level = (second.iter().map(|sample| sample * sample).sum::<f64>() / 48_000.0).sqrt();
    Tone { frequency: crossings as f64, level }
}

/// The second that begins `from` seconds into what Opus packets hold.
pub async fn heard_in_packets(packets: &[MediaPacket], from: f64) -> Tone {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sound.ogg");
    let payloads: Vec<&[u8]> = packets.iter().map(|packet| packet.payload.as_slice()).collect();
    std::fs::write(&file, ogg(&payloads)).expect("a file");
    heard_in_file(&file, from).await
}

/// An Ogg file (RFC 3533, RFC 7845) of stereo Opus packets of 20 ms, one a page.
fn ogg(packets: &[&[u8]]) -> Vec<u8> {
    let head = [b"OpusHead\x01\x02\0\0".as_slice(), &48_000u32.to_le_bytes(), &[0, 0, 0]].concat();
    let tags = b"OpusTags\x04\0\0\0test\0\0\0\0".to_vec();
    let mut file = Vec::new();
    page(&mut file, 2, 0, 0, &head);
    page(&mut file, 0, 0, 1, &tags);
    for (number, packet) in packets.iter().enumerate() {
        page(&mut file, 0, (number as u64 + 1) * 960, number as u32 + 2, packet);
    }
    file
}

fn page(file: &mut Vec<u8>, kind: u8, position: u64, number: u32, packet: &[u8]) {
    let mut page = [b"OggS\0".as_slice(), &[kind], &position.to_le_bytes(), &7u32.to_le_bytes()].concat();
    page.extend([&number.to_le_bytes()[..], &[0; 4]].concat());
    page.push((packet.len() / 255 + 1) as u8);
    page.extend(std::iter::repeat_n(255, packet.len() / 255));
    page.push((packet.len() % 255) as u8);
    page.extend_from_slice(packet);
    let sum = page.iter().fold(0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    });
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    file.extend(page);
}
