//! What one more viewer costs: in front of the gateway's WebRTC (`lane`, by criterion), and all of it
//! (`webrtc`, a table at the end; alone with the filter `whep`).

mod clients;
mod cpu;
mod lane;
mod webrtc;

use criterion::Criterion;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    lane::fan_out(&mut criterion);
    criterion.final_summary();
    if is_wanted("fan_out/whep") {
        webrtc::report();
    }
}

/// Whether `cargo bench` runs this and its filter, if any, lets `name` through.
fn is_wanted(name: &str) -> bool {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let other = ["--test", "--list"].iter().any(|flag| args.iter().any(|arg| arg == flag));
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    args.iter().any(|arg| arg == "--bench") && !other && filter.is_none_or(|filter| name.contains(&**filter))
}
