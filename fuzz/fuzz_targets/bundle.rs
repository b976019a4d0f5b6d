//! See `checks::bundle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gantry_fuzz::checks::bundle(data));
