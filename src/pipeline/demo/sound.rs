//! The sound of the demo: a beep at the beginning of each second.

use super::SAMPLE_RATE;
use std::f64::consts::TAU;

/// Hertz.
const PITCH: f64 = 1000.0;
/// Samples of a beep: 80 ms.
const BEEP: i64 = SAMPLE_RATE as i64 * 80 / 1000;
/// Samples over which it swells and fades, against clicks: 1 ms.
const RAMP: i64 = SAMPLE_RATE as i64 / 1000;
/// Of full scale.
const LEVEL: f64 = 0.4;

/// `count` samples from number `first` on, counted from a full second: S16LE, two equal channels.
pub(super) fn block(first: i64, count: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count as usize * 4);
    for number in first..first + count {
        let sample = (sample(number.rem_euclid(i64::from(SAMPLE_RATE))) * f64::from(i16::MAX)) as i16;
        bytes.extend_from_slice(&sample.to_le_bytes());
        bytes.extend_from_slice(&sample.to_le_bytes());
    }
    bytes
}

fn sample(into_second: i64) -> f64 {
    let ramp = into_second.min(BEEP - 1 - into_second).clamp(0, RAMP) as f64 / RAMP as f64;
    LEVEL * ramp * (TAU * PITCH * into_second as f64 / f64::from(SAMPLE_RATE)).sin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_beeps_at_the_beginning_of_a_second_only() {
        let loudest = |first: i64, count: i64| {
            let block = block(first, count);
            let samples = block.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]));
            samples.map(i16::unsigned_abs).max().expect("samples")
        };
        assert!(loudest(48_000 * 7, BEEP) > 12_000);
        assert_eq!(loudest(48_000 * 7 + BEEP, 48_000 - BEEP), 0);
    }
}
