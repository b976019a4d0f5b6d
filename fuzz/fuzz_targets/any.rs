//! See `gantry_fuzz::any`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gantry_fuzz::any(data));
