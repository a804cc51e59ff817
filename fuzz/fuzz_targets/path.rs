//! The target `path` of `trellis_conformance::fuzzing` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| trellis_conformance::fuzzing::run("path", input));
