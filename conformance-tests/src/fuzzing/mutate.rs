//! Inputs made of the stored ones: cut, spliced, repeated, overwritten.
//!
//! `TRELLIS_FUZZ_SECONDS=120` goes on for that long, instead of for a fixed number of inputs. An
//! input that breaks something is written below the system's temporary directory, and named.

use std::time::{Duration, Instant};

use super::{Target, corpus};
use crate::report::caught;
use crate::{Rng, Seed};

/// Longest input.
const BYTES_MAX: usize = 16 << 10;
/// Bytes that often mean something.
const BYTES: [u8; 14] =
    [0, 1, 8, 0x1F, b' ', b'"', b'%', b'.', b'/', b'\\', 0x7F, 0x80, 0xC3, 0xFF];

/// Runs mutations of the corpus.
pub(super) fn run_many(target: &Target) {
    let seed = Seed::of_run().of(target.name);
    let seconds = std::env::var("TRELLIS_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("TRELLIS_FUZZ_SECONDS is a number"));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let inputs: Vec<_> = corpus::load(target).into_iter().map(|(_, input)| input).collect();
    let mut maker = Maker { rng: seed.rng(), inputs, words: target.words };
    let mut done = 0_usize;
    while end.map_or(done < target.inputs, |end| Instant::now() < end) {
        let input = maker.make();
        if let Err(message) = caught(false, || (target.run)(&input)) {
            let name = format!("trellis-fuzz-{}-{}-{done}", target.name, Seed::of_run().0);
            let file = std::env::temp_dir().join(name);
            std::fs::write(&file, &input).expect("the input can be kept");
            let shown: String = input.escape_ascii().take(400).map(char::from).collect();
            panic!("{message}\ninput {done}, kept in {}: {shown}", file.display());
        }
        done += 1;
    }
    if seconds.is_some() {
        eprintln!("fuzz.{}: {done} inputs", target.name);
    }
}

/// Makes inputs.
struct Maker {
    rng: Rng,
    inputs: Vec<Vec<u8>>,
    words: &'static [&'static str],
}

impl Maker {
    fn make(&mut self) -> Vec<u8> {
        let mut input = self.any_input().clone();
        for _ in 0..=self.rng.below(6) {
            self.change(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn any_input(&mut self) -> &Vec<u8> {
        &self.inputs[self.rng.below(self.inputs.len())]
    }

    /// A stretch of `length` bytes at most.
    fn stretch(&mut self, length: usize) -> std::ops::Range<usize> {
        let begin = self.rng.below(length + 1);
        let longest = if self.rng.one_in(4) { length - begin } else { (length - begin).min(8) };
        begin..begin + self.rng.below(longest + 1)
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.below(input.len() + 1);
        match self.rng.below(9) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.rng.below(8);
                }
            }
            1 => {
                let byte = BYTES[self.rng.below(BYTES.len())];
                if let Some(place) = input.get_mut(at) {
                    *place = byte;
                }
            }
            2 => input.insert(at, BYTES[self.rng.below(BYTES.len())]),
            3 => drop(input.drain(self.stretch(input.len()))),
            4 => input.truncate(at),
            5 => {
                let part = input[self.stretch(input.len())].to_vec();
                let times = if self.rng.one_in(10) { 200 } else { 1 };
                drop(input.splice(at..at, part.repeat(times)));
            }
            6 => {
                let other = self.any_input().clone();
                let part = other[self.stretch(other.len())].to_vec();
                drop(input.splice(at..at, part));
            }
            7 => {
                let number = self.number();
                for (place, byte) in input.iter_mut().skip(at).zip(number) {
                    *place = byte;
                }
            }
            _ => {
                if !self.words.is_empty() {
                    let word = self.words[self.rng.below(self.words.len())];
                    drop(input.splice(at..at, word.bytes()));
                }
            }
        }
        input.truncate(2 * BYTES_MAX);
    }

    /// A number at some edge, little endian, in some width.
    fn number(&mut self) -> Vec<u8> {
        let edge = [0, 1, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 63, (1 << 63) - 1, 0x80];
        let number = edge[self.rng.below(edge.len())];
        number.to_le_bytes()[..1 << self.rng.below(4)].to_vec()
    }
}
