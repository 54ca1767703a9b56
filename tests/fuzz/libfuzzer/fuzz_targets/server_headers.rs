//! `tests/fuzz/run SECONDS server_headers`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::server_headers(data));
