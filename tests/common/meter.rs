//! The offset between flash and beep in a recording, exact to one frame and 5 ms of sound.

use std::path::Path;

use super::probe::run;

/// Beeps against flashes, in milliseconds: positive when the sound is late.
#[derive(Clone, Debug, PartialEq)]
pub struct Offset {
    pub median: f64,
    pub all: Vec<f64>,
}

/// Measures a file with the picture against a file with the sound (the same, where they are together).
/// Both keep their own timestamps, so they must be on one timeline. Panics below three pairs.
pub async fn offset(picture: &Path, sound: &Path) -> Offset {
    let (flashes, beeps) = (flashes(picture).await, beeps(sound).await);
    let nearest =
        |flash: f64| beeps.iter().map(|beep| beep - flash).min_by(|a, b| a.abs().total_cmp(&b.abs()));
    let mut all: Vec<f64> = flashes.iter().filter_map(|flash| nearest(*flash)).collect();
    all.retain(|offset| offset.abs() < 0.45);
    all.iter_mut().for_each(|offset| *offset *= 1000.0);
    assert!(all.len() >= 3, "too few pairs: flashes {flashes:?}, beeps {beeps:?}");
    let mut sorted = all.clone();
    sorted.sort_by(f64::total_cmp);
    Offset { median: sorted[sorted.len() / 2], all }
}

/// Presentation times (s) of the first white frame of each flash.
pub async fn flashes(file: &Path) -> Vec<f64> {
    let filter = "scale=64:36,signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=-";
    onsets(&levels(file, ["-an", "-vf", filter], "YAVG=").await, 25.0)
}

/// Presentation times (s) of the start of each beep.
pub async fn beeps(file: &Path) -> Vec<f64> {
    let filter = "asetnsamples=n=240:p=0,astats=metadata=1:reset=1,\
                  ametadata=print:key=lavfi.astats.Overall.Peak_level:file=-";
    let mut levels = levels(file, ["-vn", "-af", filter], "Peak_level=").await;
    // From decibels to a linear level, so that half of the top is the middle of the attack.
    levels.iter_mut().for_each(|(_, level)| *level = 10f64.powf(*level / 20.0));
    onsets(&levels, 0.03)
}

/// `(pts, value)` of each frame as a metadata filter prints them.
async fn levels(file: &Path, filter: [&str; 3], key: &str) -> Vec<(f64, f64)> {
    let file = file.to_str().expect("a plain path");
    let args = ["-v", "error", "-nostdin", "-copyts", "-i", file].into_iter().chain(filter);
    let (text, _) = run("ffmpeg", args.chain(["-f", "null", "-"])).await;
    let mut found = Vec::new();
    let mut time = None;
    for line in text.lines() {
        if let Some((_, pts)) = line.split_once("pts_time:") {
            time = pts.trim().parse().ok();
        } else if let (Some(pts), Some((_, value))) = (time, line.split_once(key)) {
            found.push((pts, value.trim().parse().unwrap_or(f64::NEG_INFINITY)));
        }
    }
    found
}

/// Times at which the value crosses half of its highest upwards after 300 ms below it.
fn onsets(levels: &[(f64, f64)], floor: f64) -> Vec<f64> {
    let mut sorted: Vec<f64> = levels.iter().map(|(_, value)| *value).collect();
    sorted.sort_by(f64::total_cmp);
    let (Some(rest), Some(top)) = (sorted.get(sorted.len() / 2), sorted.last()) else { return Vec::new() };
    if top - rest < floor {
        return Vec::new();
    }
    let threshold = rest + (top - rest) / 2.0;
    let (mut found, mut last_high, mut was_high) = (Vec::new(), f64::NEG_INFINITY, true);
    for (time, value) in levels {
        let high = *value > threshold;
        if high && !was_high && time - last_high > 0.3 {
            found.push(*time);
        }
        if high {
            last_high = *time;
        }
        was_high = high;
    }
    found
}
