//! What happened in a run: a number that tells runs apart, and the last lines for people.

use std::collections::VecDeque;

/// Lines that are kept unless all are wanted.
const KEPT: usize = 60;

#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    hash: u64,
    count: u64,
    keep_all: bool,
}

impl Trace {
    pub(super) fn new(keep_all: bool) -> Self {
        Self { keep_all, ..Self::default() }
    }

    pub(super) fn note(&mut self, now: u64, what: std::fmt::Arguments<'_>) {
        let line = format!("{:>4}.{:03} {what}", now / 1000, now % 1000);
        self.hash = self.hash.rotate_left(7) ^ crate::seed::hash(line.as_bytes());
        self.count += 1;
        self.lines.push_back(line);
        if !self.keep_all && self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    /// The same for two runs that did the same.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}
