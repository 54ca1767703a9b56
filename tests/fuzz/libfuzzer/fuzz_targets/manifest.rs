//! `tests/fuzz/run SECONDS manifest`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::manifest(data));
