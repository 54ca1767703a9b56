//! `tests/fuzz/run SECONDS scope`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::scope(data));
