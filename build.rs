//! Checks that the page assets that are embedded in the binary are there before the compiler looks for them.

use std::path::Path;

/// hls.js, served as `/assets/hls.js`. The full build as a module: the light one leaves out audio renditions,
/// and Tidegate's HLS has audio and video as separate renditions.
const HLS_JS: &str = "node_modules/hls.js/dist/hls.min.mjs";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={HLS_JS}");
    if !Path::new(HLS_JS).is_file() {
        println!(
            "cargo::error={HLS_JS} is missing: run `npm ci` (or `make build`, which does) and build again"
        );
    }
}
