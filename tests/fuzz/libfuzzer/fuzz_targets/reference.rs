//! `tests/fuzz/run SECONDS reference`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::reference(data));
