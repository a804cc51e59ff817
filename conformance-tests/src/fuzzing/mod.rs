//! The fuzz targets: one plain function each, from any bytes to a judgement.
//!
//! Purpose: whatever comes from outside (a frame, a URL, a file, a configuration) is refused or
//! understood, and never makes the process panic. The same functions run here, as trials over the
//! corpora in `fuzz/corpus` and over mutations of them, and under libFuzzer in `fuzz/`.
//!
//! Invariant: a target panics when a promise is broken, and only then.
//!
//! Deliberately absent: coverage. The mutations here are blind; libFuzzer is the one that looks.

mod archive;
mod configuration;
mod corpus;
mod files;
mod journal;
mod link;
mod mutate;
mod path;
mod peer;
mod query;
mod rest;
mod segment;
mod value;
mod wire;

use libtest_mimic::Trial;

/// Something that takes any bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name, which is also that of its corpus below `fuzz/corpus`.
    pub name: &'static str,
    /// Takes the bytes; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Words of its language, for the mutations.
    words: &'static [&'static str],
    /// Mutations of an ordinary run: as many as take a second or two.
    inputs: usize,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "wire", run: wire::frame, words: wire::WORDS, inputs: 20_000 },
    Target { name: "rest", run: rest::request, words: rest::WORDS, inputs: 20_000 },
    Target { name: "path", run: path::text, words: path::WORDS, inputs: 20_000 },
    Target { name: "journal", run: journal::record, words: &[], inputs: 20_000 },
    Target { name: "link", run: link::frame, words: &[], inputs: 20_000 },
    Target { name: "peer", run: peer::words, words: &[], inputs: 10_000 },
    Target { name: "remote", run: peer::ops, words: &[], inputs: 500 },
    Target { name: "segment", run: segment::files, words: &["TLF1", "TLS1", "TLD1"], inputs: 60 },
    Target { name: "value", run: value::json, words: value::WORDS, inputs: 20_000 },
    Target { name: "order", run: value::order, words: value::WORDS, inputs: 20_000 },
    Target { name: "query", run: query::text, words: query::WORDS, inputs: 10_000 },
    Target { name: "archive", run: archive::bytes, words: &["TRELLIS\0"], inputs: 2_000 },
    Target {
        name: "configuration",
        run: configuration::text,
        words: configuration::WORDS,
        inputs: 3_000,
    },
];

/// Runs the target of this name: what a libFuzzer target calls.
///
/// # Panics
/// When a promise is broken, or there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of TARGETS");
    (target.run)(input);
}

/// Two trials a target: its corpus as it is, and mutations of it.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for target in TARGETS {
        let corpus = format!("fuzz.{} takes its corpus", target.name);
        trials.push(crate::matrix::trial(corpus, || corpus::run_all(target)));
        let mutated = format!("fuzz.{} takes what is made of it", target.name);
        trials.push(crate::matrix::trial(mutated, || mutate::run_many(target)));
    }
    trials
}
