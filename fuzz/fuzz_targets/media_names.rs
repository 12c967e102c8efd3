//! See `tidegate::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::fuzzing::run("media_names", data));
