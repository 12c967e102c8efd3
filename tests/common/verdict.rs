//! When a viewer in a browser may be said to play.

use serde_json::Value;

/// An LL-HLS viewer whose picture moves, whose sound has energy and whose clock runs.
#[track_caller]
pub fn assert_plays_hls(viewed: &Value) {
    assert_hls_runs(viewed);
    assert!(number(viewed, "/pictures") > 10.0, "the picture moves: {viewed}");
    assert!(number(viewed, "/frames") > 10.0 * number(viewed, "/seconds"), "frames are decoded: {viewed}");
    assert!(number(viewed, "/sound/energy") > 1e-5, "the sound has energy: {viewed}");
    assert!(number(viewed, "/loaded/parts") > 0.0, "parts were loaded: {viewed}");
}

/// An LL-HLS viewer whose clock runs near the live edge, whatever the tracks.
#[track_caller]
pub fn assert_hls_runs(viewed: &Value) {
    let seconds = number(viewed, "/seconds");
    assert!(number(viewed, "/advanced") > 0.85 * seconds, "the clock runs: {viewed}");
    assert_eq!(number(viewed, "/stalls"), 0.0, "no stall: {viewed}");
    assert!(number(viewed, "/latency") < 3.0, "near the live edge: {viewed}");
    let errors = ["/errors", "/startErrors"].into_iter().filter_map(|path| viewed.pointer(path)?.as_array());
    let fatal = errors.flatten().find(|error| error["fatal"] == true);
    assert!(fatal.is_none(), "no fatal error: {viewed}");
}

/// A WHEP viewer that decodes at least `rate` frames a second without a freeze, and hears real samples.
#[track_caller]
pub fn assert_plays_whep(viewed: &Value, rate: f64) {
    assert_whep_sees(viewed, rate);
    assert_whep_hears(viewed);
}

/// The picture half of [`assert_plays_whep`].
#[track_caller]
pub fn assert_whep_sees(viewed: &Value, rate: f64) {
    assert!(number(viewed, "/video/framesDecoded") > rate * number(viewed, "/seconds"), "frames: {viewed}");
    assert_eq!(number(viewed, "/video/freezeCount"), 0.0, "no freeze: {viewed}");
    assert_eq!(number(viewed, "/video/packetsLost"), 0.0, "no loss: {viewed}");
}

/// The sound half of [`assert_plays_whep`].
#[track_caller]
pub fn assert_whep_hears(viewed: &Value) {
    let samples = number(viewed, "/audio/samples");
    assert!(samples > 40_000.0 * number(viewed, "/seconds"), "audio samples arrive: {viewed}");
    assert!(number(viewed, "/audio/concealed") < 0.1 * samples, "they are real: {viewed}");
    assert!(number(viewed, "/audio/energy") > 1e-4, "they have energy: {viewed}");
    assert_eq!(viewed["audio"]["codec"], "audio/opus", "{viewed}");
}

/// A number at a JSON pointer; a missing one is a panic.
#[track_caller]
pub fn number(value: &Value, pointer: &str) -> f64 {
    value
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no number at {pointer}: {value}"))
}
