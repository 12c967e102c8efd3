//! The door for fuzzing: each function takes one attacker's bytes through one parser and asserts what the parser
//! promises. Built for the targets in `fuzz/` (feature `fuzzing`, off by default) and for the unit tests.
//!
//! No function panics, whatever the bytes are: a panic is a finding. Doing nothing else, they are no part of
//! the program. The seeds in `fuzz/seeds`, findings among them, are run by the test below.

use crate::webrtc::fuzzing as realtime;
use crate::{hls, media, rtmp};

/// Takes one input.
pub type Target = fn(&[u8]);

/// Every target: its name, which is that of its file in `fuzz/fuzz_targets` and of its folder of seeds, and what it
/// does.
pub const TARGETS: &[(&str, Target)] = &[
    ("rtmp_handshake", rtmp::fuzzing::handshake),
    ("rtmp_chunk", rtmp::fuzzing::chunk),
    ("rtmp_interleaving", rtmp::fuzzing::interleaving),
    ("rtmp_amf", rtmp::fuzzing::amf),
    ("rtmp_flv", rtmp::fuzzing::flv),
    ("rtmp_assembly", rtmp::fuzzing::assembly),
    ("rtmp_url", rtmp::fuzzing::url),
    ("media_h264", media::fuzzing::h264),
    ("media_h265", media::fuzzing::h265),
    ("media_av1", media::fuzzing::av1),
    ("media_vpx", media::fuzzing::vpx),
    ("media_sound", media::fuzzing::sound),
    ("media_names", media::fuzzing::names),
    ("sdp_ingest", realtime::ingest::offer),
    ("sdp_egress", realtime::egress::offer),
    ("sdp_fragment", realtime::fragment),
    ("webrtc_datagram", realtime::datagram),
    ("webrtc_stun", realtime::transport::stun),
    ("webrtc_hello", realtime::transport::client_hello),
    ("webrtc_dtls", realtime::transport::dtls),
    ("webrtc_rtp", realtime::ingest::rtp),
    ("webrtc_rtcp", realtime::egress::rtcp),
    ("hls_directives", hls::fuzzing::directives),
];

/// Runs the target of this name.
///
/// # Panics
///
/// If there is none; and where a parser breaks its promise, which is what fuzzing is for.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Changed copies of each seed that a run of the tests tries; `FUZZ_CHANGES` makes them more.
    fn changes() -> u64 {
        std::env::var("FUZZ_CHANGES").map_or(200, |count| count.parse().expect("a number"))
    }

    fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut seeds: Vec<_> = entries
            .map(|entry| {
                let path = entry.expect("readable").path();
                (path.display().to_string(), fs::read(&path).expect("readable"))
            })
            .collect();
        seeds.sort();
        seeds
    }

    /// One seed, changed: bytes set, cut out, doubled, or joined with another seed's end.
    fn changed(seed: &[u8], other: &[u8], random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut data = seed.to_vec();
        for _ in 0..=random(4) {
            let at = random(data.len() + 1);
            match random(5) {
                0 | 1 if at < data.len() => data[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)],
                2 if at < data.len() => drop(data.drain(at..(at + 1 + random(16)).min(data.len()))),
                3 => {
                    let copy = data[at..(at + random(40)).min(data.len())].to_vec();
                    data.splice(at..at, copy);
                }
                _ => {
                    data.truncate(at);
                    data.extend_from_slice(&other[random(other.len() + 1)..]);
                }
            }
        }
        data
    }

    #[test]
    fn seeds_and_findings_pass_and_so_do_changed_ones() {
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name} has no seed");
            let mut state = 0x9e37_79b9_7f4a_7c15u64;
            let mut random = |below: usize| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize % below
            };
            for (number, (file, seed)) in seeds.iter().enumerate() {
                let pass = |data: &[u8]| {
                    let passed = std::panic::catch_unwind(|| target(data)).is_ok();
                    assert!(
                        passed,
                        "{name} panics on {file}, or changed: {:?}",
                        data.escape_ascii().to_string()
                    );
                };
                pass(seed);
                let (_, other) = &seeds[(number + 1) % seeds.len()];
                for _ in 0..changes() {
                    pass(&changed(seed, other, &mut random));
                }
            }
        }
    }

    #[test]
    fn each_target_has_its_file() {
        for (name, _) in TARGETS {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            let file = fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs"))).expect(name);
            assert!(file.contains(&format!("run(\"{name}\"")), "{name}");
            let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} in fuzz/Cargo.toml");
        }
    }
}
