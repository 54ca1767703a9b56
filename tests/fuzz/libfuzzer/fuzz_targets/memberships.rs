//! `tests/fuzz/run SECONDS memberships`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_container_fuzz::memberships(data));
