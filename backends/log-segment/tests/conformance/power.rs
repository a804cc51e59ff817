//! Loss of power at random moments, between and within operations.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{Durability, Error, ErrorKind, Expect, Offset, StreamLog};
use trellis_log_segment::{SegmentLog, SegmentOptions};

use crate::model::{Random, seed};
use crate::power_files::PowerFiles;
use crate::{append, id, read};

fn open(files: &PowerFiles) -> Result<SegmentLog, Error> {
    let options = SegmentOptions::default().segment_bytes(8192);
    SegmentLog::open_with(Arc::new(files.clone()), Path::new("/log"), options)
}

/// What is known of a stream.
#[derive(Debug, Default)]
struct Known {
    /// Each append by the records it made; the last one may not be there after a crash.
    records: Vec<Vec<u8>>,
    /// The offsets that an append ended with.
    ends: Vec<Offset>,
    durable_next: Offset,
    /// The highest offset that a trim asked for.
    trimmed: Offset,
}

struct Story {
    random: Random,
    files: PowerFiles,
    known: BTreeMap<&'static str, Known>,
}

impl Story {
    /// One random call; an error ends the life of this log.
    fn step(&mut self, log: &SegmentLog) -> Result<(), Error> {
        let name = ["a", "b"][self.random.below(2) as usize];
        let known = self.known.entry(name).or_default();
        let next = known.records.len() as u64 + 1;
        match self.random.below(12) {
            0 => {
                let before = 1 + self.random.below(next);
                known.trimmed = known.trimmed.max(before);
                log.trim(&id(name), before)?;
            }
            1 => log.flush(&id(name), next)?,
            _ => {
                let bytes = [30, 3000][self.random.below(2) as usize];
                let new: Vec<Vec<u8>> = (0..1 + self.random.below(3))
                    .map(|_| vec![self.random.below(4) as u8; self.random.below(bytes) as usize])
                    .collect();
                let sent: Vec<Bytes> = new.iter().cloned().map(Bytes::from).collect();
                let synced = self.random.below(3) == 0;
                let durability = if synced { Durability::Synced } else { Durability::Buffered };
                let outcome = log.append(&id(name), &sent, Expect::Next(next), durability);
                if outcome.as_ref().is_err_and(|error| error.kind() != ErrorKind::OutcomeUnknown) {
                    return outcome.map(drop);
                }
                known.records.extend(new);
                known.ends.push(known.records.len() as u64 + 1);
                outcome?;
            }
        }
        let durable_next = log.bounds(&id(name)).unwrap().durable_next;
        assert!(durable_next >= known.durable_next, "what is durable stays durable");
        known.durable_next = durable_next;
        Ok(())
    }

    /// What a log must hold after a crash; from then on that is what it holds.
    fn check(&mut self, log: &SegmentLog) {
        for (name, known) in &mut self.known {
            let bounds = log.bounds(&id(name)).unwrap();
            assert!(bounds.next >= known.durable_next, "{name}: {bounds:?} of {known:?}");
            assert!(bounds.next == 1 || known.ends.contains(&bounds.next), "all of an append");
            assert!(bounds.first <= known.trimmed.max(1), "only what was to be trimmed is");
            assert_eq!(bounds.durable_next, bounds.next);
            known.records.truncate(bounds.next as usize - 1);
            known.ends.retain(|end| *end <= bounds.next);
            known.trimmed = known.trimmed.min(bounds.next);
            known.durable_next = bounds.next;
            let all: Vec<(Offset, Vec<u8>)> = (1..).zip(known.records.iter().cloned()).collect();
            assert_eq!(read(log, name, bounds.first), all[bounds.first as usize - 1..]);
        }
    }

    fn life(&mut self) {
        // Recovery may be cut short as well, and has to do again.
        let log = loop {
            let fuse = (self.random.below(3) == 0).then(|| self.random.below(40));
            self.files.light_fuse(fuse);
            match open(&self.files) {
                Ok(log) => break log,
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::Corrupt, "{error}");
                    let failed_sync = error.kind() == ErrorKind::OutcomeUnknown;
                    assert!(fuse.is_some() || failed_sync, "{error}");
                    self.files.lose_power(&mut self.random);
                }
            }
        };
        self.check(&log);
        let fuse = (self.random.below(2) == 0).then(|| self.random.below(300));
        self.files.light_fuse(fuse);
        if self.random.below(4) == 0 {
            self.files.fail_sync();
        }
        for _ in 0..self.random.below(60) {
            if self.step(&log).is_err() {
                break;
            }
        }
        // Often the process ends first, and the power goes in one of its next lives.
        match self.random.below(3) {
            0 => self.files.light_fuse(None),
            1 => drop(log.close()),
            _ => self.files.lose_power(&mut self.random),
        }
    }
}

#[test]
fn whatever_is_lost_with_the_power_what_was_durable_is_there() {
    let mut random = Random::new(seed());
    for _ in 0..40 {
        let random = Random::new(random.below(u64::MAX));
        let mut story = Story { random, files: PowerFiles::default(), known: BTreeMap::new() };
        (0..12).for_each(|_| story.life());
    }
}

#[test]
fn what_an_open_answered_after_a_failed_flush_survives_loss_of_power() {
    let files = PowerFiles::default();
    let log = open(&files).unwrap();
    append(&log, "s", &[b"first"], Durability::Synced);
    append(&log, "s", &[b"second"], Durability::Buffered);
    files.fail_sync();
    assert_eq!(log.flush(&id("s"), 3).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    drop(log);
    let log = open(&files).unwrap();
    let answered = read(&log, "s", 1);
    assert_eq!(answered.len(), 2);
    drop(log);
    for seed in 0..20 {
        files.lose_power(&mut Random::new(seed));
        assert_eq!(read(&open(&files).unwrap(), "s", 1), answered);
    }
}

#[test]
fn after_the_end_of_a_process_at_any_operation_an_open_can_be_relied_on() {
    let record = [Bytes::from(vec![7; 3000])];
    let synced = |log: &SegmentLog| {
        log.append(&id("s"), &record, Expect::Any, Durability::Synced).map(|at| at.next)
    };
    for operations in 0..80 {
        for seed in 0..4 {
            let files = PowerFiles::default();
            files.light_fuse(Some(operations));
            let killed = open(&files);
            let done = killed.iter().map(|log| (0..4).take_while(|_| synced(log).is_ok()).count());
            let done = done.sum::<usize>() as u64;
            drop(killed);
            files.light_fuse(None);
            let log = open(&files).unwrap();
            let next = synced(&log).unwrap();
            assert!(next >= done + 2);
            drop(log);
            files.lose_power(&mut Random::new(seed));
            let log = open(&files).unwrap();
            assert_eq!(log.bounds(&id("s")).unwrap().next, next, "{operations} operations");
            assert_eq!(read(&log, "s", 1).len() as u64, next - 1);
        }
    }
}

#[test]
fn an_open_that_was_killed_twice_and_lost_power_leaves_nothing_that_cannot_be_opened() {
    for (first, second) in (0..16).flat_map(|first| (0..16).map(move |second| (first, second))) {
        for seed in 0..40 {
            let files = PowerFiles::default();
            for operations in [first, second] {
                files.light_fuse(Some(operations));
                drop(open(&files));
            }
            files.lose_power(&mut Random::new(seed));
            let opened = open(&files);
            assert!(opened.is_ok(), "killed after {first} and {second}, seed {seed}: {opened:?}");
        }
    }
}
