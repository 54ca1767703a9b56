//! `tests/fuzz/run SECONDS token`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::token(data));
