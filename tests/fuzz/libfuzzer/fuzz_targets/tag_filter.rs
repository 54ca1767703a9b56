//! `tests/fuzz/run SECONDS tag_filter`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::tag_filter(data));
