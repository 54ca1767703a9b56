//! `tests/fuzz/run SECONDS repository`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::repository(data));
