//! The target `remote` of `trellis_conformance::fuzzing` under libFuzzer.
#![no_main]

use trellis_conformance::fuzzing;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("remote", input));
