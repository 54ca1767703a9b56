//! `tests/fuzz/run SECONDS answers`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::answers(data));
