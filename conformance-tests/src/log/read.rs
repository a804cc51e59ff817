//! Reads: order, budgets, stops, what was trimmed and what is not there yet.

use std::ops::ControlFlow;

use trellis_engine_traits::{Durability, ErrorKind, ReadBudget, ReadEnd, ReadStop};

use super::LogWorld;
use super::tools::{append, append_to, bounds, dump, main, read, refused, stream, texts};
use crate::Case;

pub(super) const CASES: &[Case<LogWorld>] = &[
    Case::new("log.read.in_order", &["log.read.order"], in_order),
    Case::new("log.read.unchanged", &["log.read.order"], unchanged),
    Case::new("log.read.from_any_offset", &["log.read.order"], from_any_offset),
    Case::new("log.read.budget_of_records", &["log.read.budget"], budget_of_records),
    Case::new("log.read.budget_of_bytes", &["log.read.budget"], budget_of_bytes),
    Case::new("log.read.one_at_least", &["log.read.budget"], one_at_least),
    Case::new("log.read.stops_at_once", &["log.read.budget", "log.read.order"], stops_at_once),
    Case::new("log.read.beyond_the_end", &["log.read.beyond"], beyond),
    Case::new("log.read.below_the_first", &["log.read.trimmed"], below_first),
    Case::new("log.read.follows_appends", &["log.append.visible", "log.read.beyond"], follows),
];

const ALL: ReadBudget = ReadBudget::UNLIMITED;

fn in_order(world: &LogWorld) {
    let log = world.engine();
    let mut expected = Vec::new();
    for round in 0..40 {
        let part: Vec<_> = (0..round % 7 + 1).map(|index| format!("{round}/{index}")).collect();
        append(&*log, &part);
        expected.extend(part);
    }
    assert_eq!(texts(&*log), expected);
    drop(log);
    assert_eq!(texts(&*world.reopen()), expected);
}

fn unchanged(world: &LogWorld) {
    let log = world.engine();
    let mut rng = world.rng("records");
    let lengths = [0, 1, 7, 8, 511, 512, 513, 4_095, 4_096, 4_097, 65_536, 100_000, 3_000_000];
    let mut all: Vec<_> = lengths.iter().map(|length| rng.bytes(*length)).collect();
    all.extend([vec![0; 4_096], vec![0xff; 4_096], vec![0; 1], vec![]]);
    for part in all.chunks(3) {
        append(&*log, part);
    }
    let check = |found: &[(u64, bytes::Bytes)]| {
        assert_eq!(found.len(), all.len());
        for ((_, record), expected) in found.iter().zip(&all) {
            assert!(record == expected, "a record of {} bytes was changed", expected.len());
        }
    };
    check(&dump(&*log, &main()));
    drop(log);
    check(&dump(&*world.reopen(), &main()));
}

fn from_any_offset(world: &LogWorld) {
    let log = world.engine();
    append(&*log, (1..=30).map(|number| format!("{number}")));
    for from in 1..=31 {
        let (seen, end) = read(&*log, &main(), from, ALL).unwrap();
        let expected: Vec<_> =
            (from..=30).map(|offset| (offset, offset.to_string().into())).collect();
        assert_eq!(seen, expected);
        assert_eq!(end, ReadEnd { next: 31, stop: ReadStop::End });
    }
}

fn budget_of_records(world: &LogWorld) {
    let log = world.engine();
    append(&*log, (1..=10).map(|number| format!("{number}")));
    for records_max in 1..=12 {
        let budget = ReadBudget { records_max, bytes_max: usize::MAX };
        let (mut from, mut seen) = (1, Vec::new());
        loop {
            let (page, end) = read(&*log, &main(), from, budget).unwrap();
            assert!(page.len() <= records_max);
            assert_eq!(end.next, from + page.len() as u64);
            seen.extend(page);
            from = end.next;
            if end.stop == ReadStop::End {
                break;
            }
            assert_eq!(end.stop, ReadStop::Budget);
        }
        assert_eq!(seen, dump(&*log, &main()), "in pages of {records_max}");
    }
}

