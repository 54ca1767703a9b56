//! `tests/fuzz/run SECONDS client_headers`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::client_headers(data));
