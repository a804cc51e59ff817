//! The target `rest` of `trellis_conformance::fuzzing` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| trellis_conformance::fuzzing::run("rest", input));
