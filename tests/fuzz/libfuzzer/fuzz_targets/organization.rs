//! `tests/fuzz/run SECONDS organization`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::organization(data));
