//! The trail: a file in which the child says what it submits and what was answered, a line each.
//!
//! A line is one write, so that a kill leaves whole lines (and perhaps a torn last one, which was
//! never said). After each look at the database the parent begins a new trail with what it knows.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::WRITERS;
use super::work::Submission;

/// What was answered to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) of: Submission,
    pub(super) outcome: Outcome,
}

/// How a submission ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Committed at this rev; results of sums and pushed ids.
    Committed(u64, Vec<String>),
    /// Refused because a demand did not hold.
    Refused,
    /// Found to be there after a kill; at which rev nobody says.
    Found,
}

/// What is known of a writer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Writer {
    /// The newest submission that was committed.
    pub(super) last: u64,
    /// The newest submission.
    pub(super) submitted: u64,
    /// The newest submission, if it was not answered.
    pub(super) pending: Option<Submission>,
    /// The rev of the newest commit whose rev is known.
    pub(super) rev: u64,
    /// The newest commit with a key, and its rev.
    pub(super) keyed: Option<(Submission, u64)>,
}

/// Everything that a trail says.
#[derive(Debug, Clone)]
pub(super) struct Trail {
    pub(super) writers: Vec<Writer>,
    /// In the order in which it was said.
    pub(super) answered: Vec<Answered>,
    /// Promises that the child itself saw broken.
    pub(super) complaints: Vec<String>,
}

impl Default for Trail {
    fn default() -> Self {
        let writers = vec![Writer::default(); WRITERS];
        Self { writers, answered: Vec::new(), complaints: Vec::new() }
    }
}

/// Where a process adds to the trail.
#[derive(Debug)]
pub(super) struct Pen(File);

impl Pen {
    pub(super) fn on(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(file.expect("the trail can be written"))
    }

    fn say(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).expect("the trail can be written");
    }

    pub(super) fn submits(&mut self, of: Submission) {
        let Submission { writer, n, ends_ms, last } = of;
        self.say(&format!("S {writer} {n} {ends_ms} {last}"));
    }

    pub(super) fn answered(&mut self, of: Submission, outcome: &Outcome, keyed: bool) {
        let (writer, n) = (of.writer, of.n);
        self.say(&match outcome {
            Outcome::Committed(rev, said) => {
                format!("A {writer} {n} {rev} {} {}", u8::from(keyed), said.join(" "))
            }
            Outcome::Refused => format!("C {writer} {n}"),
            Outcome::Found => format!("H {writer} {n}"),
        });
    }

    pub(super) fn complains(&mut self, what: &str) {
        self.say(&format!("X {}", what.replace('\n', " | ")));
    }

    /// What is known of a writer, as the first lines of a new trail.
    pub(super) fn begins(&mut self, index: usize, writer: &Writer) {
        let Writer { last, submitted, rev, .. } = writer;
        self.say(&format!("T {index} {last} {submitted} {rev}"));
        if let Some((Submission { n, ends_ms, last, .. }, rev)) = writer.keyed {
            self.say(&format!("K {index} {n} {ends_ms} {last} {rev}"));
        }
        if let Some(pending) = writer.pending {
            self.submits(pending);
        }
    }
}

impl Trail {
    /// Reads a trail; a missing one is empty.
    pub(super) fn read(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8(text).expect("a trail is text");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut trail = Self::default();
        for line in whole.lines() {
            trail.take(line);
        }
        trail
    }

    fn take(&mut self, line: &str) {
        let (kind, rest) = line.split_once(' ').expect("a line has a kind");
        if kind == "X" {
            self.complaints.push(rest.to_owned());
            return;
        }
        let words: Vec<&str> = rest.split(' ').collect();
        let number = |index: usize| -> u64 {
            words[index].parse().unwrap_or_else(|_| panic!("a number in {line:?}"))
        };
        let index = number(0) as usize;
        let writer = &mut self.writers[index];
        let submission =
            || Submission { writer: index, n: number(1), ends_ms: number(2), last: number(3) };
        match kind {
            "T" => (writer.last, writer.submitted, writer.rev) = (number(1), number(2), number(3)),
            "K" => writer.keyed = Some((submission(), number(4))),
            "S" => {
                writer.submitted = number(1);
                writer.pending = Some(submission());
            }
            "A" | "C" | "H" => {
                let of = writer.pending.take().expect("what is answered was submitted");
                assert_eq!(of.n, number(1), "an answer to something else: {line}");
                let outcome = match kind {
                    "A" => {
                        writer.rev = number(2);
                        if number(3) == 1 {
                            writer.keyed = Some((of, writer.rev));
                        }
                        let said = words[4..].iter().filter(|word| !word.is_empty());
                        Outcome::Committed(writer.rev, said.map(|word| (*word).into()).collect())
                    }
                    "C" => Outcome::Refused,
                    _ => Outcome::Found,
                };
                if outcome != Outcome::Refused {
                    writer.last = of.n;
                }
                self.answered.push(Answered { of, outcome });
            }
            _ => panic!("an unknown line in the trail: {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_says_what_was_written_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trail");
        let mut pen = Pen::on(&path);
        let of = |n| Submission { writer: 3, n, ends_ms: 70 + n, last: n - 1 };
        pen.submits(of(1));
        pen.answered(of(1), &Outcome::Committed(9, vec!["-Nx".into(), "4".into()]), true);
        pen.submits(of(2));
        pen.answered(of(2), &Outcome::Refused, true);
        pen.submits(of(3));
        pen.complains("a\nb");
        pen.0.write_all(b"A 3 3 1").unwrap();
        let trail = Trail::read(&path);
        let writer = &trail.writers[3];
        assert_eq!((writer.last, writer.submitted, writer.rev), (1, 3, 9));
        assert_eq!(writer.pending, Some(of(3)), "a torn line was not said");
        assert_eq!(writer.keyed, Some((of(1), 9)));
        assert_eq!(trail.complaints, ["a | b"]);
        let outcomes: Vec<_> = trail.answered.iter().map(|one| one.outcome.clone()).collect();
        let first = Outcome::Committed(9, vec!["-Nx".into(), "4".into()]);
        assert_eq!(outcomes, [first, Outcome::Refused]);

        let next = dir.path().join("next");
        Pen::on(&next).begins(3, writer);
        assert_eq!(Trail::read(&next).writers, trail.writers);
    }
}
