//! `tests/fuzz/run SECONDS registry`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::registry(data));
