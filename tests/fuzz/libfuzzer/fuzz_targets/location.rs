//! `tests/fuzz/run SECONDS location`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::location(data));
