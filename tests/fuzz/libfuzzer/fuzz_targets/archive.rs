//! `tests/fuzz/run SECONDS archive`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::archive(data));