fn budget_of_bytes(world: &LogWorld) {
    let log = world.engine();
    append(&*log, (0..10).map(|_| [7u8; 100]));
    for (bytes_max, expected) in [(100, 1), (199, 1), (200, 2), (550, 5), (999, 9), (1_000, 10)] {
        let budget = ReadBudget { records_max: usize::MAX, bytes_max };
        let (seen, end) = read(&*log, &main(), 1, budget).unwrap();
        assert_eq!(seen.len(), expected, "within {bytes_max} bytes");
        assert_eq!(end.next, expected as u64 + 1);
    }
}

fn one_at_least(world: &LogWorld) {
    let log = world.engine();
    append(&*log, [vec![1u8; 10_000], vec![2; 20_000], vec![3; 5]]);
    let stingy = [(0, 0), (1, 0), (0, usize::MAX), (usize::MAX, 0), (usize::MAX, 9_999)];
    for (records_max, bytes_max) in stingy {
        let budget = ReadBudget { records_max, bytes_max };
        for from in 1..=2 {
            let (seen, end) = read(&*log, &main(), from, budget).unwrap();
            assert_eq!(seen.len(), 1, "{budget:?} visits one record");
            assert_eq!(end, ReadEnd { next: from + 1, stop: ReadStop::Budget });
        }
        let (seen, end) = read(&*log, &main(), 4, budget).unwrap();
        assert_eq!((seen.len(), end.next, end.stop), (0, 4, ReadStop::End));
    }
}

fn stops_at_once(world: &LogWorld) {
    let log = world.engine();
    append(&*log, (1..=20).map(|number| format!("{number}")));
    for wanted in [1, 2, 19, 20] {
        let mut seen = 0;
        let visit = &mut |_: u64, _: &[u8]| {
            seen += 1;
            if seen < wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let end = log.read(&main(), 1, ALL, visit).unwrap();
        assert_eq!(seen, wanted, "nothing is visited after the visitor broke");
        assert_eq!(end, ReadEnd { next: wanted + 1, stop: ReadStop::Stopped });
    }
}

fn beyond(world: &LogWorld) {
    let log = world.engine();
    let never = |from| read(&*log, &stream("never"), from, ALL);
    refused(never(2), ErrorKind::InvalidInput, "beyond the end of nothing");
    refused(never(0), ErrorKind::NotFound, "offsets begin at 1");
    assert_eq!(never(1).unwrap().0.len(), 0);
    append(&*log, ["a", "b"]);
    let (seen, end) = read(&*log, &main(), 3, ALL).unwrap();
    assert_eq!((seen.len(), end), (0, ReadEnd { next: 3, stop: ReadStop::End }));
    for from in [4, 5, 1_000, u64::MAX] {
        refused(read(&*log, &main(), from, ALL), ErrorKind::InvalidInput, "beyond the end");
    }
    refused(read(&*log, &main(), 0, ALL), ErrorKind::NotFound, "offsets begin at 1");
}

fn below_first(world: &LogWorld) {
    let log = world.engine();
    append(&*log, (1..=10).map(|number| format!("{number}")));
    log.trim(&main(), 11).unwrap();
    append(&*log, ["11"]);
    for reopened in [false, true] {
        let log = if reopened { world.engine() } else { log.clone() };
        let first = bounds(&*log, &main()).first;
        for from in 0..first {
            let error = read(&*log, &main(), from, ALL).expect_err("it was trimmed");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
            assert_eq!(error.fact("first"), Some(first.to_string().as_str()), "{error:?}");
        }
        assert!(read(&*log, &main(), first, ALL).unwrap().0.ends_with(&[(11, "11".into())]));
    }
}

fn follows(world: &LogWorld) {
    let log = world.engine();
    let mut from = 1;
    for round in 0..100 {
        let durability = if round % 20 == 0 { Durability::Synced } else { Durability::Buffered };
        let count = round % 3 + 1;
        append_to(&*log, &main(), (0..count).map(|index| format!("{round}/{index}")), durability);
        let (seen, end) = read(&*log, &main(), from, ALL).unwrap();
        assert_eq!(seen.len() as u64, count);
        assert_eq!(seen[0], (from, format!("{round}/0").into()));
        from = end.next;
    }
}
