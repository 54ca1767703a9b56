//! `tests/fuzz/run SECONDS platform`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::platform(data));
